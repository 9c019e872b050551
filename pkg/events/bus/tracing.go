package bus

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/tidemark/tidemark/pkg/events"
)

// tracing makes the spans of the bus. Names and attributes follow OpenTelemetry's conventions for messaging; there is no page for NATS, so
// what is its own is under messaging.nats.
type tracing struct {
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
	silent     bool // the tracer records nothing: no span object is made
}

func newTracing(t Telemetry) tracing {
	_, silent := t.Tracer.(tracenoop.TracerProvider)
	return tracing{tracer: t.Tracer.Tracer(scope), propagator: t.Propagator, silent: silent}
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

// process starts the span of one call of a handler. A single live event's span is child and link of its producer's: one trace to read,
// and the convention's relation as well. Where the producer was not sampled, the context is carried on and no span is made.
func (t tracing) process(ctx context.Context, d *Delivery, template, group string) (context.Context, trace.Span) {
	ev := &d.Event
	if ev.TraceParent != "" {
		ctx = t.propagator.Extract(ctx, eventCarrier{parent: &ev.TraceParent, state: &ev.TraceState, extensions: ev.Extensions})
	}
	if t.silent || !sampled(ev.TraceParent) {
		return ctx, noSpan()
	}
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer), trace.WithLinks(linkTo(ctx)...)}
	if d.Replay != nil { // much later, and by somebody's decision: a trace of its own, that leads to the others
		options = append(options, trace.WithNewRoot(), trace.WithLinks(t.failed(d)...), trace.WithAttributes(
			attribute.String("tidemark.dead_letter", d.Replay.Letter),
			attribute.Int("tidemark.replay_depth", d.Replay.Depth),
			attribute.String("tidemark.job", d.Replay.Job),
		))
	}
	return t.tracer.Start(ctx, "process "+template, append(options, trace.WithAttributes(
		attribute.String("messaging.system", "nats"),
		attribute.String("messaging.operation.name", "process"),
		attribute.String("messaging.operation.type", "process"),
		attribute.String("messaging.destination.name", d.Subject),
		attribute.String("messaging.destination.template", template),
		attribute.Int("messaging.destination.partition.id", d.Partition),
		attribute.String("messaging.consumer.group.name", group),
		attribute.String("messaging.message.id", MessageID(ev)),
		attribute.String("messaging.message.conversation_id", ev.CorrelationID),
		attribute.String("messaging.nats.stream", d.Stream),
		attribute.Int64("messaging.nats.stream.sequence", int64(d.Sequence)), //nolint:gosec // stream sequences don't reach 2^63
		attribute.Int("messaging.nats.delivery.count", d.Attempt),
		attribute.String("cloudevents.event_type", ev.Type),
	))...)
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

// batch starts the one span of a batch. It is linked to its events' producers and child of none.
func (t tracing) batch(ctx context.Context, ds []Delivery, template, group string) (context.Context, trace.Span) {
	if t.silent {
		return ctx, noSpan()
	}
	const most = 64 // links; SDKs keep 128
	var links []trace.Link
	for i := range ds {
		ev := &ds[i].Event
		if ev.TraceParent == "" || !sampled(ev.TraceParent) || len(links) == most {
			continue
		}
		links = append(links, linkTo(t.propagator.Extract(context.Background(), eventCarrier{parent: &ev.TraceParent, state: &ev.TraceState}))...)
	}
	if len(links) == 0 {
		return ctx, noSpan()
	}
	return t.tracer.Start(ctx, "process "+template, trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindConsumer), trace.WithLinks(links...), trace.WithAttributes(
		attribute.String("messaging.system", "nats"),
		attribute.String("messaging.operation.name", "process"),
		attribute.String("messaging.operation.type", "process"),
		attribute.String("messaging.destination.template", template),
		attribute.String("messaging.consumer.group.name", group),
		attribute.Int("messaging.batch.message_count", len(ds)),
		attribute.String("messaging.nats.stream", ds[0].Stream),
	))
}

// publish starts the span of one publish; the encoder writes its context into the event.
func (t tracing) publish(ctx context.Context, subject string, ev *events.Event) (context.Context, trace.Span) {
	if t.silent {
		return ctx, noSpan()
	}
	if parent := trace.SpanContextFromContext(ctx); parent.IsValid() && !parent.IsSampled() {
		return ctx, noSpan()
	}
	template := subjectTemplate(subject)
	return t.tracer.Start(ctx, "publish "+template, trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
		attribute.String("messaging.system", "nats"),
		attribute.String("messaging.operation.name", "publish"),
		attribute.String("messaging.operation.type", "send"),
		attribute.String("messaging.destination.name", subject),
		attribute.String("messaging.destination.template", template),
		attribute.String("messaging.message.id", MessageID(ev)),
		attribute.String("messaging.message.conversation_id", ev.CorrelationID),
		attribute.String("cloudevents.event_type", ev.Type),
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
