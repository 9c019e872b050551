package httpapi_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/tidemark/tidemark/internal/httpapi"
	"github.com/tidemark/tidemark/internal/run"
	"github.com/tidemark/tidemark/pkg/events/access"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

// TestTraceOfARequest: the span is of the service that owns the path, and the answer names the trace.
func TestTraceOfARequest(t *testing.T) {
	t.Parallel()
	recorders := map[string]*tracetest.SpanRecorder{}
	telemetry := map[string]bus.Telemetry{}
	for _, name := range []string{"order", "shared"} {
		recorders[name] = tracetest.NewSpanRecorder()
		telemetry[name] = bus.Telemetry{Tracer: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorders[name]))}.OrNothing()
	}
	s, err := httpapi.Listen(t.Context(), httpapi.Config{
		Addr: "127.0.0.1:0", ReadyParts: func() []run.Part { return nil }, Telemetry: telemetry["shared"],
		Owner: func(r *http.Request) bus.Telemetry {
			if strings.HasPrefix(r.URL.Path, "/v1/orders") {
				return telemetry["order"]
			}
			return telemetry["shared"]
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Handle("POST /v1/orders/{id}", access.AnyToken(), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }))
	s.Handle("GET /v1/system", access.AnyToken(), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	s.Open()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	_, header, _ := do(t, http.MethodPost, s.URL()+"/v1/orders/7", http.Header{"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}})
	_, other, _ := do(t, http.MethodGet, s.URL()+"/v1/system", nil)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	spans := recorders["order"].Ended()
	if len(spans) != 1 || len(recorders["shared"].Ended()) != 1 {
		t.Fatalf("%d spans of order, %d of the rest", len(spans), len(recorders["shared"].Ended()))
	}
	if spans[0].Name() != "POST /v1/orders/{id}" || spans[0].Parent().SpanID().String() != "b7ad6b7169203331" {
		t.Errorf("span %q, parent %s", spans[0].Name(), spans[0].Parent().SpanID())
	}
	if want := "00-0af7651916cd43dd8448eb211c80319c-" + spans[0].SpanContext().SpanID().String() + "-01"; header.Get("Traceparent") != want {
		t.Errorf("the answer says %q, want %q", header.Get("Traceparent"), want)
	}
	if other.Get("Traceparent") == "" {
		t.Error("an answer without its trace")
	}
}
