package bus_test

import (
	"context"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// addGroup declares one more group on the running system.
func (f *fixture) addGroup(g events.Group) {
	f.Helper()
	f.topology.Groups = append(f.topology.Groups, g)
	f.server.Apply(f.topology)
}

// TestGroupAddedLater: a second group reads all history, in order, while the first goes on undisturbed.
func TestGroupAddedLater(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 4, single)
	first, second := newRecord(), newRecord()
	f.join(bus.GroupConfig{Handler: first.handle})
	f.publishMany(800, 40)
	f.settled(f.group)
	pins := f.owners(f.group)

	late := f.group
	late.Name = "latecomers"
	f.addGroup(late)
	f.join(bus.GroupConfig{Group: late, Handler: second.handle})
	f.publishMany(400, 40)
	f.settled(f.group)
	f.settled(late)
	for name, r := range map[string]*record{"first": first, "second": second} {
		if bad := r.disorder(); len(bad) > 0 || r.count() != 1200 {
			t.Errorf("the %s group had %d calls for 1200 events, out of order: %v", name, r.count(), bad)
		}
	}
	if now := f.owners(f.group); strings.Join(now, " ") != strings.Join(pins, " ") {
		t.Errorf("owners of the first group are %v and were %v", now, pins)
	}
}

// TestGroupFromNow: it begins behind what is stored when it is made, also after the topology was applied again, and can be moved back as far as that and no further.
func TestGroupFromNow(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2, single)
	f.publishMany(50, 10)
	fresh := f.group
	fresh.Name, fresh.FromNow = "fresh", true
	f.addGroup(fresh)
	f.publishMany(30, 10)
	f.server.Apply(f.topology)
	r := newRecord()
	f.join(bus.GroupConfig{Group: fresh, Handler: func(_ context.Context, d bus.Delivery) error {
		if d.Sequence <= 50 {
			t.Errorf("sequence %d was stored before the group was made", d.Sequence)
		}
		d.Event.Version -= 5 // of each key's, before
		r.add(d)
		return nil
	}})
	f.settled(fresh)
	if bad := r.disorder(); len(bad) > 0 || r.count() != 30 {
		t.Errorf("%d calls, want 30; out of order: %v", r.count(), bad)
	}
	for p := range fresh.Partitions {
		if _, err := f.js.ResetConsumerToSequence(t.Context(), fresh.Stream, fresh.Consumer(p), 51); err != nil {
			t.Errorf("back to the beginning: %v", err)
		}
		if _, err := f.js.ResetConsumerToSequence(t.Context(), fresh.Stream, fresh.Consumer(p), 50); err == nil {
			t.Error("was moved back beyond its beginning")
		}
	}
	eventstest.Eventually(t, generous, "all are handled again", func() bool { return r.count() == 60 })
}
