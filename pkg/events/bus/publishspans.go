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

// Start starts the span of storing count events at once; first is one of them, and goes to the subject. [Encoder.Encode] with the context that it returns writes the
// span's context into an event.
func (p PublishSpans) Start(ctx context.Context, subject string, first *events.Event, count int) (context.Context, trace.Span) {
	ctx, span := p.tracing.publish(ctx, subject, first)
	if count > 1 && span.IsRecording() {
		span.SetAttributes(attribute.Int("messaging.batch.message_count", count))
	}
	return ctx, span
}

// End ends the span with what came of it. kind is the error's, a short word.
func (p PublishSpans) End(span trace.Span, err error, kind string) { finish(span, err, kind) }
