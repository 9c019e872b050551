package window_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tidemark/tidemark/pkg/window"
)

// C05: who is late after a restart is who would have been without it: the watermark comes out of the snapshot, not from the first event after it.
func TestRestoreKeepsWhoIsLate(t *testing.T) {
	t.Parallel()
	cfg := window.Config{Windows: window.Tumbling(10*ms, 0), Partitions: 2}
	e := mustNew(t, cfg)
	e.Apply(window.Event{ID: "a", Time: 100, Stored: 100})
	e.Apply(window.Event{ID: "b", Time: 50, Stored: 101, Partition: 1})
	restored, err := window.Restore(cfg, e.Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	for _, ev := range []window.Event{{ID: "c", Time: 45, Stored: 102}, {ID: "d", Time: 60, Stored: 103, Partition: 1}, {ID: "e", Time: 55, Stored: 104}} {
		want, got := e.Apply(ev), restored.Apply(ev)
		if got.Verdict != want.Verdict {
			t.Errorf("%s: %s after a restart, %s without", ev.ID, got.Verdict, want.Verdict)
		}
	}
	if c := restored.Counts(); c.TooLate != 2 {
		t.Errorf("%+v, want c and e too late", c)
	}
}

// C06: windows that have come out do not come out again after a restart, with hopping windows open.
func TestRestoreDoesNotFireAgain(t *testing.T) {
	t.Parallel()
	cfg := window.Config{Windows: window.Hopping(30*ms, 10*ms, 0), Lateness: 20 * ms}
	e := mustNew(t, cfg)
	e.Apply(window.Event{ID: "a", Time: 5, Stored: 5})
	if out := e.Apply(window.Event{ID: "b", Time: 21, Stored: 21}); len(out.Results) != 2 {
		t.Fatalf("fired %v, want two windows", out.Results)
	}
	restored, err := window.Restore(cfg, e.Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	got := restored.Apply(window.Event{ID: "c", Time: 30, Stored: 30}).Results
	if len(got) != 1 || got[0].End != 30 || got[0].Count != 2 {
		t.Errorf("fired %+v, want [0,30) alone", got)
	}
}

// C08: the same log again gives the same bytes.
func TestReplayGivesTheSameBytes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := anySpec(t)
		log := anyLog(t, s, false)
		one, two := newEngine(t, s.cfg), newEngine(t, s.cfg)
		for i, in := range log {
			if a, b := apply(one, in), apply(two, in); fmt.Sprint(a) != fmt.Sprint(b) {
				t.Fatalf("input %d: %v and %v", i, a, b)
			}
			if !bytes.Equal(one.Snapshot(), two.Snapshot()) {
				t.Fatalf("input %d: other bytes", i)
			}
		}
	})
}

// What was frozen is written as it was then, whatever comes meanwhile.
func TestFrozenStateStaysAsItWas(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := anySpec(t)
		log := anyLog(t, s, false)
		e, undisturbed := newEngine(t, s.cfg), newEngine(t, s.cfg)
		at := rapid.IntRange(0, len(log)).Draw(t, "at")
		for _, in := range log[:at] {
			apply(e, in)
			apply(undisturbed, in)
		}
		want, write, again := e.Snapshot(), e.Freeze(), e.Freeze()
		written := make(chan []byte, 1)
		go func() { written <- write() }() // while the engine goes on
		for _, in := range log[at:] {
			got, want := apply(e, in), apply(undisturbed, in)
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("%+v gives %+v, without a snapshot %+v", in, got, want)
			}
		}
		if !bytes.Equal(<-written, want) || !bytes.Equal(again(), want) {
			t.Fatal("it has changed")
		}
		if !bytes.Equal(e.Snapshot(), undisturbed.Snapshot()) {
			t.Fatal("the engine is not where one without a snapshot is")
		}
	})
}

// Equal states give equal bytes, in whatever order they came about.
func TestSnapshotDependsOnStateAlone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := anySpec(t)
		cfg := window.Config{Windows: s.cfg.Windows, Aggregate: s.cfg.Aggregate, Partitions: 2, MaxFuture: window.Unlimited} // the second one is waited for
		var log []window.Event
		for i := range rapid.IntRange(1, 20).Draw(t, "n") {
			log = append(log, window.Event{ID: fmt.Sprint(i), Key: fmt.Sprint(i % 4), Item: fmt.Sprint(i % 3), Time: s.scale() * int64(i*37%40), Stored: 1e12, Value: int64(i)})
		}
		one, two := newEngine(t, cfg), newEngine(t, cfg)
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

// changedConfig is X09: what stored windows mean may not change under a query; how long it waits may, from the next event on.
func changedConfig(t *testing.T) {
	hopping := func() window.Config {
		return window.Config{Windows: window.Hopping(time.Hour, time.Minute, 0), Aggregate: window.Sum(), Bound: 30 * time.Second, Lateness: time.Minute, Idle: time.Minute}
	}
	sessions := window.Config{Windows: window.Session(time.Minute)}
	days := window.Config{Windows: window.Calendar(window.Day, "Europe/London")}
	for name, c := range map[string]struct{ before, after window.Config }{
		"size":      {hopping(), window.Config{Windows: window.Hopping(2*time.Hour, time.Minute, 0), Aggregate: window.Sum()}},
		"slide":     {hopping(), window.Config{Windows: window.Hopping(time.Hour, 2*time.Minute, 0), Aggregate: window.Sum()}},
		"offset":    {hopping(), window.Config{Windows: window.Hopping(time.Hour, time.Minute, time.Second), Aggregate: window.Sum()}},
		"kind":      {hopping(), window.Config{Windows: window.Tumbling(time.Hour, 0), Aggregate: window.Sum()}},
		"aggregate": {hopping(), window.Config{Windows: window.Hopping(time.Hour, time.Minute, 0), Aggregate: window.Max()}},
		"k":         {window.Config{Windows: window.Tumbling(time.Hour, 0), Aggregate: window.Top(3)}, window.Config{Windows: window.Tumbling(time.Hour, 0), Aggregate: window.Top(4)}},
		"gap":       {sessions, window.Config{Windows: window.Session(2 * time.Minute)}},
		"zone":      {days, window.Config{Windows: window.Calendar(window.Day, "Europe/Berlin")}},
		"unit":      {days, window.Config{Windows: window.Calendar(window.Week, "Europe/London")}},
	} {
		if _, err := window.Restore(c.after, mustNew(t, c.before).Snapshot()); !errors.Is(err, window.ErrOtherWindows) {
			t.Errorf("%s: got %v, want %v", name, err, window.ErrOtherWindows)
		}
	}
	for name, change := range map[string]func(*window.Config){
		"larger bound": func(c *window.Config) { c.Bound = time.Hour }, "smaller bound": func(c *window.Config) { c.Bound = 0 },
		"larger lateness": func(c *window.Config) { c.Lateness = time.Hour }, "smaller lateness": func(c *window.Config) { c.Lateness = 0 },
		"idle": func(c *window.Config) { c.Idle = 0 }, "max future": func(c *window.Config) { c.MaxFuture = time.Second },
		"more partitions": func(c *window.Config) { c.Partitions = 3 },
	} {
		e := mustNew(t, hopping())
		for i := range int64(200) {
			e.Apply(window.Event{ID: fmt.Sprint(i), Time: i * 1000, Stored: i * 1000, Value: 1})
		}
		before, _ := e.Watermark()
		goneBefore, _ := e.Gone()
		cfg := hopping()
		change(&cfg)
		restored, err := window.Restore(cfg, e.Snapshot())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		restored.Apply(window.Event{ID: "next", Time: 200_000, Stored: 200_000})
		after, _ := restored.Watermark()
		gone, _ := restored.Gone()
		if after < before || gone < goneBefore {
			t.Errorf("%s: the watermark went from %d back to %d, or what is gone from %d to %d", name, before, after, goneBefore, gone)
		}
	}
}

// What was gone before the allowed lateness was raised has no state any more: an event for it must not let it come out with that event alone.
func TestLargerLatenessBringsNothingBack(t *testing.T) {
	t.Parallel()
	for _, windows := range []window.Windows{window.Tumbling(10*ms, 0), window.Session(10 * ms)} {
		cfg := window.Config{Windows: windows}
		e := mustNew(t, cfg)
		e.Apply(window.Event{ID: "a", Time: 5, Stored: 5})
		e.Apply(window.Event{ID: "b", Time: 15, Stored: 15})
		cfg.Lateness = time.Hour
		restored, err := window.Restore(cfg, e.Snapshot())
		if err != nil {
			t.Fatal(err)
		}
		if out := restored.Apply(window.Event{ID: "c", Time: 4, Stored: 16}); out.Verdict != window.TooLate || len(out.Results) > 0 {
			t.Errorf("%s: %s, %v", windows, out.Verdict, out.Results)
		}
		if out := restored.Apply(window.Event{ID: "d", Time: 30, Stored: 30}); len(out.Results) != 1 {
			t.Errorf("%s: fired %v", windows, out.Results)
		}
		if out := restored.Apply(window.Event{ID: "e", Time: 16, Stored: 31}); out.Verdict != window.Counted || len(out.Results) == 0 {
			t.Errorf("%s: with the new lateness %s, %v", windows, out.Verdict, out.Results)
		}
	}
}

// A smaller one makes gone at once what it no longer keeps.
func TestSmallerLatenessForgetsAtOnce(t *testing.T) {
	t.Parallel()
	for _, windows := range []window.Windows{window.Tumbling(10*ms, 0), window.Session(10 * ms)} {
		cfg := window.Config{Windows: windows, Lateness: time.Hour}
		e := mustNew(t, cfg)
		e.Apply(window.Event{ID: "a", Time: 5, Stored: 5})
		e.Apply(window.Event{ID: "b", Time: 50, Stored: 50})
		cfg.Lateness = 0
		restored, err := window.Restore(cfg, e.Snapshot())
		if err != nil {
			t.Fatal(err)
		}
		if s := restored.State(); s.Cells != 1 || s.IDs != 1 {
			t.Errorf("%s: %+v", windows, s)
		}
		if out := restored.Apply(window.Event{ID: "a", Time: 5, Stored: 51}); out.Verdict != window.TooLate {
			t.Errorf("%s: %s", windows, out.Verdict)
		}
	}
}

// invalidEvents is what of X10 is the engine's: an event without an id. One without a time, or unreadable, is not an Event.
func invalidEvents(t *testing.T) {
	e := mustNew(t, window.Config{Windows: window.Tumbling(10*ms, 0)})
	out := e.Apply(window.Event{Time: 3, Stored: 3})
	if out.Verdict != window.NoID || out.Verdict.String() != "no_id" || !out.Verdict.Late() || len(out.Missed) != 1 || e.Counts().NoID != 1 {
		t.Errorf("got %+v, counts %+v", out, e.Counts())
	}
	if _, ok := e.Watermark(); ok {
		t.Error("it moved the watermark")
	}
}
