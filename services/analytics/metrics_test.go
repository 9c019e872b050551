package analytics

import (
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/tidemark/tidemark/pkg/events/bus"
)

func TestMetricsSayWhatIsCommitted(t *testing.T) {
	t.Parallel()
	p := testPlan(t, DefaultQueries()[:1])
	v := newView(p, newIndex(p), nil)
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
	state, err := newState(p)
	if err != nil {
		t.Fatal(err)
	}
	for i, at := range []string{"2010-12-01T08:26:10Z", "2010-12-01T08:40:00Z", "2010-12-01T08:26:11Z", "2010-12-01T08:40:00Z"} {
		ev := order(t, "1", at, "GBP", 5)
		ev.ID = []string{"a", "b", "c", "b"}[i]
		d := bus.Delivery{Event: ev, Sequence: uint64(i + 1), StoredAt: ev.Time} //nolint:gosec // small
		if i == 0 {
			d.StoredAt = ev.Time.Add(-time.Minute) // silence of one partition is counted from here
		}
		if _, err := state.apply(&d, &outputs{}); err != nil {
			t.Fatal(err)
		}
	}
	v.set(state)
	got := collect()
	for name, want := range map[string]int64{
		"counted": 2, "too_late": 1, "partially_late": 0, "future_skew": 0, "no_id": 0, "duplicate": 1, "unreadable": 0,
	} {
		if name = "tidemark.analytics.events orders-per-minute " + name; got[name] != want {
			t.Errorf("%s: got %d, want %d", name, got[name], want)
		}
	}
	if want := time.Date(2010, 12, 1, 8, 39, 0, 0, time.UTC).UnixMilli(); got["tidemark.analytics.watermark orders-per-minute "] != want || got["tidemark.analytics.open_windows orders-per-minute "] != 1 || len(got) != 9 {
		t.Errorf("got %v", got)
	}
}
