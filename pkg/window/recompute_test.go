package window_test

import (
	"maps"
	"math"
	"slices"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidemark/tidemark/pkg/window"
)

// Where the beginning of the log is gone, a backfill makes a window right or leaves it as it was, and says which: never something between.
func TestBackfillOfALogWithoutItsBeginning(t *testing.T) {
	t.Parallel()
	var mended, lost atomic.Int64
	rapid.Check(t, func(t *rapid.T) {
		s := anySpec(t)
		log := anyLog(t, s, true)
		first := rapid.IntRange(0, len(log)).Draw(t, "first that is kept")
		since, kept := int64(math.MinInt64), int64(math.MinInt64) // the clock where the kept part begins
		for _, in := range log[:first] {
			kept = max(kept, in.stored)
		}
		if first > 0 && first < len(log) {
			if kept = max(kept, log[first].stored); s.maxFuture >= 0 {
				since = kept + s.maxFuture + 1
			}
		}
		if first == len(log) || s.maxFuture < 0 && first > 0 {
			since = math.MaxInt64
		}
		e := newEngine(t, s.cfg)
		var published []window.Result
		missed := make(map[int][]window.Window)
		valid, seen := []window.Event{}, make(map[string]bool)
		for i, in := range log {
			out := apply(e, in)
			published = append(published, out.Results...)
			if in.event == nil {
				continue
			}
			if out.Verdict == window.TooLate || out.Verdict == window.PartiallyLate {
				missed[i] = out.Missed
			}
			if ev := *in.event; out.Verdict != window.FutureSkew && ev.ID != "" && !seen[ev.ID] {
				seen[ev.ID] = true
				valid = append(valid, ev)
			}
		}
		published = append(published, e.End()...)
		r, err := window.NewRecompute(s.cfg, math.MaxInt64)
		if err != nil {
			t.Fatal(err)
		}
		r.Since(since)
		for i, in := range log {
			for _, w := range missed[i] {
				if i < first {
					r.Expired(window.Miss{Key: in.event.Key, Window: w})
				} else {
					r.Miss(window.Miss{Key: in.event.Key, Window: w})
				}
			}
		}
		r.Tick(kept)
		for i, in := range log[first:] {
			if in.event != nil {
				r.Apply(*in.event, missed[first+i]...)
			} else {
				r.Tick(in.stored)
			}
		}
		before := mustFinal(t, published, false)
		results, _ := r.Results(slices.Values(published))
		after := mustFinal(t, append(published, results...), false)
		want := s.batch(valid)
		gone := make(map[string]bool)
		for _, m := range r.Lost() {
			gone[m.Key] = true
			at := place{m.Key, m.Window}
			if s.kind != "session" && !sameResult(before[at], after[at]) {
				t.Fatalf("%+v is lost, and was changed from %+v to %+v", m, before[at], after[at])
			}
			delete(want, at)
			delete(after, at)
		}
		if s.kind == "session" { // a lost one may be part of a longer one
			maps.DeleteFunc(want, func(at place, _ window.Result) bool { return gone[at.key] })
			maps.DeleteFunc(after, func(at place, _ window.Result) bool { return gone[at.key] })
		}
		same(t, after, want)
		lost.Add(int64(len(r.Lost())))
		mended.Add(int64(len(results)))
	})
	if !t.Failed() && (mended.Load() == 0 || lost.Load() == 0) {
		t.Errorf("%d windows were made good and %d lost: the test shows nothing", mended.Load(), lost.Load())
	}
}

func sameResult(a, b window.Result) bool { return a.Count == b.Count && a.Value.Equal(b.Value) }
