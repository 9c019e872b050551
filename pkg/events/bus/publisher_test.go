package bus_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

func registry(tb testing.TB) *events.Registry {
	tb.Helper()
	r, err := events.NewRegistry()
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func (f *fixture) publisher(t bus.Telemetry) *bus.Publisher {
	f.Helper()
	return bus.NewPublisher(bus.Deps{JS: f.js, Encoder: bus.NewEncoder(registry(f), t), Subjects: f.subjects, Telemetry: t})
}

func TestPublish(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	p := f.publisher(bus.Telemetry{})
	ev := f.event("k")
	ack, err := p.Publish(t.Context(), f.subjects.Order("k"), ev)
	if err != nil || ack.Stream != events.StreamOrders || ack.Sequence != 1 || ack.Duplicate {
		t.Fatalf("first: %+v, %v", ack, err)
	}
	ack, err = p.Publish(t.Context(), f.subjects.Order("k"), ev)
	if err != nil || ack.Sequence != 1 || !ack.Duplicate {
		t.Errorf("the same again: %+v, %v; want the duplicate of sequence 1", ack, err)
	}
	ev = f.event("k")
	if _, err = p.Publish(t.Context(), f.subjects.Order("k"), ev, jetstream.WithExpectLastSequencePerSubject(7)); err == nil {
		t.Error("options of the caller must hold: the last sequence is not 7")
	}
	ev.Data = []byte(`{"order_id":7}`)
	if _, err = p.Publish(t.Context(), f.subjects.Order("k"), ev); !errors.Is(err, events.ErrSchema) {
		t.Errorf("payload that breaks its schema: %v", err)
	}
	if _, err = p.Publish(t.Context(), "nobody.listens", f.event("k")); err == nil || !strings.Contains(err.Error(), "nobody.listens") {
		t.Errorf("subject without a stream: %v, want an error that names it", err)
	}
}

// TestPublishBatch: every event has its own outcome.
func TestPublishBatch(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	p := f.publisher(bus.Telemetry{})
	var messages []bus.Message
	for range 50 {
		messages = append(messages, bus.Message{Subject: f.subjects.Order("k"), Event: f.event("k")})
	}
	messages[3].Event.Type = "shop.nothing.v1"
	messages[9] = messages[8]
	acks, err := p.PublishBatch(t.Context(), messages)
	if !errors.Is(err, events.ErrUnknownType) || !strings.Contains(err.Error(), "message 3") {
		t.Errorf("error %v, want one that names message 3", err)
	}
	if len(acks) != 50 || acks[3] != (bus.Ack{}) {
		t.Fatalf("%d acks, the one of message 3 is %+v", len(acks), acks[3])
	}
	if acks[8].Duplicate || !acks[9].Duplicate || acks[49].Sequence != 48 {
		t.Errorf("acks 8, 9 and 49: %+v %+v %+v", acks[8], acks[9], acks[49])
	}
}

// spans runs one event from a publisher to a group with a tracer, and returns what was recorded and the context of the handler.
func spans(t *testing.T, sampler sdktrace.Sampler) (tracetest.SpanStubs, trace.SpanContext, events.Event) {
	t.Helper()
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter), sdktrace.WithSampler(sampler))
	t.Cleanup(func() { _ = provider.Shutdown(context.Background()) })
	telemetry := bus.Telemetry{Tracer: provider}
	f := newFixture(t, 1, single)
	ctx, root := provider.Tracer("test").Start(t.Context(), "request")
	if _, err := f.publisher(telemetry).Publish(ctx, f.subjects.Order("k"), f.event("k")); err != nil {
		t.Fatal(err)
	}
	root.End()
	handled := make(chan bus.Delivery, 1)
	var inside trace.SpanContext
	deps := f.deps(f.js)
	deps.Telemetry.Tracer = provider
	m := f.joinOn(bus.GroupConfig{Handler: func(ctx context.Context, d bus.Delivery) error {
		inside = trace.SpanContextFromContext(ctx)
		handled <- d
		return nil
	}}, deps)
	d := <-handled
	m.stop()
	return exporter.GetSpans(), inside, d.Event
}

func TestSpansOfOneEvent(t *testing.T) {
	t.Parallel()
	got, inside, ev := spans(t, sdktrace.AlwaysSample())
	byName := map[string]tracetest.SpanStub{}
	for _, s := range got {
		byName[s.Name] = s
	}
	root, publish, process := byName["request"], byName["publish orders.*.*"], byName["process orders.*.*"]
	if publish.SpanKind != trace.SpanKindProducer || process.SpanKind != trace.SpanKindConsumer {
		t.Fatalf("spans %v", byName)
	}
	if publish.Parent.SpanID() != root.SpanContext.SpanID() {
		t.Error("the publish span is not a child of the request")
	}
	if process.Parent.SpanID() != publish.SpanContext.SpanID() || !process.Parent.IsRemote() {
		t.Error("the process span is not a child of the publish span")
	}
	if len(process.Links) != 1 || process.Links[0].SpanContext.SpanID() != publish.SpanContext.SpanID() {
		t.Error("the process span is not linked to the publish span")
	}
	if inside.SpanID() != process.SpanContext.SpanID() || !strings.Contains(ev.TraceParent, publish.SpanContext.SpanID().String()) {
		t.Error("the context of the handler or the event is not of these spans")
	}
	attributes := attribute.NewSet(process.Attributes...)
	for key, want := range map[attribute.Key]string{
		"messaging.system": "nats", "messaging.operation.type": "process", "messaging.destination.name": "orders.0.k",
		"messaging.destination.template": "orders.*.*", "messaging.consumer.group.name": "readers", "messaging.nats.stream": "ORDERS",
		"messaging.message.id": ev.ID, "messaging.message.conversation_id": "k", "messaging.nats.delivery.count": "1",
	} {
		if v, _ := attributes.Value(key); v.String() != want {
			t.Errorf("attribute %s is %q, want %q", key, v.String(), want)
		}
	}
}

// TestUnsampledTraceIsCarried: no span is recorded, but what the handler publishes belongs to the same trace.
func TestUnsampledTraceIsCarried(t *testing.T) {
	t.Parallel()
	got, inside, ev := spans(t, sdktrace.NeverSample())
	if len(got) != 0 {
		t.Errorf("%d spans recorded", len(got))
	}
	if !inside.IsValid() || inside.IsSampled() || !strings.Contains(ev.TraceParent, inside.TraceID().String()) {
		t.Errorf("the handler has the trace %s (sampled %t), the event %s", inside.TraceID(), inside.IsSampled(), ev.TraceParent)
	}
}

// TestTraceWithoutTracer: where spans are off, a trace that somebody else began is carried on.
func TestTraceWithoutTracer(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	ev := f.event("k")
	ev.TraceParent = parent
	encoder := bus.NewEncoder(registry(t), bus.Telemetry{})
	m, err := encoder.Encode(t.Context(), f.subjects.Order("k"), ev)
	if err != nil {
		t.Fatal(err)
	}
	f.store(m)
	carried := make(chan string, 1)
	f.join(bus.GroupConfig{Handler: func(ctx context.Context, _ bus.Delivery) error {
		answer, err := encoder.Encode(ctx, f.subjects.Order("k"), f.event("k"))
		if err == nil {
			carried <- answer.Header.Get("traceparent")
		}
		return err
	}})
	if got := <-carried; got != parent {
		t.Errorf("carried on %q, want %q", got, parent)
	}
}
