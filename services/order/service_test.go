package order

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tidemark/tidemark/internal/gateway"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/access"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

func TestAnOrderIsReservedPaidAndConfirmed(t *testing.T) {
	t.Parallel()
	i := newWorld(t).start(Config{})
	r := i.do(http.MethodPost, "/v1/orders", oneLine, "Idempotency-Key", "536365")
	o := r.order(t)
	if r.code != http.StatusAccepted || r.header.Get("Location") != "/v1/orders/"+o.ID || r.header.Get("Idempotency-Replayed") != "" {
		t.Fatalf("%d %v %s", r.code, r.header, r.raw)
	}
	if o.Status != "placed" || o.Total != "15.30" || o.Customer != "17850" || o.Version != 1 {
		t.Fatalf("placed as %+v", o)
	}
	i.answer(o.ID, events.TypeStockReserved)
	i.await(o.ID, "confirmed")
	if got := i.history(o.ID); !slices.Equal(got, []string{events.TypeOrderPlaced, events.TypeOrderConfirmed}) {
		t.Fatalf("events are %v", got)
	}
	if p, _ := i.gateway.Payment(o.ID); p.Status != gateway.Captured || p.AmountMinor != 1530 || p.Currency != "GBP" {
		t.Fatalf("payment is %+v", p)
	}
	shown := i.do(http.MethodGet, "/v1/orders/"+o.ID, "").order(t)
	if len(shown.Lines) != 1 || shown.Lines[0] != (LineBody{SKU: "85123A", Quantity: 6, UnitPrice: "2.55"}) || shown.Version != 2 {
		t.Fatalf("shown as %+v", shown)
	}
	contact, err := i.contacts.bucket.Get(t.Context(), "17850")
	if err != nil || string(contact.Value()) != `{"email":"17850@customers.example"}` {
		t.Fatalf("contact: %v, %v", contact, err)
	}
}

func TestAnOrderIsRejected(t *testing.T) {
	t.Parallel()
	i := newWorld(t).start(Config{})
	short := i.placeOne("short", oneLine)
	i.answer(short, events.TypeStockRejected)
	i.await(short, "rejected")
	if o := i.do(http.MethodGet, "/v1/orders/"+short, "").order(t); o.Reason != "out_of_stock" {
		t.Fatalf("reason is %q", o.Reason)
	}
	if p := i.paid(short); p != "" {
		t.Fatalf("an order without stock was %s", p)
	}
	if err := i.gateway.SetFaults(gateway.Faults{DeclineRate: 1}); err != nil {
		t.Fatal(err)
	}
	declined := i.placeOne("declined", oneLine)
	i.answer(declined, events.TypeStockReserved)
	i.await(declined, "rejected")
	if o := i.do(http.MethodGet, "/v1/orders/"+declined, "").order(t); o.Reason != "payment_declined" {
		t.Fatalf("reason is %q", o.Reason)
	}
}

func TestARepeatedRequest(t *testing.T) {
	t.Parallel()
	i := newWorld(t).start(Config{})
	id := i.placeOne("k", oneLine)
	timers := i.lastOf(events.StreamTimers)
	same := i.do(http.MethodPost, "/v1/orders", "  "+oneLine, "Idempotency-Key", "k")
	if same.code != http.StatusAccepted || same.header.Get("Idempotency-Replayed") != "true" || same.order(t).ID != id {
		t.Fatalf("the same request: %d %v %s", same.code, same.header, same.raw)
	}
	other := i.do(http.MethodPost, "/v1/orders", oneLine[:len(oneLine)-2]+`,{"sku":"X","quantity":1,"unit_price":"1"}]}`, "Idempotency-Key", "k")
	if other.code != http.StatusUnprocessableEntity {
		t.Fatalf("another request: %d %s", other.code, other.raw)
	}
	if got := i.history(id); len(got) != 1 {
		t.Fatalf("events are %v", got)
	}
	if now := i.lastOf(events.StreamTimers); now != timers {
		t.Fatalf("a repetition stored a timer: %d, then %d", timers, now)
	}
	i.answer(id, events.TypeStockReserved)
	i.await(id, "confirmed")
	if again := i.do(http.MethodPost, "/v1/orders", oneLine, "Idempotency-Key", "k"); again.order(t).Status != "confirmed" {
		t.Fatalf("the repetition does not show how the order is now: %s", again.raw)
	}
}

// lastOf is a stream's last sequence.
func (w *world) lastOf(stream string) uint64 {
	w.t.Helper()
	n, err := store.New(w.nats.JetStream(), stream, nil, busTelemetry).LastSequence(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

func TestManySameRequestsAtOncePlaceOneOrder(t *testing.T) {
	t.Parallel()
	i := newWorld(t).start(Config{})
	var wg sync.WaitGroup
	replies := make([]reply, 20)
	for n := range replies {
		wg.Go(func() { replies[n] = i.do(http.MethodPost, "/v1/orders", oneLine, "Idempotency-Key", "k") })
	}
	wg.Wait()
	first := 0
	for _, r := range replies {
		if r.code != http.StatusAccepted || r.order(t).ID != replies[0].order(t).ID {
			t.Fatalf("%d %s", r.code, r.raw)
		}
		if r.header.Get("Idempotency-Replayed") == "" {
			first++
		}
	}
	if first != 1 {
		t.Errorf("%d answers say that they placed it, want 1", first)
	}
	if n := i.lastOf(events.StreamOrders); n != 1 {
		t.Errorf("ORDERS holds %d events, want 1", n)
	}
}

// What was just placed is known at once, also while the read model is behind: a second request has none of the effects that come before the append.
func TestWhatWasJustPlacedIsKnown(t *testing.T) {
	t.Parallel()
	i := newWorld(t).start(Config{})
	id := orderID(access.Local, "k")
	for n := range 3 {
		known, done, err := i.once.enter(t.Context(), id)
		if err != nil || known != (n > 1) {
			t.Fatalf("request %d: known is %t, %v", n, known, err)
		}
		waited := make(chan bool, 1)
		go func() {
			known, done, err := i.once.enter(t.Context(), id)
			if err == nil {
				done(false)
			}
			waited <- known
		}()
		done(n == 1) // the first one fails, the second one places it
		if known := <-waited; known != (n >= 1) {
			t.Fatalf("request %d: who waited for it knows %t", n, known)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, done, _ := i.once.enter(ctx, "other")
	cancel()
	if _, _, err := i.once.enter(ctx, "other"); err == nil {
		t.Fatal("who has gone still waits")
	}
	done(true)
}

func TestOtherRequestsAtOnceWithOneKey(t *testing.T) {
	t.Parallel()
	i := newWorld(t).start(Config{})
	var wg sync.WaitGroup
	replies := make([]reply, 8)
	for n := range replies {
		body := fmt.Sprintf(`{"currency":"GBP","lines":[{"sku":"A","quantity":%d,"unit_price":"1"}]}`, n+1)
		wg.Go(func() { replies[n] = i.do(http.MethodPost, "/v1/orders", body, "Idempotency-Key", "k") })
	}
	wg.Wait()
	codes := map[int]int{}
	for _, r := range replies {
		codes[r.code]++
	}
	if codes[http.StatusAccepted] != 1 || codes[http.StatusUnprocessableEntity] != len(replies)-1 {
		t.Fatalf("codes are %v, want one 202 and the others 422", codes)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	i := newWorld(t).start(Config{})
	id := i.placeOne("k", oneLine)
	path := "/v1/orders/" + id + "/cancel"
	for range 2 {
		if r := i.do(http.MethodPost, path, `{"reason":"changed my mind"}`); r.code != http.StatusOK || r.order(t).Status != "cancelled" || r.order(t).Reason != "changed my mind" {
			t.Fatalf("%d %s", r.code, r.raw)
		}
	}
	if got := i.history(id); !slices.Equal(got, []string{events.TypeOrderPlaced, events.TypeOrderCancelled}) {
		t.Fatalf("events are %v", got)
	}
	// The warehouse did not know yet. Nobody is charged, and nobody can be later.
	i.answer(id, events.TypeStockReserved)
	eventstest.Eventually(t, patience, "the key is spent", func() bool { return i.paid(id) == gateway.Voided })

	confirmed := i.placeOne("k2", oneLine)
	i.answer(confirmed, events.TypeStockReserved)
	i.await(confirmed, "confirmed")
	if r := i.do(http.MethodPost, "/v1/orders/"+confirmed+"/cancel", ""); r.code != http.StatusConflict {
		t.Fatalf("cancel a confirmed order: %d %s", r.code, r.raw)
	}
	if r := i.do(http.MethodPost, "/v1/orders/nobody/cancel", ""); r.code != http.StatusNotFound {
		t.Fatalf("cancel an unknown order: %d %s", r.code, r.raw)
	}
}

func TestCancelWhileThePaymentIsInFlight(t *testing.T) {
	t.Parallel()
	i := newWorld(t).start(Config{})
	if err := i.gateway.SetFaults(gateway.Faults{Delay: gateway.Duration(300 * time.Millisecond)}); err != nil {
		t.Fatal(err)
	}
	id := i.placeOne("k", oneLine)
	i.answer(id, events.TypeStockReserved)
	i.await(id, "reserved")
	if r := i.do(http.MethodPost, "/v1/orders/"+id+"/cancel", ""); r.code != http.StatusOK {
		t.Fatalf("%d %s", r.code, r.raw)
	}
	eventstest.Eventually(t, patience, "the payment is voided", func() bool { return i.paid(id) == gateway.Voided })
	if got := i.history(id); !slices.Equal(got, []string{events.TypeOrderPlaced, events.TypeOrderCancelled}) {
		t.Fatalf("events are %v", got)
	}
}

// After a restore the gateway may know more than the log: an order that is placed again can have a key that was voided. It can't be paid, and must not stay open or become a dead letter.
func TestAnOrderWhoseKeyIsSpentIsRejected(t *testing.T) {
	t.Parallel()
	i := newWorld(t).start(Config{})
	id := i.placeOne("k", oneLine)
	if _, err := i.gateway.Void(id); err != nil {
		t.Fatal(err)
	}
	i.answer(id, events.TypeStockReserved)
	i.await(id, "rejected")
	if o := i.do(http.MethodGet, "/v1/orders/"+id, "").order(t); o.Reason != "payment_declined" {
		t.Fatalf("reason is %q", o.Reason)
	}
}

func TestAnOpenOrderTimesOut(t *testing.T) {
	t.Parallel()
	i := newWorld(t).start(Config{Deadline: time.Second})
	id := i.placeOne("k", oneLine)
	i.await(id, "rejected")
	if o := i.do(http.MethodGet, "/v1/orders/"+id, "").order(t); o.Reason != "timeout" {
		t.Fatalf("reason is %q", o.Reason)
	}
	eventstest.Eventually(t, patience, "the key is spent", func() bool { return i.paid(id) == gateway.Voided })
	// The warehouse answers too late.
	i.answer(id, events.TypeStockReserved)
	done := i.placeOne("k2", oneLine)
	i.answer(done, events.TypeStockReserved)
	i.await(done, "confirmed")
	if got := i.history(id); len(got) != 2 || i.paid(id) != gateway.Voided {
		t.Fatalf("events are %v, payment is %s", got, i.paid(id))
	}
	// The confirmed order's deadline does nothing.
	eventstest.Eventually(t, patience, "all deadlines are handled", func() bool { return i.acknowledged(events.GroupOrderDeadlines) >= 2 })
	if i.paid(done) != gateway.Captured || len(i.history(done)) != 2 {
		t.Fatalf("the deadline of a confirmed order did something: %s, %v", i.paid(done), i.history(done))
	}
}

// acknowledged is how many messages a group has acknowledged.
func (w *world) acknowledged(group string) int {
	w.t.Helper()
	js := w.nats.JetStream()
	g, _ := w.topology.Group(group)
	n := 0
	for p := range g.Partitions {
		c, err := js.Consumer(context.Background(), g.Stream, g.Consumer(p))
		if err != nil {
			w.t.Fatal(err)
		}
		info, err := c.Info(context.Background())
		if err != nil {
			w.t.Fatal(err)
		}
		if info.NumAckPending == 0 {
			n += int(info.Delivered.Consumer) //nolint:gosec // a test's few
		}
	}
	return n
}

func TestPreferWait(t *testing.T) {
	t.Parallel()
	i := newWorld(t).start(Config{MaxRequests: 1})
	answers := make(chan reply, 1)
	go func() {
		answers <- i.do(http.MethodPost, "/v1/orders", oneLine, "Idempotency-Key", "k", "Prefer", "respond-async, wait=20")
	}()
	id := orderID(access.Local, "k")
	eventstest.Eventually(t, patience, "the order is placed", func() bool { _, ok := i.table().get(id); return ok })
	// Who waits holds no slot: there is just one here.
	eventstest.Eventually(t, patience, "another request is taken", func() bool {
		return i.do(http.MethodPost, "/v1/orders", oneLine, "Idempotency-Key", "k2").code == http.StatusAccepted
	})
	i.answer(id, events.TypeStockReserved)
	r := <-answers
	if r.code != http.StatusAccepted || r.order(t).Status != "confirmed" || r.header.Get("Preference-Applied") != "wait=20" {
		t.Fatalf("%d %v %s", r.code, r.header, r.raw)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	i := newWorld(t).start(Config{MaxOpen: 1, MaxRequests: 1})
	i.slots <- struct{}{}
	r := i.do(http.MethodPost, "/v1/orders", oneLine)
	if r.code != http.StatusTooManyRequests || r.header.Get("Retry-After") == "" {
		t.Fatalf("no slot: %d %v", r.code, r.header)
	}
	<-i.slots
	id := i.placeOne("k", oneLine)
	eventstest.Eventually(t, patience, "the listing knows it", func() bool { return i.table().openOrders() == 1 })
	if r := i.do(http.MethodPost, "/v1/orders", oneLine, "Idempotency-Key", "k2"); r.code != http.StatusTooManyRequests || r.header.Get("Retry-After") == "" {
		t.Fatalf("too many open: %d %s", r.code, r.raw)
	}
	if r := i.do(http.MethodPost, "/v1/orders", oneLine, "Idempotency-Key", "k"); r.code != http.StatusAccepted {
		t.Fatalf("a repetition opens nothing, and was refused: %d %s", r.code, r.raw)
	}
	i.answer(id, events.TypeStockRejected)
	eventstest.Eventually(t, patience, "it is taken again", func() bool {
		return i.do(http.MethodPost, "/v1/orders", oneLine, "Idempotency-Key", "k2").code == http.StatusAccepted
	})
}

// Eight writers try to end one order, each in its own way. One of them does.
func TestEightWritersEndOneOrderOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.start(Config{})
	other := w.make(Config{})
	for round := range 5 {
		id := i.placeOne(fmt.Sprint("k", round), oneLine)
		placed, err := i.load(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for n := range 8 {
			s := []*Service{i.Service, other}[n%2]
			wg.Go(func() {
				switch n / 2 {
				case 0:
					_, _ = s.cancel(t.Context(), id, fmt.Sprint("writer ", n))
				case 1:
					_, _ = s.timeout(t.Context(), id)
				default:
					evs, err := decideConfirm(placed, "pay", cause{id: fmt.Sprint("stock", n), at: time.Now()})
					if err == nil {
						err = s.end(t.Context(), placed, evs)
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if got := i.history(id); len(got) != 2 {
			t.Fatalf("events are %v, want order.placed and one that ends it", got)
		}
	}
}
