package analytics

import (
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/window"
)

// A query that goes by store time counts an event in the minute in which the log stored it, whatever the event says; one that does not, in the minute in which it happened.
func TestStoreTime(t *testing.T) {
	t.Parallel()
	registry, err := events.NewRegistry()
	if err != nil {
		t.Fatal(err)
	}
	query := func(name string, storeTime bool) Query {
		return Query{
			Name: name, Types: []string{events.TypePageClicked}, StoreTime: storeTime, Windows: window.Tumbling(time.Minute, 0), Aggregate: window.Count(),
			Read: func(*Input) (Reading, error) { return Reading{Value: 1}, nil },
		}
	}
	topology := events.DefaultTopology(1)
	s, err := newState(newPlan(Config{Queries: []Query{query("happened", false), query("stored", true)}}.withDefaults(), &topology, registry))
	if err != nil {
		t.Fatal(err)
	}
	happened := time.Date(2026, time.March, 1, 9, 0, 30, 0, time.UTC)
	click, err := events.New("/test", events.TypePageClicked, "ann", happened, events.PageClicked{User: "ann", Page: "/", Platform: "web"})
	if err != nil {
		t.Fatal(err)
	}
	d := bus.Delivery{Stream: events.StreamTimeline, Sequence: 1, Subject: "clicks.0.ann", StoredAt: happened.Add(time.Hour), Event: click}
	if _, err := s.apply(&d, new(outputs)); err != nil {
		t.Fatal(err)
	}
	minute := happened.Truncate(time.Minute)
	for i, want := range []time.Time{minute, minute.Add(time.Hour)} {
		open := s.running[i].engine.Open()
		if len(open) != 1 || open[0].Start != want.UnixMilli() {
			t.Errorf("%s: %+v, want one window from %s", s.running[i].Name, open, want)
		}
	}
}
