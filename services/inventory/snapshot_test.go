package inventory

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// history is everything that ORDERS holds of n orders: a third is confirmed, a third rejected, a third cancelled before it was placed.
func history(tb testing.TB, n int) []bus.Delivery {
	tb.Helper()
	var all []bus.Delivery
	seq := uint64(0)
	next := func(kind, order string, lines ...events.Line) {
		seq++
		all = append(all, delivery(tb, kind, order, seq, lines...))
	}
	for i := range n {
		id := fmt.Sprintf("o%d", i)
		next(events.TypeOrderPlaced, id, line("A", 1), line("B", int64(1+i%4)))
		switch i % 4 {
		case 0:
			next(events.TypeOrderConfirmed, id)
		case 1:
			next(events.TypeOrderRejected, id)
		case 2:
			next(events.TypeOrderCancelled, id)
			last := len(all) - 1
			all[last-1], all[last] = all[last], all[last-1] // comes before what it cancels
		}
	}
	return all
}

// TestNothingIsDecidedTwice delivers the whole of ORDERS again, when memory has forgotten most of it, before and after a restart.
func TestNothingIsDecidedTwice(t *testing.T) {
	t.Parallel()
	for name, every := range map[string]int{"forgets after each event": 1, "forgets often": 7, "snapshots off": -1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, eventstest.Start)
			in := s.start(Config{SnapshotEvery: every})
			in.receive("A", 1000)
			in.receive("B", 1000)
			all := history(t, 40)
			in.deliver(all...)
			log, _ := s.read()
			if want := 2 + 10*(2+2+1+1); len(log) != want { // receipts, and of each ten orders: confirmed, rejected, tombstone, left open
				t.Fatalf("%d events, want %d", len(log), want)
			}
			before := in.sum()
			in.deliver(all...)
			if every > 0 {
				if in.count("lookups") == 0 {
					t.Error("nothing was looked up: the test shows nothing")
				}
				if held, _ := in.live.orderNow("o3"); held.phase != phaseReserved {
					t.Errorf("an open reservation was forgotten: %+v", held)
				}
				if _, ok := in.live.orderNow("o0"); ok {
					t.Error("an order that ended long ago is still in memory")
				}
			}
			in.stop()
			again := s.start(Config{SnapshotEvery: every})
			again.deliver(all...)
			if again.sum() != before {
				t.Errorf("after delivering all again and a restart: %s, want %s", again.sum(), before)
			}
			s.read()
		})
	}
}

func TestSnapshot(t *testing.T) {
	t.Parallel()
	s := newSite(t, eventstest.Start)
	in := s.start(Config{})
	in.receive("A", 1000)
	in.receive("Ü / *", 3)
	in.deliver(history(t, 21)...)
	want := in.sum()
	in.stop()
	blobs, err := store.NewSnapshots(t.Context(), s.js, events.BucketSnapshots)
	if err != nil {
		t.Fatal(err)
	}
	good, err := blobs.Get(t.Context(), snapshotName)
	if err != nil {
		t.Fatal(err)
	}
	change := func(key string, value any) []byte {
		var fields map[string]any
		if err := json.Unmarshal(good, &fields); err != nil {
			t.Fatal(err)
		}
		fields[key] = value
		changed, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		return changed
	}
	for name, test := range map[string]struct {
		blob []byte
		good bool
	}{
		"good":            {good, true},
		"no JSON":         {good[:len(good)/2], false},
		"of another log":  {change("last_id", "another"), false},
		"from ahead":      {change("at", []int{1_000_000, 3}), false},
		"of a newer one":  {change("format", snapshotFormat+1), false},
		"of an empty log": {[]byte(`{"format":1}`), false},
		"damaged receipt": {change("receipts", map[string]int{"xyz": 1}), false},
	} {
		if err := blobs.Put(t.Context(), snapshotName, test.blob); err != nil {
			t.Fatal(err)
		}
		in := s.prepare(Config{})
		in.keeper = keeper{blobs: blobs, log: in.log}
		if _, _, err := in.keeper.load(t.Context()); (err == nil) != test.good {
			t.Errorf("%s: error %v", name, err)
		}
		in.run()
		if got := in.sum(); got != want {
			t.Errorf("%s: started with %s, want %s", name, got, want)
		}
		in.stop()
	}
}

// TestSnapshotsAreStoredWhileRunning and only by the instance that works.
func TestSnapshotsAreStoredWhileRunning(t *testing.T) {
	t.Parallel()
	s := newSite(t, eventstest.Start)
	works, standsBy := s.start(Config{SnapshotEvery: 10}), s.start(Config{SnapshotEvery: 10})
	for range 3 {
		works.receive("A", 1000)
		works.deliver(history(t, 40)...)
	}
	eventstest.Eventually(t, limit, "a snapshot is stored", func() bool { return works.count("snapshots") > 0 })
	s.awaitPosition(standsBy, works.live.position())
	blobs, err := store.NewSnapshots(t.Context(), s.js, events.BucketSnapshots)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := blobs.Get(t.Context(), snapshotName); err != nil {
		t.Errorf("the snapshot: %v", err)
	}
	works.stop() // stores its last state
	if w, _, err := (keeper{blobs: blobs, log: s.log}).load(context.Background()); err != nil || w.at.position != standsBy.live.position() {
		t.Errorf("after a clean stop the snapshot is at %+v (%v), want %d", w, err, standsBy.live.position())
	}
	if n := standsBy.count("snapshots"); n != 0 {
		t.Errorf("the instance that stands by stored %d snapshots", n)
	}
}
