package store_test

import (
	"errors"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// An append is one producer span, child of what it is done for, and its events carry it to whoever reads them.
func TestAppendIsAProducerSpan(t *testing.T) {
	t.Parallel()
	set := start(t, eventstest.Start)
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	telemetry := bus.Telemetry{Tracer: provider}
	s := store.New(set.JetStream(), ledger, bus.NewEncoder(set.registry, telemetry), telemetry)
	ctx, parent := provider.Tracer("test").Start(testContext(t), "handle")
	if _, err := s.Append(ctx, "ledger.a", 0, amount(1), amount(2)); err != nil {
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
