//go:build long

package bus_test

import (
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
)

// TestReplayOfTenThousand: without a rate within ten seconds, in order.
func TestReplayOfTenThousand(t *testing.T) {
	f := newFixture(t, 8, single)
	f.parkMany(10_000, 2_000)
	r := newRecord()
	f.join(bus.GroupConfig{Handler: r.handle})
	started := time.Now()
	status := f.done(f.job(deadletter.JobReplay))
	took := time.Since(started)
	t.Logf("10,000 letters in %s", took)
	const limit = 20 * time.Second // what is wanted is 10: a machine that does something else at the same time may take longer
	if sum := status.Sum(); status.State != deadletter.JobDone || sum.Resolved != 10_000 || took > limit {
		t.Errorf("%s after %s: %+v", status.State, took, sum)
	}
	if bad := r.disorder(); len(bad) > 0 || r.count() != 10_000 || len(f.letters()) > 0 {
		t.Errorf("%d calls, %d letters left; %v", r.count(), len(f.letters()), bad)
	}
}
