package store

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/tidemark/tidemark/pkg/events/bus"
)

// publishTracer makes one producer span an append. The events carry its context, so that who consumes them links to it.
type publishTracer struct {
	tracer trace.Tracer // nil: spans are off, and cost nothing
	name   string
	attrs  []attribute.KeyValue
}

func newPublishTracer(t bus.Telemetry, stream string) publishTracer {
	if _, off := t.Tracer.(tracenoop.TracerProvider); off {
		return publishTracer{}
	}
	return publishTracer{
		tracer: t.Tracer.Tracer("github.com/tidemark/tidemark/pkg/events/store"), name: "publish " + stream,
		attrs: []attribute.KeyValue{
			attribute.String("messaging.system", "nats"), attribute.String("messaging.operation.name", "publish"),
			attribute.String("messaging.operation.type", "send"), attribute.String("messaging.destination.name", stream),
		},
	}
}

// publishSpan is a span, or nothing.
type publishSpan struct{ span trace.Span }

func (t publishTracer) start(ctx context.Context, count int) (context.Context, publishSpan) {
	if t.tracer == nil {
		return ctx, publishSpan{}
	}
	ctx, span := t.tracer.Start(ctx, t.name, trace.WithSpanKind(trace.SpanKindProducer))
	if span.IsRecording() { // attributes of a span that nobody keeps would be most of its cost
		span.SetAttributes(t.attrs...)
		span.SetAttributes(attribute.Int("messaging.batch.message_count", count))
	}
	return ctx, publishSpan{span}
}

func (s publishSpan) end(err error) {
	if s.span == nil {
		return
	}
	if err != nil && s.span.IsRecording() {
		s.span.RecordError(err)
		s.span.SetStatus(codes.Error, err.Error())
	}
	s.span.End()
}
