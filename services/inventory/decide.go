package inventory

import (
	"errors"
	"fmt"

	"github.com/tidemark/tidemark/pkg/events"
)

var (
	// ErrOtherQuantity: the idempotency key was used for a receipt of another quantity.
	ErrOtherQuantity = errors.New("idempotency key was used with another quantity")
	// ErrTooManyUnits: a SKU can't hold so many units.
	ErrTooManyUnits = errors.New("too many units of one SKU")
)

// orderEvent is what a decision needs of an event of ORDERS.
type orderEvent struct {
	ID            string
	Type          string
	CorrelationID string
	OrderID       string
	Sequence      uint64        // in ORDERS
	Lines         []events.Line // of order.placed
}

// receipt asks for units to be added. The same ID is added once.
type receipt struct {
	ID       string
	SKU      string
	Quantity int64
}

// verdict is what decide says about an order's event.
type verdict uint8

const (
	verdictNothing    verdict = iota // it was decided before, or needs no decision
	verdictAppend                    // append the change
	verdictAsk                       // forgotten, or new: the order's last event must be looked up
	verdictUnexpected                // nothing to do, and it should not have happened
)

// decideOrder is the warehouse's answer to one event of an order.
func decideOrder(w *warehouse, e orderEvent) (change, verdict) {
	o, certain := w.lookup(e)
	if !certain {
		return change{}, verdictAsk
	}
	switch e.Type {
	case events.TypeOrderPlaced:
		if o.phase != phaseNone {
			return change{}, verdictNothing
		}
		return reserve(w, e), verdictAppend
	case events.TypeOrderConfirmed:
		switch o.phase {
		case phaseReserved:
			return followUp(e, o, events.TypeStockCommitted), verdictAppend
		case phaseCommitted:
			return change{}, verdictNothing
		default: // confirmed, but nothing was ever held for it
			return change{}, verdictUnexpected
		}
	case events.TypeOrderRejected, events.TypeOrderCancelled:
		if o.ended() {
			return change{}, verdictNothing
		}
		return followUp(e, o, events.TypeStockReleased), verdictAppend
	default: // a newer kind of order event: not the warehouse's business
		return change{}, verdictNothing
	}
}

// followUp moves on what the order holds, if it holds anything.
func followUp(e orderEvent, o orderState, kind string) change {
	return change{
		kind: kind, version: o.version + 1,
		decision: events.StockDecision{OrderID: e.OrderID, OrderSeq: e.Sequence, Lines: o.lines},
	}
}

// reserve holds all lines or none.
func reserve(w *warehouse, e orderEvent) change {
	d := events.StockDecision{OrderID: e.OrderID, OrderSeq: e.Sequence}
	lines := sumBySKU(e.Lines)
	for _, l := range lines {
		it, _ := w.item(l.SKU)
		if available := max(it.available(), 0); available < l.Quantity {
			d.Shortages = append(d.Shortages, events.Shortage{SKU: l.SKU, Requested: l.Quantity, Available: available})
		}
	}
	if len(d.Shortages) > 0 {
		return change{kind: events.TypeStockRejected, version: 1, decision: d}
	}
	d.Lines = lines
	return change{kind: events.TypeStockReserved, version: 1, decision: d}
}

// sumBySKU adds up lines with the same SKU, in the order of their first line. Prices are not the warehouse's business.
func sumBySKU(lines []events.Line) []events.Line {
	sums := make([]events.Line, 0, len(lines))
	at := make(map[string]int, len(lines))
	for _, l := range lines {
		if i, ok := at[l.SKU]; ok {
			sums[i].Quantity = add(sums[i].Quantity, l.Quantity)
			continue
		}
		at[l.SKU] = len(sums)
		sums = append(sums, events.Line{SKU: l.SKU, Quantity: l.Quantity})
	}
	return sums
}

// decideReceipt adds units once. repeated is true where the receipt was added before.
func decideReceipt(w *warehouse, r receipt) (c change, repeated bool, err error) {
	if q, ok := w.receipt(receiptKeyOf(r.ID)); ok {
		if q != r.Quantity {
			return change{}, false, fmt.Errorf("%w: %d units then, %d units now", ErrOtherQuantity, q, r.Quantity)
		}
		return change{}, true, nil
	}
	it, _ := w.item(r.SKU)
	if it.onHand > maxUnits-r.Quantity {
		return change{}, false, fmt.Errorf("%w: %d units on hand, %d more would be above %d", ErrTooManyUnits, it.onHand, r.Quantity, maxUnits)
	}
	return change{
		kind: events.TypeStockReceived, version: it.version + 1,
		received: events.StockReceived{SKU: r.SKU, Quantity: r.Quantity, ReceiptID: r.ID},
	}, false, nil
}
