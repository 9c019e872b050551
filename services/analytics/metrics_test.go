package analytics

import (
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

func TestMetricsSayWhatIsCommitted(t *testing.T) {
	t.Parallel()
	qs := queries(DefaultBound)
	v := newView(qs, newIndex(qs), nil)
	reader := metric.NewManualReader()
	if err := observe(metric.NewMeterProvider(metric.WithReader(reader)), v); err != nil {
		t.Fatal(err)
	}
	collect := func() map[string]int64 {
		t.Helper()
		var rm metricdata.ResourceMetrics
		if err := reader.Collect(t.Context(), &rm); err != nil {
			t.Fatal(err)
		}
		got := map[string]int64{}
		for _, scope := range rm.ScopeMetrics {
			for _, m := range scope.Metrics {
				var points []metricdata.DataPoint[int64]
				switch data := m.Data.(type) {
				case metricdata.Sum[int64]:
					points = data.DataPoints
				case metricdata.Gauge[int64]:
					points = data.DataPoints
				}
				for _, p := range points {
					query, _ := p.Attributes.Value("query")
					verdict, _ := p.Attributes.Value(attribute.Key("verdict"))
					got[m.Name+" "+query.AsString()+" "+verdict.AsString()] = p.Value
				}
			}
		}
		return got
	}
	if got := collect(); len(got) > 0 {
		t.Errorf("an instance that stands by reports %v", got)
	}
	w := int64(5000)
	v.mu.Lock()
	v.now = standing{queries: map[string]queryRecord{"q": {Counted: 3, Late: 2, Duplicates: 1, Watermark: &w}}}
	v.lifeAt = time.Now()
	v.mu.Unlock()
	got := collect()
	for name, want := range map[string]int64{
		"tidemark.analytics.events q counted": 3, "tidemark.analytics.events q late": 2, "tidemark.analytics.events q duplicate": 1,
		"tidemark.analytics.events q unreadable": 0, "tidemark.analytics.watermark q ": 5000,
	} {
		if got[name] != want {
			t.Errorf("%s: got %d, want %d", name, got[name], want)
		}
	}
	if len(got) != 5 {
		t.Errorf("got %v", got)
	}
}
