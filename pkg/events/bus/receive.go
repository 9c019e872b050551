package bus

import (
	"context"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// headerScheduler is on a message that the broker published because its schedule was due.
const headerScheduler = "Nats-Scheduler"

// receive notes of a message that has just come what its spans will tell. Where spans are off, it costs nothing.
func (t tracing) receive(task *task) {
	if t.foreign && task.delivery.Event.TraceParent == "" {
		t.adopt(task)
	}
	if t.silent || !sampled(task.delivery.Event.TraceParent) {
		return
	}
	task.arrived = time.Now()
	_, task.scheduled = task.msg.Header[headerScheduler]
}

// adopt reads the trace of a producer that does not speak W3C trace context, and writes it down in that form: everything behind us does.
func (t tracing) adopt(task *task) {
	ctx := t.propagator.Extract(context.Background(), headerCarrier(task.msg.Header))
	ev := &task.delivery.Event
	propagation.TraceContext{}.Inject(ctx, eventCarrier{parent: &ev.TraceParent, state: &ev.TraceState})
}

// received makes the span of the time between a message's arrival and its turn.
func (t tracing) received(ctx context.Context, task *task, template, group string) {
	if task.arrived.IsZero() || task.scheduled || old(&task.delivery) {
		return
	}
	_, span := t.tracer.Start(ctx, "receive "+template, trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(task.arrived), trace.WithLinks(linkTo(ctx)...),
		trace.WithAttributes(append(settleAttributes("receive", "receive", template, group),
			attribute.String("messaging.destination.name", task.delivery.Subject), attribute.String("messaging.nats.stream", task.delivery.Stream))...))
	span.End()
	task.arrived = time.Time{} // once a message, however many attempts it takes
}

// settled starts the span of an acknowledgement, child of the handling that it follows.
func (t tracing) settled(task *task, template, group string) trace.Span {
	if task.traced == nil {
		return noSpan()
	}
	_, span := t.tracer.Start(task.traced, "ack "+template, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(settleAttributes("ack", "settle", template, group)...))
	return span
}

func settleAttributes(operation, kind, template, group string) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("messaging.system", "nats"),
		attribute.String("messaging.operation.name", operation),
		attribute.String("messaging.operation.type", kind),
		attribute.String("messaging.destination.template", template),
		attribute.String("messaging.consumer.group.name", group),
	}
}

// readsForeign reports whether the propagator knows more than W3C's headers.
func readsForeign(p propagation.TextMapPropagator) bool {
	for _, field := range p.Fields() {
		switch field {
		case "traceparent", "tracestate", "baggage":
		default:
			return true
		}
	}
	return false
}

// headerCarrier reads a message's headers in whatever spelling they came: NATS keeps the case that a producer chose, while those who write traces follow HTTP, where there is
// none.
type headerCarrier nats.Header

// Get returns the first value of the header. Some of Jaeger's old clients encode theirs as for a URL.
func (c headerCarrier) Get(key string) string {
	for name, values := range c {
		if len(values) > 0 && strings.EqualFold(name, key) {
			return colons(values[0])
		}
	}
	return ""
}

func colons(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "%3A", ":"), "%3a", ":")
}

// Set is for writers; this one only reads.
func (headerCarrier) Set(string, string) {}

// Keys are the names as they came.
func (c headerCarrier) Keys() []string {
	keys := make([]string, 0, len(c))
	for name := range c {
		keys = append(keys, name)
	}
	return keys
}

var _ propagation.TextMapCarrier = headerCarrier{}
