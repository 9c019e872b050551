package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

// GroupConfig configures one member of a consumer group.
type GroupConfig struct {
	Group   events.Group    // from the topology
	Handler Handler         // required
	Lanes   int             // handlers that run at once in one partition; default 64
	Ahead   int             // how far past the ack floor a partition reads; what a crash repeats at most; default 1,024
	Timeout time.Duration   // one call of the handler; default 30 s
	Retries []time.Duration // waits before the second, third… try, each with jitter; default 200 ms, 1 s, 5 s; empty and not nil: no retry
	Drain   time.Duration   // how long a stopping member lets handlers finish before their context ends; default 3 s
}

func (c GroupConfig) withDefaults() GroupConfig {
	setDefault(&c.Lanes, 64)
	setDefault(&c.Ahead, 1024)
	setDefault(&c.Timeout, 30*time.Second)
	setDefault(&c.Drain, 3*time.Second)
	if c.Retries == nil {
		c.Retries = []time.Duration{200 * time.Millisecond, time.Second, 5 * time.Second}
	}
	return c
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Validate reports every error of the configuration, joined.
func (c GroupConfig) Validate() error {
	errs := []error{validateGroup(c.Group)}
	if c.Handler == nil {
		errs = append(errs, errors.New("handler: required, is nil"))
	}
	errs = append(errs, notNegative("lanes", c.Lanes), notNegative("ahead", c.Ahead), notNegative("timeout", c.Timeout), notNegative("drain", c.Drain))
	if c.Ahead > c.Group.MaxPending && c.Group.MaxPending > 0 {
		errs = append(errs, fmt.Errorf("ahead: is %d, must be at most the group's max pending, %d", c.Ahead, c.Group.MaxPending))
	}
	for i, wait := range c.Retries {
		errs = append(errs, notNegative(fmt.Sprintf("retries[%d]", i), wait))
	}
	return errors.Join(errs...)
}

func notNegative[T int | time.Duration](name string, v T) error {
	if v < 0 {
		return fmt.Errorf("%s: is %v, must not be negative", name, v)
	}
	return nil
}

func validateGroup(g events.Group) error {
	var errs []error
	if g.Name == "" {
		errs = append(errs, errors.New("group: name: required, is empty"))
	}
	if g.Stream == "" {
		errs = append(errs, errors.New("group: stream: required, is empty"))
	}
	if g.Partitions < 1 {
		errs = append(errs, fmt.Errorf("group: partitions: is %d, must be at least 1", g.Partitions))
	}
	if g.PinnedTTL < time.Second {
		errs = append(errs, fmt.Errorf("group: pinned TTL: is %s, must be at least 1s", g.PinnedTTL))
	}
	if g.AckWait < time.Second {
		errs = append(errs, fmt.Errorf("group: ack wait: is %s, must be at least 1s", g.AckWait))
	}
	return errors.Join(errs...)
}

// Deps are what the bus needs.
type Deps struct {
	JS        jetstream.JetStream // required
	Encoder   *Encoder            // required by [NewPublisher]; its catalogue upcasts what groups and logs read
	Subjects  events.Subjects
	Telemetry Telemetry
}

// Group is one member of a consumer group.
type Group struct {
	members []*partition
	js      jetstream.JetStream
	group   events.Group
	ready   chan struct{}
}

// NewGroup checks the configuration; Run reads.
func NewGroup(cfg GroupConfig, deps Deps) (*Group, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("consumer group %q: %w", cfg.Group.Name, err)
	}
	if deps.JS == nil {
		return nil, fmt.Errorf("consumer group %q: JetStream: required, is nil", cfg.Group.Name)
	}
	t := deps.Telemetry.OrNothing()
	m, err := newMetrics(t.Meter, cfg.Group.Name)
	if err != nil {
		return nil, fmt.Errorf("consumer group %q: metrics: %w", cfg.Group.Name, err)
	}
	g := &Group{js: deps.JS, group: cfg.Group, ready: make(chan struct{})}
	for n := range cfg.Group.Partitions {
		p, err := newPartition(cfg, deps, t, m, n)
		if err != nil {
			return nil, fmt.Errorf("consumer group %q: partition %d: %w", cfg.Group.Name, n, err)
		}
		g.members = append(g.members, p)
	}
	return g, nil
}

func newPartition(cfg GroupConfig, deps Deps, t Telemetry, m *metrics, n int) (*partition, error) {
	gate, err := newGate()
	if err != nil {
		return nil, err
	}
	p := &partition{
		group: cfg.Group, number: n, template: groupTemplate(cfg.Group), metrics: m, tracing: newTracing(t), registry: deps.Encoder.Registry(),
		letters: &letters{js: deps.JS, group: cfg.Group.Name, subjects: deps.Subjects, metrics: m},
		handler: cfg.Handler, timeout: cfg.Timeout, retries: cfg.Retries, drain: cfg.Drain,
		window: newWindow(cfg.Ahead), gate: gate, redone: make(map[uint64]struct{}),
	}
	p.reader = newReader(deps.JS, cfg.Group, n, t.Logger, m, min(cfg.Ahead, maxAsk), p)
	p.log = p.reader.log
	p.lanes = newLanes(cfg.Lanes, p.handle)
	return p, nil
}

const maxAsk = 256 // messages asked for at once

func newReader(js jetstream.JetStream, g events.Group, n int, log *slog.Logger, m *metrics, most int, w work) *reader {
	return &reader{
		js: js, group: g, partition: n, consumer: g.Consumer(n), log: log.With("group", g.Name, "partition", n),
		metrics: m, most: most, work: w, ready: make(chan struct{}),
	}
}

// Ready is closed when every partition is read, by this member or by another.
func (g *Group) Ready() <-chan struct{} { return g.ready }

// Healthy says why the member takes no events in some partition, or nil.
func (g *Group) Healthy() error {
	var errs []error
	for _, p := range g.members {
		if n := p.letters.refused.Load(); n > 0 {
			errs = append(errs, fmt.Errorf("consumer group %s, partition %d: %d dead letters are refused by the broker; nothing new is taken", g.group.Name, p.number, n))
		}
	}
	return errors.Join(errs...)
}

// Run reads until ctx ends, then finishes what is in flight, and returns nil after a clean stop. An error, which wraps [ErrTopology], means that the broker does
// not hold the group as the topology declares it. A broker that can't be reached is waited for.
func (g *Group) Run(ctx context.Context) error {
	for n := range g.group.Partitions {
		if err := checkConsumer(ctx, g.js, g.group, n); err != nil {
			return fmt.Errorf("consumer group %s: %w", g.group.Name, err)
		}
	}
	life, endLife := context.WithCancelCause(context.WithoutCancel(ctx))
	defer endLife(nil)
	var wg sync.WaitGroup
	for _, p := range g.members {
		wg.Go(func() { p.run(ctx, life, endLife) })
	}
	wg.Go(func() { closeWhenReady(ctx, g.ready, g.members) })
	wg.Wait()
	return nil
}

func closeWhenReady(ctx context.Context, ready chan struct{}, members []*partition) {
	for _, p := range members {
		select {
		case <-p.reader.ready:
		case <-ctx.Done():
			return
		}
	}
	close(ready)
}

// checkConsumer compares the durable of one partition with what is declared. It waits for a broker that can't be reached.
func checkConsumer(ctx context.Context, js jetstream.JetStream, g events.Group, n int) error {
	for failures := 1; ctx.Err() == nil; failures++ {
		consumer, err := js.Consumer(ctx, g.Stream, g.Consumer(n))
		if err == nil {
			return sameConsumer(consumer.CachedInfo().Config, ConsumerConfig(g, n, 1))
		}
		if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("%w: partition %d has no consumer %s on %s: %w", ErrTopology, n, g.Consumer(n), g.Stream, err)
		}
		sleep(ctx, backoff(failures, 100*time.Millisecond, 2*time.Second))
	}
	return nil
}

// sameConsumer names every setting on which the reading rule stands and that differs.
func sameConsumer(got, want jetstream.ConsumerConfig) error {
	var errs []error
	durable := want.Durable
	compare := func(name string, got, want any) {
		if got != want {
			errs = append(errs, fmt.Errorf("%w: consumer %s: %s is %v, must be %v", ErrTopology, durable, name, got, want))
		}
	}
	compare("filter", got.FilterSubject, want.FilterSubject)
	compare("ack policy", got.AckPolicy, want.AckPolicy)
	compare("max deliver", got.MaxDeliver, want.MaxDeliver)
	compare("priority policy", got.PriorityPolicy, want.PriorityPolicy)
	compare("pinned TTL", got.PinnedTTL, want.PinnedTTL)
	compare("partitions", got.Metadata[metadataPartitions], want.Metadata[metadataPartitions])
	return errors.Join(errs...)
}
