package window_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/window"
)

const ms = time.Millisecond

func mustNew(tb testing.TB, cfg window.Config) *window.Engine {
	tb.Helper()
	e, err := window.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func TestWindowsOf(t *testing.T) {
	t.Parallel()
	day := 24 * time.Hour
	for _, c := range []struct {
		name    string
		windows window.Windows
		t       int64
		want    window.Window
	}{
		{"inside", window.Tumbling(12*ms, 0), 21, window.Window{Start: 12, End: 24}},
		{"a start belongs to its window", window.Tumbling(12*ms, 0), 12, window.Window{Start: 12, End: 24}},
		{"an end belongs to the next", window.Tumbling(12*ms, 0), 11, window.Window{Start: 0, End: 12}},
		{"before 1970 rounds down", window.Tumbling(12*ms, 0), -1, window.Window{Start: -12, End: 0}},
		{"before 1970 at a start", window.Tumbling(12*ms, 0), -12, window.Window{Start: -12, End: 0}},
		{"offset", window.Tumbling(12*ms, 5*ms), 4, window.Window{Start: -7, End: 5}},
		{"offset back", window.Tumbling(12*ms, -5*ms), 4, window.Window{Start: -5, End: 7}},
		{"a day in UTC+08:00", window.Tumbling(day, -8*time.Hour), 1710091800000, window.Window{Start: 1710086400000, End: 1710172800000}},
		{"the end of time stays", window.Tumbling(1000*ms, 0), math.MaxInt64, window.Window{Start: 9223372036854775000, End: math.MaxInt64}},
		{"the start of time stays", window.Tumbling(1000*ms, 0), math.MinInt64, window.Window{Start: math.MinInt64, End: -9223372036854775000}},
		{"offset at the end of time", window.Tumbling(1000*ms, -999*ms), math.MaxInt64, window.Window{Start: 9223372036854775001, End: math.MaxInt64}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := c.windows.Of(c.t); got != c.want {
				t.Errorf("%s.Of(%d) = %v, want %v", c.windows, c.t, got, c.want)
			}
		})
	}
}

// TestRun runs small streams. A step is "id time", "id time stored", "=wm w|none", "restart" or "end"; a result is "start end value".
func TestRun(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name              string
		size, bound       time.Duration
		maxFuture         time.Duration
		steps             string
		want              string
		late, dup, future string
	}{
		{
			name: "a window fires when the watermark reaches its end, not before", size: 10 * ms,
			steps: "a 9, =wm 9, b 10, =wm 10, c 9", want: "0 10 1", late: "c 0:10",
		},
		{
			name: "several events share the boundary time", size: 10 * ms,
			steps: "a 9, b 9, c 10, d 10, end", want: "0 10 2, 10 20 2",
		},
		{
			name: "the bound is waited for; a large jump closes all", size: 2 * ms, bound: 2 * ms,
			steps: "a 0, b 1, c 2, d 0, e 3, f 0, g 4, h 0, i 30", want: "0 2 4, 2 4 2, 4 6 1", late: "h 0:2",
		},
		{
			name: "a restart changes nothing", size: 5 * ms, bound: 10 * ms,
			steps: "a 10, b 11, c 12, d 13, e 14, f 15, g 25, restart, h 10, i 27, j 30, =wm 20, restart, l 17, m 40, =wm 30",
			want:  "10 15 5, 15 20 1, 25 30 2", late: "h 10:15, l 15:20",
		},
		{
			name: "the watermark starts undefined and never goes back", size: 100 * ms, bound: 5 * ms,
			steps: "=wm none, a 7, =wm 2, b 10, =wm 5, c 3, =wm 5, d 8, =wm 5",
		},
		{
			name: "out of order is not late while the window is open", size: 10 * ms,
			steps: "a 8, b 1, c 7, d 2, end", want: "0 10 4",
		},
		{
			name: "an id is remembered exactly as long as its window is open", size: 10 * ms,
			steps: "a 1, a 1, restart, a 1, b 10, a 1", want: "0 10 1", dup: "a, a", late: "a 0:10",
		},
		{
			name: "a duplicate with another time changes nothing, not even the watermark", size: 10 * ms, bound: 100 * ms,
			steps: "a 1, a 500, =wm -99, end", want: "0 10 1", dup: "a",
		},
		{
			name: "an event dated ahead is late and moves nothing", size: 10 * ms, maxFuture: 5 * ms,
			steps: "a 1 1, b 1000 2, =wm 1, c 2 3, end", want: "0 10 2", future: "b 1000:1010",
		},
		{
			name: "as far ahead as the limit is accepted, but the watermark stops at the store time", size: 10 * ms, maxFuture: 5 * ms,
			steps: "a 9 4, =wm 4, b 3 4, c 10 9, =wm 9, end", want: "0 10 2, 10 20 1",
		},
		{
			name: "without the guard too, no event moves the watermark past its store time", size: 10 * ms, maxFuture: window.Unlimited,
			steps: "a 1 1, b 1000000 2, =wm 2, c 1 3, end", want: "0 10 2, 1000000 1000010 1",
		},
		{
			name: "a store time that steps back is ignored", size: 10 * ms, maxFuture: 5 * ms,
			steps: "a 100 100, b 104 90, =wm 100", want: "",
		},
		{
			name: "an event refused as dated ahead may come again with its right time", size: 10 * ms, maxFuture: 5 * ms,
			steps: "a 1000 1, a 1 2, end", want: "0 10 1", future: "a 1000:1010",
		},
		{
			name: "negative times", size: 10 * ms,
			steps: "a -15, b -11, c -10, d -1, e 0", want: "-20 -10 2, -10 0 2",
		},
		{
			name: "empty windows say nothing", size: 10 * ms,
			steps: "a 5, b 95, end", want: "0 10 1, 90 100 1",
		},
		{
			name: "the last window of all", size: 1000 * ms, bound: 2000 * ms, maxFuture: window.Unlimited,
			steps: "a 9223372036854775807, b 9223372036854775001, end", want: "9223372036854775000 9223372036854775807 2",
		},
		{
			name: "after the end everything is late", size: 10 * ms,
			steps: "a 5, end, b 500", want: "0 10 1", late: "b 500:510",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := runner{cfg: window.Config{Windows: window.Tumbling(c.size, 0), Bound: c.bound, MaxFuture: c.maxFuture}}
			r.engine = mustNew(t, r.cfg)
			for step := range strings.SplitSeq(c.steps, ", ") {
				r.step(t, step)
			}
			for what, pair := range map[string][2]string{
				"results": {strings.Join(r.results, ", "), c.want}, "late": {strings.Join(r.late[window.TooLate], ", "), c.late},
				"future": {strings.Join(r.late[window.FutureSkew], ", "), c.future}, "duplicates": {strings.Join(r.dups, ", "), c.dup},
			} {
				if pair[0] != pair[1] {
					t.Errorf("%s: got %q, want %q", what, pair[0], pair[1])
				}
			}
		})
	}
}

type runner struct {
	cfg     window.Config
	engine  *window.Engine
	results []string
	late    map[window.Reason][]string
	dups    []string
}

func (r *runner) step(t *testing.T, step string) {
	t.Helper()
	switch {
	case step == "restart":
		e, err := window.Restore(r.cfg, r.engine.Snapshot())
		if err != nil {
			t.Fatal(err)
		}
		r.engine = e
	case step == "end":
		r.fired(r.engine.End())
	case strings.HasPrefix(step, "=wm "):
		got := "none"
		if w, ok := r.engine.Watermark(); ok {
			got = fmt.Sprint(w)
		}
		if want := strings.TrimPrefix(step, "=wm "); got != want {
			t.Errorf("after %v: watermark %s, want %s", r.results, got, want)
		}
	default:
		var ev window.Event
		if n, _ := fmt.Sscan(step, &ev.ID, &ev.Time, &ev.Stored); n == 2 {
			ev.Stored = ev.Time
		}
		r.apply(ev)
	}
}

func (r *runner) apply(ev window.Event) {
	out := r.engine.Apply(ev)
	switch out.Verdict {
	case window.Late:
		if r.late == nil {
			r.late = make(map[window.Reason][]string)
		}
		r.late[out.Reason] = append(r.late[out.Reason], fmt.Sprintf("%s %d:%d", ev.ID, out.Missed[0].Start, out.Missed[0].End))
	case window.Duplicate:
		r.dups = append(r.dups, ev.ID)
	case window.Counted:
	}
	r.fired(out.Results)
}

func (r *runner) fired(results []window.Result) {
	for _, w := range results {
		r.results = append(r.results, fmt.Sprintf("%d %d %d", w.Start, w.End, w.Value))
	}
}

func TestResultsComeByEndStartKey(t *testing.T) {
	t.Parallel()
	e := mustNew(t, window.Config{Windows: window.Tumbling(10*ms, 0), Bound: 100 * ms, Aggregate: window.Sum})
	for i, ev := range []window.Event{{Key: "b", Time: 11, Value: 4}, {Key: "a", Time: 12, Value: -1}, {Key: "b", Time: 1, Value: 2}, {Key: "b", Time: 2, Value: 3}, {Key: "", Time: 3}} {
		ev.ID, ev.Stored = fmt.Sprint(i), ev.Time
		e.Apply(ev)
	}
	want := []window.Result{
		{Key: "", Window: window.Window{Start: 0, End: 10}, Count: 1, Value: 0},
		{Key: "b", Window: window.Window{Start: 0, End: 10}, Count: 2, Value: 5},
		{Key: "a", Window: window.Window{Start: 10, End: 20}, Count: 1, Value: -1},
		{Key: "b", Window: window.Window{Start: 10, End: 20}, Count: 1, Value: 4},
	}
	for i := range want {
		want[i].Timing = window.Open
	}
	if got := e.Open(); !slices.Equal(got, want) {
		t.Errorf("open: got %v, want %v", got, want)
	}
	for i := range want {
		want[i].Timing, want[i].Revision = window.OnTime, 1
	}
	if got := e.End(); !slices.Equal(got, want) {
		t.Errorf("fired: got %v, want %v", got, want)
	}
	if got := e.Open(); len(got) > 0 {
		t.Errorf("still open after the end: %v", got)
	}
}

func TestSumStaysInBounds(t *testing.T) {
	t.Parallel()
	e := mustNew(t, window.Config{Windows: window.Tumbling(10*ms, 0), Aggregate: window.Sum})
	e.Apply(window.Event{ID: "a", Key: "up", Value: math.MaxInt64})
	e.Apply(window.Event{ID: "b", Key: "up", Value: 1})
	e.Apply(window.Event{ID: "c", Key: "down", Value: math.MinInt64})
	e.Apply(window.Event{ID: "d", Key: "down", Value: -1})
	got := e.End()
	if got[0].Value != math.MinInt64 || got[1].Value != math.MaxInt64 {
		t.Errorf("sums wrapped: %v", got)
	}
}

func TestEventWithoutIDIsLate(t *testing.T) {
	t.Parallel()
	e := mustNew(t, window.Config{Windows: window.Tumbling(10*ms, 0)})
	out := e.Apply(window.Event{Time: 3, Stored: 3})
	if out.Verdict != window.Late || out.Reason != window.NoID {
		t.Errorf("got %v %v", out.Verdict, out.Reason)
	}
	if _, ok := e.Watermark(); ok {
		t.Error("it moved the watermark")
	}
}
