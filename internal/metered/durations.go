// Package metered measures how long HTTP requests take, at both ends, where no spans are recorded. It writes the same two metrics as otelhttp, with the attributes that the
// process keeps of them, and carries a trace on that somebody else began.
//
// otelhttp does the same and more: it describes each request for a span that nobody keeps, describes it again for sizes that are dropped, and hides from net/http that a body
// lies in memory, which then writes head and body one after the other. Where spans are recorded, otelhttp is what records them.
package metered

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/tidemark/tidemark/pkg/events/bus"
)

const scope = "github.com/tidemark/tidemark/internal/metered"

// Enough reports whether measuring is all that there is to do: the telemetry records no spans.
func Enough(tel bus.Telemetry) bool {
	_, none := tel.Tracer.(tracenoop.TracerProvider)
	return none || tel.Tracer == nil
}

// durations is a histogram of seconds. The attributes of what is alike are made once.
type durations struct {
	histogram metric.Float64Histogram

	mu   sync.RWMutex
	sets map[labels]metric.MeasurementOption
}

// labels are what requests differ in: few of each.
type labels struct {
	method, route, failure string
	status                 int
}

// newDurations has the bounds that the conventions for HTTP name.
func newDurations(tel bus.Telemetry, name, description string) *durations {
	h, err := tel.Meter.Meter(scope).Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description),
		metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10))
	if err != nil { // the histogram works all the same
		tel.Logger.Warn("metric is not as it should be", "metric", name, "error", err)
	}
	return &durations{histogram: h, sets: make(map[labels]metric.MeasurementOption)}
}

func (d *durations) record(ctx context.Context, began time.Time, l labels) {
	d.histogram.Record(ctx, time.Since(began).Seconds(), d.set(l))
}

func (d *durations) set(l labels) metric.MeasurementOption {
	d.mu.RLock()
	set, ok := d.sets[l]
	d.mu.RUnlock()
	if ok {
		return set
	}
	set = metric.WithAttributeSet(l.attributes())
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sets[l] = set
	return set
}

func (l labels) attributes() attribute.Set {
	all := []attribute.KeyValue{attribute.String("http.request.method", l.method)}
	if l.route != "" {
		all = append(all, attribute.String("http.route", l.route))
	}
	if l.status > 0 {
		all = append(all, attribute.Int("http.response.status_code", l.status))
	}
	if l.failure != "" {
		all = append(all, attribute.String("error.type", l.failure))
	}
	return attribute.NewSet(all...)
}

// methodOf is the method, if it is one of those that are known: callers choose it, and must not choose how many lines our metrics have.
func methodOf(r *http.Request) string {
	switch m := strings.ToUpper(r.Method); m {
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodHead, http.MethodPatch, http.MethodOptions, http.MethodConnect, http.MethodTrace, "QUERY":
		return m
	case "":
		return http.MethodGet
	}
	return "_OTHER"
}

// failureOf is an error's type: its text has addresses in it.
func failureOf(err error) string {
	t := reflect.TypeOf(err)
	if t == nil {
		return ""
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.PkgPath() == "" || t.Name() == "" {
		return t.String()
	}
	return fmt.Sprintf("%s.%s", t.PkgPath(), t.Name())
}
