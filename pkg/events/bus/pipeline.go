package bus

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/tidemark/tidemark/pkg/events/deadletter"
	"github.com/tidemark/tidemark/pkg/events/fail"
)

// handle takes one event through the pipeline. Its order is fixed: recover → trace → decode → deduplicate → time limit → handle → classify →
// settle. (The bytes are decoded before the queue, because the key is in them; what could not be decoded is judged here.) false: the event was given
// back. It is not acknowledged and comes again, to whoever owns the partition next.
func (p *partition) handle(t *task) (finished bool) {
	var v verdict
	switch {
	case t.delivery.Err != nil:
		v = verdict{reason: reasonOf(t.delivery.Err), err: t.delivery.Err, traceparent: t.delivery.Event.TraceParent}
	case p.gate.passed(&t.delivery):
		p.metrics.duplicates.add(p.life)
		p.settle(t)
		return true
	default:
		var done bool
		if v, done = p.try(t); done {
			p.gate.pass(&t.delivery)
			p.metrics.handled.add(p.life)
			p.settle(t)
			return true
		}
	}
	if v.reason == "" {
		return false
	}
	if err := p.letters.park(p.patience, t, v, func() { p.alive(t) }, func(err error) { p.refused(t, err) }); err != nil {
		return false
	}
	p.log.WarnContext(p.life, "dead letter", "reason", v.reason, "error", v.err, "sequence", t.seq.stream, "type", t.delivery.Event.Type, "attempts", v.attempts)
	p.settle(t)
	return true
}

// try calls the handler until it succeeds, its error is final, or the member stops. A verdict without a reason means: give it back.
func (p *partition) try(t *task) (v verdict, done bool) {
	panics := 0
	for attempt := 1; ; attempt++ {
		t.delivery.Attempt = attempt
		span, err := p.attempt(t)
		if err == nil {
			return verdict{}, true
		}
		if p.life.Err() != nil {
			return verdict{}, false // stopped under it: its error says nothing about the event
		}
		v := verdict{reason: reasonOf(err), err: err, attempts: attempt, traceparent: span}
		if panicErr, ok := errors.AsType[*panicked](err); ok {
			panics++
			p.log.ErrorContext(p.life, "handler panicked", "panic", panicErr.value, "stack", string(panicErr.stack), "sequence", t.seq.stream)
		}
		switch {
		case v.reason != "":
			return v, false
		case panics > 2: // twice may be an accident
			v.reason = deadletter.ReasonPanic
			return v, false
		case attempt > len(p.retries):
			v.reason = deadletter.ReasonExhausted
			return v, false
		}
		p.metrics.retried.add(p.life)
		p.log.DebugContext(p.life, "handler failed, trying again", "error", err, "attempt", attempt, "sequence", t.seq.stream)
		if !p.pause(t, p.waitBefore(attempt, err)) {
			return verdict{}, false
		}
	}
}

// attempt calls the handler once, with its time limit and its span. It returns the span's traceparent for a letter.
func (p *partition) attempt(t *task) (traceparent string, err error) {
	ctx, span := p.tracing.process(p.life, &t.delivery, p.template, p.group.Name)
	started := p.metrics.start()
	err = p.call(ctx, t.delivery)
	p.metrics.took(ctx, started)
	if err != nil {
		traceparent = traceparentOf(ctx, p.tracing.propagator, &t.delivery.Event)
	}
	endSpan(span, err)
	return traceparent, err
}

func (p *partition) call(ctx context.Context, d Delivery) (err error) {
	limited := newCallContext(ctx, p.timeout)
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
func (p *partition) waitBefore(attempt int, err error) time.Duration {
	if wait, ok := fail.Wait(err); ok {
		return max(wait, 0)
	}
	return jitter(p.retries[attempt-1])
}

// pause waits before a retry. It blocks the event's key and one lane. false: the term ended meanwhile.
func (p *partition) pause(t *task, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	beat := time.NewTicker(p.group.AckWait / 3)
	defer beat.Stop()
	p.alive(t)
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

// alive tells the broker that the event is worked on, so that its AckWait starts anew.
func (p *partition) alive(t *task) {
	if err := t.msg.InProgress(); err != nil {
		p.log.DebugContext(p.life, "in-progress not sent", "error", err, "sequence", t.seq.stream)
	}
}

// settle acknowledges a finished event. A lost acknowledgement does no harm: the event comes again, is known as done, and is acknowledged again.
func (p *partition) settle(t *task) {
	if err := t.msg.Ack(); err != nil {
		p.log.DebugContext(p.life, "acknowledgement not sent", "error", err, "sequence", t.seq.stream)
	}
	p.window.finish(t)
}

func (p *partition) refused(t *task, err error) {
	p.log.ErrorContext(p.life, "dead letter refused: the partition takes nothing new until it is stored", "error", err, "sequence", t.seq.stream)
}
