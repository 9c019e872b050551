package window_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/window"
)

func sample(tb testing.TB, cfg window.Config) *window.Engine {
	tb.Helper()
	e := mustNew(tb, cfg)
	for _, ev := range []window.Event{
		{ID: "a", Key: "GBP", Time: 1000, Value: 5}, {ID: "b", Key: "EUR", Time: 61_000, Value: 7}, {ID: "b", Time: 1}, {ID: "c", Time: 0, Value: 1}, {ID: "d", Time: 130_000},
	} {
		ev.Stored = ev.Time
		e.Apply(ev)
	}
	return e
}

func sampleConfig() window.Config {
	return window.Config{Windows: window.Tumbling(time.Minute, 0), Bound: 30 * time.Second, Aggregate: window.Sum}
}

func TestRestoreRefusesWhatIsNoSnapshot(t *testing.T) {
	t.Parallel()
	good := sample(t, sampleConfig()).Snapshot()
	flipped := bytes.Clone(good)
	flipped[20] ^= 1
	newer := bytes.Clone(good)
	newer[4] = 9
	for name, b := range map[string][]byte{
		"empty": nil, "other bytes": []byte("no snapshot at all"), "cut": good[:len(good)-1], "longer": append(bytes.Clone(good), 0),
		"a bit flipped": flipped, "another version": newer,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := window.Restore(sampleConfig(), b); !errors.Is(err, window.ErrSnapshot) {
				t.Errorf("got %v, want %v", err, window.ErrSnapshot)
			}
		})
	}
}

func TestRestoreAnswersToChangedConfig(t *testing.T) {
	t.Parallel()
	snapshot := sample(t, sampleConfig()).Snapshot()
	for name, change := range map[string]func(*window.Config){
		"size":      func(c *window.Config) { c.Windows = window.Tumbling(2*time.Minute, 0) },
		"offset":    func(c *window.Config) { c.Windows = window.Tumbling(time.Minute, time.Second) },
		"aggregate": func(c *window.Config) { c.Aggregate = window.Count },
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			t.Parallel()
			cfg := sampleConfig()
			change(&cfg)
			if _, err := window.Restore(cfg, snapshot); !errors.Is(err, window.ErrOtherWindows) {
				t.Errorf("got %v, want %v", err, window.ErrOtherWindows)
			}
		})
	}
	t.Run("a larger bound does not pull the watermark back", func(t *testing.T) {
		t.Parallel()
		cfg := sampleConfig()
		cfg.Bound = time.Hour
		e, err := window.Restore(cfg, snapshot)
		if err != nil {
			t.Fatal(err)
		}
		e.Apply(window.Event{ID: "e", Time: 131_000, Stored: 131_000})
		if w, _ := e.Watermark(); w != 100_000 {
			t.Errorf("watermark %d, want 100000", w)
		}
	})
	t.Run("a smaller bound holds from the next event", func(t *testing.T) {
		t.Parallel()
		cfg := sampleConfig()
		cfg.Bound = 0
		e, err := window.Restore(cfg, snapshot)
		if err != nil {
			t.Fatal(err)
		}
		out := e.Apply(window.Event{ID: "e", Time: 131_000, Stored: 131_000})
		if w, _ := e.Watermark(); w != 131_000 || len(out.Results) != 1 {
			t.Errorf("watermark %d, want 131000; results %v, want one", w, out.Results)
		}
	})
}

// FuzzRestore feeds bodies with a right checksum, so that what is behind it is reached.
func FuzzRestore(f *testing.F) {
	good := sample(f, sampleConfig()).Snapshot()
	f.Add(good[:len(good)-4])
	f.Add(mustNew(f, sampleConfig()).Snapshot())
	f.Fuzz(func(t *testing.T, body []byte) {
		snapshot := binary.BigEndian.AppendUint32(bytes.Clone(body), crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
		e, err := window.Restore(sampleConfig(), snapshot)
		if err != nil {
			if !errors.Is(err, window.ErrSnapshot) && !errors.Is(err, window.ErrOtherWindows) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		again, err := window.Restore(sampleConfig(), e.Snapshot())
		if err != nil {
			t.Fatalf("what was restored does not restore: %v", err)
		}
		if !bytes.Equal(again.Snapshot(), e.Snapshot()) {
			t.Fatal("the second snapshot differs")
		}
		again.Apply(window.Event{ID: "x", Time: 1, Stored: 1})
		again.End()
		if len(again.Open()) > 0 {
			t.Fatal("windows stay open after the end")
		}
	})
}

// FuzzApply reads events of the bytes, 5 each, and holds the engine to what must always be so.
func FuzzApply(f *testing.F) {
	f.Add([]byte{1, 0, 10, 0, 0, 2, 0, 200, 1, 3, 1, 255, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		e := mustNew(t, window.Config{Windows: window.Tumbling(7*ms, 3*ms), Bound: 20 * ms, MaxFuture: 50 * ms, Aggregate: window.Sum})
		fired := make(map[window.Window]bool)
		var counted int64
		check := func(results []window.Result) {
			for _, r := range results {
				if w, _ := e.Watermark(); w < r.End {
					t.Fatalf("%v fired at watermark %d", r, w)
				}
				counted += r.Count
				fired[r.Window] = true
			}
		}
		for ; len(data) >= 5; data = data[5:] {
			before, had := e.Watermark()
			out := e.Apply(window.Event{
				ID: string(data[0] + 1), Key: string(data[1] % 3), Time: int64(data[2]) - 100 + int64(int8(data[3])), Stored: int64(data[2]), Value: int64(data[4]),
			})
			if after, _ := e.Watermark(); had && after < before {
				t.Fatalf("watermark went from %d back to %d", before, after)
			}
			if out.Verdict == window.Late && out.Reason == window.TooLate && before < out.Missed[0].End {
				t.Fatalf("late for %v at watermark %d", out.Missed[0], before)
			}
			check(out.Results)
		}
		check(e.End())
		if c := e.Counts(); c.Read != c.Counted+c.Late+c.Duplicates || c.Counted != uint64(counted) {
			t.Fatalf("counts %+v, windows hold %d", c, counted)
		}
	})
}
