package window_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/window"
)

// testdata/snapshots holds a snapshot of each kind of windows for each layout that was ever written, made by the code of its time. A change of the layout needs a new
// version, a reader for the one before, and snapshots of its own; those that are there are never made anew:
//
//	go test ./pkg/window -run TestLayouts -make-snapshots
var makeSnapshots = flag.Bool("make-snapshots", false, "write testdata/snapshots for the present layout")

const snapshotsDir = "testdata/snapshots"

// stocked is an engine with something of everything: several keys and windows, late events, revisions, duplicates.
func stocked(tb testing.TB, cfg window.Config) *window.Engine {
	tb.Helper()
	e := mustNew(tb, cfg)
	for i := range int64(120) {
		stored := i * 3000
		e.Apply(window.Event{
			ID: fmt.Sprint("event ", i-i/40), Key: []string{"GBP", "EUR", "NOK"}[i%3], Time: stored - i*i%7*9000, Stored: stored, Value: i % 11,
			Partition: int(i) % max(cfg.Partitions, 1),
		})
	}
	return e
}

// Every snapshot that was ever written is read, and says what the same events say today. The present layout is written to the byte as it was when its version was given to it.
func TestLayouts(t *testing.T) {
	t.Parallel()
	present := stocked(t, sampleConfig()).Snapshot()[4]
	for i, name := range kindNames() {
		want := stocked(t, kinds()[i]).Snapshot()
		if *makeSnapshots {
			keep(t, filepath.Join(snapshotsDir, fmt.Sprintf("%s.%d", name, present)), want)
		}
		stored, err := filepath.Glob(filepath.Join(snapshotsDir, name+".*"))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, path := range stored {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			e, err := window.Restore(kinds()[i], b)
			if err != nil {
				t.Errorf("%s: %v", path, err)
				continue
			}
			if !bytes.Equal(e.Snapshot(), want) {
				t.Errorf("%s: what was restored is not what the same events give", path)
			}
			if b[4] == present {
				found = true
				if !bytes.Equal(b, want) {
					t.Errorf("%s: this version is written otherwise now: a new layout needs a new version", path)
				}
			}
		}
		if !found {
			t.Errorf("%s: no snapshot of version %d in %s", name, present, snapshotsDir)
		}
	}
}

// A snapshot of an older layout goes on exactly as one of the present one.
func TestOldLayoutGoesOn(t *testing.T) {
	t.Parallel()
	for i, name := range kindNames() {
		b, err := os.ReadFile(filepath.Join(snapshotsDir, name+".2"))
		if err != nil {
			t.Fatal(err)
		}
		old, err := window.Restore(kinds()[i], b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		now := stocked(t, kinds()[i])
		for at := int64(345_000); at < 360_000+int64(10*time.Minute/time.Millisecond); at += 7000 {
			for _, id := range []string{fmt.Sprint("event ", at/3000), fmt.Sprint("more ", at)} { // duplicates as long as they are remembered, and new ones
				ev := window.Event{ID: id, Key: "GBP", Time: at - 30_000, Stored: at, Value: 3}
				if got, want := fmt.Sprint(old.Apply(ev)), fmt.Sprint(now.Apply(ev)); got != want {
					t.Fatalf("%s, at %d: %s\n got %s\nwant %s", name, at, id, got, want)
				}
			}
		}
	}
}

func keep(t *testing.T, path string, b []byte) {
	t.Helper()
	if _, err := os.Stat(path); err == nil {
		return
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
