package inventory

import (
	"fmt"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// behind starts an instance whose connection goes through the proxy.
func (s *site) behind(proxy *eventstest.Proxy) *instance {
	s.tb.Helper()
	service, err := New(Config{}, Deps{NATS: proxy.Connect(), Topology: s.topology, Registry: s.registry})
	if err != nil {
		s.tb.Fatal(err)
	}
	service.group = idle(nil)
	in := &instance{Service: service, tb: s.tb, ended: make(chan error, 1)}
	in.run()
	return in
}

// TestLostAnswer takes the broker's word away after it has stored a decision: the decision stands once, and is known.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	s := newSite(t, eventstest.Start)
	proxy := s.server.NewProxy()
	in := s.behind(proxy)
	in.receive("A", 5)
	lost := proxy.LoseAnswer(s.topology.Subjects().StockOrder("o1"), true)
	in.deliver(delivery(t, events.TypeOrderPlaced, "o1", 1, line("A", 2)))
	select {
	case <-lost:
	default:
		t.Error("no answer was lost: the test shows nothing")
	}
	in.deliver(delivery(t, events.TypeOrderPlaced, "o1", 1, line("A", 2)), delivery(t, events.TypeOrderPlaced, "o2", 2, line("A", 3)))
	if log, _ := s.read(); len(log) != 3 {
		t.Errorf("%d events, want 3: %+v", len(log), log)
	}
	if it, _ := in.live.stock("A"); it != (item{5, 5, 1}) {
		t.Errorf("stock %+v", it)
	}
}

// TestStaleMemberComesBack: an instance hangs in the middle of an append, another one takes over and goes on, and the first one wakes up.
func TestStaleMemberComesBack(t *testing.T) {
	t.Parallel()
	s := newSite(t, eventstest.Start)
	proxy := s.server.NewProxy()
	stale, active := s.behind(proxy), s.start(Config{})
	active.receive("A", 5)
	s.awaitPosition(stale, 1)
	lost := proxy.LoseAnswer(s.topology.Subjects().StockOrder("o1"), false)
	woken := make(chan error, 1)
	go func() { woken <- stale.handle(t.Context(), delivery(t, events.TypeOrderPlaced, "o1", 1, line("A", 2))) }()
	<-lost
	s.awaitPosition(active, 2) // the stale one's decision was stored
	active.deliver(delivery(t, events.TypeOrderPlaced, "o1", 1, line("A", 2)), delivery(t, events.TypeOrderCancelled, "o1", 2),
		delivery(t, events.TypeOrderPlaced, "o2", 3, line("A", 4)))
	proxy.Cut()
	if err := <-woken; err != nil {
		t.Errorf("the stale member's handler: %v", err)
	}
	stale.deliver(delivery(t, events.TypeOrderPlaced, "o1", 1, line("A", 2)), delivery(t, events.TypeOrderPlaced, "o3", 4, line("A", 2)))
	log, _ := s.read()
	if len(log) != 5 || log[4].kind != events.TypeStockRejected {
		t.Errorf("%d events, want 5, the last one a rejection: %+v", len(log), log)
	}
	s.awaitPosition(active, 5)
	if stale.sum() != active.sum() {
		t.Errorf("states %s, %s", stale.sum(), active.sum())
	}
}

// TestStopsWhileTheBrokerIsAway although a decision waits for it.
func TestStopsWhileTheBrokerIsAway(t *testing.T) {
	t.Parallel()
	s := newSite(t, eventstest.Start)
	in := s.start(Config{})
	in.receive("A", 5)
	s.server.Stop(0)
	r := &request{ctx: t.Context(), receipt: &receipt{ID: "r", SKU: "A", Quantity: 1}, answer: make(chan answer, 1)}
	in.decider.queue <- r
	eventstest.Eventually(t, limit, "the decision is being made", func() bool { return len(in.decider.queue) == 0 })
	before := time.Now()
	in.stop()
	if took := time.Since(before); took > stopTime+2*time.Second {
		t.Errorf("stopping took %s", took)
	}
	if a := <-r.answer; a.err == nil {
		t.Error("a decision that was not stored is called done")
	}
}

// TestBrokerRestarts between decisions: both instances go on, the one that stands by too.
func TestBrokerRestarts(t *testing.T) {
	t.Parallel()
	s := newSite(t, eventstest.Start)
	works, standsBy := s.start(Config{}), s.start(Config{})
	works.receive("A", 5)
	for i := range 3 {
		works.deliver(delivery(t, events.TypeOrderPlaced, fmt.Sprintf("o%d", i), uint64(i)+1, line("A", 2))) //nolint:gosec // never negative
		s.server.Restart(0)
	}
	works.deliver(delivery(t, events.TypeOrderCancelled, "o0", 4))
	s.awaitPosition(standsBy, 5)
	if log, _ := s.read(); len(log) != 5 || works.sum() != standsBy.sum() {
		t.Errorf("%d events, want 5; states %s, %s", len(log), works.sum(), standsBy.sum())
	}
}

// TestLeaderSteps down in a cluster while orders are decided by two instances.
func TestLeaderStepsDown(t *testing.T) {
	t.Parallel()
	s := newSite(t, eventstest.StartCluster)
	a, b := s.start(Config{BatchFrom: 2}), s.start(Config{BatchFrom: 2})
	a.receive("A", 30)
	const orders = 60
	work := make(chan bus.Delivery)
	failed := make(chan error, orders)
	done := make(chan struct{})
	for i := range 8 {
		go func() {
			defer func() { done <- struct{}{} }()
			for d := range work {
				if err := handleStubbornly(t.Context(), []*instance{a, b}[i%2], d); err != nil {
					failed <- err
				}
			}
		}()
	}
	for i := range orders {
		if i%20 == 10 {
			s.server.StepDown(events.StreamStock)
		}
		work <- delivery(t, events.TypeOrderPlaced, fmt.Sprintf("o%d", i), uint64(i)+1, line("A", 1)) //nolint:gosec // never negative
	}
	close(work)
	for range 8 {
		<-done
	}
	close(failed)
	for err := range failed {
		t.Error(err)
	}
	log, _ := s.read()
	if len(log) != 1+orders {
		t.Errorf("%d events, want %d", len(log), 1+orders)
	}
	s.awaitPosition(a, uint64(len(log)))
	s.awaitPosition(b, uint64(len(log)))
	if it, _ := a.live.stock("A"); it.reserved != 30 || a.sum() != b.sum() {
		t.Errorf("stock %+v, states %s, %s", it, a.sum(), b.sum())
	}
}
