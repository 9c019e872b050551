package metered_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/tidemark/tidemark/internal/metered"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// meter is telemetry that keeps metrics and no spans, and what it has kept.
func meter(t *testing.T) (bus.Telemetry, func(name string) map[string]uint64) {
	t.Helper()
	reader := metric.NewManualReader()
	tel := bus.Telemetry{Meter: metric.NewMeterProvider(metric.WithReader(reader))}
	return tel, func(name string) map[string]uint64 {
		t.Helper()
		var all metricdata.ResourceMetrics
		if err := reader.Collect(t.Context(), &all); err != nil {
			t.Fatal(err)
		}
		out := map[string]uint64{}
		for _, scope := range all.ScopeMetrics {
			for _, m := range scope.Metrics {
				h, ok := m.Data.(metricdata.Histogram[float64])
				if m.Name != name || !ok {
					continue
				}
				for _, p := range h.DataPoints {
					out[p.Attributes.Encoded(attribute.DefaultEncoder())] += p.Count
				}
			}
		}
		return out
	}
}

func TestServerCountsByMethodRouteAndStatus(t *testing.T) {
	t.Parallel()
	tel, counted := meter(t)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /things/{id}", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusCreated)
		w.WriteHeader(http.StatusTeapot) // too late
	})
	mux.HandleFunc("GET /plain", func(w http.ResponseWriter, _ *http.Request) {
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		_, _ = w.Write([]byte("hello"))
	})
	mux.HandleFunc("GET /livez", func(http.ResponseWriter, *http.Request) {})
	server := httptest.NewServer(metered.Handler(mux, tel, func(r *http.Request) bool { return r.URL.Path != "/livez" }))
	defer server.Close()
	for _, ask := range []string{"POST /things/1", "POST /things/2", "GET /plain", "GET /nowhere", "BREW /plain", "GET /livez"} {
		method, path, _ := strings.Cut(ask, " ")
		req, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := res.Body.Close(); err != nil {
			t.Error(err)
		}
	}
	server.Close() // waits for the handlers
	want(t, counted("http.server.request.duration"), map[string]uint64{
		"http.request.method=POST,http.response.status_code=201,http.route=/things/{id}": 2,
		"http.request.method=GET,http.response.status_code=200,http.route=/plain":        1,
		"http.request.method=GET,http.response.status_code=404":                          1,
		"http.request.method=_OTHER,http.response.status_code=405":                       1,
	})
}

func want(t *testing.T, got, want map[string]uint64) {
	t.Helper()
	for labels, n := range want {
		if got[labels] != n {
			t.Errorf("%s: %d, want %d", labels, got[labels], n)
		}
	}
	if len(got) != len(want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}

func TestServerCarriesTheCallersTraceOn(t *testing.T) {
	t.Parallel()
	tel, _ := meter(t)
	var seen []string
	h := metered.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen = append(seen, trace.SpanContextFromContext(r.Context()).TraceID().String())
	}), tel, func(*http.Request) bool { return true })
	for _, header := range []string{parent, ""} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Header.Set("Traceparent", header)
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	if seen[0] != "0af7651916cd43dd8448eb211c80319c" || strings.Trim(seen[1], "0") != "" {
		t.Errorf("traces are %v", seen)
	}
}

func TestClientCountsAnswersAndFailures(t *testing.T) {
	t.Parallel()
	tel, counted := meter(t)
	var traces, bodies []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := make([]byte, 16)
		n, _ := r.Body.Read(body)
		traces, bodies = append(traces, r.Header.Get("Traceparent")), append(bodies, string(body[:n]))
		w.WriteHeader(http.StatusPaymentRequired)
	}))
	c := &http.Client{Transport: metered.Transport(&http.Transport{}, tel)}
	send := func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL, strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.Do(req)
		if len(req.Header) > 0 {
			t.Errorf("the caller's headers are changed: %v", req.Header)
		}
		if err != nil {
			return err
		}
		return res.Body.Close()
	}
	traced := propagation.TraceContext{}.Extract(t.Context(), propagation.MapCarrier{"traceparent": parent})
	for _, ctx := range []context.Context{t.Context(), traced} {
		if err := send(ctx); err != nil {
			t.Fatal(err)
		}
	}
	c.CloseIdleConnections()
	server.Close()
	if err := send(t.Context()); err == nil {
		t.Error("a closed server answers")
	}
	if traces[0] != "" || traces[1] != parent || bodies[0] != "body" || bodies[1] != "body" {
		t.Errorf("the server got traces %q and bodies %q", traces, bodies)
	}
	want(t, counted("http.client.request.duration"), map[string]uint64{
		"http.request.method=POST,http.response.status_code=402": 2,
		"error.type=net.OpError,http.request.method=POST":        1,
	})
}

func TestEnoughIsWhereNoSpansAreRecorded(t *testing.T) {
	t.Parallel()
	tel, _ := meter(t)
	if !metered.Enough(tel) || !metered.Enough(tel.OrNothing()) {
		t.Error("no tracer is not enough")
	}
	tel.Tracer = struct{ trace.TracerProvider }{tracenoop.NewTracerProvider()} // any that is not the one that does nothing
	if metered.Enough(tel) {
		t.Error("spans would be lost")
	}
}
