package check

import (
	"context"
	"fmt"

	"github.com/tidemark/tidemark/internal/client"
)

// payments are what the gateway's ledger says of keys that are no orders, and why it could not be read. What it says of orders is noted with them.
type payments struct {
	read    int
	strange map[string]bool // keys with a captured payment
	missing string
}

// ledger reads the gateway's ledger, each time from its beginning.
func (c *checker) ledger(ctx context.Context) (payments, error) {
	p := payments{strange: make(map[string]bool)}
	if c.sys.gateway == nil {
		p.missing = "the system does not say where the payment gateway is"
		return p, nil
	}
	s := c.read.state
	for i := range s.orders {
		o := &s.orders[i]
		o.captured, o.voided, o.paid = 0, false, 0
	}
	for e, err := range c.sys.gateway.Ledger(ctx) {
		if err != nil {
			p.missing = fmt.Sprintf("the payment gateway at %s: %v", c.sys.gateway.URL(), err)
			return p, ctx.Err()
		}
		p.read++
		n, known := s.index[e.Key]
		switch {
		case known:
			s.pay(&s.orders[n], e)
		case e.Kind == client.LedgerCaptured:
			p.strange[e.Key] = true
		case e.Kind == client.LedgerVoided:
			delete(p.strange, e.Key)
		}
	}
	return p, nil
}

func (s *state) pay(o *order, e client.LedgerEntry) {
	switch e.Kind {
	case client.LedgerCaptured:
		o.captured++
		o.paid, o.paidCurrency = e.Amount, s.name(e.Currency)
	case client.LedgerVoided:
		o.voided = true
	}
}

// judgePaid: a confirmed order has taken its stock and its money, once; any other ended order neither.
func (c *checker) judgePaid(r rest) Result {
	if r.payments.missing != "" {
		return Result{Invariant: 6, Name: names[6], Unchecked: r.payments.missing}
	}
	s := c.read.state
	var f finding
	for i := range s.orders {
		o := &s.orders[i]
		if o.version == 0 {
			continue
		}
		f.counted++
		wrong := s.unpaid(o)
		switch {
		case !o.status.ended(), wrong != "" && r.letters.keys[o.id]:
			f.waiting++
		case wrong != "":
			f.breaks("order %s is %s, and %s", o.id, o.status, wrong)
		}
	}
	for _, key := range sortedKeys(r.payments.strange) {
		f.breaks("payment %s was captured for an order that was never placed", key)
	}
	return result(6, f)
}

// unpaid says what is wrong with the stock and the money of an ended order.
func (s *state) unpaid(o *order) string {
	if o.status != confirmed {
		switch {
		case o.captured > 0 && !o.voided:
			return fmt.Sprintf("%s was captured and not voided", o.paid)
		case o.commits > 0:
			return fmt.Sprintf("its stock was committed %d times", o.commits)
		case o.reservations > 0 && o.releases == 0:
			return "its reservation was never released"
		}
		return ""
	}
	switch {
	case o.commits != 1:
		return fmt.Sprintf("its stock was committed %d times", o.commits)
	case o.captured != 1:
		return fmt.Sprintf("%d payments were captured", o.captured)
	case o.voided:
		return "its payment was voided"
	case o.paid != o.total || o.paid != o.confirmed || o.paidCurrency != o.currency:
		return fmt.Sprintf("%s %s was captured of a total of %s %s, confirmed with %s", o.paid, s.texts[o.paidCurrency], o.total, s.texts[o.currency], o.confirmed)
	}
	return ""
}
