package window_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tidemark/tidemark/pkg/window"
)

func TestResultsComeByEndStartKey(t *testing.T) {
	t.Parallel()
	e := mustNew(t, window.Config{Windows: window.Hopping(10*ms, 5*ms, 0), Bound: 100 * ms, Aggregate: window.Sum()})
	for i, ev := range []window.Event{{Key: "b", Time: 11, Value: 4}, {Key: "a", Time: 12, Value: -1}, {Key: "b", Time: 1, Value: 2}, {Key: "b", Time: 2, Value: 3}, {Key: "", Time: 3}} {
		ev.ID, ev.Stored = fmt.Sprint(i), ev.Time
		e.Apply(ev)
	}
	text := func(results []window.Result) string {
		var lines []string
		for _, r := range results {
			lines = append(lines, fmt.Sprintf("%d-%d %q=%d/%d rev %d %s", r.Start, r.End, r.Key, r.Value.Number, r.Count, r.Revision, r.Timing))
		}
		return strings.Join(lines, "\n")
	}
	want := `-5-5 ""=0/1 rev 0 open
-5-5 "b"=5/2 rev 0 open
0-10 ""=0/1 rev 0 open
0-10 "b"=5/2 rev 0 open
5-15 "a"=-1/1 rev 0 open
5-15 "b"=4/1 rev 0 open
10-20 "a"=-1/1 rev 0 open
10-20 "b"=4/1 rev 0 open`
	if got := text(e.Open()); got != want {
		t.Errorf("open: got\n%s\nwant\n%s", got, want)
	}
	want = strings.ReplaceAll(want, "rev 0 open", "rev 1 on_time")
	if got := text(e.End()); got != want {
		t.Errorf("fired: got\n%s\nwant\n%s", got, want)
	}
	if got := e.Open(); len(got) > 0 {
		t.Errorf("still open after the end: %v", got)
	}
}

// Open windows have what would come out if the end came now: for all kinds.
func TestOpenIsWhatWouldFire(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := anySpec(t)
		e := newEngine(t, s.cfg)
		for _, in := range anyLog(t, s, false) {
			apply(e, in)
		}
		open := e.Open()
		for i := range open {
			open[i].Revision, open[i].Timing = 1, window.OnTime
		}
		if fired := e.End(); fmt.Sprint(open) != fmt.Sprint(fired) {
			t.Fatalf("open\n%+v\nfired\n%+v", open, fired)
		}
	})
}

// What samples promise: with one bound for all, an event is on time for its last window iff its overrun is less than the bound, and lost for it iff it is not less than
// bound and lateness together. So the distribution of overruns, from whatever bound it was measured with, tells what each would do.
func TestSampleTellsWhatABoundWouldCatch(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := anySpec(t)
		if s.kind == "session" { // late events of a session may fall into a live one
			t.Skip()
		}
		for i := range s.cfg.Bounds {
			s.cfg.Bounds[i] = s.cfg.Bounds[0]
		}
		log := anyLog(t, s, false)
		bound, lateness := s.cfg.Bounds[0].Milliseconds(), s.lateness
		e := newEngine(t, s.cfg)
		for i, in := range log {
			w, had := e.Watermark()
			out := apply(e, in)
			sampled := in.event != nil && (out.Verdict == window.Counted || out.Verdict == window.PartiallyLate || out.Verdict == window.TooLate)
			if out.Sample.Valid != (sampled && had) {
				t.Fatalf("input %d: %s, sample %+v, watermark before: %t", i, out.Verdict, out.Sample, had)
			}
			if !out.Sample.Valid {
				continue
			}
			windows := s.windowsOf(in.event.Time)
			end := windows[len(windows)-1].End
			onTime, lost := w < end, out.Verdict == window.TooLate
			if got := out.Sample.Overrun; (got < bound) != onTime || (got >= bound+lateness) != lost {
				t.Fatalf("input %d: overrun %d with bound %d and lateness %d, but on time: %t, lost: %t", i, got, bound, lateness, onTime, lost)
			}
			if want := max(w+bound-in.event.Time, 0); out.Sample.Disorder != want {
				t.Fatalf("input %d: disorder %d, want %d", i, out.Sample.Disorder, want)
			}
		}
	})
}

// A chain of late events that makes a live session longer to the past ends where tombstones are no longer kept, so it never reaches one that was.
func TestChainOfLateEventsEnds(t *testing.T) {
	t.Parallel()
	cfg := window.Config{Windows: window.Session(10 * ms), Manual: true}
	e := mustNew(t, cfg)
	id := 0
	put := func(at int64) window.Verdict {
		id++
		return e.Apply(window.Event{ID: fmt.Sprint(id), Key: "k", Time: at, Stored: at}).Verdict
	}
	put(0)
	e.Advance(1000) // [0,10) is gone, and its tombstone forgotten
	if s := e.State(); s != (window.State{}) {
		t.Fatalf("left: %+v", s)
	}
	at := int64(995)
	for ; put(at) == window.Counted; at -= 9 {
		if at < 10 {
			t.Fatal("the chain has reached a session that came out")
		}
	}
	if want := int64(1000 - 64*10); at+9 < want || at >= want {
		t.Errorf("the chain ended at %d, want just before %d", at, want)
	}
	results := e.End()
	if len(results) != 1 || results[0].Start != at+9 || results[0].End != 1005 {
		t.Errorf("got %+v", results)
	}
}

// A tombstone is kept for 64 gaps where nothing else is left of a key, and for as long as it has a session.
func TestTombstonesAreForgotten(t *testing.T) {
	t.Parallel()
	e := mustNew(t, window.Config{Windows: window.Session(10 * ms), Lateness: 5 * ms, Manual: true})
	e.Apply(window.Event{ID: "a", Key: "a", Time: 0})
	e.Apply(window.Event{ID: "b", Key: "b", Time: 0})
	for _, step := range []struct {
		watermark int64
		want      window.State
	}{
		{14, window.State{Cells: 2, IDs: 2}}, {15, window.State{Tombstones: 2}}, {654, window.State{Tombstones: 2}}, {655, window.State{}},
	} {
		e.Advance(step.watermark)
		if got := e.State(); got != step.want {
			t.Errorf("at %d: %+v, want %+v", step.watermark, got, step.want)
		}
	}
}

func TestPartitionOutOfRangePanics(t *testing.T) {
	t.Parallel()
	defer func() {
		if text := fmt.Sprint(recover()); text != "window: event of partition 2, the query has 2" {
			t.Errorf("got %q", text)
		}
	}()
	mustNew(t, window.Config{Windows: window.Tumbling(time.Minute, 0), Partitions: 2}).Apply(window.Event{ID: "a", Partition: 2})
}

func TestManualWatermark(t *testing.T) {
	t.Parallel()
	e := mustNew(t, window.Config{Windows: window.Tumbling(10*ms, 0), Manual: true, Idle: 5 * ms})
	e.Apply(window.Event{ID: "a", Time: 5, Stored: 100})
	if results := e.Tick(1000); len(results) > 0 {
		t.Errorf("a tick fired %v", results)
	}
	if results := e.Advance(9); len(results) > 0 {
		t.Errorf("fired %v at 9", results)
	}
	if results := e.Advance(10); len(results) != 1 {
		t.Errorf("fired %v at 10", results)
	}
	e.Advance(3)
	if w, ok := e.Watermark(); w != 10 || !ok {
		t.Errorf("the watermark is %d", w)
	}
}

// Keys and items may be pieces of large payloads; the engine must not keep those in memory. Sums don't wrap.
func TestSumStaysInBounds(t *testing.T) {
	t.Parallel()
	e := mustNew(t, window.Config{Windows: window.Tumbling(10*ms, 0), Aggregate: window.Sum()})
	for i, ev := range []window.Event{{Key: "up", Value: math.MaxInt64}, {Key: "up", Value: 1}, {Key: "down", Value: math.MinInt64}, {Key: "down", Value: -1}} {
		ev.ID = fmt.Sprint(i)
		e.Apply(ev)
	}
	if got := e.End(); got[0].Value.Number != math.MinInt64 || got[1].Value.Number != math.MaxInt64 {
		t.Errorf("sums wrapped: %v", got)
	}
}

// The hot path costs no allocation: an event of a key that its window knows.
func TestApplyDoesNotAllocate(t *testing.T) {
	for _, windows := range []window.Windows{window.Tumbling(time.Hour, 0), window.Hopping(time.Hour, time.Minute, 0), window.Session(time.Hour), window.Calendar(window.Day, "Europe/London")} {
		e := mustNew(t, window.Config{Windows: windows, Bound: time.Hour, Lateness: time.Hour, Partitions: 2})
		ids := make([]string, 40_000)
		for i := range ids {
			ids[i] = fmt.Sprint("an-id-as-long-as-they-are-", i)
		}
		next := 0
		put := func() {
			e.Apply(window.Event{ID: ids[next], Key: "key", Time: int64(next % 1000), Stored: 2000, Value: 1})
			next++
		}
		for range 20_000 {
			put()
		}
		if n := testing.AllocsPerRun(10_000, put); n > 0 {
			t.Errorf("%s: %.3f allocations an event", windows, n)
		}
	}
}

// Many ids, so that the table of them grows and is made anew while some are over: each is known for exactly as long as its window lives.
func TestManyIDs(t *testing.T) {
	t.Parallel()
	for _, windows := range []window.Windows{window.Tumbling(10*time.Second, 0), window.Session(10 * time.Second)} {
		e := mustNew(t, window.Config{Windows: windows, Bound: time.Second, Lateness: time.Second})
		var duplicates, late uint64
		const n = 100_000
		put := func(i int64) window.Verdict {
			// Keys come and go, so that sessions end too.
			return e.Apply(window.Event{ID: fmt.Sprint("id-", i), Key: fmt.Sprint(i / 5000), Time: i, Stored: i}).Verdict
		}
		for i := range int64(n) {
			if v := put(i); v != window.Counted {
				t.Fatalf("%s: event %d is %s", windows, i, v)
			}
			switch v := put(i / 2); v {
			case window.Duplicate:
				duplicates++
			case window.TooLate:
				late++
			default:
				t.Fatalf("%s: event %d again is %s", windows, i/2, v)
			}
		}
		c := e.Counts()
		if c.Counted != n || c.Duplicates != duplicates || c.TooLate != late || duplicates < 10_000 || late < 10_000 {
			t.Errorf("%s: %+v", windows, c)
		}
		restored, err := window.Restore(e.Config(), e.Snapshot())
		if err != nil {
			t.Fatal(err)
		}
		if got, want := restored.State(), e.State(); got != want || want.IDs < 5000 {
			t.Errorf("%s: restored %+v, want %+v", windows, got, want)
		}
		e.End()
		if s := e.State(); s != (window.State{}) {
			t.Errorf("%s: left after the end: %+v", windows, s)
		}
	}
}

func TestCoalesce(t *testing.T) {
	t.Parallel()
	at := func(start, end int64) window.Window { return window.Window{Start: start, End: end} }
	all := []window.Result{
		{Key: "a", Window: at(0, 10), Revision: 1, Timing: window.OnTime},
		{Key: "a", Window: at(0, 5), Revision: 3, Timing: window.Retract}, // published before
		{Key: "b", Window: at(0, 10), Revision: 2, Timing: window.Late},
		{Key: "a", Window: at(0, 10), Revision: 2, Timing: window.Retract}, // nobody has seen it
		{Key: "a", Window: at(0, 20), Revision: 1, Timing: window.Late},
		{Key: "b", Window: at(0, 10), Revision: 3, Timing: window.Late},
	}
	want := fmt.Sprint([]window.Result{all[1], all[4], all[5]})
	if got := fmt.Sprint(window.Coalesce(all)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := window.Coalesce(nil); len(got) != 0 {
		t.Errorf("nothing became %v", got)
	}
}
