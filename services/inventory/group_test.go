package inventory

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// member starts a whole service, with its consumer group.
func (s *site) member(cfg Config) *instance {
	s.tb.Helper()
	service, err := New(cfg, Deps{NATS: s.server.Connect(), Topology: s.topology, Registry: s.registry})
	if err != nil {
		s.tb.Fatal(err)
	}
	in := &instance{Service: service, tb: s.tb, ended: make(chan error, 1)}
	in.run()
	return in
}

// order appends an event to ORDERS as the order service would.
func (s *site) order(kind, id string, lines ...events.Line) events.Event {
	s.tb.Helper()
	orders := store.New(s.js, events.StreamOrders, bus.NewEncoder(s.registry, bus.Telemetry{}), bus.Telemetry{})
	subject := s.topology.Subjects().Order(id)
	last := uint64(0)
	if r, err := orders.Last(context.Background(), subject); err == nil {
		last = r.Sequence
	} else if !errors.Is(err, store.ErrNotFound) {
		s.tb.Fatal(err)
	}
	ev := delivery(s.tb, kind, id, 0, lines...).Event
	if _, err := orders.Append(context.Background(), subject, last, ev); err != nil {
		s.tb.Fatal(err)
	}
	return ev
}

func (s *site) awaitLog(in *instance, n int) {
	s.tb.Helper()
	s.awaitPosition(in, uint64(n)) //nolint:gosec // a test's count
	if log, _ := s.read(); len(log) != n {
		s.tb.Fatalf("%d events, want %d", len(log), n)
	}
}

// TestOrdersAreAnsweredThroughTheGroup has two instances, and one of them stopped while orders come in.
func TestOrdersAreAnsweredThroughTheGroup(t *testing.T) {
	t.Parallel()
	s := newSite(t, eventstest.Start)
	first, second := s.member(Config{}), s.member(Config{})
	first.receive("A", 25)
	const orders = 40
	var placed []events.Event
	for i := range orders {
		placed = append(placed, s.order(events.TypeOrderPlaced, fmt.Sprintf("o%d", i), line("A", 1)))
		if i == orders/2 {
			first.stop()
		}
	}
	s.awaitLog(second, 1+orders)
	_, recorded := s.read()
	caused := map[string]bool{}
	reserved := map[string]bool{}
	for _, r := range recorded[1:] {
		caused[r.CausationID] = true
		if r.Type == events.TypeStockReserved {
			reserved[r.Subject] = true
		}
	}
	for _, ev := range placed {
		if !caused[ev.ID] {
			t.Errorf("order %s was not answered", ev.Subject)
		}
	}
	if len(reserved) != 25 {
		t.Errorf("%d orders reserve, want 25", len(reserved))
	}

	second.stop() // what comes now is caught up on
	for i := range orders {
		s.order(events.TypeOrderCancelled, fmt.Sprintf("o%d", i))
	}
	third := s.member(Config{})
	s.awaitLog(third, 1+orders+25) // rejected orders have nothing to release
	if it, _ := third.live.stock("A"); it != (item{25, 0, 1}) {
		t.Errorf("stock %+v", it)
	}
}

func TestNewNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := New(Config{SnapshotEvery: -2, MaxBatch: 501, BatchFrom: 1, Lanes: -1}, Deps{})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, name := range []string{"SnapshotEvery", "MaxBatch", "BatchFrom", "Lanes", "NATS", "Registry", "Topology"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named: %v", name, err)
		}
	}
	if err := (Config{}).Validate(); err != nil {
		t.Errorf("the zero value: %v", err)
	}
}
