package inventory

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/fail"
	"github.com/tidemark/tidemark/pkg/events/store"
)

func TestWhatIsStored(t *testing.T) {
	t.Parallel()
	s := newSite(t, eventstest.Start)
	in := s.start(Config{})
	in.receive("A", 10)
	placed := delivery(t, events.TypeOrderPlaced, "o1", 3, events.Line{SKU: "A", Quantity: 2, UnitPrice: 99}, line("A", 1))
	confirmed := delivery(t, events.TypeOrderConfirmed, "o1", 8)
	in.deliver(placed, placed, confirmed, confirmed, delivery(t, events.TypeOrderCancelled, "late", 9), delivery(t, events.TypeOrderPlaced, "late", 4, line("A", 1)))

	log, recorded := s.read()
	if len(log) != 4 {
		t.Fatalf("%d events, want 4: %+v", len(log), log)
	}
	subjects := s.topology.Subjects()
	for i, want := range []struct {
		kind, subject, causation, correlation string
		version, seq                          uint64
		lines                                 int
	}{
		{events.TypeStockReceived, subjects.StockSKU("A"), "", log[0].received.ReceiptID, 1, 0, 0},
		{events.TypeStockReserved, subjects.StockOrder("o1"), placed.Event.ID, "o1", 1, 3, 1},
		{events.TypeStockCommitted, subjects.StockOrder("o1"), confirmed.Event.ID, "o1", 2, 8, 1},
		{events.TypeStockReleased, subjects.StockOrder("late"), events.DeriveID("late", events.TypeOrderCancelled), "late", 1, 9, 0},
	} {
		r, c := recorded[i], log[i]
		if r.Type != want.kind || r.Subject != want.subject || r.CausationID != want.causation || r.CorrelationID != want.correlation ||
			r.Version != want.version || c.decision.OrderSeq != want.seq || len(c.decision.Lines) != want.lines || r.Source != source {
			t.Errorf("event %d: %+v\nwant %+v", i+1, r, want)
		}
		if i > 0 && (r.ID != events.DeriveID(want.causation, want.kind) || r.PartitionKey != c.decision.OrderID) {
			t.Errorf("event %d: id %s, partition key %s", i+1, r.ID, r.PartitionKey)
		}
	}
	if lines := log[1].decision.Lines; lines[0] != line("A", 3) {
		t.Errorf("reserved %v, want the sum of both lines without a price", lines)
	}
	if it, _ := in.live.stock("A"); it.onHand != 7 || it.reserved != 0 {
		t.Errorf("stock %+v", it)
	}
	if n := in.count("unexpected"); n != 0 {
		t.Errorf("%d unexpected events", n)
	}
	in.deliver(delivery(t, events.TypeOrderConfirmed, "nobody", 11))
	if n := in.count("unexpected"); n != 1 {
		t.Errorf("%d unexpected events, want 1", n)
	}
}

func TestHandlerRefusesWhatNoRetryCures(t *testing.T) {
	t.Parallel()
	s := newSite(t, eventstest.Start)
	in := s.start(Config{})
	bad := delivery(t, events.TypeOrderPlaced, "o", 1, line("A", 1))
	for name, data := range map[string]string{
		"no JSON": "{", "no order": `{"lines":[{"sku":"A","quantity":1}]}`, "no lines": `{"order_id":"o","lines":[]}`,
		"gives away": `{"order_id":"o","lines":[{"sku":"A","quantity":-1}]}`, "order id too long": `{"order_id":"` + strings.Repeat("x", 129) + `","lines":[{"sku":"A","quantity":1}]}`,
	} {
		bad.Event.Data = []byte(data)
		if err := in.handle(t.Context(), bad); !fail.IsPermanent(err) {
			t.Errorf("%s: error %v, want a permanent one", name, err)
		}
	}
	in.deliver(delivery(t, "shop.order.amended.v1", "o", 1)) // a newer producer: none of our business
	if log, _ := s.read(); len(log) != 0 {
		t.Errorf("stored %+v", log)
	}
}

// TestBatch hands in so much at once that it is appended in batches, with one decision among it that can't be stored.
func TestBatch(t *testing.T) {
	t.Parallel()
	s := newSite(t, eventstest.Start)
	in := s.start(Config{BatchFrom: 2})
	in.receive("A", 50)
	if n := in.count("batch"); n != 0 {
		t.Fatalf("%d batches for one request", n)
	}
	const orders = 300
	var failed sync.Map
	var g errgroup.Group
	for i := range orders {
		id := fmt.Sprintf("o%03d", i)
		if i == orders/2 {
			id = strings.Repeat("x", 129) // breaks the schema of what would be stored
		}
		g.Go(func() error {
			if err := in.handle(t.Context(), delivery(t, events.TypeOrderPlaced, id, uint64(i)+1, line("A", 1))); err != nil {
				failed.Store(id, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	failed.Range(func(id, err any) bool {
		if len(id.(string)) != 129 || !fail.IsPermanent(err.(error)) {
			t.Errorf("order %s: %v", id, err)
		}
		return true
	})
	log, _ := s.read()
	kinds := map[string]int{}
	for _, c := range log {
		kinds[c.kind]++
	}
	if kinds[events.TypeStockReserved] != 50 || kinds[events.TypeStockRejected] != orders-1-50 {
		t.Errorf("stored %v", kinds)
	}
	if in.count("batch") == 0 {
		t.Error("nothing was appended as a batch")
	}
}

// TestConflict decides on a state that is behind the log: the append is refused, and the decision made again is another one.
func TestConflict(t *testing.T) {
	t.Parallel()
	for name, requests := range map[string]int{"single": 1, "batch": 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, eventstest.Start)
			in := s.prepare(Config{}) // not running, so it does not follow the log
			other := s.start(Config{})
			other.receive("A", 1)
			if err := in.live.catchUp(t.Context(), in.log, 0); err != nil {
				t.Fatal(err)
			}
			other.deliver(delivery(t, events.TypeOrderPlaced, "quicker", 1, line("A", 1)))

			var batch []*request
			for i := range requests {
				id := fmt.Sprintf("o%d", i)
				batch = append(batch, &request{ctx: t.Context(), order: &orderEvent{ID: "e" + id, Type: events.TypeOrderPlaced, OrderID: id, Sequence: uint64(i) + 2, Lines: []events.Line{line("A", 1)}}})
			}
			if _, err := in.decider.decide(t.Context(), batch); err != nil {
				t.Fatal(err)
			}
			log, _ := s.read()
			if len(log) != 2+requests {
				t.Fatalf("%d events, want %d", len(log), 2+requests)
			}
			for _, c := range log[2:] {
				if c.kind != events.TypeStockRejected {
					t.Errorf("%s of %s, want a rejection", c.kind, c.decision.OrderID)
				}
			}
			if in.count("conflicts") == 0 {
				t.Error("no conflict was met")
			}
			if in.live.position() != uint64(len(log)) {
				t.Errorf("position %d, want %d", in.live.position(), len(log))
			}
		})
	}
}

// TestTwoInstancesAnswerTheSameEvents: events are handled again elsewhere, as after a crash, while the first one still lives.
func TestTwoInstancesAnswerTheSameEvents(t *testing.T) {
	t.Parallel()
	s := newSite(t, eventstest.Start)
	a, b := s.start(Config{BatchFrom: 2}), s.start(Config{BatchFrom: 2})
	a.receive("A", 1000)
	var g errgroup.Group
	for i := range 100 {
		d := delivery(t, events.TypeOrderPlaced, fmt.Sprintf("o%d", i), uint64(i)+1, line("A", 1))
		for _, in := range []*instance{a, b} {
			g.Go(func() error { return in.handle(t.Context(), d) })
		}
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	log, _ := s.read()
	if len(log) != 101 {
		t.Errorf("%d events, want 101", len(log))
	}
	s.awaitPosition(a, uint64(len(log)))
	s.awaitPosition(b, uint64(len(log)))
	if a.sum() != b.sum() {
		t.Errorf("states differ: %s, %s", a.sum(), b.sum())
	}
}

// TestEightDeciders has eight instances sell one short stock, each order at two of them.
func TestEightDeciders(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) *eventstest.Server{"R1": eventstest.Start, "R3": eventstest.StartCluster} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, start)
			const instances, orders = 8, 240
			var all []*instance
			for range instances {
				all = append(all, s.start(Config{SnapshotEvery: 100}))
			}
			for _, sku := range []string{"A", "B", "C"} {
				all[0].receive(sku, 40)
			}
			var g errgroup.Group
			g.SetLimit(64)
			for i := range orders {
				id := fmt.Sprintf("o%d", i)
				lines := []events.Line{line("A", 1+int64(i%3)), line("B", 1+int64(i%2)), line("A", 1)}
				end := []string{events.TypeOrderConfirmed, events.TypeOrderRejected, events.TypeOrderCancelled}[i%3]
				for range 2 {
					in := all[rand.IntN(instances)]
					g.Go(func() error {
						if err := handleStubbornly(t.Context(), in, delivery(t, events.TypeOrderPlaced, id, uint64(i)+1, lines...)); err != nil {
							return err
						}
						if o, _ := in.live.orderNow(id); end == events.TypeOrderConfirmed && o.phase != phaseReserved && o.phase != phaseCommitted {
							return nil // what is not reserved is not confirmed
						}
						return handleStubbornly(t.Context(), in, delivery(t, end, id, uint64(i)+orders+1))
					})
				}
			}
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
			log, _ := s.read()
			placed := map[string]int{}
			for _, c := range log {
				if c.kind == events.TypeStockReserved || c.kind == events.TypeStockRejected {
					placed[c.decision.OrderID]++
				}
			}
			if len(placed) != orders {
				t.Errorf("%d orders were decided, want %d", len(placed), orders)
			}
			var conflicts int64
			for _, in := range all {
				s.awaitPosition(in, uint64(len(log)))
				if in.sum() != all[0].sum() {
					t.Errorf("states differ: %s, %s", in.sum(), all[0].sum())
				}
				conflicts += in.count("conflicts")
			}
			if conflicts == 0 {
				t.Error("eight deciders never met: the test shows nothing")
			}
			t.Logf("%d events, %d conflicts", len(log), conflicts)
		})
	}
}

// orderNow is what memory holds of an order.
func (l *live) orderNow(id string) (orderState, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.state.order(id)
}

// handleStubbornly does what the bus does with a plain error: it tries again.
func handleStubbornly(ctx context.Context, in *instance, d bus.Delivery) error {
	for {
		err := in.handle(ctx, d)
		if !errors.Is(err, ErrBusy) {
			return err
		}
	}
}

func TestALogThatCannotBeReadEndsTheService(t *testing.T) {
	t.Parallel()
	s := newSite(t, eventstest.Start)
	in := s.start(Config{})
	ev, err := events.New("/test", events.TypeNoticeSent, "o", time.Now(), events.Notice{OrderID: "o", OrderVersion: 1, Channel: "email", EventType: events.TypeOrderPlaced, MessageID: "m"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.log.AppendAt(t.Context(), 0, store.Write{Subject: s.topology.Subjects().StockOrder("o"), Event: ev}); err != nil {
		t.Fatal(err)
	}
	err = <-in.ended
	in.ended <- nil // for the end of the test
	var unknown *store.UnknownEventError
	if !errors.As(err, &unknown) || unknown.Type != events.TypeNoticeSent || unknown.Sequence != 1 || !errors.Is(err, events.ErrUnknownType) {
		t.Errorf("ended with %v, want an unknown event at sequence 1", err)
	}
	if err := in.handle(t.Context(), delivery(t, events.TypeOrderPlaced, "o", 1, line("A", 1))); !errors.Is(err, ErrStopped) {
		t.Errorf("a stopped service answers %v, want %v", err, ErrStopped)
	}
}

// TestTogether: where one server keeps STOCK, only a big batch is worth its sync to the disk; where it is replicated, two that wait make one.
func TestTogether(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		start func(testing.TB) *eventstest.Server
		cfg   Config
		want  map[int]int
	}{
		"one server":  {eventstest.Start, Config{}, map[int]int{1: 1, 2: 1, 99: 1, 100: 100, 300: 200}},
		"replicated":  {eventstest.StartCluster, Config{}, map[int]int{1: 1, 2: 2, 199: 199, 300: 200}},
		"as set":      {eventstest.Start, Config{BatchFrom: 8}, map[int]int{1: 1, 7: 1, 8: 8, 300: 200}},
		"small batch": {eventstest.Start, Config{MaxBatch: 10}, map[int]int{9: 1, 10: 10, 11: 10}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := newSite(t, c.start).prepare(c.cfg)
			for waiting, want := range c.want {
				if got := in.decider.together(t.Context(), waiting); got != want {
					t.Errorf("of %d that wait, %d are decided together, want %d", waiting, got, want)
				}
			}
		})
	}
}
