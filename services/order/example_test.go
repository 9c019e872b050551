package order

import (
	"fmt"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// An order is decided and folded by pure functions: a state and a wish give events, a state and an event give the next state.
func Example_decideAndEvolve() {
	noon := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	var o Order
	apply := func(evs []events.Event, err error) {
		if err != nil {
			fmt.Println("refused:", err)
		}
		for _, ev := range evs {
			o, _ = evolve(o, store.Recorded{Event: ev, Stream: events.StreamOrders, Sequence: o.Version + 1})
			fmt.Println(ev.Type, "→", o.Status)
		}
	}
	apply(decidePlace(o, placeCommand{orderID: "o1", customer: "ann", currency: "GBP", placedAt: noon, lines: []events.Line{{SKU: "A", Quantity: 2, UnitPrice: 255}}, total: 510}))
	apply(decideConfirm(o, "pay_1", cause{id: "the answer of the warehouse", at: noon}))
	apply(decideCancel(o, "too late", noon))
	// Output:
	// shop.order.placed.v1 → placed
	// shop.order.confirmed.v1 → confirmed
	// refused: the order has ended: it is confirmed
}
