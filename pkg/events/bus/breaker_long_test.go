//go:build long

package bus_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/fail"
)

// TestPauseOutlivesTheTerm: when the connection breaks while a group pauses, all events that waited to probe are given back. One is asked for all the same: else nothing would
// ever find out that what failed is well again.
func TestPauseOutlivesTheTerm(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2, single)
	b := newBreakable(func(bus.Delivery) error { return fail.Infra(errors.New("the store is full")) })
	m := f.join(bus.GroupConfig{Handler: b.handle, Breaker: bus.BreakerConfig{MinProbe: 8 * time.Second, MaxProbe: 8 * time.Second}})
	f.publishMany(100, 50)
	eventstest.Eventually(t, generous, "the group pauses", func() bool { err := m.group.Healthy(); return err != nil && strings.Contains(err.Error(), "paused") })
	b.broken.Store(false)
	f.server.Restart(0)
	eventstest.Eventually(t, time.Minute, "all are handled", func() bool { return b.distinct() == 100 })
	if bad := b.disorder(); len(bad) > 0 {
		t.Error(bad)
	}
}
