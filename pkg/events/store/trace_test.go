package store_test

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// An append of one event is one producer span, child of what it is done for, and its event carries it to whoever reads it.
func TestAppendIsAProducerSpan(t *testing.T) {
	t.Parallel()
	s, recorder, provider := traced(t)
	ctx, parent := provider.Tracer("test").Start(testContext(t), "handle")
	if _, err := s.Append(ctx, "ledger.a", 0, amount(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(ctx, "ledger.a", 0, amount(3)); !errors.Is(err, store.ErrConflict) {
		t.Fatal(err)
	}
	spans := recorder.Ended()
	if len(spans) != 2 {
		t.Fatalf("%d spans", len(spans))
	}
	for i, span := range spans {
		if span.SpanKind() != trace.SpanKindProducer || span.Name() != "publish ledger.*" || span.Parent().SpanID() != parent.SpanContext().SpanID() {
			t.Errorf("span %d: %s %s, parent %s", i, span.SpanKind(), span.Name(), span.Parent().SpanID())
		}
	}
	if spans[0].Status().Code == codes.Error || spans[1].Status().Code != codes.Error {
		t.Errorf("status of the stored one: %v, of the refused one: %v", spans[0].Status(), spans[1].Status())
	}
	for _, r := range mustLoad(t, s, "ledger.a") {
		if !strings.Contains(r.TraceParent, spans[0].SpanContext().SpanID().String()) || !strings.Contains(r.TraceParent, parent.SpanContext().TraceID().String()) {
			t.Errorf("event %d carries %q", r.Sequence, r.TraceParent)
		}
	}
}

// Events of one atomic batch that answer different orders stay each in its order's trace; only the span of the batch is of none, and is linked to them.
func TestEventsOfABatchKeepTheirTraces(t *testing.T) {
	t.Parallel()
	s, recorder, provider := traced(t)
	var parents []trace.SpanContext
	var evs []events.Event
	for i := range 3 {
		ctx, span := provider.Tracer("test").Start(testContext(t), "process", trace.WithNewRoot())
		span.End()
		ev := amount(int64(i + 1))
		carrier := propagation.MapCarrier{}
		propagation.TraceContext{}.Inject(ctx, carrier)
		ev.TraceParent = carrier["traceparent"]
		parents, evs = append(parents, span.SpanContext()), append(evs, ev)
	}
	if _, err := s.Append(testContext(t), "ledger.a", 0, evs...); err != nil {
		t.Fatal(err)
	}
	created := recorder.Ended()[3:6]
	batch := recorder.Ended()[6]
	if batch.Name() != "publish ledger.*" || batch.SpanKind() != trace.SpanKindClient || batch.Parent().IsValid() || len(batch.Links()) != 3 {
		t.Errorf("the batch: %s %s, parent %s, %d links", batch.SpanKind(), batch.Name(), batch.Parent().SpanID(), len(batch.Links()))
	}
	for i, r := range mustLoad(t, s, "ledger.a") {
		span := created[i]
		if span.Name() != "create ledger.*" || span.SpanKind() != trace.SpanKindProducer || span.Parent().SpanID() != parents[i].SpanID() {
			t.Errorf("span %d: %s %s, parent %s", i, span.SpanKind(), span.Name(), span.Parent().SpanID())
		}
		if !strings.Contains(r.TraceParent, parents[i].TraceID().String()) || !strings.Contains(r.TraceParent, span.SpanContext().SpanID().String()) {
			t.Errorf("event %d carries %q, want the trace %s", i, r.TraceParent, parents[i].TraceID())
		}
		if batch.Links()[i].SpanContext.SpanID() != span.SpanContext().SpanID() {
			t.Errorf("link %d leads to %s", i, batch.Links()[i].SpanContext.SpanID())
		}
	}
}

func traced(t *testing.T) (*store.Store, *tracetest.SpanRecorder, *sdktrace.TracerProvider) {
	t.Helper()
	set := start(t, eventstest.Start)
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	telemetry := bus.Telemetry{Tracer: provider}
	return store.New(set.JetStream(), ledger, bus.NewEncoder(set.registry, telemetry), telemetry), recorder, provider
}

func TestAppendsAreCounted(t *testing.T) {
	t.Parallel()
	set := start(t, eventstest.Start)
	reader := sdkmetric.NewManualReader()
	telemetry := bus.Telemetry{Meter: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))}
	s := store.New(set.JetStream(), ledger, set.encoder, telemetry)
	ev := amount(1)
	mustAppend(t, s, "ledger.a", 0, ev)
	mustAppend(t, s, "ledger.a", 0, ev)
	for range 2 {
		if _, err := s.Append(testContext(t), "ledger.a", 0, amount(2)); !errors.Is(err, store.ErrConflict) {
			t.Fatal(err)
		}
	}
	if _, err := s.Append(testContext(t), "ledger.a", 1, events.Event{}); err == nil {
		t.Fatal("an empty event is stored")
	}
	var data metricdata.ResourceMetrics
	if err := reader.Collect(testContext(t), &data); err != nil {
		t.Fatal(err)
	}
	got := make(map[string]int64)
	for _, point := range data.ScopeMetrics[0].Metrics[0].Data.(metricdata.Sum[int64]).DataPoints {
		outcome, _ := point.Attributes.Value(attribute.Key("outcome"))
		got[outcome.AsString()] = point.Value
	}
	if want := map[string]int64{"stored": 1, "found": 1, "conflict": 2, "invalid": 1}; !maps.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}
