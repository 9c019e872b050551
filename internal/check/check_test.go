package check

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tidemark/tidemark/internal/client"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

var (
	checked = []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 16}
	safe    = []int{1, 4, 5, 9, 10, 12}
)

func TestAllIsWell(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.story()
	results := w.check()
	for _, n := range checked {
		r, ok := results[n]
		if !ok || !r.OK() || r.Counted == 0 || r.Name == "" {
			t.Errorf("invariant %d: got %+v, want that it was checked and holds", n, r)
		}
	}
	if len(results) != len(checked) {
		t.Errorf("got %d results, want %d", len(results), len(checked))
	}
	if r := results[5]; r.Waiting != 1 || r.Counted != 6 {
		t.Errorf("invariant 5: got %+v, want 6 orders of which the open one waits", r)
	}
}

func TestNothingStored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for n, r := range w.check() {
		if !r.OK() {
			t.Errorf("invariant %d: got %+v, want that an empty system is well", n, r)
		}
	}
}

// Each log breaks one invariant and no other, and says so with what it is about. Those that are marked safe break one that holds at every moment, so they
// are found without waiting too.
func TestEachInvariantByItself(t *testing.T) {
	t.Parallel()
	noMessageID := func(e *event) { e.ID = "twice" }
	for name, c := range map[string]struct {
		invariant int
		safe      bool
		says      string
		do        func(w *world)
	}{
		"1: more reserved than on hand": {1, true, "SKU A", func(w *world) {
			w.place("x", of("A", 50))
			w.decide("x", events.TypeStockReserved, of("A", 50))
			w.end("x", events.TypeOrderRejected)
			w.decide("x", events.TypeStockReleased, of("A", 50))
		}},
		"1: sold below zero, and received later": {1, true, "SKU C", func(w *world) {
			w.sell("x", of("C", 1))
			w.receive("C", 5)
		}},
		"2: less left than was ordered": {2, false, "SKU A", func(w *world) {
			w.place("x", of("A", 2))
			w.decide("x", events.TypeStockReserved, of("A", 1))
			w.pay("x", client.LedgerCaptured, 200)
			w.end("x", events.TypeOrderConfirmed)
			w.decide("x", events.TypeStockCommitted, of("A", 1))
		}},
		"2: another SKU left": {2, false, "SKU A", func(w *world) {
			w.place("x", of("A", 2))
			w.decide("x", events.TypeStockReserved, of("BANK CHARGES", 2))
			w.pay("x", client.LedgerCaptured, 200)
			w.end("x", events.TypeOrderConfirmed)
			w.decide("x", events.TypeStockCommitted, of("BANK CHARGES", 2))
		}},
		"3: less released than was reserved": {3, false, "SKU A", func(w *world) {
			w.place("x", of("A", 3))
			w.decide("x", events.TypeStockReserved, of("A", 3))
			w.end("x", events.TypeOrderRejected)
			w.decide("x", events.TypeStockReleased, of("A", 1))
		}},
		"4: reserves again after its release": {4, true, "order x", func(w *world) {
			w.place("x", of("A", 1))
			w.decide("x", events.TypeStockReserved, of("A", 1))
			w.end("x", events.TypeOrderRejected)
			w.decide("x", events.TypeStockReleased, of("A", 1))
			w.decide("x", events.TypeStockReserved, of("A", 1))
			w.decide("x", events.TypeStockReleased, of("A", 1))
		}},
		"4: reserves after a tombstone": {4, true, "order x", func(w *world) {
			w.place("x", of("A", 1))
			w.asleep.warehouse = true
			w.discard(w.letter(events.GroupInventory, "x", 1))
			w.end("x", events.TypeOrderCancelled)
			w.decide("x", events.TypeStockReleased, nil)
			w.decide("x", events.TypeStockReserved, of("A", 1))
			w.decide("x", events.TypeStockReleased, of("A", 1))
		}},
		"4: reserves twice": {4, true, "order open", func(w *world) {
			w.decide("open", events.TypeStockReserved, of("A", 1))
		}},
		"5: ends twice": {5, true, "order sold", func(w *world) {
			w.end("sold", events.TypeOrderRejected)
		}},
		"5: goes on after its end": {5, true, "order sold", func(w *world) {
			w.put(w.subjects.Order("sold"), "shop.order.remarked.v1", "sold", struct{}{})
			w.change(func() { w.orders["sold"].version++ })
		}},
		"5: open after its deadline": {5, false, "order x", func(w *world) {
			w.place("x", of("A", 1))
			w.timer("x", time.Now().Add(-time.Minute))
		}},
		"5: open without a deadline": {5, false, "order x", func(w *world) {
			w.place("x", of("A", 1))
		}},
		"6: confirmed and not paid": {6, false, "order x is confirmed", func(w *world) {
			w.sell("x", of("A", 1))
			w.change(func() { w.ledger = w.ledger[:len(w.ledger)-1] })
		}},
		"6: paid twice": {6, false, "2 payments", func(w *world) {
			w.sell("x", of("A", 1))
			w.pay("x", client.LedgerCaptured, 100)
		}},
		"6: paid too little": {6, false, "0.99 GBP", func(w *world) {
			w.sell("x", of("A", 1))
			w.change(func() { w.ledger[len(w.ledger)-1].Amount = 99 })
		}},
		"6: confirmed and voided": {6, false, "voided", func(w *world) {
			w.sell("x", of("A", 1))
			w.pay("x", client.LedgerVoided, 100)
		}},
		"6: rejected and paid": {6, false, "order declined is rejected", func(w *world) {
			w.pay("declined", client.LedgerCaptured, 400)
		}},
		"6: paid for no order": {6, false, "payment nobody", func(w *world) {
			w.pay("nobody", client.LedgerCaptured, 400)
		}},
		"6: committed and not confirmed": {6, false, "order x is rejected", func(w *world) {
			w.place("x", of("A", 1))
			w.decide("x", events.TypeStockReserved, of("A", 1))
			w.end("x", events.TypeOrderRejected)
			w.decide("x", events.TypeStockCommitted, of("A", 1))
		}},
		"7: told twice": {7, false, "order sold, version 2: is told by webhook again", func(w *world) { w.notify("sold") }},
		"7: a mail that nobody sent": {7, false, "never took", func(w *world) {
			w.change(func() { w.mails = w.mails[1:] })
		}},
		"7: a mail that no notice records": {7, false, "mail sold.9.email@test", func(w *world) {
			w.change(func() {
				w.mails = append(w.mails, client.MailEntry{Kind: client.MailAccepted, MessageID: "sold.9.email@test"})
			})
		}},
		"8: orders":                     {8, false, "projection orders", func(w *world) { w.change(func() { w.broken.ordersDigest = "0" }) }},
		"8: stock":                      {8, false, "projection stock", func(w *world) { w.change(func() { w.broken.stockDigest = "0" }) }},
		"8: a query that loses":         {8, false, queryOrders, func(w *world) { w.change(func() { w.broken.late = 1 }) }},
		"8: an order in another minute": {8, false, queryOrders, func(w *world) { w.change(func() { w.broken.minute = 1 }) }},
		"8: revenue":                    {8, false, queryRevenue, func(w *world) { w.change(func() { w.broken.value = -1 }) }},
		"9: a gap in an order's versions": {9, true, "order x: version 3", func(w *world) {
			w.place("x", of("A", 1))
			w.end("x", events.TypeOrderRejected, func(e *event) { e.Version = 3 })
		}},
		"9: a version twice in the warehouse": {9, true, "stock of order x: version 1", func(w *world) {
			w.place("x", of("A", 1))
			w.decide("x", events.TypeStockReserved, of("A", 1))
			w.end("x", events.TypeOrderRejected)
			w.decide("x", events.TypeStockReleased, of("A", 1), func(e *event) { e.Version = 1 })
		}},
		"9: a SKU's versions": {9, true, "SKU A", func(w *world) {
			w.versions[w.subjects.StockSKU("A")] = 7
			w.receive("A", 1)
		}},
		"9: an event id twice": {9, true, "twice", func(w *world) {
			w.notify("short", noMessageID)
			w.notify("declined", noMessageID)
		}},
		"9: no event": {9, true, "can't be read", func(w *world) {
			if _, err := w.js.PublishMsg(w.t.Context(), &nats.Msg{Subject: w.subjects.StockOrder("x"), Data: []byte("?")}); err != nil {
				w.t.Fatal(err)
			}
		}},
		"9: the payload is of another order": {9, true, `"y"`, func(w *world) {
			w.place("x", of("A", 1))
			w.put(w.subjects.StockOrder("x"), events.TypeStockRejected, "x", events.StockDecision{OrderID: "y", OrderSeq: 1})
			w.end("x", events.TypeOrderRejected)
		}},
		"10: a cause that nobody stored": {10, true, "nowhere", func(w *world) {
			w.place("x", of("A", 1))
			w.end("x", events.TypeOrderRejected, func(e *event) { e.CausationID = "nowhere" })
		}},
		"10: a notice without a cause in the logs": {10, true, "nowhere", func(w *world) {
			w.notify("short", func(e *event) { e.CausationID = "nowhere" })
		}},
		"10: two correlations": {10, true, "order x", func(w *world) {
			w.place("x", of("A", 1))
			w.end("x", events.TypeOrderRejected, func(e *event) { e.CorrelationID = "other" })
		}},
		"10: no correlation": {10, true, "order x", func(w *world) {
			w.place("x", of("A", 1), func(e *event) { e.CorrelationID = "" })
			w.end("x", events.TypeOrderRejected)
		}},
		"11: a customer who was not told": {11, false, "group notify: x, version 2", func(w *world) {
			w.place("x", of("A", 1))
			w.asleep.post = true
			w.end("x", events.TypeOrderRejected)
		}},
		"11: an order that the warehouse never saw": {11, false, "group inventory: x, version 1", func(w *world) {
			w.asleep.warehouse = true
			w.place("x", of("A", 1))
			w.end("x", events.TypeOrderRejected)
		}},
		"11: a letter that was lost": {11, false, "1 letters are gone", func(w *world) {
			l := w.letter(events.GroupNotify, "sold", 2)
			stream, err := w.js.Stream(w.t.Context(), events.StreamDLQ)
			if err != nil {
				w.t.Fatal(err)
			}
			if err := stream.DeleteMsg(w.t.Context(), l.Sequence); err != nil {
				w.t.Fatal(err)
			}
		}},
		"12: the end is answered before the beginning": {12, true, "answers ORDERS", func(w *world) {
			w.place("x", of("A", 1))
			first := w.answers["x"]
			w.asleep.warehouse = true
			w.end("x", events.TypeOrderRejected)
			w.decide("x", events.TypeStockRejected, nil)
			w.answers["x"] = first
			w.decide("x", events.TypeStockReleased, nil)
		}},
		"12: the beginning is passed over": {12, true, "never answered order.placed", func(w *world) {
			w.place("x", of("A", 1))
			w.asleep.warehouse = true
			w.end("x", events.TypeOrderCancelled)
			w.decide("x", events.TypeStockReleased, nil)
		}},
		"16: a letter that waits for nothing": {16, false, "letter inventory:ORDERS:", func(w *world) {
			w.letter(events.GroupInventory, "sold", 2, func(l *deadletter.Letter) { l.FirstState = deadletter.StateBlocked })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.story()
			c.do(w)
			cfg := w.config()
			cfg.OrderDeadline = time.Nanosecond // the deadline in TIMERS decides
			cfg.StuckAfter = time.Nanosecond
			results := w.checkWith(cfg)
			if len(results) != len(checked) {
				t.Errorf("got %d results, want %d", len(results), len(checked))
			}
			onlyBroken(t, results, c.invariant, c.says)
			cfg.NoWait = true
			results = w.checkWith(cfg)
			if len(results) != len(safe) {
				t.Errorf("without waiting: got %d results, want %d", len(results), len(safe))
			}
			if c.safe {
				onlyBroken(t, results, c.invariant, c.says)
				return
			}
			onlyBroken(t, results, 0, "")
		})
	}
}

// onlyBroken fails unless just this invariant is broken, 0: none, and names what breaks it.
func onlyBroken(t *testing.T, results map[int]Result, invariant int, says string) {
	t.Helper()
	var list []Result
	for n, r := range results {
		list = append(list, r)
		if r.Unchecked != "" {
			t.Errorf("invariant %d was not checked: %s", n, r.Unchecked)
		}
		if n == invariant && (r.Broken == 0 || !strings.Contains(r.First, says)) {
			t.Errorf("invariant %d: got %+v, want it broken by %q", n, r, says)
		}
		if n != invariant && r.Broken > 0 {
			t.Errorf("invariant %d is broken, too: %+v", n, r)
		}
	}
	if got := Broken(list); got != (invariant != 0) {
		t.Errorf("Broken: got %t", got)
	}
}

func TestNotAtRest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	// A group that nobody reads for: its lag stays.
	full := events.DefaultTopology(w.topology.Partitions)
	w.server.Apply(full)
	w.topology = full
	w.story()
	cfg := w.config()
	cfg.Wait = 100 * time.Millisecond
	var results map[int]Result
	eventstest.Eventually(t, 20*time.Second, "the first thing that is missing is a group", func() bool {
		results = w.checkWith(cfg) // before that, TIMELINE has no copies yet
		return strings.Contains(results[2].Unchecked, "group ")
	})
	if len(results) != len(checked) {
		t.Errorf("got %d results, want %d", len(results), len(checked))
	}
	for _, n := range []int{2, 3, 5, 6, 7, 8, 11, 16} {
		if r := results[n]; r.OK() || !strings.Contains(r.Unchecked, "group ") {
			t.Errorf("invariant %d: got %+v, want that it could not be checked, and the group", n, r)
		}
	}
	for _, n := range []int{1, 4, 9, 10, 12} {
		if r := results[n]; !r.OK() || r.Counted == 0 {
			t.Errorf("invariant %d: got %+v, want that it holds all the same", n, r)
		}
	}
}

// While a group is behind, the check waits, and says for what; then it judges.
func TestWaitsUntilAtRest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.story()
	declared := events.DefaultTopology(w.topology.Partitions)
	group, _ := declared.Group(events.GroupNotify)
	w.topology.Groups = []events.Group{group}
	w.server.Apply(w.topology)
	registry, err := events.NewRegistry()
	if err != nil {
		t.Fatal(err)
	}
	member, err := bus.NewGroup(
		bus.GroupConfig{Group: group, Handler: func(context.Context, bus.Delivery) error { return nil }},
		bus.Deps{JS: w.js, Encoder: bus.NewEncoder(registry, bus.Telemetry{}), Subjects: w.subjects},
	)
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 1)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		select {
		case <-told: // only now does anybody read for the group
			done <- member.Run(ctx)
		case <-ctx.Done():
			done <- errors.New("the check did not say what it waits for")
		}
	}()
	cfg := w.config()
	cfg.Progress = writerFunc(func(p []byte) {
		select {
		case told <- string(p):
		default:
		}
	})
	results, err := Run(t.Context(), cfg)
	if err != nil || Broken(results) || len(results) != len(checked) {
		t.Errorf("got %+v, %v", results, err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestPartsThatAreDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.story()
	w.change(func() { w.broken.gatewayDown = true })
	results := w.check()
	if results[6].OK() || !strings.Contains(results[6].Unchecked, "gateway") || !results[8].OK() {
		t.Errorf("without the gateway: got %+v and %+v, want that 6 alone could not be checked", results[6], results[8])
	}
	w.change(func() { w.broken.gatewayDown, w.broken.down = false, true })
	results = w.check()
	if results[8].OK() || !strings.Contains(results[8].Unchecked, "projection") || !results[6].OK() {
		t.Errorf("without the API: got %+v and %+v, want that 8 alone could not be checked", results[8], results[6])
	}
}

func TestNoSystem(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{
		"no API":  {API: "http://127.0.0.1:1"},
		"no NATS": {NATS: "nats://127.0.0.1:1"},
		"nothing": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := Run(t.Context(), cfg); !errors.Is(err, ErrNoSystem) {
				t.Errorf("got %v, want that there is no system", err)
			}
		})
	}
}

// What is read while the logs grow must not look broken: an event's cause is always found.
func TestLogsThatGrow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.receive("A", 1000)
	stop := make(chan struct{})
	done := make(chan int)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				done <- n
				return
			default:
				id := fmt.Sprintf("order-%d", n)
				w.sell(id, of("A", 1))
				w.notify(id)
			}
		}
	}()
	cfg := w.config()
	cfg.NoWait = true
	seen := 0
	for range 30 {
		results := w.checkWith(cfg)
		for n, r := range results {
			if n != 1 && !r.OK() { // more than 1,000 may be sold
				t.Errorf("invariant %d: %+v", n, r)
			}
		}
		seen = results[9].Counted
	}
	close(stop)
	if n := <-done; n < 10 || seen == 0 {
		t.Errorf("%d orders were placed and %d events seen: too few to say anything", n, seen)
	}
}

type writerFunc func(p []byte)

func (f writerFunc) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}
