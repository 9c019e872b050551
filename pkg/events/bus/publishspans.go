package bus

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/tidemark/tidemark/pkg/events"
)

// PublishSpans makes the producer spans of what publishes without a [Publisher], as package store does, so that all of them look alike. Where
// spans are off or the trace is not sampled, it costs next to nothing.
type PublishSpans struct{ tracing tracing }

// NewPublishSpans returns a maker of spans.
func NewPublishSpans(t Telemetry) PublishSpans {
	return PublishSpans{tracing: newTracing(t.OrNothing())}
}

// Start starts the span of storing one event. [Encoder.Encode] with the context that it returns writes the span's context into the event.
func (p PublishSpans) Start(ctx context.Context, subject string, ev *events.Event) (context.Context, trace.Span) {
	return p.tracing.publish(ctx, subject, ev)
}

// Batch starts the span of storing count events together, which at returns. Each has a context of its own to be encoded with: an event that brings a trace stays in it, and only
// the span of the batch, which has no parent where ctx has none, is linked to all of them.
func (p PublishSpans) Batch(ctx context.Context, count int, at func(i int) (subject string, ev *events.Event)) ([]context.Context, trace.Span) {
	return p.tracing.publishBatch(ctx, count, at)
}

// Derived starts the span of storing count events that were computed from many others, as the result of a window is. It begins a trace of its own, with a link to the span of
// ctx.
func (p PublishSpans) Derived(ctx context.Context, subject string, count int) (context.Context, trace.Span) {
	t := p.tracing
	if t.silent || count == 0 || !trace.SpanContextFromContext(ctx).IsSampled() {
		return ctx, noSpan()
	}
	return t.tracer.Start(ctx, "publish "+subjectTemplate(subject), trace.WithNewRoot(), trace.WithLinks(linkTo(ctx)...), trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(append(publishAttributes("publish", "send", subjectTemplate(subject)), attribute.Int("messaging.batch.message_count", count))...))
}

// End ends the span with what came of it. kind is the error's, a short word.
func (p PublishSpans) End(span trace.Span, err error, kind string) { finish(span, err, kind) }

// publish starts the span of one publish; the encoder writes its context into the event.
func (t tracing) publish(ctx context.Context, subject string, ev *events.Event) (context.Context, trace.Span) {
	if t.silent {
		return ctx, noSpan()
	}
	return t.produce(ctx, "publish", "send", subject, ev)
}

// publishBatch makes one span an event, which is over at once, and starts that of the batch.
func (t tracing) publishBatch(ctx context.Context, count int, at func(i int) (string, *events.Event)) ([]context.Context, trace.Span) {
	each := make([]context.Context, 0, count)
	var links []trace.Link
	template := ""
	for i := range count {
		if t.silent {
			each = append(each, ctx)
			continue
		}
		subject, ev := at(i)
		own, span := t.produce(ctx, "create", "create", subject, ev)
		span.End()
		each = append(each, own)
		if template == "" {
			template = subjectTemplate(subject)
		}
		if span.SpanContext().IsSampled() && len(links) < mostLink {
			links = append(links, trace.Link{SpanContext: span.SpanContext()})
		}
	}
	if len(links) == 0 {
		return each, noSpan()
	}
	_, span := t.tracer.Start(ctx, "publish "+template, trace.WithSpanKind(trace.SpanKindClient), trace.WithLinks(links...), trace.WithAttributes(
		append(publishAttributes("publish", "send", template), attribute.Int("messaging.batch.message_count", count))...))
	return each, span
}

// produce starts a producer's span. It is child of the context's, else of the trace that the event brings.
func (t tracing) produce(ctx context.Context, operation, kind, subject string, ev *events.Event) (context.Context, trace.Span) {
	parent := trace.SpanContextFromContext(ctx)
	if !parent.IsValid() && ev.TraceParent != "" {
		ctx = t.continued(ctx, ev)
		parent = trace.SpanContextFromContext(ctx)
	}
	if parent.IsValid() && !parent.IsSampled() {
		return ctx, noSpan()
	}
	template := subjectTemplate(subject)
	return t.tracer.Start(ctx, operation+" "+template, trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(append(publishAttributes(operation, kind, template),
		attribute.String("messaging.destination.name", subject),
		attribute.String("messaging.message.id", MessageID(ev)),
		attribute.String("messaging.message.conversation_id", ev.CorrelationID),
		attribute.String("cloudevents.event_type", ev.Type),
	)...))
}

func publishAttributes(operation, kind, template string) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("messaging.system", "nats"),
		attribute.String("messaging.operation.name", operation),
		attribute.String("messaging.operation.type", kind),
		attribute.String("messaging.destination.template", template),
	}
}
