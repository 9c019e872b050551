package bus_test

import (
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

func TestGroupHandlesEverythingOnceInOrder(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 4, single)
	r := newRecord()
	f.publishMany(200, 20)
	m := f.join(bus.GroupConfig{Handler: r.handle})
	f.publishMany(200, 20)
	eventstest.Eventually(t, 10*time.Second, "all are handled", func() bool { return r.distinct() == 400 })
	f.settled(f.group)
	m.stop()
	if r.count() != 400 {
		t.Errorf("handler called %d times, want 400", r.count())
	}
	if bad := r.disorder(); len(bad) > 0 {
		t.Errorf("%d out of order: %s", len(bad), bad[0])
	}
	for _, d := range r.snapshot() {
		if d.Repeated {
			t.Errorf("sequence %d is said to be repeated", d.Sequence)
		}
	}
}
