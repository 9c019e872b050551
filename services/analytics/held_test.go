package analytics

import (
	"slices"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// Where some queries work event by event, no step gathers. A micro-batch comes out when it has had its time all the same: without another event, and without a heartbeat.
func TestMicroBatchIsNotKeptWaitingForTheNextEvent(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start, withoutHeartbeats)
	batched := DefaultSettings()
	batched.Mode = Mode{Every: 2 * time.Second}
	cfg := plain()
	cfg.Settings = map[string]Settings{"orders-per-minute": batched}
	in := s.start(cfg)
	for i, at := range []string{"08:26:10", "08:30:10", "08:34:10", "08:38:10"} { // each but the first ends a minute; the first result of the batch comes out at once
		s.place(string(rune('a'+i)), "2010-12-01T"+at+"Z", "GBP", 1)
		in.awaitRead("orders-per-minute", uint64(i+1)) //nolint:gosec // small
	}
	want := []string{"08:26", "08:30", "08:34"}
	var got []string
	eventstest.Eventually(t, patience, "all minutes that have ended are out", func() bool {
		got = nil
		for _, m := range s.stored(events.StreamWindows, "windows.orders-per-minute") {
			w, err := resultIn(&m)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, w.Start.Format("15:04"))
		}
		return len(got) >= len(want)
	})
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
