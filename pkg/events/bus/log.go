package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
)

// BatchHandler handles events in the order of the log. When it returns nil, all of them are acknowledged; it has stored their effect and its
// position by then. An error makes the reader ask for the position again and start over behind it: nothing is skipped.
//
// An event that can't be read comes in its place as a [Delivery] with Err set, after it was parked as a dead letter. It has no effect, but the position must
// pass it, and it may be the last one of the log. A heartbeat ([events.SubjectTick]) comes with an empty Event: it tells the store time, and nothing else.
type BatchHandler func(ctx context.Context, ds []Delivery) error

// LogConfig configures a reader of a whole stream in its order, as analytics reads TIMELINE: one partition, one goroutine, and a
// position of its own that is stored with what was computed.
type LogConfig struct {
	Group    events.Group // one partition
	Handler  BatchHandler
	MaxBatch int // most events in one call; default 1,000
	// Gather is how long the first event of a batch waits for others, unless the batch is full before. So one call, and what it commits, serves all of them, and the
	// acknowledgements come after it. 0: an event waits for nothing but the call before. At most a third of the group's AckWait, and MaxBatch less than its MaxPending.
	Gather time.Duration
	// Due, where it is set, is asked after each call of Handler when it is to be called again if no event comes before, with none. Zero: not at all. It may decide when something that was
	// computed is stored, never what: the log has no such call.
	Due func() time.Time
	// Position returns the last sequence whose effect is stored; reading starts behind it. It is called at every take-over and reset.
	Position func(ctx context.Context) (uint64, error)
	// Check, where it is set, is asked about every event that could be decoded. What it returns an error for can't be read either, and is parked in
	// the same way: a payload that breaks its schema, for example. Its error must hang on the event alone. What it has found while looking comes back
	// as [Delivery.Checked], so that a payload need not be decoded twice.
	Check func(ev *events.Event) (any, error)
	Drain time.Duration // how long a stopping member lets the handler finish before its context ends; default 3 s
	// Replay, where it is set, is called with the event of a dead letter that a job replays. Without it a replay fails: what a log computes follows its order, so an
	// event that it has passed has no place any more.
	Replay Handler
}

func (c LogConfig) withDefaults() LogConfig {
	setDefault(&c.MaxBatch, 1000)
	setDefault(&c.Drain, 3*time.Second)
	return c
}

// Validate reports every error of the configuration, joined.
func (c LogConfig) Validate() error {
	errs := []error{validateGroup(c.Group), notNegative("max batch", c.MaxBatch), notNegative("drain", c.Drain), notNegative("gather", c.Gather)}
	if c.Handler == nil {
		errs = append(errs, errors.New("handler: required, is nil"))
	}
	if c.Position == nil {
		errs = append(errs, errors.New("position: required, is nil"))
	}
	if c.Group.Partitions != 1 {
		errs = append(errs, fmt.Errorf("group: partitions: is %d, must be 1", c.Group.Partitions))
	}
	if c.Gather > 0 && c.Gather > c.Group.AckWait/3 {
		errs = append(errs, fmt.Errorf("gather: must be at most a third of the group's ack wait %s, is %s", c.Group.AckWait, c.Gather))
	}
	if c.Gather > 0 && c.MaxBatch >= c.Group.MaxPending {
		errs = append(errs, fmt.Errorf("max batch: must be less than the group's max pending %d where batches are gathered, is %d", c.Group.MaxPending, c.MaxBatch))
	}
	return errors.Join(errs...)
}

// Log is one member that reads a stream in order. Others stand by.
type Log struct {
	cfg      LogConfig
	members  *membership
	reader   *reader
	log      *slog.Logger
	metrics  *metrics
	tracing  tracing
	letters  *letters
	clerk    *partition // works on the letters; it reads nothing
	jobs     *jobs
	registry *events.Registry
	template string

	next     uint64        // consumer sequence of the last message accepted
	last     uint64        // stream sequence of the last event handled
	events   atomic.Uint64 // taken so far, without heartbeats
	failures int
	life     context.Context // of the handler
}

// NewLog checks the configuration; Run reads.
func NewLog(cfg LogConfig, deps Deps) (*Log, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("log reader %q: %w", cfg.Group.Name, err)
	}
	if deps.JS == nil {
		return nil, fmt.Errorf("log reader %q: JetStream: required, is nil", cfg.Group.Name)
	}
	t := deps.Telemetry.OrNothing()
	m, err := newMetrics(t.Meter, cfg.Group.Name)
	if err != nil {
		return nil, fmt.Errorf("log reader %q: metrics: %w", cfg.Group.Name, err)
	}
	l := &Log{
		cfg: cfg, metrics: m, tracing: newTracing(t), template: groupTemplate(cfg.Group), registry: deps.Encoder.Registry(),
		jobs: newJobs(deps.JS, deps.Subjects, cfg.Group.Name, t.Logger),
	}
	l.members = newMembership(deps.JS, cfg.Group, t.Logger, m)
	l.reader = newReader(l.members, 0, t.Logger, cfg.MaxBatch, l)
	l.log = l.reader.log
	l.clerk = newClerk(l, deps, m)
	l.letters = l.clerk.letters
	return l, nil
}

// Ready is closed when the stream is read, by this member or by another.
func (l *Log) Ready() <-chan struct{} { return l.reader.ready }

// Healthy says why the reader stands still, or nil.
func (l *Log) Healthy() error {
	if l.letters.refused.Load() > 0 {
		return fmt.Errorf("log reader %s: a dead letter is refused by the broker; nothing new is read", l.cfg.Group.Name)
	}
	return nil
}

// Run reads until ctx ends and returns nil after a clean stop. An error, which wraps [ErrTopology], means that the broker does not hold the
// consumer as the topology declares it.
func (l *Log) Run(ctx context.Context) error {
	if err := checkConsumer(ctx, l.reader.js, l.cfg.Group, 0); err != nil {
		return fmt.Errorf("log reader %s: %w", l.cfg.Group.Name, err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { l.members.run(ctx) })
	wg.Go(func() { l.jobs.run(ctx) })
	l.reader.run(ctx)
	wg.Wait()
	return nil
}

// Member is this member's name among the others of the group, as `tidemark groups` and the logs show it.
func (l *Log) Member() string { return l.members.name }

// stranded: what a dead owner was sent, and a position that does not fit the consumer's, as after results were thrown away to compute them again.
func (l *Log) stranded(ctx context.Context, info *jetstream.ConsumerInfo) (uint64, bool, error) {
	position, err := l.position(ctx)
	if err != nil {
		return 0, false, err
	}
	return position + 1, info.NumAckPending > 0 || position < info.AckFloor.Stream, nil
}

func (l *Log) position(ctx context.Context) (uint64, error) {
	position, err := l.cfg.Position(ctx)
	if err != nil {
		return 0, fmt.Errorf("read position: %w", err)
	}
	return position, nil
}

// vacant: a log is never quiet for long, its heartbeats bring the pin.
func (l *Log) vacant(context.Context, bool) error { return nil }

// begin asks for the position: the reader's own record is the truth, the consumer's ack floor follows it.
func (l *Log) begin(ctx context.Context, _ uint64) (uint64, error) {
	position, err := l.position(ctx)
	if err != nil {
		return 0, err
	}
	l.next, l.last = 0, position
	l.clerk.openTerm()
	return position + 1, l.letters.begin(ctx, l.clerk.inner)
}

func (l *Log) settled(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	return l.reader.settled(ctx, l.last)
}

// read hands over what waits, batch by batch, until the term ends.
func (l *Log) read(ctx context.Context, pull *puller) ending {
	life, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(l.cfg.Drain, func() { end(errStopping) }) })
	defer stop()
	l.life = life // nothing runs now that could read it
	defer l.clerk.clerkTerm(ctx, life, end)()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	gathered := gathering{wait: l.cfg.Gather, most: l.cfg.MaxBatch}
	defer gathered.stop()
	due := alarm{due: l.cfg.Due}
	defer due.stop()
	deliver := func() bool {
		defer due.set()
		return l.deliver(ctx, gathered.take())
	}
	for {
		if err := pull.want(2 * l.cfg.MaxBatch); err != nil {
			l.log.DebugContext(ctx, "not asked for messages", "error", err)
		}
		ok := true
		select {
		case m := <-pull.msgs:
			batch, why, over := l.collect(pull, m, l.cfg.MaxBatch-len(gathered.batch))
			if gathered.add(batch) || over {
				ok = deliver()
			}
			if ok && over {
				return why
			}
		case <-gathered.due():
			ok = deliver()
		case <-due.rings():
			ok = l.handle(ctx, nil)
			due.set()
		case <-l.clerk.lost:
			return endPinLost
		case now := <-tick.C:
			if pull.lost(now) {
				return endJump
			}
		case <-ctx.Done():
			deliver() // rather than let another one read it again; it is fenced
			return endStopped
		}
		switch {
		case ok:
		case ctx.Err() != nil:
			return endStopped
		default:
			return endJump
		}
	}
}

// collect takes m and what waits behind it, as long as it is contiguous, and at most most.
func (l *Log) collect(pull *puller, m *nats.Msg, most int) (batch []*task, why ending, over bool) {
	for {
		t, why, over := l.take(pull, m)
		if t != nil {
			batch = append(batch, t)
		}
		if over || len(batch) == most {
			return batch, why, over
		}
		select {
		case m = <-pull.msgs:
		default:
			return batch, 0, false
		}
	}
}

// take judges one message. The consumer's sequence must be contiguous; the stream's may jump, where messages have expired.
func (l *Log) take(pull *puller, m *nats.Msg) (t *task, why ending, over bool) {
	switch pull.read(m) {
	case answerPinLost:
		return nil, endPinLost, true
	case answerGone:
		return nil, endGone, true
	case answerNews:
		return nil, 0, false
	case answerMessage:
	}
	seq, err := sequencesOf(m)
	if err != nil || seq.consumer != l.next+1 {
		return nil, endJump, true
	}
	l.next = seq.consumer
	if seq.stream <= l.last {
		l.metrics.duplicates.add(l.life)
		l.ack(&task{msg: m, seq: seq})
		return nil, 0, false
	}
	if seq.delivered > 1 { // not handled, but sent before in this term: there is a gap in what we have
		return nil, endJump, true
	}
	l.last = seq.stream
	t = newTask(l.registry, m, seq, l.cfg.Group.Stream, 0)
	l.tracing.receive(t)
	if m.Subject != events.SubjectTick {
		l.events.Add(1)
	}
	switch {
	case m.Subject == events.SubjectTick: // no event, and no fault either
		t.delivery.Event, t.delivery.Err = events.Event{}, nil
	case t.delivery.Err == nil && l.cfg.Check != nil:
		t.delivery.Checked, t.delivery.Err = l.cfg.Check(&t.delivery.Event)
	}
	return t, 0, false
}

// deliver parks what can't be read, calls the handler and acknowledges. false: start over from the position.
func (l *Log) deliver(ctx context.Context, batch []*task) bool {
	if len(batch) == 0 {
		return true
	}
	ds := make([]Delivery, len(batch))
	for i, t := range batch {
		if t.delivery.Err != nil && !l.park(ctx, t) {
			return false
		}
		t.delivery.Attempt = l.failures + 1
		ds[i] = t.delivery
	}
	if !l.handle(ctx, ds) {
		return false
	}
	for _, t := range batch {
		l.metrics.handled.add(l.life)
		l.ack(t)
	}
	return true
}

// handle calls the handler. false: start over from the position, after a while.
func (l *Log) handle(ctx context.Context, ds []Delivery) bool {
	err := l.call(ds)
	if err == nil {
		l.failures = 0
		return true
	}
	l.failures++
	wait := backoff(l.failures, 100*time.Millisecond, 5*time.Second)
	l.metrics.retried.add(l.life)
	l.log.WarnContext(l.life, "batch failed, starting over from the stored position", "error", err, "behind", l.last-uint64(len(ds)), "events", len(ds), "wait", wait)
	sleep(ctx, wait)
	return false
}

func (l *Log) park(ctx context.Context, t *task) bool {
	v := classify(t.delivery.Err)
	v.traceparent, v.lastAt = t.delivery.Event.TraceParent, time.Now()
	if v.reason == "" { // of a Check: it says that the event can't be read, whatever its kind
		v.reason = deadletter.ReasonUndecodable
	}
	for failures := 1; ; failures++ {
		_ = t.msg.InProgress() // the next one may come through
		known, err := l.letters.park(ctx, t, v)
		if known {
			return true
		}
		if err == nil {
			break
		}
		if errors.Is(err, errStale) {
			l.clerk.lose()
		}
		if ctx.Err() != nil || errors.Is(err, errStale) {
			return false
		}
		l.log.ErrorContext(l.life, "dead letter refused: the reader stands still until it is stored", "error", err, "sequence", t.seq.stream)
		l.letters.wait(ctx, backoff(failures, 200*time.Millisecond, 5*time.Second))
	}
	l.log.WarnContext(l.life, "dead letter", "reason", v.reason, "error", v.err, "sequence", t.seq.stream)
	return true
}

func (l *Log) call(ds []Delivery) (err error) {
	ctx, span := l.tracing.batch(l.life, ds, l.template, l.cfg.Group.Name)
	started := l.metrics.start()
	defer func() {
		if value := recover(); value != nil {
			err = &panicked{value: value}
			l.log.ErrorContext(ctx, "handler panicked", "panic", value)
		}
		l.metrics.took(ctx, started)
		endSpan(span, err)
	}()
	return l.cfg.Handler(ctx, ds)
}

func (l *Log) ack(t *task) {
	if err := t.msg.Ack(); err != nil {
		l.log.DebugContext(l.life, "acknowledgement not sent", "error", err, "sequence", t.seq.stream)
	}
}
