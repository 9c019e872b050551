package load

import (
	"context"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/tidemark/tidemark/internal/client"
)

// Poison is events that a consumer group can't process, of two causes, half of each:
//
//   - valid orders of [PoisonSKU]: the mail provider of `tidemark up` refuses mails that name it, for good, until its switch is set (PUT /v1/outbox/faults). Of the mails about an
//     order only the first lists what was ordered, so each order makes one dead letter of the group notify;
//   - clicks whose payload is cut off, stored by a plain NATS client past the API, which would have refused them: each makes one dead letter of the group analytics.
//
// Which events are poison follows from the share alone and is spread evenly, so the numbers can be told before.

// PoisonSKU is what poisoned orders order.
const PoisonSKU = "POISON APPLE"

// maxPoison keeps the share of the orders below 1: every tenth event is an order.
const maxPoison = 0.2

// poisonOrder reports whether the o-th order is poison; poisonClick the same of clicks.
func (m maker) poisonOrder(o int) bool { return crosses(o, m.poison*everyTenth/2) }
func (m maker) poisonClick(c int) bool {
	return crosses(c, m.poison*everyTenth/(2*(everyTenth-1)))
}

// crosses is true for n of 0, 1, 2 … in the share of cases, evenly.
func crosses(n int, share float64) bool {
	return int(float64(n+1)*share) > int(float64(n)*share)
}

// clickNumber is how many clicks come before event n.
func clickNumber(n int) int { return n - n/everyTenth - 1 }

func (m maker) poisoned(o client.NewOrder, n int) client.NewOrder {
	r := m.random(n)
	o.Customer = strconv.Itoa(10_000 + r.IntN(madeShoppers))
	o.Email = o.Customer + "@customers.example" // guests hear nothing
	o.Lines = []client.Line{{SKU: PoisonSKU, Quantity: 1, UnitPrice: "0.85"}}
	return o
}

// poisonClick is a click whose payload was cut off on its way. Its headers are right.
func (m maker) poisonClickMessage(p *producer, n int) *nats.Msg {
	user := strconv.Itoa(10_000 + m.random(n).IntN(madeShoppers))
	id := m.key("poison-click", n)
	return p.click(user, id, m.happened(n), id, fmt.Appendf(nil, `{"user":%q,"page":"/p/MUG","platform":"w`, user))
}

func (s *sender) storePoison(ctx context.Context, msg *nats.Msg) error {
	if err := s.store(ctx, msg); err != nil {
		return err
	}
	s.report.add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sum.PoisonClicks++
	return nil
}
