package suite

import (
	"net/http"
	"time"

	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// declined: the customer can't pay, and the units are free again.
func declined(s *Shop) {
	sku := s.name("CUP")
	s.receive(sku, 10)
	repair := s.gatewayDoes(`{"decline_rate":1}`)
	o := s.place(s.order("ann", sku, 2))
	repair()
	s.is(o, "rejected", "payment_declined")
	s.became(o.ID, "order.placed", "order.rejected", "stock.reserved", "stock.released")
	s.until("the units are free", func() bool { return s.stock(sku) == stock{OnHand: 10, Available: 10} })
	if p, _ := s.payment(o.ID); p.Status != "declined" {
		s.Errorf("payment %+v", p)
	}
	s.told(s.email("ann"), 2)
	s.is(s.place(s.order("ann", sku, 2)), "confirmed", "")
}

// cancelled: the gateway takes its time, and the customer does not wait. Whatever the gateway captures is given back.
func cancelled(s *Shop) {
	sku := s.name("CUP")
	s.receive(sku, 10)
	repair := s.gatewayDoes(`{"delay":"2s"}`)
	o, _ := s.placeWith(s.order("ann", sku, 2), nil)
	s.until("the units are reserved", func() bool { return s.stock(sku).Reserved == 2 })
	a := s.call(http.MethodPost, "/v1/orders/"+o.ID+"/cancel", `{"reason":"too slow"}`, nil)
	if a.status != http.StatusOK {
		s.Fatalf("cancel: %s", a)
	}
	repair()
	s.is(s.get(o.ID), "cancelled", "too slow")
	if a := s.call(http.MethodPost, "/v1/orders/"+o.ID+"/cancel", `{"reason":"too slow"}`, nil); a.status != http.StatusOK {
		s.Errorf("cancelled again: %s", a)
	}
	s.became(o.ID, "order.placed", "order.cancelled", "stock.reserved", "stock.released")
	s.until("the payment is void", func() bool {
		p, _ := s.payment(o.ID)
		return p.Status == "voided"
	})
	s.until("the units are free", func() bool { return s.stock(sku) == stock{OnHand: 10, Available: 10} })
	s.told(s.email("ann"), 2)
}

// deadline: the gateway hangs for longer than an order may be open. The order ends all the same, and no money stays with us.
func deadline(s *Shop) {
	sku := s.name("CUP")
	s.receive(sku, 10)
	repair := s.gatewayDoes(`{"delay":"30s"}`) // longer than the order service waits for it
	began := time.Now()
	o, _ := s.placeWith(s.order("ann", sku, 2), nil)
	eventstest.Eventually(s.T, s.at.Deadline+patience, "the order ends", func() bool { return s.get(o.ID).ended() })
	s.is(s.get(o.ID), "rejected", "timeout")
	if took := time.Since(began); took < s.at.Deadline {
		s.Errorf("it ended after %s, before its deadline", took)
	}
	repair()
	// A gateway that hangs for longer than the retries take leaves a letter: it was never told of this order for good.
	for _, l := range s.letters("--key", o.ID) {
		if _, status := s.verb("dlq", "replay", "--group", l.Group, "--key", o.ID, "--yes", "--why", "the gateway is back"); status != 0 {
			s.Errorf("replay of %+v: exit status %d", l, status)
		}
	}
	s.until("nothing stays paid", func() bool {
		p, _ := s.payment(o.ID)
		return p.Status == "voided"
	})
	s.became(o.ID, "order.placed", "order.rejected", "stock.reserved", "stock.released")
	s.until("the units are free", func() bool { return s.stock(sku) == stock{OnHand: 10, Available: 10} })
	s.told(s.email("ann"), 2)
}
