package inventory

import (
	"crypto/sha256"
	"fmt"
	"math"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// maxUnits bounds the units of one SKU: 2^53 - 1, the largest integer that every JSON reader holds exactly.
const maxUnits int64 = 1<<53 - 1

// item is what the warehouse holds of one SKU.
type item struct {
	onHand, reserved int64
	version          uint64 // of the SKU's last receipt
}

func (i item) available() int64 { return i.onHand - i.reserved }

// phase is how far the warehouse is with an order.
type phase uint8

const (
	phaseNone phase = iota // nothing decided
	phaseReserved
	phaseRejected
	phaseCommitted
	phaseReleased // also the tombstone of an order that never reserved
)

// orderState is what the warehouse knows of one order.
type orderState struct {
	phase    phase
	version  uint64        // of its last event in STOCK
	sequence uint64        // in STOCK, of its last event
	lines    []events.Line // while reserved
}

// ended reports whether nothing can follow.
func (o orderState) ended() bool { return o.phase > phaseReserved }

// receiptKey is a hash of a receipt's id: the ids are kept for ever, so they are kept small.
type receiptKey [16]byte

func receiptKeyOf(receiptID string) receiptKey {
	sum := sha256.Sum256([]byte(receiptID))
	return receiptKey(sum[:16])
}

// mark is a place in STOCK and the highest ORDERS sequence that was answered up to it.
type mark struct{ position, orderSeq uint64 }

// warehouse is the state: the fold of STOCK up to at.position. One with a parent is a sketch: it reads through to its parent and keeps its
// changes to itself, so that the decisions of a batch see those before them while nothing is stored yet.
type warehouse struct {
	parent   *warehouse
	items    map[string]item
	orders   map[string]orderState
	receipts map[receiptKey]int64  // the quantity of each receipt
	found    map[string]orderState // in a sketch: orders that the parent had forgotten and that were looked up

	at        mark
	forgotten mark // ended orders whose last event is at or before it may be missing in orders
	next      mark // what the next forget forgets up to
}

func newWarehouse() *warehouse {
	return &warehouse{items: map[string]item{}, orders: map[string]orderState{}, receipts: map[receiptKey]int64{}}
}

// sketch returns a warehouse on top of w. w must not change while the sketch is in use.
func (w *warehouse) sketch(found map[string]orderState) *warehouse {
	s := newWarehouse()
	s.parent, s.found, s.at, s.forgotten = w, found, w.at, w.forgotten
	return s
}

func (w *warehouse) item(sku string) (item, bool) {
	if it, ok := w.items[sku]; ok || w.parent == nil {
		return it, ok
	}
	return w.parent.item(sku)
}

func (w *warehouse) receipt(key receiptKey) (int64, bool) {
	if q, ok := w.receipts[key]; ok || w.parent == nil {
		return q, ok
	}
	return w.parent.receipt(key)
}

// order is what is remembered of an order. The log is newer than what was looked up, so it comes first.
func (w *warehouse) order(id string) (orderState, bool) {
	if o, ok := w.orders[id]; ok {
		return o, true
	}
	if w.parent != nil {
		if o, ok := w.parent.order(id); ok {
			return o, true
		}
	}
	o, ok := w.found[id]
	return o, ok
}

// lookup is the state of the order that an event is about. certain is false where the warehouse may have forgotten the order, so that its
// last event in STOCK must be looked up first.
//
// An order that is not in memory and has nothing forgotten behind it is new. Else the event says more: order.placed is the first event
// of its order, so everything that STOCK holds about the order answers that sequence of ORDERS or a higher one. When the sequence is above all
// that were answered up to the place of the last forgetting, what STOCK holds about the order lies behind that place, and that part is in memory.
// Later events of an order don't tell where its first one was.
func (w *warehouse) lookup(e orderEvent) (o orderState, certain bool) {
	if o, ok := w.order(e.OrderID); ok {
		return o, true
	}
	certain = w.forgotten.position == 0 || e.Type == events.TypeOrderPlaced && e.Sequence > w.forgotten.orderSeq
	return orderState{}, certain
}

// change is one event of STOCK, decoded.
type change struct {
	kind     string // the event type
	version  uint64 // of the order, or of the SKU for a receipt
	decision events.StockDecision
	received events.StockReceived
}

// decodeChange reads an event of STOCK. One of an unknown type is refused: deciding without it could sell units that are gone.
func decodeChange(r store.Recorded) (change, error) {
	c := change{kind: r.Type, version: r.Version}
	var err error
	switch r.Type {
	case events.TypeStockReceived:
		c.received, err = events.Payload[events.StockReceived](&r.Event)
	case events.TypeStockReserved, events.TypeStockRejected, events.TypeStockCommitted, events.TypeStockReleased:
		c.decision, err = events.Payload[events.StockDecision](&r.Event)
	default:
		err = store.Unknown(r)
	}
	return c, err
}

// evolve folds the event with the given STOCK sequence. It only records what happened: whether it was right to happen is decide's business.
func (w *warehouse) evolve(sequence uint64, c change) error {
	d := c.decision
	switch c.kind {
	case events.TypeStockReceived:
		it, _ := w.item(c.received.SKU)
		it.onHand, it.version = add(it.onHand, c.received.Quantity), c.version
		w.items[c.received.SKU] = it
		w.receipts[receiptKeyOf(c.received.ReceiptID)] = c.received.Quantity
		w.at.position = sequence
		return nil
	case events.TypeStockReserved:
		w.move(d.Lines, 0, +1)
		w.orders[d.OrderID] = orderState{phase: phaseReserved, version: c.version, sequence: sequence, lines: d.Lines}
	case events.TypeStockRejected:
		w.orders[d.OrderID] = orderState{phase: phaseRejected, version: c.version, sequence: sequence}
	case events.TypeStockCommitted:
		w.move(d.Lines, -1, -1)
		w.orders[d.OrderID] = orderState{phase: phaseCommitted, version: c.version, sequence: sequence}
	case events.TypeStockReleased:
		w.move(d.Lines, 0, -1)
		w.orders[d.OrderID] = orderState{phase: phaseReleased, version: c.version, sequence: sequence}
	default:
		return fmt.Errorf("fold sequence %d: %w: %q", sequence, events.ErrUnknownType, c.kind)
	}
	w.at.position = sequence
	w.at.orderSeq = max(w.at.orderSeq, d.OrderSeq)
	return nil
}

func (w *warehouse) move(lines []events.Line, onHand, reserved int64) {
	for _, l := range lines {
		it, _ := w.item(l.SKU)
		it.onHand = add(it.onHand, onHand*l.Quantity)
		it.reserved = add(it.reserved, reserved*l.Quantity)
		w.items[l.SKU] = it
	}
}

// forget drops what ended before the last call of forget, so that memory and snapshots don't grow with the number of orders. Reservations are always
// kept. What ended since the last call is kept too: the order's own last event, or a redelivery, may still be on its way, and
// a look into memory is cheaper than one into the log.
func (w *warehouse) forget() {
	w.forgotten, w.next = w.next, w.at
	for id, o := range w.orders {
		if o.ended() && o.sequence <= w.forgotten.position {
			delete(w.orders, id)
		}
	}
}

// add saturates: a sum never wraps around.
func add(a, b int64) int64 {
	switch sum := a + b; {
	case a > 0 && b > 0 && sum < 0:
		return math.MaxInt64
	case a < 0 && b < 0 && sum >= 0:
		return math.MinInt64
	default:
		return sum
	}
}
