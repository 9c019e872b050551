package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
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
	InPlace time.Duration   // a longer wait for a retry is spent as a dead letter that waits, so that it holds up nothing but its key; default 500 ms
	Drain   time.Duration   // how long a stopping member lets handlers finish before their context ends; default 3 s
	Breaker BreakerConfig
	// Unchecked: the handler checks payloads by itself. Otherwise, where there is an encoder, an event whose payload breaks its schema becomes a dead letter
	// before the handler sees it. A type that the catalogue does not know is handed on in either case.
	Unchecked bool
}

func (c GroupConfig) withDefaults() GroupConfig {
	setDefault(&c.Lanes, 64)
	setDefault(&c.Ahead, 1024)
	setDefault(&c.Timeout, 30*time.Second)
	setDefault(&c.Drain, 3*time.Second)
	setDefault(&c.InPlace, 500*time.Millisecond)
	c.Breaker = c.Breaker.withDefaults()
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
	errs = append(errs, notNegative("lanes", c.Lanes), notNegative("ahead", c.Ahead), notNegative("timeout", c.Timeout), notNegative("drain", c.Drain),
		notNegative("in place", c.InPlace), notNegative("breaker: window", c.Breaker.Window), notNegative("breaker: min probe", c.Breaker.MinProbe),
		notNegative("breaker: max probe", c.Breaker.MaxProbe))
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
	if err := validateGroupName(g.Name); err != nil {
		errs = append(errs, err)
	}
	if g.Stream == "" {
		errs = append(errs, errors.New("group: stream: required, is empty"))
	}
	if g.Partitions < 1 || g.Partitions > maxPartitions {
		errs = append(errs, fmt.Errorf("group: partitions: is %d, must be at least 1 and at most %d", g.Partitions, maxPartitions))
	}
	if g.Partitions > 1 && !strings.Contains(g.Filter, "{p}") {
		errs = append(errs, fmt.Errorf(`group: filter: is %q, must hold "{p}" where there are %d partitions, or each would read all events`, g.Filter, g.Partitions))
	}
	if g.PinnedTTL < time.Second {
		errs = append(errs, fmt.Errorf("group: pinned TTL: is %s, must be at least 1s", g.PinnedTTL))
	}
	if g.AckWait < time.Second {
		errs = append(errs, fmt.Errorf("group: ack wait: is %s, must be at least 1s", g.AckWait))
	}
	return errors.Join(errs...)
}

func validateGroups(groups []events.Group) error {
	var errs []error
	for _, g := range groups {
		if err := validateGroup(g); err != nil {
			errs = append(errs, fmt.Errorf("%w: consumer group %q: %w", ErrTopology, g.Name, err))
		}
	}
	return errors.Join(errs...)
}

// validateGroupName: the name is a part of consumer names, of subjects and of keys in a bucket.
func validateGroupName(name string) error {
	if name == "" {
		return errors.New("group: name: required, is empty")
	}
	other := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' }
	if len(name) > maxGroupName || strings.ContainsFunc(name, other) || name[0] < 'a' || name[0] > 'z' {
		return fmt.Errorf("group: name: is %q, must be lower-case letters, digits and dashes, begin with a letter, and have at most %d characters", name, maxGroupName)
	}
	return nil
}

const (
	maxGroupName  = 32
	maxPartitions = 256
)

// Deps are what the bus needs.
type Deps struct {
	JS        jetstream.JetStream // required
	Encoder   *Encoder            // required by [NewPublisher]; its catalogue upcasts what groups and logs read, and checks what groups read
	Subjects  events.Subjects
	Telemetry Telemetry
	// Quarantine is shared by the groups of one process; a group without one has its own.
	Quarantine *Quarantine
}

// Group is one member of a consumer group.
type Group struct {
	partitions []*partition
	membership *membership
	breaker    *breaker
	jobs       *jobs
	js         jetstream.JetStream
	group      events.Group
	ready      chan struct{}
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
	g := &Group{
		js: deps.JS, group: cfg.Group, membership: newMembership(deps.JS, cfg.Group, t.Logger, m), ready: make(chan struct{}),
		breaker: newBreaker(cfg.Breaker, m.paused), jobs: newJobs(deps.JS, deps.Subjects, cfg.Group.Name, t.Logger),
	}
	if deps.Quarantine == nil {
		deps.Quarantine = NewQuarantine()
	}
	for n := range cfg.Group.Partitions {
		g.partitions = append(g.partitions, newPartition(cfg, deps, t, g, n))
	}
	return g, nil
}

func newPartition(cfg GroupConfig, deps Deps, t Telemetry, of *Group, n int) *partition {
	m := of.membership.metrics
	p := &partition{
		group: cfg.Group, number: n, template: groupTemplate(cfg.Group), metrics: m, tracing: newTracing(t), registry: deps.Encoder.Registry(),
		who: newIdentity(cfg.Handler, of.membership.name), breaker: of.breaker, jobs: of.jobs, quarantine: deps.Quarantine,
		handler: cfg.Handler, timeout: cfg.Timeout, retries: cfg.Retries, inPlace: cfg.InPlace, drainTime: cfg.Drain,
		window: newWindow(cfg.Ahead), gate: newGate(), redone: make(map[uint64]struct{}),
	}
	if !cfg.Unchecked {
		p.schemas = p.registry
	}
	p.letters = newLetters(deps.JS, deps.Subjects, cfg.Group, n, p.who, m)
	p.reader = newReader(of.membership, n, t.Logger, min(cfg.Ahead, maxAsk), p)
	p.log = p.reader.log
	p.lanes = newLanes(cfg.Lanes, p.run)
	return p
}

// maxAsk is how many messages are asked for at once. With fewer, nats-server often has delivered all of them before the next request is there, and sleeps.
const maxAsk = 1024

func newReader(members *membership, n int, log *slog.Logger, most int, w work) *reader {
	g := members.group
	return &reader{
		js: members.js, group: g, partition: n, consumer: g.Consumer(n), log: log.With("group", g.Name, "partition", n), members: members, seat: members.seats[n],
		metrics: members.metrics, most: most, work: w, ready: make(chan struct{}),
	}
}

// Member is this member's name among the others of the group, as `tidemark groups` and the logs show it.
func (g *Group) Member() string { return g.membership.name }

// Ready is closed when every partition is read, by this member or by another.
func (g *Group) Ready() <-chan struct{} { return g.ready }

// Healthy says why the member takes no events in some partition, or nil.
func (g *Group) Healthy() error {
	var errs []error
	if err := g.breaker.status(); err != nil {
		errs = append(errs, fmt.Errorf("consumer group %s: %w", g.group.Name, err))
	}
	for _, p := range g.partitions {
		if n := p.letters.refused.Load(); n > 0 {
			errs = append(errs, fmt.Errorf("consumer group %s, partition %d: %d dead letters are refused by the broker; nothing new is taken", g.group.Name, p.number, n))
		}
	}
	return errors.Join(errs...)
}

// Run reads until ctx ends, then finishes what is in flight, and returns nil after a clean stop. An error, which wraps [ErrTopology], means that the broker does
// not hold the group as the topology declares it. A broker that can't be reached is waited for.
func (g *Group) Run(ctx context.Context) error {
	if err := g.check(ctx); err != nil {
		return fmt.Errorf("consumer group %s: %w", g.group.Name, err)
	}
	var wg sync.WaitGroup
	for _, p := range g.partitions {
		wg.Go(func() { p.reader.run(ctx) })
	}
	wg.Go(func() { g.membership.run(ctx) })
	wg.Go(func() { g.jobs.run(ctx) })
	wg.Go(func() { closeWhenReady(ctx, g.ready, g.partitions) })
	wg.Wait()
	return nil
}

// check compares all consumers of the group at once: a worker that is started for one event should not wait for an answer after the other.
func (g *Group) check(ctx context.Context) error {
	errs := make([]error, g.group.Partitions)
	var wg sync.WaitGroup
	for n := range errs {
		wg.Go(func() { errs[n] = checkConsumer(ctx, g.js, g.group, n) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func closeWhenReady(ctx context.Context, ready chan struct{}, partitions []*partition) {
	for _, p := range partitions {
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
			return sameConsumer(consumer.CachedInfo().Config, ConsumerConfig(g, n, 1)) // the start is not compared: a group has begun once
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
