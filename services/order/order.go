package order

import (
	"fmt"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// Status is where an order stands.
type Status uint8

// The states of an order. None is an order that nobody placed.
const (
	None Status = iota
	Placed
	Reserved
	Confirmed
	Rejected
	Cancelled
	statuses // how many there are
)

var statusNames = [statuses]string{"none", "placed", "reserved", "confirmed", "rejected", "cancelled"}

func (s Status) String() string {
	if s < statuses {
		return statusNames[s]
	}
	return fmt.Sprintf("Status(%d)", uint8(s))
}

// Ended reports whether nothing can happen to the order any more.
func (s Status) Ended() bool { return s >= Confirmed }

// Order is the folded state of one order.
type Order struct {
	ID       string
	Customer string
	Currency string
	Status   Status
	Reason   string // why it was rejected, or cancelled
	Lines    []events.Line
	Total    events.Minor
	Digest   string // of the request as it was sent

	PlacedAt  time.Time // event time
	UpdatedAt time.Time // event time of what changed it last
	PlacedID  string    // the id of order.placed
	PlacedSeq uint64    // its sequence in ORDERS: the lock of whoever ends the order
	Version   uint64    // events of ORDERS
	PaymentID string
}

// evolve folds one event into the order: an event of ORDERS, or what the warehouse answered in STOCK. It never refuses by business rules, since what is
// stored has happened; an error says that the event can't be read, or can't belong here.
func evolve(o Order, r store.Recorded) (Order, error) {
	switch r.Type {
	case events.TypeOrderPlaced:
		return evolvePlaced(o, r)
	case events.TypeOrderConfirmed:
		p, err := events.Payload[events.OrderConfirmed](&r.Event)
		o.PaymentID = p.PaymentID
		return end(o, r, Confirmed, "", err)
	case events.TypeOrderRejected:
		p, err := events.Payload[events.OrderRejected](&r.Event)
		return end(o, r, Rejected, string(p.Reason), err)
	case events.TypeOrderCancelled:
		p, err := events.Payload[events.OrderCancelled](&r.Event)
		return end(o, r, Cancelled, p.Reason, err)
	case events.TypeStockReserved:
		if o.Status == Placed {
			o.Status, o.UpdatedAt = Reserved, r.Time
		}
		return o, nil
	case events.TypeStockReceived, events.TypeStockRejected, events.TypeStockCommitted, events.TypeStockReleased:
		return o, nil // they change nothing until the order itself says so
	}
	return o, store.Unknown(r)
}

func evolvePlaced(o Order, r store.Recorded) (Order, error) {
	if o.Status != None {
		return o, fmt.Errorf("order %s is placed twice: sequence %d", o.ID, r.Sequence)
	}
	p, err := events.Payload[events.OrderPlaced](&r.Event)
	if err != nil {
		return o, err
	}
	return Order{
		ID: p.OrderID, Customer: p.CustomerID, Currency: p.Currency, Status: Placed, Lines: p.Lines, Total: p.Total, Digest: p.RequestDigest,
		PlacedAt: p.PlacedAt, UpdatedAt: r.Time, PlacedID: r.ID, PlacedSeq: r.Sequence, Version: 1,
	}, nil
}

func end(o Order, r store.Recorded, status Status, reason string, err error) (Order, error) {
	if err != nil {
		return o, err
	}
	if o.Status == None || o.Status.Ended() {
		return o, fmt.Errorf("order %s is %s, and %s follows: sequence %d", o.ID, o.Status, r.Type, r.Sequence)
	}
	o.Status, o.Reason, o.UpdatedAt = status, reason, r.Time
	o.Version++
	return o, nil
}
