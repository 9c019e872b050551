// Package legacy_test runs producers that are still instrumented with Jaeger's old client or with Zipkin's, and shows that our spans join their traces.
package legacy_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/opentracing/opentracing-go"
	"github.com/openzipkin/zipkin-go"
	"github.com/openzipkin/zipkin-go/propagation/b3"
	"github.com/openzipkin/zipkin-go/reporter/recorder"
	"github.com/uber/jaeger-client-go"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/tidemark/tidemark/internal/system"
	"github.com/tidemark/tidemark/internal/telemetry"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// spans is a collector that keeps what it is sent.
type spans struct {
	mu  sync.Mutex
	all []*otlp.Span
}

func (s *spans) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var request collector.ExportTraceServiceRequest
	if err != nil || proto.Unmarshal(body, &request) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, resource := range request.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			s.all = append(s.all, scope.Spans...)
		}
	}
}

// child finds the span of a trace whose parent is the producer's, among those with a prefix of a name.
func (s *spans) child(trace, parent, prefix string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, span := range s.all {
		if hex.EncodeToString(span.TraceId) == trace && hex.EncodeToString(span.ParentSpanId) == parent && strings.HasPrefix(span.Name, prefix) {
			return true
		}
	}
	return false
}

type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

// TestProducersOfYesterday publishes clicks as two kinds of old producers do, over NATS and over HTTP.
func TestProducersOfYesterday(t *testing.T) {
	got := &spans{}
	server := httptest.NewServer(got)
	defer server.Close()
	env := map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": server.URL, "OTEL_PROPAGATORS": "tracecontext,baggage,jaeger,b3", "OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
	}
	for name, value := range env {
		t.Setenv(name, value)
	}
	url, natsURL, seed := up(t, func(name string) string { return env[name] })
	nkey, err := nats.NkeyOptionFromSeed(seed)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(natsURL, nkey, nats.CustomInboxPrefix("_INBOX_"+events.UserProducer))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()

	tracer, closer := jaeger.NewTracer("web", jaeger.NewConstSampler(true), jaeger.NewInMemoryReporter(), jaeger.TracerOptions.Gen128Bit(true))
	defer func() { _ = closer.Close() }()
	zipkinTracer, err := zipkin.NewTracer(recorder.NewReporter(), zipkin.WithTraceID128Bit(true))
	if err != nil {
		t.Fatal(err)
	}
	for n, way := range []struct {
		name  string
		write func(t *testing.T, h http.Header) (trace, span string)
		name2 func(string) string // how the producer spells the header
	}{
		{"jaeger, as its client spells it", jaegerHeaders(tracer), func(s string) string { return s }},
		{"jaeger, in lower case", jaegerHeaders(tracer), strings.ToLower},
		{"b3, several headers", zipkinHeaders(zipkinTracer), func(s string) string { return s }},
		{"b3, in lower case", zipkinHeaders(zipkinTracer), strings.ToLower},
		{"b3, one header", singleHeader(zipkinTracer), strings.ToLower},
	} {
		t.Run(way.name, func(t *testing.T) {
			h := http.Header{}
			trace, span := way.write(t, h)
			click := nats.NewMsg(topology().Click(fmt.Sprintf("user-%d", n)))
			for name, values := range h {
				click.Header[way.name2(name)] = values
			}
			for name, value := range map[string]string{
				"ce-specversion": "1.0", "ce-id": fmt.Sprintf("nats-%d", n), "ce-source": "/legacy/web", "ce-type": events.TypePageClicked, "ce-time": time.Now().UTC().Format(time.RFC3339Nano),
				"content-type": "application/json", "ce-partitionkey": fmt.Sprintf("user-%d", n),
			} {
				click.Header[name] = []string{value}
			}
			click.Data = fmt.Appendf(nil, `{"user": "user-%d", "page": "/"}`, n)
			if _, err := nc.RequestMsg(click, 10*time.Second); err != nil {
				t.Fatal(err)
			}
			eventstest.Eventually(t, time.Minute, "analytics handles the click in the producer's trace", func() bool { return got.child(trace, span, "process TIMELINE") })
		})
		t.Run(way.name+", over HTTP", func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/clicks", strings.NewReader(fmt.Sprintf(
				`{"specversion": "1.0", "id": "http-%d", "source": "/legacy/web", "type": %q, "data": {"user": "user-%d", "page": "/"}}`, n, events.TypePageClicked, n)))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", events.ContentTypeStructured)
			trace, span := way.write(t, req.Header)
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if res.StatusCode != http.StatusAccepted {
				t.Fatalf("POST /v1/clicks: %d", res.StatusCode)
			}
			eventstest.Eventually(t, time.Minute, "the request is in the producer's trace", func() bool { return got.child(trace, span, "POST /v1/clicks") })
		})
	}
}

func topology() events.Subjects {
	t := events.DefaultTopology(0)
	return t.Subjects()
}

func jaegerHeaders(tracer opentracing.Tracer) func(*testing.T, http.Header) (trace, span string) {
	return func(t *testing.T, h http.Header) (string, string) {
		t.Helper()
		s := tracer.StartSpan("click")
		defer s.Finish()
		if err := tracer.Inject(s.Context(), opentracing.HTTPHeaders, opentracing.HTTPHeadersCarrier(h)); err != nil {
			t.Fatal(err)
		}
		if h.Get(jaeger.TraceContextHeaderName) == "" {
			t.Fatalf("the client wrote %v", h)
		}
		c := s.Context().(jaeger.SpanContext) //nolint:forcetypeassert,errcheck // it is Jaeger's tracer
		return fmt.Sprintf("%032s", c.TraceID().String()), fmt.Sprintf("%016s", c.SpanID().String())
	}
}

func zipkinHeaders(tracer *zipkin.Tracer) func(*testing.T, http.Header) (trace, span string) {
	return zipkinWith(tracer)
}

func singleHeader(tracer *zipkin.Tracer) func(*testing.T, http.Header) (trace, span string) {
	return zipkinWith(tracer, b3.WithSingleHeaderOnly())
}

func zipkinWith(tracer *zipkin.Tracer, options ...b3.InjectOption) func(*testing.T, http.Header) (trace, span string) {
	return func(t *testing.T, h http.Header) (string, string) {
		t.Helper()
		s := tracer.StartSpan("click")
		defer s.Finish()
		carrier := &http.Request{Header: h}
		if err := b3.InjectHTTP(carrier, options...)(s.Context()); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%032s", s.Context().TraceID.String()), fmt.Sprintf("%016s", s.Context().ID.String())
	}
}

// up runs the whole system in this process.
func up(t *testing.T, getenv func(string) string) (url, natsURL, producer string) {
	t.Helper()
	provider, err := telemetry.New(telemetry.Config{LogLevel: "warn", Output: &output{}, Getenv: getenv})
	if err != nil {
		t.Fatal(err)
	}
	const anyPort = "127.0.0.1:0"
	dir := t.TempDir()
	s, err := system.New(system.Config{HTTP: anyPort, Dir: dir, NATSAddr: anyPort, GatewayAddr: anyPort, MailAddr: anyPort, Version: "test", Provider: provider})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-s.Ready():
	case err := <-ended:
		ended <- err
		t.Fatalf("ended before it was ready: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("not ready")
	}
	return s.URL(), s.NATSURL(), filepath.Join(dir, "keys", events.UserProducer+".nk")
}
