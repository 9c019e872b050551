//go:build jaeger

// The tests of this file need the binary of Jaeger that `.ci/tools jaeger` builds; .ci/run runs them. They have a build tag of their own so that `go test ./...` needs no
// Jaeger, and with the tag they fail where there is none: nothing is skipped.

package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/e2e/suite"
	"github.com/tidemark/tidemark/e2e/target"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// jaeger is a running Jaeger that keeps traces in memory.
type jaeger struct {
	t         *testing.T
	otlp, api string // URLs
}

const jaegerConfig = `
service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines:
    traces: {receivers: [otlp], exporters: [jaeger_storage_exporter]}
  telemetry:
    metrics: {level: none}
    logs: {level: warn}
extensions:
  jaeger_storage: {backends: {memory: {memory: {max_traces: 100000}}}}
  jaeger_query:
    storage: {traces: memory}
    http: {endpoint: "%s"}
    grpc: {endpoint: "%s"}
receivers:
  otlp: {protocols: {http: {endpoint: "%s"}}}
exporters:
  jaeger_storage_exporter: {trace_storage: memory}
`

func startJaeger(t *testing.T) *jaeger {
	t.Helper()
	binary := os.Getenv("TIDEMARK_JAEGER")
	if binary == "" {
		t.Fatal("TIDEMARK_JAEGER must be the path of Jaeger's binary; `.ci/tools jaeger` builds one and prints where it is")
	}
	query, grpc, otlp := freeAddr(t), freeAddr(t), freeAddr(t)
	config := filepath.Join(t.TempDir(), "jaeger.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, jaegerConfig, query, grpc, otlp), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(bin, "jaeger")
	if err := os.Symlink(binary, link); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	start(t, "jaeger", "--config", config)
	j := &jaeger{t: t, otlp: "http://" + otlp, api: "http://" + query}
	eventstest.Eventually(t, time.Minute, "Jaeger answers", func() bool { return get(t, j.api+"/api/services", nil) == http.StatusOK })
	return j
}

// env are the standard variables that send a program's traces here, soon.
func (j *jaeger) env() []string {
	return []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + j.otlp, "OTEL_BSP_SCHEDULE_DELAY=100", "OTEL_TRACES_SAMPLER=parentbased_always_on"}
}

// span is a span as Jaeger's API shows it (OTLP in JSON), with its service's name.
type span struct {
	TraceID    string      `json:"traceId"`
	SpanID     string      `json:"spanId"`
	Parent     string      `json:"parentSpanId"`
	Name       string      `json:"name"`
	Links      []spanRef   `json:"links"`
	Attributes []attribute `json:"attributes"`
	Status     struct {
		Code any `json:"code"`
	} `json:"status"`
	service string
}

type spanRef struct {
	TraceID string `json:"traceId"`
	SpanID  string `json:"spanId"`
}

type attribute struct {
	Key   string         `json:"key"`
	Value map[string]any `json:"value"`
}

func (s span) String() string { return s.service + ": " + s.Name }

func (s span) attribute(key string) string { return find(s.Attributes, key) }

func find(all []attribute, key string) string {
	for _, a := range all {
		for _, v := range a.Value {
			if a.Key == key {
				return fmt.Sprint(v)
			}
		}
	}
	return ""
}

func (s span) linked(to span) bool { return slices.Contains(s.Links, spanRef{to.TraceID, to.SpanID}) }

func (s span) failed() bool {
	return fmt.Sprint(s.Status.Code) == "2" || fmt.Sprint(s.Status.Code) == "STATUS_CODE_ERROR"
}

// spans asks /api/v3/traces, by what stands behind it.
func (j *jaeger) spans(behind string) (out []span) {
	j.t.Helper()
	var answer struct {
		Result struct {
			ResourceSpans []struct {
				Resource struct {
					Attributes []attribute `json:"attributes"`
				} `json:"resource"`
				ScopeSpans []struct {
					Spans []span `json:"spans"`
				} `json:"scopeSpans"`
			} `json:"resourceSpans"`
		} `json:"result"`
	}
	get(j.t, j.api+"/api/v3/traces"+behind, &answer)
	for _, r := range answer.Result.ResourceSpans {
		for _, scope := range r.ScopeSpans {
			for _, s := range scope.Spans {
				s.service = find(r.Resource.Attributes, "service.name")
				out = append(out, s)
			}
		}
	}
	return out
}

// placeTraced places an order and returns its id and its trace, which the answer names.
func placeTraced(t *testing.T, api, body string) (id, trace string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, api+"/v1/orders", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Prefer", "wait=20")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var order struct{ ID, Status string }
	if err := json.NewDecoder(res.Body).Decode(&order); err != nil || res.StatusCode != http.StatusAccepted || order.Status != "confirmed" {
		t.Fatalf("POST /v1/orders: %d, %v, %+v", res.StatusCode, err, order)
	}
	parts := strings.Split(res.Header.Get("Traceparent"), "-")
	if len(parts) != 4 {
		t.Fatalf("the answer's traceparent is %q", res.Header.Get("Traceparent"))
	}
	return order.ID, parts[1]
}

const (
	poisonBody = `{"customer":"c2","email":"c2@customers.example","currency":"EUR","lines":[{"sku":"POISON APPLE","quantity":1,"unit_price":"0.85"}]}`
)

func receive(t *testing.T, api, sku string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, api+"/v1/stock/"+url.PathEscape(sku)+"/receipts", strings.NewReader(`{"quantity":10}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", "receipt of "+sku)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode/100 != 2 {
		t.Fatalf("receipt of %s: %d", sku, res.StatusCode)
	}
}

// TestJaegerReadsAnOrderAsOneTrace: one POST is one trace across order, inventory, order and notify: in `up`, where all share a process, and where each has a process of its own
// and the POST is passed on.
func TestJaegerReadsAnOrderAsOneTrace(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T, []string) *target.Target{"one process": inOneProcessWith, "processes": inProcessesWith} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := startJaeger(t)
			at := start(t, j.env())
			at.Jaeger = j.api
			suite.Only(t, at, "one order is one trace")
			j.dependencies([][2]string{{"order", "inventory"}, {"inventory", "order"}, {"order", "notify"}, {"order", "gateway"}})
		})
	}
}

// dependencies waits until Jaeger's graph of services has the edges, and reports those that are nobody's.
func (j *jaeger) dependencies(edges [][2]string) {
	j.t.Helper()
	known := []string{"order", "inventory", "notify", "analytics", "gateway", "tidemark"}
	eventstest.Eventually(j.t, time.Minute, "the graph of services is complete", func() bool {
		var answer struct {
			Data []struct{ Parent, Child string } `json:"data"`
		}
		get(j.t, fmt.Sprintf("%s/api/dependencies?endTs=%d&lookback=%d", j.api, time.Now().UnixMilli(), time.Hour.Milliseconds()), &answer)
		for _, e := range answer.Data {
			if !slices.Contains(known, e.Parent) || !slices.Contains(known, e.Child) {
				j.t.Errorf("an edge from %q to %q", e.Parent, e.Child)
			}
		}
		for _, e := range edges {
			if !slices.ContainsFunc(answer.Data, func(d struct{ Parent, Child string }) bool { return d.Parent == e[0] && d.Child == e[1] }) {
				return false
			}
		}
		return true
	})
}

// TestJaegerLinksARedrive: the replay of a dead letter is a trace of its own, linked to the attempt that failed and to the event's producer.
func TestJaegerLinksARedrive(t *testing.T) {
	t.Parallel()
	j := startJaeger(t)
	u := startUpWith(t, j.env(), filepath.Join(t.TempDir(), "data"))
	receive(t, u.url, "POISON APPLE")
	_, trace := placeTraced(t, u.url, poisonBody)
	eventstest.Eventually(t, time.Minute, "the mail is refused", func() bool { return len(causes(t, u.url)["notify"]) == 1 })
	put(t, u.url+"/v1/outbox/faults", "{}")
	if _, status := verb(t, "dlq", "replay", "--to", u.url, "--group", "notify", "--yes", "--why", "the provider is back"); status != 0 {
		t.Fatalf("replay: exit status %d", status)
	}
	var redrive span
	since := url.QueryEscape(time.Now().Add(-time.Hour).UTC().Format(time.RFC3339))
	until := url.QueryEscape(time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	query := "?query.service_name=notify&query.num_traces=200&query.start_time_min=" + since + "&query.start_time_max=" + until
	eventstest.Eventually(t, time.Minute, "the replay's span is there", func() bool {
		for _, s := range j.spans(query) {
			if s.attribute("tidemark.dead_letter") != "" {
				redrive = s
			}
		}
		return redrive.SpanID != ""
	})
	if redrive.TraceID == trace || redrive.Parent != "" {
		t.Errorf("the replay is of the trace %s under %q, want a root of its own", redrive.TraceID, redrive.Parent)
	}
	var failed, producer bool
	for _, s := range j.spans("/" + trace) {
		failed = failed || s.String() == "notify: process orders.*.*" && s.failed() && redrive.linked(s)
		producer = producer || s.String() == "order: publish orders.*.*" && redrive.linked(s)
	}
	if !failed || !producer {
		t.Errorf("the replay is linked to %v: to the failed attempt %t, to the producer %t", redrive.Links, failed, producer)
	}
}
