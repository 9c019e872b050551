package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/tidemark/tidemark/internal/telemetry"
)

func TestEachServiceHasItsOwnName(t *testing.T) {
	t.Parallel()
	var logs bytes.Buffer
	p, err := telemetry.New(telemetry.Config{Output: &logs, LogFormat: "json"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"order", "notify"} {
		tel, err := p.Service(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		tel.Logger.Info("hello")
		counter, err := tel.Meter.Meter("test").Int64Counter("tidemark.things")
		if err != nil {
			t.Fatal(err)
		}
		counter.Add(t.Context(), 1, metric.WithAttributes())
		if tel.Tracer != nil {
			t.Error("traces are exported though no endpoint is set")
		}
		h := otelhttp.NewHandler(http.NotFoundHandler(), "http", otelhttp.WithMeterProvider(tel.Meter))
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/x", nil))
	}
	w := httptest.NewRecorder()
	p.Metrics().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	metrics := w.Body.String()
	for _, name := range []string{"order", "notify"} {
		if !strings.Contains(logs.String(), `"service":"`+name+`"`) {
			t.Errorf("no log line of %s in %s", name, logs.String())
		}
		if !strings.Contains(metrics, `tidemark_things_total{`) || !strings.Contains(metrics, `service="`+name+`"`) {
			t.Errorf("no metric of %s", name)
		}
	}
	if strings.Contains(metrics, "body_size") || strings.Contains(metrics, "server_address") || !strings.Contains(metrics, "http_server_request_duration_seconds") {
		t.Error("the HTTP instruments are not cut down to what is asked for")
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTracesAreExportedWhenAnEndpointIsSet(t *testing.T) {
	t.Parallel()

	env := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
	for _, exporter := range []string{"", "none"} {
		env["OTEL_TRACES_EXPORTER"] = exporter
		p, err := telemetry.New(telemetry.Config{Output: &bytes.Buffer{}, Getenv: func(name string) string { return env[name] }})
		if err != nil {
			t.Fatal(err)
		}
		tel, err := p.Service(t.Context(), "order")
		if err != nil {
			t.Fatal(err)
		}
		if wanted := exporter == ""; (tel.Tracer != nil) != wanted {
			t.Errorf("OTEL_TRACES_EXPORTER=%q: exports %t", exporter, tel.Tracer != nil)
		}
		if err := p.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}
}

func TestBadSettingsAreNamed(t *testing.T) {
	t.Parallel()
	for _, cfg := range []telemetry.Config{{LogLevel: "loud"}, {LogFormat: "xml"}} {
		if _, err := telemetry.New(cfg); err == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
	for name, value := range map[string]string{"OTEL_TRACES_EXPORTER": "zipkin", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json", "OTEL_PROPAGATORS": "tracecontext,pigeon"} {
		_, err := telemetry.New(telemetry.Config{Output: &bytes.Buffer{}, Getenv: only(name, value)})
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), strings.TrimPrefix(value, "tracecontext,")) {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
}

func TestDisabled(t *testing.T) {
	t.Parallel()
	env := map[string]string{"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
	p, err := telemetry.New(telemetry.Config{Output: &bytes.Buffer{}, Getenv: func(name string) string { return env[name] }})
	if err != nil {
		t.Fatal(err)
	}
	if tel, err := p.Service(t.Context(), "order"); err != nil || !tel.Silent() || tel.Logger == nil || tel.Propagator == nil {
		t.Errorf("%v, %+v", err, tel)
	}
}

// TestLogLinesNameTheirTrace, and nothing where there is none.
func TestLogLinesNameTheirTrace(t *testing.T) {
	t.Parallel()
	var logs bytes.Buffer // no terminal: JSON
	p, err := telemetry.New(telemetry.Config{Output: &logs})
	if err != nil {
		t.Fatal(err)
	}
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
	log := p.Logger().With("group", "notify").WithGroup("x")
	log.InfoContext(trace.ContextWithSpanContext(t.Context(), span), "in a trace")
	log.InfoContext(t.Context(), "in none")
	lines := strings.Split(strings.TrimSpace(logs.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], span.TraceID().String()) || !strings.Contains(lines[0], span.SpanID().String()) || !strings.Contains(lines[0], `"group":"notify"`) {
		t.Errorf("%q", lines)
	}
	if strings.Contains(lines[1], "trace_id") || !json.Valid([]byte(lines[1])) {
		t.Errorf("%q", lines[1])
	}
}

func only(name, value string) func(string) string {
	return func(asked string) string {
		if asked == name {
			return value
		}
		return ""
	}
}

func TestTracesWithoutAnEndpointOfOurs(t *testing.T) {
	t.Parallel()
	for env, want := range map[[2]string]bool{
		{"OTEL_TRACES_EXPORTER", "otlp"}:                                true,
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:4318"}: true,
		{"OTEL_SERVICE_NAME", "x"}:                                      false,
	} {
		p, err := telemetry.New(telemetry.Config{Output: &bytes.Buffer{}, Getenv: only(env[0], env[1])})
		if err != nil {
			t.Fatal(err)
		}
		tel, err := p.Service(t.Context(), "order")
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := p.Service(t.Context(), "order"); again.Meter != tel.Meter {
			t.Error("a service has two meters")
		}
		if exports := tel.Tracer != nil; exports != want {
			t.Errorf("%v: exports %t", env, exports)
		}
		if err := p.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}
}
