package window_test

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tidemark/tidemark/pkg/window"
)

func mustNew(tb testing.TB, cfg window.Config) *window.Engine {
	tb.Helper()
	e, err := window.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func newEngine(t *rapid.T, cfg window.Config) *window.Engine {
	e, err := window.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// apply gives an engine an input. The outcome of a tick has results only.
func apply(e *window.Engine, in input) window.Outcome {
	if in.event == nil {
		return window.Outcome{Results: e.Tick(in.stored)}
	}
	return e.Apply(*in.event)
}

// The engine against the rules as plainly as can be, in everything that comes out: with windows that share their parts against windows that share nothing, with
// tombstones and ids that are forgotten in time against all of them for ever.
func TestEngineEqualsNaive(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := anySpec(t)
		e, n := newEngine(t, s.cfg), newNaive(s)
		for i, in := range anyLog(t, s, false) {
			var want window.Outcome
			if in.event != nil {
				want = n.apply(*in.event)
			} else {
				n.see(in.stored)
				want.Results = n.move()
			}
			got := apply(e, in)
			got.Sample = window.Sample{}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("input %d, %+v:\n got %+v\nwant %+v", i, in.event, got, want)
			}
			if w, ok := e.Watermark(); ok != (n.watermark != nil) || ok && w != *n.watermark {
				t.Fatalf("input %d: watermark %d, %t", i, w, ok)
			}
		}
		if got, want := e.End(), n.moveTo(math.MaxInt64); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("at the end:\n got %+v\nwant %+v", got, want)
		}
		if s := e.State(); s != (window.State{}) {
			t.Fatalf("left after the end: %+v", s)
		}
	})
}

// run gives a whole log to an engine, and its end.
func run(e *window.Engine, log []input) (outs []window.Outcome, results []window.Result) {
	for _, in := range log {
		out := apply(e, in)
		outs = append(outs, out)
		results = append(results, out.Results...)
	}
	return outs, append(results, e.End()...)
}

func same(t *rapid.T, got, want map[place]window.Result) {
	if !maps.EqualFunc(got, want, func(a, b window.Result) bool { return a.Count == b.Count && a.Value.Equal(b.Value) }) {
		t.Fatalf("\n got %v\nwant %v", got, want)
	}
}

func mustFinal(t *rapid.T, results []window.Result, skip bool) map[place]window.Result {
	all, err := final(results, skip)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// P01: after the end, streaming has what a batch over the accepted pairs of event and window has.
func TestStreamingEqualsBatchOverAccepted(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := anySpec(t)
		log := anyLog(t, s, false)
		outs, results := run(newEngine(t, s.cfg), log)
		var accepted []window.Event
		in := make(map[place][]window.Event)
		for i, out := range outs {
			if log[i].event == nil || out.Verdict != window.Counted && out.Verdict != window.PartiallyLate {
				continue
			}
			accepted = append(accepted, *log[i].event)
			for _, w := range s.windowsOf(log[i].event.Time) {
				if at := (place{log[i].event.Key, w}); !slices.Contains(out.Missed, w) {
					in[at] = append(in[at], *log[i].event)
				}
			}
		}
		want := s.results(in)
		if s.kind == "session" {
			want = s.batch(accepted)
		}
		same(t, mustFinal(t, results, false), want)
	})
}

// P02: streaming and backfill have what a batch over all valid events has, each id once: however often the backfill runs and where. Twice gives nothing.
func TestStreamingAndBackfillEqualBatch(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := anySpec(t)
		log := anyLog(t, s, true)
		e := newEngine(t, s.cfg)
		var all []window.Result // as they are published
		var misses []window.Miss
		valid, seen := []window.Event{}, make(map[string]bool)
		runs := rapid.SliceOfNDistinct(rapid.IntRange(0, len(log)), 0, 4, rapid.ID).Draw(t, "backfills")
		for i, in := range log {
			if slices.Contains(runs, i) {
				misses = backfill(t, s, e, log[:i], misses, &all)
			}
			out := apply(e, in)
			all = append(all, out.Results...)
			if in.event == nil {
				continue
			}
			if out.Verdict == window.TooLate || out.Verdict == window.PartiallyLate {
				for _, w := range out.Missed {
					misses = append(misses, window.Miss{Key: in.event.Key, Window: w})
				}
			}
			if ev := *in.event; out.Verdict != window.FutureSkew && ev.ID != "" && !seen[ev.ID] {
				seen[ev.ID] = true
				valid = append(valid, ev)
			}
		}
		all = append(all, e.End()...)
		misses = backfill(t, s, e, log, misses, &all)
		if len(misses) > 0 {
			t.Fatalf("pending after the end: %v", misses)
		}
		same(t, mustFinal(t, all, false), s.batch(valid))
	})
}

// backfill runs the job twice, and returns what is to be asked for again.
func backfill(t *rapid.T, s spec, e *window.Engine, log []input, misses []window.Miss, published *[]window.Result) []window.Miss {
	gone, ok := e.Gone()
	if !ok {
		return misses
	}
	var pending []window.Miss
	for round := range 2 {
		r, err := window.NewRecompute(s.cfg, gone)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range misses {
			r.Miss(m)
		}
		for _, in := range log {
			if in.event != nil {
				r.Apply(*in.event)
			} else {
				r.Tick(in.stored)
			}
		}
		var results []window.Result
		results, pending = r.Results(slices.Values(*published))
		for _, r := range results {
			if r.End > gone {
				t.Fatalf("%+v is the engine's: gone is up to %d", r, gone)
			}
			if round > 0 {
				t.Fatalf("the second run gives %+v", r)
			}
		}
		*published = append(*published, results...)
	}
	return pending
}

// P03 and P04: batches with any boundaries, and crashes at any point that take the engine back to the last commit, change nothing.
func TestBatchesChangeNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := anySpec(t)
		log := anyLog(t, s, false)
		outs, results := run(newEngine(t, s.cfg), log)
		want := mustFinal(t, results, false)

		commits := rapid.SliceOfN(rapid.IntRange(0, len(log)), 0, 20).Draw(t, "commits")
		crashes := rapid.SliceOfN(rapid.IntRange(0, len(log)), 0, 5).Draw(t, "crashes")
		e := newEngine(t, s.cfg)
		var kept, made []window.Result
		snapshot, committed := e.Snapshot(), 0
		for i := 0; i < len(log); i++ {
			if n := slices.Index(crashes, i); n >= 0 {
				crashes = slices.Delete(crashes, n, n+1)
				var err error
				if e, err = window.Restore(s.cfg, snapshot); err != nil {
					t.Fatal(err)
				}
				i, made = committed, nil
			}
			out := apply(e, log[i])
			if out.Verdict != outs[i].Verdict || !slices.Equal(out.Missed, outs[i].Missed) || out.Sample != outs[i].Sample {
				t.Fatalf("input %d: %+v, want %+v", i, out, outs[i])
			}
			made = append(made, out.Results...)
			if slices.Contains(commits, i) {
				kept = append(kept, window.Coalesce(made)...)
				snapshot, committed, made = e.Snapshot(), i+1, nil
			}
		}
		kept = append(kept, window.Coalesce(append(made, e.End()...))...)
		if len(kept) > len(results) {
			t.Fatalf("%d results in batches, %d event by event", len(kept), len(results))
		}
		same(t, mustFinal(t, kept, true), want)
	})
}

// P04: a crash and a restore at any point change no output, and no byte of the state.
func TestRestoreAnywhereChangesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := anySpec(t)
		log := anyLog(t, s, false)
		straight, cut := newEngine(t, s.cfg), newEngine(t, s.cfg)
		cuts := rapid.SliceOfNDistinct(rapid.IntRange(0, len(log)), 0, 8, rapid.ID).Draw(t, "cuts")
		for i, in := range log {
			if slices.Contains(cuts, i) {
				snapshot := cut.Snapshot()
				restored, err := window.Restore(s.cfg, snapshot)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(restored.Snapshot(), snapshot) {
					t.Fatal("a restored engine has another snapshot")
				}
				cut = restored
			}
			if want, got := apply(straight, in), apply(cut, in); fmt.Sprint(want) != fmt.Sprint(got) {
				t.Fatalf("input %d: got %v, want %v", i, got, want)
			}
			if straight.Size() != cut.Size() || straight.State() != cut.State() {
				t.Fatalf("input %d: sizes differ: %+v and %+v", i, straight.State(), cut.State())
			}
		}
		if !bytes.Equal(straight.Snapshot(), cut.Snapshot()) {
			t.Fatal("equal states, other snapshots")
		}
	})
}

// P05: in any order in which no event is further behind than the bound, nothing is late and the values are the same.
func TestOrderWithinTheBoundDoesNotMatter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := anySpec(t)
		unit := s.scale()
		s.idle, s.cfg.Idle, s.cfg.MaxFuture = 0, 0, window.Unlimited
		type delayed struct {
			window.Event
			at int64 // when it comes
		}
		var all []delayed
		base := time.Date(2011, time.October, 28, 0, 0, 0, 0, time.UTC).UnixMilli()
		for i, at := range rapid.SliceOfN(rapid.Int64Range(0, 60), 1, 60).Draw(t, "times") {
			p := i % len(s.bounds)
			ev := window.Event{ID: fmt.Sprint(i), Key: fmt.Sprint(i % 3), Item: fmt.Sprint(i % 4), Value: int64(i), Time: base + unit*at, Stored: math.MaxInt64, Partition: p}
			all = append(all, delayed{ev, ev.Time})
		}
		want := make([]window.Event, len(all))
		for i := range all {
			want[i] = all[i].Event
			all[i].at += unit * rapid.Int64Range(0, s.bounds[all[i].Partition]/unit).Draw(t, "delay")
		}
		slices.SortStableFunc(all, func(a, b delayed) int { return int(a.at - b.at) })
		e := newEngine(t, s.cfg)
		var results []window.Result
		for i := range all {
			out := e.Apply(all[i].Event)
			if out.Verdict != window.Counted {
				t.Fatalf("%+v is %s", all[i].Event, out.Verdict)
			}
			results = append(results, out.Results...)
		}
		same(t, mustFinal(t, append(results, e.End()...), false), s.batch(want))
	})
}

// P06: the watermark never goes back, no window comes out that is gone, revisions go up by one, and a first result is on time iff the window has just ended.
func TestWatermarkAndRevisions(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := anySpec(t)
		e := newEngine(t, s.cfg)
		var all []window.Result
		for i, in := range anyLog(t, s, false) {
			before, had := e.Watermark()
			gone, anyGone := e.Gone()
			out := apply(e, in)
			after, has := e.Watermark()
			if had && (!has || after < before) {
				t.Fatalf("input %d: watermark went from %d back to %d", i, before, after)
			}
			for _, r := range out.Results {
				switch {
				case anyGone && r.End <= gone:
					t.Fatalf("input %d: %+v was gone", i, r)
				case r.Timing == window.OnTime && (r.Revision != 1 || r.End > after || had && r.End <= before):
					t.Fatalf("input %d: %+v at watermark %d, before %d", i, r, after, before)
				case r.Timing == window.Late && (!had || r.End > before):
					t.Fatalf("input %d: %+v at watermark %d", i, r, before)
				}
			}
			all = append(all, out.Results...)
		}
		mustFinal(t, append(all, e.End()...), false)
	})
}

// P07: every event ends in exactly one way, and the counts say how many did in which.
func TestEveryEventHasOneVerdict(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := anySpec(t)
		e := newEngine(t, s.cfg)
		var events uint64
		want := make(map[window.Verdict]uint64)
		for _, in := range anyLog(t, s, false) {
			out := apply(e, in)
			if in.event == nil {
				continue
			}
			events++
			want[out.Verdict]++
			all := len(s.windowsOf(in.event.Time))
			if missed := map[window.Verdict]bool{
				window.Counted: len(out.Missed) == 0, window.Duplicate: len(out.Missed) == 0, window.PartiallyLate: 0 < len(out.Missed) && len(out.Missed) < all,
				window.TooLate: len(out.Missed) == all, window.FutureSkew: len(out.Missed) == all, window.NoID: len(out.Missed) == all,
			}; !missed[out.Verdict] {
				t.Fatalf("%s, but missed %d of %d windows", out.Verdict, len(out.Missed), all)
			}
		}
		c := e.Counts()
		got := map[window.Verdict]uint64{
			window.Counted: c.Counted, window.PartiallyLate: c.PartiallyLate, window.TooLate: c.TooLate, window.Duplicate: c.Duplicates,
			window.FutureSkew: c.FutureSkew, window.NoID: c.NoID,
		}
		maps.DeleteFunc(got, func(_ window.Verdict, n uint64) bool { return n == 0 })
		if c.Read() != events || !maps.Equal(got, want) {
			t.Fatalf("%+v of %d events, want %v", c, events, want)
		}
	})
}

// P08: the state has a bound: live windows of a key lie between the watermark less the lateness and the furthest that an event may be ahead.
func TestStateIsBounded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := anySpec(t)
		s.bounds = s.bounds[:1]
		s.cfg.Partitions, s.cfg.Bounds = 1, s.cfg.Bounds[:1]
		if s.maxFuture < 0 {
			s.maxFuture, s.cfg.MaxFuture = 6*s.scale(), time.Duration(6*s.scale())*ms
		}
		size, slide := s.size, s.slide
		if s.kind == "calendar" {
			size = 23 * time.Hour.Milliseconds()
			slide = size
		}
		if s.kind == "session" {
			slide = 1
		}
		limit := (size+s.bounds[0]+s.lateness+s.maxFuture+slide-1)/slide + 1
		e, n := newEngine(t, s.cfg), newNaive(s)
		for i, in := range anyLog(t, s, false) {
			if in.event != nil {
				in.event.Partition = 0
			}
			if apply(e, in); in.event == nil {
				n.see(in.stored)
				n.move()
			} else {
				n.apply(*in.event)
			}
			windows := make(map[string]int64)
			for _, r := range e.Open() {
				windows[r.Key]++
			}
			for key, open := range windows {
				if open > limit {
					t.Fatalf("input %d: %d open windows of %q, at most %d are possible", i, open, key, limit)
				}
			}
			cells, ids := n.live()
			if st := e.State(); st.Cells > 2*cells || st.IDs != ids || st.Tombstones > 3 {
				t.Fatalf("input %d: %+v, but %d live windows and %d events in them", i, st, cells, ids)
			}
		}
	})
}

// live counts windows that are not gone, and events in them.
func (n *naive) live() (cells, ids int) {
	windows, events := make(map[place]bool), make(map[string]bool)
	for _, p := range n.pairs {
		if !n.isGone(p.at.End) {
			windows[place{p.ev.Key, p.at}], events[p.ev.ID] = true, true
		}
	}
	for _, s := range n.sessions {
		for _, ev := range s.events {
			if !s.dropped {
				windows[s.place], events[ev.ID] = true, true
			}
		}
	}
	return len(windows), len(events)
}
