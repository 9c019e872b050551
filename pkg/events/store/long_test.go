//go:build long

package store_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

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
