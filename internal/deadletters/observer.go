package deadletters

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/tidemark/tidemark/internal/run"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
)

const (
	scope       = "github.com/tidemark/tidemark/internal/deadletters"
	lookEvery   = 5 * time.Second
	lookShare   = 10   // of the time, at most one part in so many goes into looking
	knownCauses = 4096 // that are remembered, so that a new one is known as new
)

// ObserverConfig configures an observer.
type ObserverConfig struct {
	Every time.Duration // how often it looks; default 5 s
}

// Observer keeps the metrics of the dead letters of all groups. One process runs it: the one that serves orders, which is always there (`tidemark up` in its stead). The
// numbers are of the streams and not of the process, so where two report them, they report the same.
//
// It reads the letters only after something changed. While it can't read them, the metrics say what it saw last, but for the ages, which grow.
type Observer struct {
	desk   *Desk
	every  time.Duration
	log    *slog.Logger
	now    func() time.Time
	causes *lru.Cache[causeID, struct{}]
	fresh  metric.Int64Counter

	mu   sync.Mutex
	seen *sight // nil before the first look
}

// sight is what one look saw.
type sight struct {
	version    version
	letters    map[series]int
	oldest     map[series]time.Time
	blocked    map[string]int // keys, by group
	causes     map[string]int // by group
	streamUsed float64        // share of the stream's cap
	keyUsed    float64        // of the fullest key's
}

// version is the same as long as nothing was parked, removed or written about a letter.
type version struct{ parked, letters, entries uint64 }

type series struct {
	group, reason string
	state         deadletter.State
}

// NewObserver registers the metrics. Run fills them.
func NewObserver(desk *Desk, cfg ObserverConfig, telemetry bus.Telemetry) (*Observer, error) {
	telemetry = telemetry.OrNothing()
	if cfg.Every <= 0 {
		cfg.Every = lookEvery
	}
	known, err := lru.New[causeID, struct{}](knownCauses)
	if err != nil {
		return nil, err
	}
	o := &Observer{desk: desk, every: cfg.Every, log: telemetry.Logger, now: time.Now, causes: known}
	if err := o.register(telemetry.Meter.Meter(scope)); err != nil {
		return nil, fmt.Errorf("metrics of dead letters: %w", err)
	}
	return o, nil
}

func (o *Observer) register(meter metric.Meter) error {
	letters, err1 := meter.Int64ObservableGauge("tidemark.dlq.letters", metric.WithDescription("Dead letters that are there, by group, reason and state"))
	oldest, err2 := meter.Float64ObservableGauge("tidemark.dlq.oldest_age", metric.WithUnit("s"), metric.WithDescription("Age of the oldest of them, since it was parked"))
	blocked, err3 := meter.Int64ObservableGauge("tidemark.dlq.blocked_keys", metric.WithDescription("Keys whose later events wait behind a dead letter, by group"))
	causes, err4 := meter.Int64ObservableGauge("tidemark.dlq.causes", metric.WithDescription("Different causes of the letters that are there, by group"))
	used, err5 := meter.Float64ObservableGauge("tidemark.dlq.cap_used", metric.WithUnit("1"),
		metric.WithDescription("Share of the cap that is taken: of the stream, and of the fullest key. At 1 nothing more can be parked there, and its group stops"))
	parked, err6 := meter.Int64ObservableCounter("tidemark.dlq.parked", metric.WithDescription("Letters ever parked, of all groups; its rate is the growth"))
	fresh, err7 := meter.Int64Counter("tidemark.dlq.new_causes", metric.WithDescription("Causes that were seen for the first time since the process started, by group and reason"))
	if err := errors.Join(err1, err2, err3, err4, err5, err6, err7); err != nil {
		return err
	}
	o.fresh = fresh
	_, err := meter.RegisterCallback(func(_ context.Context, m metric.Observer) error {
		s := o.last()
		if s == nil {
			return nil
		}
		for at, n := range s.letters {
			m.ObserveInt64(letters, int64(n), at.attributes())
			m.ObserveFloat64(oldest, o.now().Sub(s.oldest[at]).Seconds(), at.attributes())
		}
		for _, g := range o.desk.topology.Groups {
			group := metric.WithAttributes(attribute.String("group", g.Name))
			m.ObserveInt64(blocked, int64(s.blocked[g.Name]), group)
			m.ObserveInt64(causes, int64(s.causes[g.Name]), group)
		}
		m.ObserveFloat64(used, s.streamUsed, metric.WithAttributes(attribute.String("of", "stream")))
		m.ObserveFloat64(used, s.keyUsed, metric.WithAttributes(attribute.String("of", "key")))
		m.ObserveInt64(parked, int64(s.version.parked)) //nolint:gosec // a sequence of a stream never reaches 2^63
		return nil
	}, letters, oldest, blocked, causes, used, parked)
	return err
}

func (s series) attributes() metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("group", s.group), attribute.String("reason", s.reason), attribute.String("state", string(s.state)))
}

func (o *Observer) last() *sight {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.seen
}

// Ready holds at once: nobody waits for metrics.
func (o *Observer) Ready() <-chan struct{} { return run.Closed() }

// Run looks until ctx ends.
func (o *Observer) Run(ctx context.Context) error {
	said := false
	for {
		began := time.Now()
		err := o.look(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the error says that it was stopped
		}
		if err != nil && !said {
			o.log.Warn("the dead letters can't be counted; trying again", "error", err)
		}
		said = err != nil
		select {
		case <-time.After(max(o.every, lookShare*time.Since(began))):
		case <-ctx.Done():
			return nil
		}
	}
}

// look counts the letters, if anything has changed.
func (o *Observer) look(ctx context.Context) error {
	at, info, err := o.version(ctx)
	if err != nil {
		return err
	}
	before := o.last()
	if before != nil && before.version == at {
		return nil
	}
	now := &sight{
		version: at, letters: make(map[series]int), oldest: make(map[series]time.Time), blocked: make(map[string]int), causes: make(map[string]int),
	}
	t := newTally(o.desk)
	perKey := make(map[place]int)
	for l, err := range o.desk.store.Letters(ctx, deadletter.Filter{}) {
		if err != nil {
			return err
		}
		t.add(&l, true)
		s := series{l.Group, string(failureOf(&l.Current).Reason), l.Current.State}
		if now.letters[s]++; now.letters[s] == 1 {
			now.oldest[s] = l.ParkedAt
		}
		at := place{l.Group, l.Partition, l.Key}
		perKey[at]++
		now.keyUsed = max(now.keyUsed, share(perKey[at], info.Config.MaxMsgsPerSubject))
	}
	now.streamUsed = share(int(info.State.Msgs), info.Config.MaxMsgs) //nolint:gosec // at most the cap
	for _, c := range t.causes() {
		now.blocked[c.Group] += c.BlockedKeys
		now.causes[c.Group]++
		o.meet(ctx, &c, before != nil)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen = now
	return nil
}

// meet notes a cause. At the first look nothing is new: what is there may have been there for long.
func (o *Observer) meet(ctx context.Context, c *Cause, told bool) {
	known, _ := o.causes.ContainsOrAdd(causeID{c.Group, c.Reason, c.Fingerprint}, struct{}{})
	if known || !told {
		return
	}
	o.fresh.Add(ctx, 1, metric.WithAttributes(attribute.String("group", c.Group), attribute.String("reason", c.Reason)))
	o.log.Warn("dead letters of a new cause", "group", c.Group, "reason", c.Reason, "fingerprint", c.Fingerprint, "example", c.Example, "error", c.Error)
}

func (o *Observer) version(ctx context.Context) (version, *jetstream.StreamInfo, error) {
	dlq, err := o.info(ctx, events.StreamDLQ)
	if err != nil {
		return version{}, nil, err
	}
	ctl, err := o.info(ctx, events.StreamDLQCtl)
	if err != nil {
		return version{}, nil, err
	}
	return version{parked: dlq.State.LastSeq, letters: dlq.State.Msgs, entries: ctl.State.LastSeq}, dlq, nil
}

func (o *Observer) info(ctx context.Context, stream string) (*jetstream.StreamInfo, error) {
	s, err := o.desk.js.Stream(ctx, stream)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", stream, err)
	}
	return s.CachedInfo(), nil
}

func share(n int, most int64) float64 {
	if most <= 0 {
		return 0
	}
	return float64(n) / float64(most)
}
