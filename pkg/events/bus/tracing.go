package bus

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/tidemark/tidemark/pkg/events"
)

// tracing makes the spans of the bus. Names and attributes follow OpenTelemetry's conventions for messaging; there is no page for NATS, so what is its own is under
// messaging.nats.
//
// What belongs to a trace: the span of one live event's handling is child and link of its producer's, so that an order is one trace to read, and the convention's relation is
// there as well. What has many causes, or comes much later, begins a trace of its own and leads to the others by links: batches, what is computed of them, replays, retries from
// a dead letter, deadlines, and events that are read again or long after they were stored. Otherwise a trace would last for days.
type tracing struct {
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
	silent     bool // the tracer records nothing: no span object is made
	foreign    bool // the propagator reads other headers than those of W3C
}

const (
	live     = time.Minute // how old an event may be for its handling to belong to its producer's trace
	mostLink = 64          // links of one span; SDKs keep 128
)

func newTracing(t Telemetry) tracing {
	_, silent := t.Tracer.(tracenoop.TracerProvider)
	return tracing{tracer: t.Tracer.Tracer(scope), propagator: t.Propagator, silent: silent, foreign: readsForeign(t.Propagator)}
}

// noSpan returns a span that records nothing.
func noSpan() trace.Span { return tracenoop.Span{} }

// sampled reads the flag at the end of a traceparent: version-traceid-spanid-flags.
func sampled(traceparent string) bool {
	const length = 55
	if len(traceparent) < length {
		return true // no trace yet: the sampler decides
	}
	c := traceparent[length-1]
	return strings.IndexByte("13579bdf", c) >= 0
}

// process starts the span of one call of a handler. Where the producer was not sampled, the context is carried on and no span is made.
func (t tracing) process(ctx context.Context, task *task, c *contexts, template, group string) (context.Context, trace.Span) {
	d := &task.delivery
	if t.silent || !sampled(d.Event.TraceParent) {
		c.carried = carried{Context: ctx, tracing: t, event: &d.Event}
		return &c.carried, noSpan()
	}
	ctx = t.continued(ctx, &d.Event)
	t.received(ctx, task, template, group)
	options := append(t.processOptions(ctx, d, template, group), trace.WithAttributes(
		attribute.Int64("messaging.nats.consumer.sequence", int64(task.seq.consumer)), //nolint:gosec // sequences don't reach 2^63
		attribute.Int64("messaging.nats.delivery.count", int64(task.seq.delivered)),   //nolint:gosec // nor does this
	))
	if d.Replay != nil { // much later, and by somebody's decision
		options = append(options, trace.WithNewRoot(), trace.WithLinks(t.failed(d)...), trace.WithAttributes(
			attribute.String("tidemark.dead_letter", d.Replay.Letter),
			attribute.Int("tidemark.replay_depth", d.Replay.Depth),
			attribute.String("tidemark.job", d.Replay.Job),
		))
	}
	if task.scheduled || old(d) {
		options = append(options, trace.WithNewRoot())
	}
	ctx, span := t.tracer.Start(ctx, "process "+template, options...)
	if span.IsRecording() {
		task.traced = ctx
	}
	return ctx, span
}

func old(d *Delivery) bool { return !d.StoredAt.IsZero() && time.Since(d.StoredAt) > live }

// continued is the context with the event's trace.
func (t tracing) continued(ctx context.Context, ev *events.Event) context.Context {
	if ev.TraceParent == "" {
		return ctx
	}
	return t.propagator.Extract(ctx, eventCarrier{parent: &ev.TraceParent, state: &ev.TraceState, extensions: ev.Extensions})
}

// carried is the context of an event whose trace is only carried on. The trace is read when somebody looks for a value, which a handler that folds into memory never does.
type carried struct {
	context.Context // without the trace
	tracing         tracing
	event           *events.Event
	once            sync.Once
	with            context.Context
}

func (c *carried) Value(key any) any {
	c.once.Do(func() { c.with = c.tracing.continued(c.Context, c.event) })
	return c.with.Value(key)
}

// processOptions are those of the span of handling one event, whose trace ctx has.
func (t tracing) processOptions(ctx context.Context, d *Delivery, template, group string) []trace.SpanStartOption {
	ev := &d.Event
	return []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer), trace.WithLinks(linkTo(ctx)...), trace.WithAttributes(
		attribute.String("messaging.system", "nats"),
		attribute.String("messaging.operation.name", "process"),
		attribute.String("messaging.operation.type", "process"),
		attribute.String("messaging.destination.name", d.Subject),
		attribute.String("messaging.destination.template", template),
		attribute.String("messaging.destination.partition.id", strconv.Itoa(d.Partition)),
		attribute.String("messaging.consumer.group.name", group),
		attribute.String("messaging.message.id", MessageID(ev)),
		attribute.String("messaging.message.conversation_id", ev.CorrelationID),
		attribute.String("messaging.nats.stream", d.Stream),
		attribute.Int64("messaging.nats.stream.sequence", int64(d.Sequence)), //nolint:gosec // stream sequences don't reach 2^63
		attribute.Int("tidemark.attempt", d.Attempt),
		attribute.String("cloudevents.event_type", ev.Type),
	)}
}

// failed links to the attempt that made the letter.
func (t tracing) failed(d *Delivery) []trace.Link {
	if d.Replay.failed == "" {
		return nil
	}
	var state string
	return linkTo(t.propagator.Extract(context.Background(), eventCarrier{parent: &d.Replay.failed, state: &state}))
}

func linkTo(ctx context.Context) []trace.Link {
	if link := trace.LinkFromContext(ctx); link.SpanContext.IsValid() {
		return []trace.Link{link}
	}
	return nil
}

// batch starts the one span of a batch. It is linked to its events' producers and child of none; a batch of one live event is that event's.
func (t tracing) batch(ctx context.Context, ds []Delivery, template, group string) (context.Context, trace.Span) {
	if t.silent {
		return ctx, noSpan()
	}
	var links []trace.Link
	var only *Delivery
	count := 0
	for i := range ds {
		ev := &ds[i].Event
		if ev.Type == "" { // a heartbeat
			continue
		}
		only = &ds[i]
		count++
		if ev.TraceParent == "" || !sampled(ev.TraceParent) || len(links) == mostLink {
			continue
		}
		links = append(links, linkTo(t.continued(context.Background(), ev))...)
	}
	switch {
	case len(links) == 0:
		return ctx, noSpan()
	case count == 1 && !old(only):
		ctx = t.continued(ctx, &only.Event)
		return t.tracer.Start(ctx, "process "+template, t.processOptions(ctx, only, template, group)...)
	}
	return t.tracer.Start(ctx, "process "+template, trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindConsumer), trace.WithLinks(links...), trace.WithAttributes(
		attribute.String("messaging.system", "nats"),
		attribute.String("messaging.operation.name", "process"),
		attribute.String("messaging.operation.type", "process"),
		attribute.String("messaging.destination.template", template),
		attribute.String("messaging.consumer.group.name", group),
		attribute.Int("messaging.batch.message_count", count),
		attribute.String("messaging.nats.stream", ds[0].Stream),
		attribute.Int("tidemark.attempt", ds[0].Attempt),
	))
}

// finish ends a span with what came of it.
func finish(span trace.Span, err error, kind string) {
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
		span.SetAttributes(attribute.String("error.type", kind))
	}
	span.End()
}

// subjectTemplate is a subject without what differs from event to event: span names must be few. The first token says what it is about.
func subjectTemplate(subject string) string {
	first, rest, more := strings.Cut(subject, ".")
	if !more {
		return subject
	}
	return first + strings.Repeat(".*", strings.Count(rest, ".")+1)
}

// groupTemplate is the template of what a group reads.
func groupTemplate(g events.Group) string {
	if g.Filter == "" {
		return g.Stream
	}
	return strings.ReplaceAll(g.Filter, "{p}", "*")
}

// traceparentOf is the W3C header of the context's span, or the event's own.
func traceparentOf(ctx context.Context, p propagation.TextMapPropagator, ev *events.Event) string {
	var parent, state string
	p.Inject(ctx, eventCarrier{parent: &parent, state: &state})
	if parent == "" {
		return ev.TraceParent
	}
	return parent
}
