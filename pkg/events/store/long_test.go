//go:build long

package store_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// modelChecks is how many histories the model test tries.
const modelChecks = "40"

// Thousands of appends by eight writers, while leaders step down and nodes are stopped and started again. go test -tags long
func TestLongRestartsAndStepDowns(t *testing.T) {
	t.Parallel()
	set := start(t, eventstest.StartCluster)
	var done atomic.Bool
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(3 * time.Second)
		defer tick.Stop()
		for node := 0; !done.Load(); node++ {
			<-tick.C
			if node%2 == 0 {
				set.StepDown(ledger)
			} else {
				set.Restart(node / 2 % 3)
			}
		}
	}()
	warehouse(t, set, 1000, func(int) {})
	done.Store(true)
	<-ended
}

// The same as TestStoreIsAList, on three servers whose leaders step down and that are stopped and started again in turn. go test -tags long
func TestLongReplicatedStoreIsAList(t *testing.T) {
	t.Parallel()
	n := 0
	storeIsAList(t, eventstest.StartCluster, func(m *machine) {
		if n++; n%4 == 0 {
			m.Restart(n / 4 % 3)
			return
		}
		m.StepDown(m.name)
	})
}

// An aggregate of 1,000 events loads at least ten times faster with its snapshot, measured alone; on a busy machine this test asks for half of that. The two take
// turns. go test -tags long
func TestLongSnapshotMakesLoadsShort(t *testing.T) {
	const length, rounds, factor = 1000, 30, 5
	for name, server := range clusters {
		t.Run(name, func(t *testing.T) {
			l := makeLong(t, start(t, server), length, 0)
			var whole, shortened time.Duration
			for range rounds {
				whole += l.load(t, l.plain, length)
				shortened += l.load(t, l.shortened, length)
			}
			ratio := whole.Seconds() / shortened.Seconds()
			t.Logf("whole %s, with a snapshot %s: %.1f times faster", whole/rounds, shortened/rounds, ratio)
			if ratio < factor {
				t.Errorf("with a snapshot %.1f times faster, want %d", ratio, factor)
			}
		})
	}
}
