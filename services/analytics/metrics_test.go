package analytics

import (
	"errors"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/window"
)

func TestMetricsSayWhatIsCommitted(t *testing.T) {
	t.Parallel()
	p := testPlan(t, DefaultQueries()[:1])
	v := newView(p, newIndex(p), nil)
	reader := metric.NewManualReader()
	if err := observe(metric.NewMeterProvider(metric.WithReader(reader)), v); err != nil {
		t.Fatal(err)
	}
	collect := func() map[string]int64 { return collected(t, reader) }
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
	if want := time.Date(2010, 12, 1, 8, 39, 0, 0, time.UTC).UnixMilli(); got["tidemark.analytics.watermark orders-per-minute "] != want || got["tidemark.analytics.open_windows orders-per-minute "] != 1 || len(got) != 10 {
		t.Errorf("got %v", got)
	}
}

// collected are the values of a reader's metrics, by name, query and verdict.
func collected(t *testing.T, reader metric.Reader) map[string]int64 {
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

// What came to a query is counted apart from what became of it. An engine that loses an event shows.
func TestAnEventThatIsLostShows(t *testing.T) {
	t.Parallel()
	p := testPlan(t, DefaultQueries()[:1])
	v := newView(p, newIndex(p), nil)
	reader := metric.NewManualReader()
	if err := observe(metric.NewMeterProvider(metric.WithReader(reader)), v); err != nil {
		t.Fatal(err)
	}
	s, err := newState(p)
	if err != nil {
		t.Fatal(err)
	}
	sequence := uint64(0)
	come := func(id string) {
		t.Helper()
		sequence++
		ev := order(t, "1", "2010-12-01T08:26:10Z", "GBP", 5)
		ev.ID = id
		d := bus.Delivery{Event: ev, Sequence: sequence, StoredAt: ev.Time}
		if id == "" {
			d.Err = errors.New("not readable")
		}
		if _, err := s.apply(&d, &outputs{}); err != nil {
			t.Fatal(err)
		}
	}
	unaccounted := func() int64 {
		t.Helper()
		v.set(s)
		got := collected(t, reader)
		lost := got["tidemark.analytics.events_read orders-per-minute "]
		for verdict := range (&queryRecord{}).verdicts() {
			lost -= got["tidemark.analytics.events orders-per-minute "+verdict]
		}
		return lost
	}
	for _, id := range []string{"a", "b", "a", ""} {
		come(id)
	}
	if n := unaccounted(); n != 0 {
		t.Errorf("%d events are not accounted for", n)
	}
	// The engine forgets one: it is put back to where it was before.
	before := s.running[0].engine.Snapshot()
	come("c")
	if s.running[0].engine, err = window.Restore(s.running[0].config(), before); err != nil {
		t.Fatal(err)
	}
	if n := unaccounted(); n != 1 {
		t.Errorf("one event was lost, and %d show", n)
	}
	// A restart believes the snapshot and counts on from there: what was lost before it can't be known any more.
	if s, err = restoreState(p, s.snapshot()); err != nil {
		t.Fatal(err)
	}
	come("d")
	if n := unaccounted(); n != 0 {
		t.Errorf("after a restart %d events are not accounted for", n)
	}
}
