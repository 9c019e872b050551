package order

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/tidemark/tidemark/internal/gateway"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/access"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// The money is taken, and the process is killed before it could say so: the next one asks under the same key and confirms.
func TestKillBetweenChargeAndAppend(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.start(Config{})
	id := first.placeOne("k", oneLine)
	first.halt()
	w.answer(id, events.TypeStockReserved)

	// A victim handles the answer up to the charge, and no further.
	victim := w.make(Config{})
	placed, err := victim.load(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := victim.payments.charge(t.Context(), placed); err != nil || p.Status != paymentCaptured {
		t.Fatalf("charge: %+v, %v", p, err)
	}
	victim.idle()

	second := w.start(Config{})
	second.await(id, "confirmed")
	if got := w.history(id); !slices.Equal(got, []string{events.TypeOrderPlaced, events.TypeOrderConfirmed}) {
		t.Fatalf("events are %v", got)
	}
	if n := w.captures(id); n != 1 {
		t.Fatalf("captured %d times", n)
	}
}

// The same, but the customer cancelled before the next process came: the redelivered answer finds the order ended, and the money goes back.
func TestKillBetweenChargeAndAppendThenCancelled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.start(Config{})
	id := first.placeOne("k", oneLine)
	placed, err := first.load(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.payments.charge(t.Context(), placed); err != nil {
		t.Fatal(err)
	}
	if _, err := first.cancel(t.Context(), id, ""); err != nil {
		t.Fatal(err)
	}
	first.halt()
	w.answer(id, events.TypeStockReserved)
	w.start(Config{})
	eventstest.Eventually(t, patience, "the payment is voided", func() bool { return w.paid(id) == gateway.Voided })
}

// captures counts the captures of a key in the gateway's ledger.
func (w *world) captures(key string) int {
	w.t.Helper()
	n := 0
	for _, e := range w.ledger() {
		if e.Key == key && e.Kind == gateway.Captured {
			n++
		}
	}
	return n
}

// Only the timer was stored. It comes due and does nothing; the same request places the order later.
func TestKillBetweenDeadlineAndOrder(t *testing.T) {
	t.Parallel()
	i := newWorld(t).start(Config{Deadline: time.Second})
	id := orderID(access.Local, "k")
	if err := i.setDeadline(t.Context(), id, time.Now()); err != nil {
		t.Fatal(err)
	}
	eventstest.Eventually(t, patience, "the deadline is handled", func() bool { return i.acknowledged(events.GroupOrderDeadlines) == 1 })
	if n := i.lastOf(events.StreamOrders); n != 0 {
		t.Fatalf("the deadline of an order that never came stored %d events", n)
	}
	if p := i.paid(id); p != "" {
		t.Fatalf("and the gateway has it as %s", p)
	}
	r := i.do(http.MethodPost, "/v1/orders", oneLine, "Idempotency-Key", "k")
	if r.code != http.StatusAccepted || r.header.Get("Idempotency-Replayed") != "" || r.order(t).ID != id {
		t.Fatalf("%d %v %s", r.code, r.header, r.raw)
	}
	i.await(id, "rejected") // and has a deadline of its own
}

// The answer of the gateway is lost after the capture, again and again: asking again finds the same capture.
func TestLostAnswersOfTheGateway(t *testing.T) {
	t.Parallel()
	i := newWorld(t).start(Config{})
	if err := i.gateway.SetFaults(gateway.Faults{ErrorAfterCaptureRate: 1}); err != nil {
		t.Fatal(err)
	}
	id := i.placeOne("k", oneLine)
	i.answer(id, events.TypeStockReserved)
	eventstest.Eventually(t, patience, "the money is taken", func() bool { return i.paid(id) == gateway.Captured })
	if err := i.gateway.SetFaults(gateway.Faults{}); err != nil {
		t.Fatal(err)
	}
	i.await(id, "confirmed")
	if n := i.captures(id); n != 1 {
		t.Fatalf("captured %d times", n)
	}
}

// A handler may be called again at any time, also by a process that knows nothing yet.
func TestTheSameAnswerAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.start(Config{})
	id := i.placeOne("k", oneLine)
	i.answer(id, events.TypeStockReserved)
	i.await(id, "confirmed")
	d := w.delivery(1)
	fresh := w.make(Config{})
	defer fresh.idle()
	for _, s := range []*Service{i.Service, fresh} {
		for _, repeated := range []bool{false, true} {
			d.Repeated = repeated
			if err := s.onStock(t.Context(), d); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(w.history(id)) != 2 || w.paid(id) != gateway.Captured || w.captures(id) != 1 {
		t.Fatalf("events %v, payment %s", w.history(id), w.paid(id))
	}
}

// delivery is a message of STOCK as the bus hands it over.
func (w *world) delivery(sequence uint64) bus.Delivery {
	w.t.Helper()
	r, err := w.stock.Get(context.Background(), sequence)
	if err != nil {
		w.t.Fatal(err)
	}
	return bus.Delivery{Event: r.Event, Stream: r.Stream, Subject: r.Subject, Sequence: r.Sequence, StoredAt: r.StoredAt, Attempt: 1}
}

// A timer that is stored too long ago must not be followed by an order: it could have fired already.
func TestAnOrderIsGivenUpAtHalfOfItsTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.start(Config{Deadline: time.Second})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.nats.Nodes()[0].Shutdown() // nobody answers
	start := time.Now()
	ev, err := decidePlace(Order{}, placeCommand{orderID: "x", customer: "c", currency: "GBP", placedAt: start, lines: []events.Line{{SKU: "A", Quantity: 1}}, digest: "d"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.appendInTime(ctx, "x", ev[0]); err == nil {
		t.Fatal("stored without a broker")
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Fatalf("given up after %s", took)
	}
	i.halted = true // without a broker there is no clean stop to check
	i.stop()
	<-i.ended
	i.api.Close()
}

// An order has all of its time, and the timer says so where the broker reads it.
func TestTheDeadlineIsNotEarly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.make(Config{Deadline: 90 * time.Second})
	defer s.idle()
	stream, err := w.nats.JetStream().Stream(t.Context(), events.StreamTimers)
	if err != nil {
		t.Fatal(err)
	}
	for _, fraction := range []time.Duration{0, time.Nanosecond, 999 * time.Millisecond} {
		now := time.Now().Truncate(time.Second).Add(fraction)
		if err := s.setDeadline(t.Context(), "o", now); err != nil {
			t.Fatal(err)
		}
		msg, err := stream.GetLastMsgForSubject(t.Context(), s.subjects.Timer("o"))
		if err != nil {
			t.Fatal(err)
		}
		due, err := time.Parse("@at "+time.RFC3339, msg.Header.Get("Nats-Schedule"))
		if over := due.Sub(now.Add(90 * time.Second)); err != nil || over < 0 || over >= time.Second {
			t.Errorf("placed at %s: due %s, %s off (%v)", now.Format(time.RFC3339Nano), due, over, err)
		}
	}
}
