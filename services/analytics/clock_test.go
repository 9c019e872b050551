package analytics

import (
	"fmt"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/window"
)

// An event of ten years ahead costs one late event and moves nothing, and partitions that are silent are not waited for: time goes on, and what comes then is
// counted. All of it with a real broker's clock and heartbeats. docs/how-to/clock-runs-ahead.md tells of it.
func TestClockRunsAheadAndPartitionsFallSilent(t *testing.T) {
	t.Parallel()
	const name = "orders-per-second"
	perSecond := Query{
		Name: name, Unit: "orders", Types: []string{events.TypeOrderPlaced}, Windows: window.Tumbling(time.Second, 0), Aggregate: window.Count(),
		Read: func(*Input) (Reading, error) { return Reading{Value: 1}, nil },
	}
	s := newShopOf(t, eventstest.Start, 8)
	in := s.start(Config{Queries: []Query{perSecond}, Default: &Settings{Bound: 3 * time.Second, Idle: time.Second}})

	counted := func(n int) {
		t.Helper()
		eventstest.Eventually(t, patience, fmt.Sprintf("%d windows are out", n), func() bool {
			out := 0
			for _, w := range in.windows(name).Items {
				if w.Timing == string(window.OnTime) && w.Count == 1 {
					out++
				}
			}
			return out == n
		})
	}
	// One partition of eight has events.
	s.place("same", time.Now().UTC().Format(time.RFC3339), "GBP", 1)
	counted(1)

	ahead := time.Now().UTC().AddDate(10, 0, 0)
	s.place("ahead", ahead.Format(time.RFC3339), "GBP", 1)
	in.awaitRead(name, 2)
	q := in.standing(name)
	if q.FutureSkew != 1 || q.Late != 1 || q.Watermark.After(time.Now()) {
		t.Errorf("%+v", q)
	}
	late := s.stored(events.StreamLate, "")
	if len(late) != 1 || late[0].Subject != s.subjects.Late("future_skew", name) {
		t.Errorf("%d late events", len(late))
	}

	// Whoever comes then is counted, in the same partition and in another one.
	s.place("later", time.Now().UTC().Format(time.RFC3339), "GBP", 1)
	counted(2)
	if q := in.standing(name); q.Counted != 2 || q.TooLate != 0 {
		t.Errorf("%+v", q)
	}
	for _, w := range in.windows(name).Items {
		if w.Start.After(time.Now()) {
			t.Errorf("a window of %s", w.Start)
		}
	}
	// No backfill takes it in: its true time is not known.
	for _, r := range in.awaitBackfill(in.startBackfill("").ID).Reports {
		if r.Late != 0 || r.Published != 0 {
			t.Errorf("%+v", r)
		}
	}
}
