package check

import (
	"fmt"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
)

// An ended order that keeps its reservation breaks what 3 and 6 say of it; with a dead letter it only waits, and so does what follows from it.
func TestALetterMakesItWait(t *testing.T) {
	t.Parallel()
	for _, parked := range []bool{false, true} {
		t.Run(fmt.Sprintf("letter %t", parked), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.story()
			w.place("kept", of("A", 1))
			w.decide("kept", events.TypeStockReserved, of("A", 1))
			w.end("kept", events.TypeOrderRejected)
			w.place("stuck", of("A", 1))
			if parked {
				w.letter(events.GroupInventory, "kept", 2)
				w.letter(events.GroupInventory, "stuck", 1)
			}
			cfg := w.config()
			cfg.OrderDeadline = time.Nanosecond
			results := w.checkWith(cfg)
			for n, waiting := range map[int]int{3: 1, 5: 2, 6: 3} { // with the open order of the story
				r := results[n]
				if parked && (!r.OK() || r.Waiting != waiting) {
					t.Errorf("invariant %d: got %+v, want %d waiting and none broken", n, r, waiting)
				}
				if !parked && r.Broken != 1 {
					t.Errorf("invariant %d: got %+v, want one broken", n, r)
				}
			}
		})
	}
}

// An open order without a deadline would stay open for ever: that is seen before it is late.
func TestNoDeadlinePending(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.story()
	w.place("x", of("A", 1))
	onlyBroken(t, w.check(), 16, "order x is open")
}

// What is parked waits, and what was given up on record is accounted for: neither is lost.
func TestParkedAndDiscardedEventsAreNotLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.story()
	before := w.check()[11]
	w.asleep.post = true
	w.place("x", of("A", 1))
	l := w.letter(events.GroupNotify, "x", 1)
	w.end("x", events.TypeOrderRejected)
	w.letter(events.GroupNotify, "x", 2)
	results := w.check()
	onlyBroken(t, results, 0, "")
	if r := results[11]; r.Waiting != before.Waiting+4 { // two events, two letters
		t.Errorf("with two letters: %+v, before %+v", r, before)
	}
	w.discard(l)
	results = w.check()
	onlyBroken(t, results, 0, "")
	if r := results[11]; r.Waiting != before.Waiting+2 {
		t.Errorf("with one letter discarded: %+v, before %+v", r, before)
	}
}

// An order that analytics could not read is missing in the windows until its letter is replayed.
func TestALetterOfAnalytics(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.story()
	w.change(func() { w.broken.lost = 1 })
	if r := w.check()[8]; r.Broken != 2 {
		t.Errorf("without a letter: got %+v, want the queries of orders and revenue broken", r)
	}
	w.letter(events.GroupAnalytics, "sold", 1)
	if r := w.check()[8]; !r.OK() || r.Waiting != 2 {
		t.Errorf("with a letter: got %+v, want both waiting", r)
	}
}

// A backfill puts an order that came late into its window, and the query still says that it was late. Without a backfill a window has no order that was not counted.
func TestALateOrderThatWasBackfilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.story()
	w.change(func() { w.broken.late, w.broken.uncounted, w.broken.timing = 1, 1, timingBackfill })
	onlyBroken(t, w.check(), 0, "")
	w.change(func() { w.broken.timing = "on_time" })
	if r := w.check()[8]; r.Broken != 2 {
		t.Errorf("without a backfill: got %+v, want the queries of orders and revenue broken", r)
	}
}
