package suite

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// every is the time from one order of a flow to the next.
const every = 50 * time.Millisecond

// flow is customers who go on ordering whatever happens to the system: each asks again under the same key until the order is accepted, and looks until it has ended.
type flow struct {
	s      *Shop
	sku    string
	cancel context.CancelFunc
	ended  chan struct{} // when nobody orders any more, and all orders have ended
	began  time.Time

	mu   sync.Mutex
	sold []*sale
}

// sale is one customer's order.
type sale struct {
	id, email       string
	tries           int // requests until it was accepted
	placed, settled time.Time
	last            order
}

// sell begins a flow, with enough in the warehouse for all of it.
func (s *Shop) sell() *flow {
	s.Helper()
	f := &flow{s: s, sku: s.name("CUP"), ended: make(chan struct{}), began: time.Now()}
	s.receive(f.sku, 1_000_000)
	ordering, cancel := context.WithCancel(s.Context())
	f.cancel = cancel
	go f.run(ordering)
	s.Cleanup(func() {
		cancel()
		<-f.ended // the test's context has ended, so this is soon
	})
	return f
}

func (f *flow) run(ordering context.Context) {
	defer close(f.ended)
	var customers sync.WaitGroup
	defer customers.Wait()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ordering.Done():
			return
		case <-tick.C:
			customers.Go(func() { f.customer(f.s.Context(), n) })
		}
	}
}

// customer places one order and waits for its end.
func (f *flow) customer(ctx context.Context, n int) {
	s := f.s
	o := s.order(fmt.Sprint("c", n), f.sku, 1)
	mine := &sale{email: o.Email}
	key := map[string]string{"Idempotency-Key": s.name(fmt.Sprint("sale-", n))}
	for mine.id == "" {
		mine.tries++
		a, err := s.ask(ctx, http.MethodPost, s.at.API+"/v1/orders", o, key)
		switch {
		case err == nil && a.status == http.StatusAccepted:
			a.into(s, &mine.last)
			mine.id, mine.placed = mine.last.ID, time.Now()
		case err == nil && a.status/100 == 4 && a.status != http.StatusTooManyRequests && a.status != http.StatusRequestTimeout:
			s.Errorf("a good order is refused: %s", a)
			return
		case !pause(ctx, 100*time.Millisecond):
			return
		}
	}
	f.mu.Lock()
	f.sold = append(f.sold, mine)
	f.mu.Unlock()
	for {
		var seen order
		a, err := s.ask(ctx, http.MethodGet, s.at.API+"/v1/orders/"+mine.id, nil, nil)
		if err == nil && a.status == http.StatusOK {
			a.into(s, &seen)
		}
		if seen.ended() {
			f.mu.Lock()
			mine.last, mine.settled = seen, time.Now()
			f.mu.Unlock()
			return
		}
		if !pause(ctx, 100*time.Millisecond) {
			return
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// goesOn waits until so many orders that are placed from now on have ended.
func (f *flow) goesOn(what string, orders int) {
	f.s.Helper()
	from := time.Now()
	f.s.until(what, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		n := 0
		for _, o := range f.sold {
			if o.placed.After(from) && !o.settled.IsZero() {
				n++
			}
		}
		return n >= orders
	})
}

// stop lets no more customers in and waits until every order has ended.
func (f *flow) stop() {
	f.s.Helper()
	f.cancel()
	limit := patience + f.s.at.Deadline
	eventstest.Eventually(f.s.T, limit, "every order that was accepted has ended", func() bool {
		select {
		case <-f.ended:
			return true
		default:
			return false
		}
	})
}

// report is what a flow lived through.
type report struct {
	orders, repeated int           // orders, and requests that had to be sent again
	still            time.Duration // longest time in which no order ended
	byStatus         map[string]int
}

func (f *flow) report() report {
	r := report{orders: len(f.sold), byStatus: make(map[string]int)}
	ends := []time.Time{f.began}
	for _, o := range f.sold {
		r.repeated += o.tries - 1
		r.byStatus[o.last.Status+" "+o.last.Reason]++
		ends = append(ends, o.settled)
	}
	slices.SortFunc(ends, time.Time.Compare)
	for i := range ends[1:] {
		r.still = max(r.still, ends[i+1].Sub(ends[i]))
	}
	return r
}

func (r report) String() string {
	return fmt.Sprintf("%d orders (%v), %d requests sent again, no order ended for at most %s", r.orders, r.byStatus, r.repeated, r.still.Round(10*time.Millisecond))
}

// once holds every order of the flow to it: it was reserved once, ended once, was paid once or not at all, and its customer was told of each event once.
func (f *flow) once() {
	s := f.s
	s.Helper()
	confirmed := 0
	for _, o := range f.sold {
		switch o.last.Status {
		case "confirmed":
			confirmed++
			s.became(o.id, "order.placed", "order.confirmed", "stock.reserved", "stock.committed")
		default: // in an outage that is longer than its deadline
			if o.last.Reason != "timeout" {
				s.Errorf("order %s is %s (%q)", o.id, o.last.Status, o.last.Reason)
			}
		}
		s.told(o.email, 2)
	}
	if confirmed < len(f.sold)/2 {
		s.Errorf("%d of %d orders were confirmed", confirmed, len(f.sold))
	}
	s.until("what was sold has left the warehouse, and nothing is reserved", func() bool {
		has := s.stock(f.sku)
		return has.Reserved == 0 && has.OnHand == 1_000_000-confirmed
	})
	ledger := s.ledger()
	for _, o := range f.sold {
		n := make(map[string]int)
		for _, e := range ledger[o.id] {
			n[e.Kind]++
		}
		// What is void was perhaps never captured: an order that ends before its payment is asked for voids it all the same.
		if o.last.Status == "confirmed" && (n["captured"] != 1 || n["voided"] != 0) || o.last.Status != "confirmed" && n["captured"] > n["voided"] {
			s.Errorf("order %s is %s and the ledger says %v", o.id, o.last.Status, n)
		}
	}
}

// killed: every part in turn ends in the midst of the work, and comes back. What was accepted comes to its end, once.
func killed(s *Shop) {
	const orders = 15
	f := s.sell()
	for _, p := range s.at.Killable() {
		f.goesOn("orders end", orders)
		if err := p.Crash(s.Context()); err != nil {
			s.Fatal(err)
		}
		f.goesOn("orders end after "+p.Name+" was killed", orders)
		s.Logf("%s was killed: %s", p.Name, time.Since(f.began).Round(100*time.Millisecond))
	}
	f.stop()
	s.Log(f.report())
	f.once()
	holds(s)
}

// rolled: every part in turn is replaced, as a new version is brought out, twice round. Nobody's order is lost or done twice; where the old instance stays until the new one serves,
// nobody has to ask twice, either.
func rolled(s *Shop) {
	const orders = 10
	f := s.sell()
	for range 2 {
		for _, p := range s.at.Rollable() {
			f.goesOn("orders end", orders)
			began := time.Now()
			if err := p.Roll(s.Context()); err != nil {
				s.Fatalf("replace %s: %v", p.Name, err)
			}
			took := time.Since(began)
			f.goesOn("orders end after "+p.Name+" was replaced", orders)
			s.Logf("%s was replaced in %s", p.Name, took.Round(10*time.Millisecond))
		}
	}
	f.stop()
	r := f.report()
	s.Log(r)
	if n := r.orders - r.byStatus["confirmed "]; n > 0 {
		s.Errorf("%d of %d orders were not confirmed: %v", n, r.orders, r.byStatus)
	}
	if s.at.Overlap && r.repeated > 0 {
		s.Errorf("%d requests were refused", r.repeated)
	}
	f.once()
	holds(s)
}
