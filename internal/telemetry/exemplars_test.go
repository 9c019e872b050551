package telemetry_test

import (
	"bytes"
	"net/http/httptest"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/tidemark/tidemark/internal/telemetry"
)

// TestAScrapeDoesNotWarn: where traces are exported, a request's duration has its span as an exemplar. What the views leave out of the series must not be in there, for it does not fit.
func TestAScrapeDoesNotWarn(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	provider, err := telemetry.New(telemetry.Config{LogLevel: "warn", Output: &log, Getenv: func(name string) string {
		return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "otlp"}[name]
	}})
	if err != nil {
		t.Fatal(err)
	}
	provider.OwnProcess() // where the SDK's warnings go to is the process's
	tel, err := provider.Service(t.Context(), "order")
	if err != nil {
		t.Fatal(err)
	}
	duration, err := tel.Meter.Meter("test").Float64Histogram("http.server.request.duration")
	if err != nil {
		t.Fatal(err)
	}
	ctx, span := tel.Tracer.Tracer("test").Start(t.Context(), "request")
	if !span.SpanContext().IsSampled() {
		t.Fatal("the span is not sampled: there is no exemplar to look at")
	}
	duration.Record(ctx, 0.1, metric.WithAttributes(attribute.String("http.route", "/v1/orders"), attribute.String("user_agent.original", strings.Repeat("long ", 40))))
	answer := httptest.NewRecorder()
	provider.Metrics().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	if !strings.Contains(answer.Body.String(), "http_server_request_duration_seconds") && !strings.Contains(answer.Body.String(), "http_server_request_duration") {
		t.Errorf("no duration:\n%s", answer.Body.String())
	}
	if log.Len() > 0 {
		t.Errorf("a scrape says: %s", log.String())
	}
}
