//go:build long

package analytics

import (
	"fmt"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// killRows are all stages in all kinds of modes.
func killRows() []killRow {
	deaths := []death{
		{"while the first base is written", duringBase, 1},
		{"C01: before the commit", beforeCommit, 2},
		{"after the commit, before publishing", afterCommit, 2},
		{"while the base is restored", duringRestore, 1},
		{"C03: in the middle of publishing", duringPublish, 2},
		{"C02: after publishing, before the acknowledgement", afterPublish, 2},
		{"while a base is written", duringBase, 1},
		{"C01: before the commit, again", beforeCommit, 1},
	}
	return []killRow{
		{Mode{}, deaths}, {Mode{Events: 30}, deaths}, {Mode{Every: 100 * time.Millisecond}, deaths}, {Mode{Every: time.Second, Events: 1000}, deaths},
	}
}

// TestStalledReaderTakesNoPartitionForSilent (C07): publishing takes ten times the idle time, while events of both partitions and heartbeats wait in the log. They were stored all the
// time, so no partition was silent, and nothing is late: time is that of the log. One partition is three seconds behind the other one, so whoever gave it up would have lost its events.
func TestStalledReaderTakesNoPartitionForSilent(t *testing.T) {
	t.Parallel()
	const idle = 2 * time.Second
	s := newShopOf(t, eventstest.Start, 2, func(top *events.Topology) { *top = childTopology(2) })
	var keys [2]string
	for i := 0; keys[0] == "" || keys[1] == ""; i++ {
		id := fmt.Sprint("order-", i)
		keys[s.subjects.PartitionOf(id)] = id
	}
	n := 0
	pair := func() {
		now := time.Now()
		for p, key := range keys {
			ev := order(t, key, now.Add(-time.Duration(p)*3*time.Second).UTC().Format(time.RFC3339), "GBP", 1)
			ev.ID = fmt.Sprint("event-", n)
			n++
			if _, err := s.publisher.Publish(t.Context(), s.subjects.Order(key), ev); err != nil {
				t.Fatal(err)
			}
		}
	}
	pair()
	c := child{Partitions: 2, Step: 1000, Default: Settings{Idle: idle}, Stage: duringPublish, Nth: 1, Does: stalls, Stall: 10 * idle}
	p := s.spawn(c)
	eventstest.Eventually(t, 3*patience, "publishing stalls", func() bool { pair(); return p.has("stalls") })
	began := time.Now()
	eventstest.Eventually(t, 3*patience, "the stall is over", func() bool { pair(); return time.Since(began) > 10*idle })
	last := s.lastEvent()
	s.awaitAll(last)
	p.stop()
	got := s.given()
	for _, q := range got.counts {
		if q.Late > 0 || q.Name == "orders-per-minute" && q.Counted != uint64(n) { //nolint:gosec // small
			t.Errorf("of %d events: %s %s", n, q.Name, q)
		}
	}
}
