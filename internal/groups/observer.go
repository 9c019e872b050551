package groups

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/tidemark/tidemark/internal/run"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

const (
	scope     = "github.com/tidemark/tidemark/internal/groups"
	lookEvery = 5 * time.Second
	lookTime  = 10 * time.Second // for one look
)

// Observer keeps the metrics of the groups and streams that the topology declares. They are read from the broker and not from a process, so one process runs it, beside that of the dead letters;
// where two do, they report the same. While the broker does not answer, nothing is reported: a number that is no longer true would keep an alert quiet.
type Observer struct {
	js       jetstream.JetStream
	topology events.Topology
	every    time.Duration
	log      *slog.Logger

	mu      sync.Mutex
	groups  []Group
	streams map[string]jetstream.StreamState
}

// NewObserver registers the metrics. Run fills them; every is how often it looks, 5 s where it is 0.
func NewObserver(js jetstream.JetStream, topology events.Topology, every time.Duration, telemetry bus.Telemetry) (*Observer, error) {
	telemetry = telemetry.OrNothing()
	if every <= 0 {
		every = lookEvery
	}
	o := &Observer{js: js, topology: topology, every: every, log: telemetry.Logger}
	if err := o.register(telemetry.Meter.Meter(scope)); err != nil {
		return nil, fmt.Errorf("metrics of groups: %w", err)
	}
	return o, nil
}

func (o *Observer) register(meter metric.Meter) error {
	var errs []error
	gauge := func(name, unit, description string) metric.Int64ObservableGauge {
		g, err := meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(description))
		errs = append(errs, err)
		return g
	}
	lag := gauge("tidemark.group.lag", "{event}", "Events that the group has not acknowledged")
	pending := gauge("tidemark.group.pending", "{event}", "Of these, those that were given to a member")
	owned := gauge("tidemark.group.owned_partitions", "{partition}", "Partitions that a member owns")
	partitions := gauge("tidemark.group.partitions", "{partition}", "Partitions that the group has")
	members := gauge("tidemark.group.members", "{member}", "Members that are there, those that stand by as well")
	messages := gauge("tidemark.stream.messages", "{message}", "Messages in the stream")
	size := gauge("tidemark.stream.size", "By", "Bytes of the stream on disk")
	if err := errors.Join(errs...); err != nil {
		return err
	}
	_, err := meter.RegisterCallback(func(_ context.Context, m metric.Observer) error {
		o.mu.Lock()
		defer o.mu.Unlock()
		for i := range o.groups {
			g := &o.groups[i]
			group := metric.WithAttributes(attribute.String("group", g.Group))
			m.ObserveInt64(lag, int64(g.Lag), group)         //nolint:gosec // a count of messages never reaches 2^63
			m.ObserveInt64(pending, int64(g.Pending), group) //nolint:gosec // nor does this
			m.ObserveInt64(owned, int64(g.owned()), group)
			m.ObserveInt64(partitions, int64(len(g.Partitions)), group)
			m.ObserveInt64(members, int64(len(g.Members)), group)
		}
		for name, s := range o.streams {
			stream := metric.WithAttributes(attribute.String("stream", name))
			m.ObserveInt64(messages, int64(s.Msgs), stream) //nolint:gosec // nor does this
			m.ObserveInt64(size, int64(s.Bytes), stream)    //nolint:gosec // nor does this
		}
		return nil
	}, lag, pending, owned, partitions, members, messages, size)
	return err
}

func (g *Group) owned() (n int) {
	for i := range g.Partitions {
		if g.Partitions[i].Owner != "" {
			n++
		}
	}
	return n
}

// Ready holds at once: nobody waits for metrics.
func (o *Observer) Ready() <-chan struct{} { return run.Closed() }

// Run looks until ctx ends.
func (o *Observer) Run(ctx context.Context) error {
	tick := time.NewTicker(o.every)
	defer tick.Stop()
	for {
		o.look(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (o *Observer) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	groups, err := o.readGroups(ctx)
	streams := make(map[string]jetstream.StreamState)
	for _, s := range o.topology.Streams {
		stream, streamErr := o.js.Stream(ctx, s.Name)
		if streamErr != nil {
			err = errors.Join(err, fmt.Errorf("read stream %s: %w", s.Name, streamErr))
			continue
		}
		streams[s.Name] = stream.CachedInfo().State
	}
	if err != nil && ctx.Err() == nil {
		o.log.DebugContext(ctx, "the groups can't be measured now", "error", err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.groups, o.streams = groups, streams
}

// readGroups leaves out groups that the topology does not have: their names are anybody's, and a metric's attributes must be few.
func (o *Observer) readGroups(ctx context.Context) (declared []Group, err error) {
	found, err := find(ctx, o.js, o.topology)
	if err != nil {
		return nil, err
	}
	members, err := bus.Members(ctx, o.js)
	if err != nil && !errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil, err
	}
	for _, g := range o.topology.Groups {
		if is, ok := found[g.Name]; ok {
			is.addMembers(members[g.Name])
			declared = append(declared, *is)
		}
	}
	return declared, nil
}
