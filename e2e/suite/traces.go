package suite

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// traced: one POST is one trace across order, inventory, order and notify, whoever runs in which process.
func traced(s *Shop) {
	sku := s.name("CUP")
	s.receive(sku, 10)
	o, a := s.placeWith(s.order("ann", sku, 1), map[string]string{"Prefer": "wait=20"})
	s.is(o, "confirmed", "")
	parts := strings.Split(a.header.Get("Traceparent"), "-")
	if len(parts) != 4 {
		s.Fatalf("the answer's traceparent is %q", a.header.Get("Traceparent"))
	}
	trace := parts[1]
	var spans []span
	var missing error
	defer func() {
		if s.Failed() {
			for _, at := range spans {
				s.Log(at, at.SpanID, "under", at.Parent, "links", at.Links)
			}
			s.Log(missing)
		}
	}()
	s.until("the trace has every span", func() bool {
		spans = s.spans(trace)
		// Where the front passes requests on, the trace begins there.
		for _, before := range [][]string{nil, {"tidemark: POST /v1/orders", "tidemark: HTTP POST"}} {
			if missing = whole(spans, journey(before...)); missing == nil {
				return true
			}
		}
		return false
	})
	for _, at := range spans {
		if strings.Contains(at.Name, o.ID) {
			s.Errorf("the order's id is in the span name %q", at.Name)
		}
	}
	if shown, status := s.verb("orders", "show", o.ID); status != 0 || !strings.Contains(shown, trace) {
		s.Errorf("orders show (exit status %d) does not name the trace %s:\n%s", status, trace, shown)
	}
}

// journey is the way of a confirmed order through the services, branch by branch, as it must stand in its trace.
func journey(before ...string) [][]string {
	placed := []string{"order: POST /v1/orders", "order: publish orders.*.*", "inventory: process orders.*.*", "inventory: publish stock.*.*.*", "order: process stock.main.*.*"}
	// Of the orders that end while it appends, the warehouse makes one batch, and each of its events is a span "create" then.
	committed := "inventory: publish stock.*.*.*|inventory: create stock.*.*.*"
	placed = append(slices.Clone(before), placed...)
	ended := append(slices.Clone(placed), "order: publish orders.*.*")
	return [][]string{
		append(slices.Clone(placed), "order: HTTP POST", "gateway: POST /v1/payments"),
		append(slices.Clone(ended), "inventory: process orders.*.*", committed),
		append(slices.Clone(ended), "notify: process orders.*.*", "notify: publish notices.*.*.*.*"),
		append(slices.Clone(ended), "notify: process orders.*.*", "notify: send email"),
		append(slices.Clone(placed[:len(placed)-3]), "notify: process orders.*.*"),
	}
}

func whole(spans []span, branches [][]string) error {
	for _, b := range branches {
		if err := path(spans, b...); err != nil {
			return err
		}
	}
	return nil
}

// path walks from parent to child along services and names; a step may be one of several, with | between them. What receives or handles a live event is child and link of its producer.
func path(spans []span, steps ...string) error {
	var way []span
	for i, step := range steps {
		at := slices.IndexFunc(spans, func(s span) bool {
			switch {
			case !slices.Contains(strings.Split(step, "|"), s.String()):
				return false
			case i == 0:
				return s.Parent == ""
			case strings.HasPrefix(s.Name, "process ") && !slices.Contains(s.Links, spanRef{way[i-1].TraceID, way[i-1].SpanID}):
				return false
			}
			return s.Parent == way[i-1].SpanID && s.TraceID == way[i-1].TraceID
		})
		if at < 0 {
			return fmt.Errorf("no %q under %v", step, way)
		}
		way = append(way, spans[at])
	}
	return nil
}

// span is a span as Jaeger's API shows it (OTLP in JSON), with its service's name.
type span struct {
	TraceID string    `json:"traceId"`
	SpanID  string    `json:"spanId"`
	Parent  string    `json:"parentSpanId"`
	Name    string    `json:"name"`
	Links   []spanRef `json:"links"`
	service string
}

type spanRef struct {
	TraceID string `json:"traceId"`
	SpanID  string `json:"spanId"`
}

func (s span) String() string { return s.service + ": " + s.Name }

// spans asks Jaeger's API for a trace; a trace that it does not have yet has none.
func (s *Shop) spans(trace string) (out []span) {
	s.Helper()
	var got struct {
		Result struct {
			ResourceSpans []struct {
				Resource struct {
					Attributes []struct {
						Key   string
						Value struct {
							Text string `json:"stringValue"`
						}
					}
				}
				ScopeSpans []struct{ Spans []span } `json:"scopeSpans"`
			} `json:"resourceSpans"`
		}
	}
	a := s.callAt(s.at.Jaeger, http.MethodGet, "/api/v3/traces/"+trace, nil, nil)
	if a.status != http.StatusOK || json.Unmarshal(a.body, &got) != nil {
		return nil
	}
	for _, r := range got.Result.ResourceSpans {
		service := ""
		for _, attribute := range r.Resource.Attributes {
			if attribute.Key == "service.name" {
				service = attribute.Value.Text
			}
		}
		for _, scope := range r.ScopeSpans {
			for _, one := range scope.Spans {
				one.service = service
				out = append(out, one)
			}
		}
	}
	return out
}
