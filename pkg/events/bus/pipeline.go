package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
	"github.com/tidemark/tidemark/pkg/events/fail"
)

// run takes a task through the pipeline. Its order is fixed: recover → trace → decode → check → deduplicate → time limit → handle → classify → settle. (The
// bytes are decoded before the queue, because the key is in them; what could not be decoded is judged here.) false: the event was given back. It is not
// acknowledged and comes again, to whoever owns the partition next.
func (p *partition) run(t *task) (finished bool) {
	switch {
	case t.work != nil:
		t.work()
		return true
	case t.solo:
		return p.alone(t)
	default:
		return p.handle(t)
	}
}

func (p *partition) handle(t *task) (finished bool) {
	var v verdict
	p.check(&t.delivery)
	switch {
	case t.delivery.Err != nil:
		v = classify(t.delivery.Err)
		v.traceparent, v.lastAt = t.delivery.Event.TraceParent, time.Now()
	case p.gate.passed(&t.delivery):
		p.metrics.duplicates.add(p.life)
		p.settle(t)
		return true
	case p.waits(t.key):
		if err := p.breaker.rest(p.patience, p.group.AckWait/3, func() { p.alive(t) }); err != nil {
			return false
		}
		if !p.waits(t.key) {
			return p.handle(t)
		}
		v = verdict{reason: deadletter.ReasonPredecessor, class: fail.Transient, err: errPredecessor}
	default:
		v = p.try(t)
	}
	switch {
	case v.class == fail.None && v.reason == "":
		return p.applied(t)
	case v.class == fail.Dropped:
		return p.drop(t, v)
	case v.reason == "":
		return false
	}
	return p.park(t, v)
}

// check notes that a payload breaks its schema. Publishers check too, but not everybody who stores events publishes with this package. It is done in the lanes and not where
// events are decoded, since that is one goroutine for the whole partition.
func (p *partition) check(d *Delivery) {
	if d.Err != nil || p.schemas == nil {
		return
	}
	if err := p.schemas.Validate(&d.Event); err != nil && !errors.Is(err, events.ErrUnknownType) { // an unknown type may be meant for others
		d.Err = err
	}
}

var (
	errPredecessor = errors.New("an earlier event of the key is a dead letter")
	errGiveBack    = errors.New("given back")
)

// waits reports whether an event must wait behind a letter of its key.
func (p *partition) waits(key string) bool { return !p.group.Independent && p.letters.locked.has(key) }

func (p *partition) applied(t *task) bool {
	p.breaker.succeeded()
	p.gate.pass(&t.delivery)
	p.metrics.handled.add(p.life)
	if p.log.Enabled(p.life, slog.LevelDebug) { // one line an event, for whoever looks for one; its attributes cost something
		p.log.DebugContext(p.within(t), "handled", about(t)...)
	}
	p.settle(t)
	return true
}

// within is the context of the event's last attempt, so that a log line names its trace.
func (p *partition) within(t *task) context.Context {
	if t.traced != nil {
		return t.traced
	}
	return p.life
}

// about are the attributes by which a log line names its event. Its payload is not among them: it may be personal.
func about(t *task, more ...any) []any {
	d := &t.delivery
	return append([]any{"sequence", t.seq.stream, "event_id", d.Event.ID, "type", d.Event.Type, "key", t.key, "attempt", d.Attempt}, more...)
}

// park stores the event's letter and settles it then. The other way round, a crash between would lose it. It tries until the letter is stored or the term ends: an event is
// never dropped because there is no room for its letter.
func (p *partition) park(t *task, v verdict) (finished bool) {
	for failures := 1; ; failures++ {
		p.alive(t)
		known, err := p.letters.park(p.patience, t, v)
		if known {
			p.metrics.duplicates.add(p.life)
			p.settle(t)
			return true
		}
		if err == nil {
			break
		}
		if errors.Is(err, errStale) {
			p.log.WarnContext(p.life, "another member has worked on this partition: giving it up", "error", err, "sequence", t.seq.stream)
			p.lose()
			return false
		}
		if p.patience.Err() != nil {
			return false
		}
		p.refused(t, err)
		p.relieve(t.key, backoff(failures, 200*time.Millisecond, 5*time.Second))
		if v.reason == deadletter.ReasonPredecessor && !p.waits(t.key) {
			return p.handle(t) // what it waited for is gone
		}
	}
	if v.reason == deadletter.ReasonTransient {
		p.scheduleLetter(t, v)
	}
	p.log.WarnContext(p.within(t), "dead letter", about(t, "reason", v.reason, "error", v.err)...)
	p.settle(t)
	return true
}

// relieve waits for room in the stream of letters. Room comes from work on letters, perhaps on those of the same key, which would wait for us: so it goes first now.
func (p *partition) relieve(key string, wait time.Duration) {
	back := p.lanes.standAside()
	defer back()
	for until := time.Now().Add(wait); p.patience.Err() == nil && time.Now().Before(until); {
		if work := p.lanes.overtake(key); work != nil {
			work.work()
			return
		}
		p.letters.wait(p.patience, min(time.Until(until), 50*time.Millisecond))
	}
}

// drop settles an event as its handler asked, when the reason is written down.
func (p *partition) drop(t *task, v verdict) bool {
	id := deadletter.ID(p.group.Name, t.delivery.Stream, t.delivery.Sequence)
	for failures := 1; ; failures++ {
		err := p.letters.store.Drop(p.patience, p.group.Name, id, p.who.by(p.group.Name), v.err.Error())
		if err == nil {
			break
		}
		if p.patience.Err() != nil {
			return false
		}
		p.refused(t, err)
		p.alive(t)
		p.letters.wait(p.patience, backoff(failures, 200*time.Millisecond, 5*time.Second))
	}
	p.metrics.dropped.add(p.life)
	p.log.WarnContext(p.within(t), "dropped", about(t, "why", v.err)...)
	p.breaker.succeeded()
	p.gate.pass(&t.delivery)
	p.settle(t)
	return true
}

// try calls the handler until it succeeds, its error is final, the wait for its next try is too long to hold a lane, or the member stops. A verdict with neither class nor reason is a
// success; one without a reason means: give it back.
func (p *partition) try(t *task) verdict {
	var firstAt time.Time
	panics := 0
	for attempt := 1; ; {
		probe, err := p.allowed(func() { p.alive(t) })
		if err != nil {
			return verdict{class: fail.Transient, err: errGiveBack}
		}
		t.delivery.Attempt = attempt
		span, err := p.attempt(t)
		if err == nil {
			return verdict{}
		}
		if p.life.Err() != nil { // stopped under it: its error says nothing about the event
			p.breaker.giveBack(probe)
			return verdict{class: fail.Transient, err: errGiveBack}
		}
		v := classify(err)
		if v.class == fail.Dropped {
			p.breaker.giveBack(probe)
			return v
		}
		v.traceparent, v.attempts, v.lastAt = span, attempt, time.Now()
		if firstAt.IsZero() {
			firstAt = v.lastAt
		}
		v.firstAt = firstAt
		if panicErr, ok := errors.AsType[*panicked](err); ok {
			panics++
			p.log.ErrorContext(p.within(t), "handler panicked", about(t, "panic", panicErr.value, "stack", string(panicErr.stack))...)
		}
		p.judge(&v, panics)
		if p.pauses(probe, t, v) {
			continue // not the event's fault: no try
		}
		if v.reason != "" {
			return v
		}
		wait := p.waitBefore(v)
		p.metrics.retried.add(p.life)
		p.log.DebugContext(p.within(t), "handler failed, trying again", about(t, "error", err, "wait", wait)...)
		if wait > p.inPlace {
			v.reason, v.nextAt = deadletter.ReasonTransient, v.lastAt.Add(wait)
			return v
		}
		if !p.pause(t, wait) {
			return verdict{class: fail.Transient, err: errGiveBack}
		}
		attempt++
	}
}

// judge gives a failure its reason where no further try is due.
func (p *partition) judge(v *verdict, panics int) {
	switch {
	case v.reason != "" || v.class == fail.Outage:
	case panics > 2: // twice may be an accident
		v.reason = deadletter.ReasonPanic
	case v.attempts > len(p.retries):
		v.reason = deadletter.ReasonExhausted
	}
}

// allowed waits while the group pauses.
func (p *partition) allowed(alive func()) (probe bool, err error) {
	if !p.breaker.open.Load() {
		return false, nil
	}
	return p.breaker.await(p.patience, p.group.AckWait/3, alive)
}

// pauses tells the breaker of a failure and reports whether the group pauses now.
func (p *partition) pauses(probe bool, t *task, v verdict) bool {
	if v.class == fail.Outage {
		p.breaker.outage(probe, v.err)
		p.log.WarnContext(p.within(t), "the group pauses: what it needs is down", about(t, "error", v.err)...)
		return true
	}
	was := p.breaker.open.Load()
	if !p.breaker.failed(probe, p.who.failure(v, t.delivery.Event.Type).Fingerprint, t.key, v.err) {
		return false
	}
	if !was {
		p.log.ErrorContext(p.life, "the group pauses: many keys fail for one cause", "error", v.err, "sequence", t.seq.stream)
	}
	return true
}

// attempt calls the handler once, with its time limit and its span. It returns the span's traceparent for a letter.
func (p *partition) attempt(t *task) (traceparent string, err error) {
	c := t.contexts()
	ctx, span := p.tracing.process(p.life, t, c, p.template, p.group.Name)
	started := p.metrics.start()
	err = p.call(ctx, c, t.delivery)
	if span.IsRecording() {
		p.metrics.took(ctx, started) // the span is the exemplar
	} else {
		p.metrics.took(p.life, started)
	}
	if err != nil {
		traceparent = traceparentOf(ctx, p.tracing.propagator, &t.delivery.Event)
	}
	endSpan(span, err)
	return traceparent, err
}

func (p *partition) call(ctx context.Context, c *contexts, d Delivery) (err error) {
	limited := &c.limited
	limited.begin(ctx, p.timeout, d.Attempt)
	defer limited.end()
	defer func() {
		if value := recover(); value != nil {
			err = &panicked{value: value, stack: debug.Stack()}
		}
	}()
	return p.handler(limited, d)
}

func endSpan(span trace.Span, err error) {
	kind := ""
	if err != nil {
		if kind = string(reasonOf(err)); kind == "" {
			kind = fmt.Sprintf("%T", err)
		}
	}
	finish(span, err, kind)
}

// waitBefore is how long the event rests before its next try: what the error asks for, else the next step of the group's schedule.
func (p *partition) waitBefore(v verdict) time.Duration {
	if v.class == fail.Delayed {
		return v.wait
	}
	return jitter(p.retries[v.attempts-1])
}

// pause waits before a retry. It blocks the event's key and one lane. false: the term ended meanwhile.
func (p *partition) pause(t *task, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	beat := time.NewTicker(p.group.AckWait / 3)
	defer beat.Stop()
	for {
		select {
		case <-timer.C:
			p.alive(t)
			return true
		case <-beat.C:
			p.alive(t)
		case <-p.patience.Done():
			return false
		}
	}
}

// alive tells the broker that the event is worked on, so that its AckWait starts anew. A letter's event is settled already.
func (p *partition) alive(t *task) {
	if t.msg == nil {
		return
	}
	if err := t.msg.InProgress(); err != nil {
		p.log.DebugContext(p.life, "in-progress not sent", "error", err, "sequence", t.seq.stream)
	}
}

// settle acknowledges a finished event. A lost acknowledgement does no harm: the event comes again, is known as done, and is acknowledged again.
func (p *partition) settle(t *task) {
	span := p.tracing.settled(t, p.template, p.group.Name)
	err := p.acknowledge(t)
	if err != nil {
		p.log.DebugContext(p.life, "acknowledgement not sent", "error", err, "sequence", t.seq.stream)
	}
	finish(span, err, "ack")
	p.window.finish(t)
}

func (p *partition) acknowledge(t *task) error {
	if t.solo { // what is not known to be settled would look as if it were still being handled, if the process died now
		return t.msg.AckSync()
	}
	return p.reader.js.Conn().Publish(t.msg.Reply, nil) // what Ack does, without the lock that the client library holds for each message that comes in; empty means "+ACK"
}

// scheduleLetter has the event's letter tried when it is due.
func (p *partition) scheduleLetter(t *task, v verdict) {
	p.letters.locked.soon(t.key, v.nextAt, func() { p.drain(t.key, nil) })
}

func (p *partition) refused(t *task, err error) {
	p.log.ErrorContext(p.within(t), "dead letter refused: the partition takes nothing new until it is stored", about(t, "error", err)...)
}
