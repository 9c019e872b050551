package window_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tidemark/tidemark/pkg/window"
)

// stream is a random configuration and a random log: disorder, repeated ids, clocks that are ahead, store times that step back.
func stream(t *rapid.T) (window.Config, []window.Event) {
	size := rapid.Int64Range(1, 12).Draw(t, "size")
	cfg := window.Config{
		Windows:   window.Tumbling(time.Duration(size)*ms, time.Duration(rapid.Int64Range(1-size, size-1).Draw(t, "offset"))*ms),
		Bound:     time.Duration(rapid.Int64Range(0, 15).Draw(t, "bound")) * ms,
		MaxFuture: rapid.SampledFrom([]time.Duration{window.Unlimited, 1 * ms, 6 * ms}).Draw(t, "max future"),
		Aggregate: rapid.SampledFrom([]window.Aggregate{window.Count, window.Sum}).Draw(t, "aggregate"),
	}
	stored := rapid.Int64Range(-40, 40).Draw(t, "first store time")
	step := rapid.Custom(func(t *rapid.T) window.Event {
		return window.Event{
			ID: fmt.Sprint(rapid.IntRange(0, 60).Draw(t, "id")), Key: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "key"),
			Time: rapid.Int64Range(-25, 12).Draw(t, "behind"), Stored: rapid.Int64Range(-2, 9).Draw(t, "step"), Value: rapid.Int64Range(-5, 5).Draw(t, "value"),
		}
	})
	log := rapid.SliceOfN(step, 0, 80).Draw(t, "log")
	for i := range log {
		stored += log[i].Stored
		log[i].Stored, log[i].Time = stored, stored+log[i].Time
	}
	return cfg, log
}

type verdict struct {
	verdict window.Verdict
	reason  window.Reason
}

// oracle is another way to say what must come out: it keeps the whole log and no window. For each event it looks back over all events before
// it. Nothing of the engine is used but its configuration's numbers.
func oracle(cfg window.Config, log []window.Event) (verdicts []verdict, results map[window.Result]bool) {
	start := func(t int64) int64 { return cfg.Windows.Of(t).Start }
	size := cfg.Windows.Of(0).End - cfg.Windows.Of(0).Start
	bound := cfg.Bound.Milliseconds()
	sums, counts := map[[2]any]int64{}, map[[2]any]int64{}
	for i, ev := range log {
		clock := ev.Stored
		for _, before := range log[:i] {
			clock = max(clock, before.Stored)
		}
		// The watermark before the event, from all that was counted before it.
		watermark, defined, duplicate, highest := int64(0), false, false, int64(0)
		clockThen := log[0].Stored
		for j, before := range log[:i] {
			clockThen = max(clockThen, before.Stored)
			if verdicts[j].verdict != window.Counted {
				continue
			}
			if candidate := min(before.Time, clockThen); !defined || candidate > highest {
				highest, defined = candidate, true
			}
			watermark = highest - bound
		}
		for j, before := range log[:i] {
			if verdicts[j].verdict == window.Counted && before.ID == ev.ID && watermark < start(before.Time)+size {
				duplicate = true
			}
		}
		v := verdict{verdict: window.Counted}
		switch {
		case duplicate:
			v.verdict = window.Duplicate
		case cfg.MaxFuture != window.Unlimited && ev.Time > clock+cfg.MaxFuture.Milliseconds():
			v = verdict{window.Late, window.FutureSkew}
		case defined && watermark >= start(ev.Time)+size:
			v = verdict{window.Late, window.TooLate}
		default:
			cell := [2]any{start(ev.Time), ev.Key}
			counts[cell]++
			sums[cell] += ev.Value
		}
		verdicts = append(verdicts, v)
	}
	results = make(map[window.Result]bool)
	for cell, count := range counts {
		r := window.Result{
			Key: cell[1].(string), Window: window.Window{Start: cell[0].(int64), End: cell[0].(int64) + size},
			Count: count, Value: count, Revision: 1, Timing: window.OnTime,
		}
		if cfg.Aggregate == window.Sum {
			r.Value = sums[cell]
		}
		results[r] = true
	}
	return verdicts, results
}

func TestEngineEqualsBatchOverEverything(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		cfg, log := stream(t)
		wantVerdicts, wantResults := oracle(cfg, log)
		e, err := window.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		var results []window.Result
		for i, ev := range log {
			out := e.Apply(ev)
			if got := (verdict{out.Verdict, out.Reason}); got != wantVerdicts[i] {
				t.Fatalf("event %d %+v: got %v, want %v", i, ev, got, wantVerdicts[i])
			}
			if (out.Verdict == window.Late) != (len(out.Missed) == 1) {
				t.Fatalf("event %d: %v with missed windows %v", i, out.Verdict, out.Missed)
			}
			results = append(results, out.Results...)
		}
		results = append(results, e.End()...)
		if !slices.IsSortedFunc(results, func(a, b window.Result) int {
			if a.End != b.End {
				return int(a.End - b.End)
			}
			return strings.Compare(a.Key, b.Key)
		}) {
			t.Fatalf("results out of order: %v", results)
		}
		if len(results) != len(wantResults) {
			t.Fatalf("got %v, want %v", results, wantResults)
		}
		for _, r := range results {
			if !wantResults[r] {
				t.Fatalf("result %v is not among %v", r, wantResults)
			}
		}
		c := e.Counts()
		if c.Read != uint64(len(log)) || c.Read != c.Counted+c.Late+c.Duplicates {
			t.Fatalf("counts don't add up: %+v of %d", c, len(log))
		}
	})
}

func TestRestoreAnywhereChangesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		cfg, log := stream(t)
		straight, _ := window.New(cfg)
		cut, _ := window.New(cfg)
		cuts := rapid.SliceOfNDistinct(rapid.IntRange(0, len(log)), 0, 5, rapid.ID).Draw(t, "cuts")
		for i, ev := range log {
			if slices.Contains(cuts, i) {
				snapshot := cut.Snapshot()
				restored, err := window.Restore(cfg, snapshot)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(restored.Snapshot(), snapshot) {
					t.Fatal("a restored engine has another snapshot")
				}
				cut = restored
			}
			want, got := straight.Apply(ev), cut.Apply(ev)
			if fmt.Sprint(want) != fmt.Sprint(got) {
				t.Fatalf("event %d: got %v, want %v", i, got, want)
			}
			if straight.Size() != cut.Size() {
				t.Fatalf("event %d: sizes differ: %d and %d", i, straight.Size(), cut.Size())
			}
		}
		if !bytes.Equal(straight.Snapshot(), cut.Snapshot()) {
			t.Fatal("equal states, other snapshots")
		}
	})
}

// TestSnapshotDependsOnStateAlone feeds one window's events in two orders.
func TestSnapshotDependsOnStateAlone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		cfg := window.Config{Windows: window.Tumbling(100*ms, 0), Bound: time.Second, Aggregate: window.Sum}
		var log []window.Event
		for i := range rapid.IntRange(1, 20).Draw(t, "n") {
			log = append(log, window.Event{ID: fmt.Sprint(i), Key: fmt.Sprint(i % 4), Time: int64(i * 37 % 200), Stored: 1000, Value: int64(i)})
		}
		one, two := mustEngine(t, cfg), mustEngine(t, cfg)
		for _, ev := range log {
			one.Apply(ev)
		}
		for _, ev := range rapid.Permutation(log).Draw(t, "order") {
			two.Apply(ev)
		}
		if !bytes.Equal(one.Snapshot(), two.Snapshot()) {
			t.Fatal("the order of events shows in the snapshot")
		}
	})
}

func mustEngine(t *rapid.T, cfg window.Config) *window.Engine {
	e, err := window.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}
