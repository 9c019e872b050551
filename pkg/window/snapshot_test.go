package window_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
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
	return window.Config{Windows: window.Tumbling(time.Minute, 0), Bound: 30 * time.Second, Aggregate: window.Sum()}
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

// kinds are one configuration of each kind, with something of everything in it.
func kinds() []window.Config {
	return []window.Config{
		sampleConfig(),
		{Windows: window.Hopping(70*time.Second, 20*time.Second, 0), Aggregate: window.Top(2), Bound: time.Second, Lateness: time.Minute, Partitions: 2, Idle: time.Second},
		{Windows: window.Session(10 * time.Second), Aggregate: window.Mean(), Lateness: time.Minute},
		{Windows: window.Calendar(window.Day, "Europe/London"), Aggregate: window.Min(), Lateness: time.Minute},
	}
}

// kindNames are their names in testdata.
func kindNames() []string { return []string{"tumbling", "hopping", "session", "calendar"} }

// FuzzRestore feeds bodies with a right checksum, so that what is behind it is reached.
func FuzzRestore(f *testing.F) {
	for i, cfg := range kinds() {
		snapshot := sample(f, cfg).Snapshot()
		f.Add(i, snapshot[:len(snapshot)-4])
		snapshot = mustNew(f, cfg).Snapshot()
		f.Add(i, snapshot[:len(snapshot)-4])
		older, err := os.ReadFile(filepath.Join(snapshotsDir, kindNames()[i]+".2"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(i, older[:len(older)-4])
	}
	f.Fuzz(func(t *testing.T, kind int, body []byte) {
		if kind < 0 || kind >= len(kinds()) {
			return
		}
		cfg := kinds()[kind]
		snapshot := binary.BigEndian.AppendUint32(bytes.Clone(body), crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
		e, err := window.Restore(cfg, snapshot)
		if err != nil {
			if !errors.Is(err, window.ErrSnapshot) && !errors.Is(err, window.ErrOtherWindows) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		// The snapshot may be of another bound or number of partitions; what comes of it is of this one.
		again, err := window.Restore(cfg, e.Snapshot())
		if err != nil {
			t.Fatalf("what was restored does not restore: %v", err)
		}
		if !bytes.Equal(again.Snapshot(), e.Snapshot()) || again.State() != e.State() {
			t.Fatal("the second snapshot differs")
		}
		e.Apply(window.Event{ID: "x", Time: 1, Stored: 1})
		e.Tick(100_000)
		e.End()
		if s := e.State(); len(e.Open()) > 0 || s != (window.State{}) {
			t.Fatalf("after the end there is left: %+v", s)
		}
	})
}

// FuzzApply reads events and ticks of the bytes, 6 each, for engines of all kinds, and holds them to the naive one.
func FuzzApply(f *testing.F) {
	f.Add([]byte{1, 0, 10, 0, 0, 2, 0, 200, 1, 3, 1, 255, 0, 0, 0, 9, 9, 9})
	specs := []spec{
		{kind: "tumbling", size: 7, slide: 7, offset: 3, cfg: window.Config{Windows: window.Tumbling(7*ms, 3*ms)}},
		{kind: "hopping", size: 7, slide: 3, offset: -2, cfg: window.Config{Windows: window.Hopping(7*ms, 3*ms, -2*ms)}},
		{kind: "session", size: 7, cfg: window.Config{Windows: window.Session(7 * ms)}},
	}
	for i := range specs {
		s := &specs[i]
		s.bounds, s.lateness, s.idle, s.maxFuture, s.idleAdvance, s.aggregate = []int64{5, 2}, 6, 9, 12, true, "sum"
		s.cfg.Bounds, s.cfg.Partitions, s.cfg.Lateness, s.cfg.Idle, s.cfg.MaxFuture = []time.Duration{5 * ms, 2 * ms}, 2, 6*ms, 9*ms, 12*ms
		s.cfg.Aggregate = window.Sum()
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 600 {
			return // the naive one is slow
		}
		for _, s := range specs {
			e, n := mustNew(t, s.cfg), newNaive(s)
			stored := int64(0)
			for b := data; len(b) >= 6; b = b[6:] {
				stored += int64(int8(b[2])) / 16
				var want, got window.Outcome
				if b[0] == 255 {
					n.see(stored)
					want.Results, got.Results = n.move(), e.Tick(stored)
				} else {
					ev := window.Event{ID: string(b[0]%64 + 32), Key: string(b[1] % 3), Time: stored + int64(int8(b[3]))/4, Stored: stored, Value: int64(b[4]), Partition: int(b[5] % 2)}
					want, got = n.apply(ev), e.Apply(ev)
				}
				got.Sample = window.Sample{}
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Fatalf("%s:\n got %+v\nwant %+v", s.kind, got, want)
				}
			}
			if got, want := e.End(), n.moveTo(math.MaxInt64); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("%s, at the end:\n got %+v\nwant %+v", s.kind, got, want)
			}
		}
	})
}
