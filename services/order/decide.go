package order

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
)

// source is the ce-source of everything that this service says.
const source = "/tidemark/order"

var (
	// ErrOtherRequest: the idempotency key was used for another request.
	ErrOtherRequest = errors.New("the idempotency key was used for another request")
	// ErrNotPlaced: nobody placed this order.
	ErrNotPlaced = errors.New("no such order")
	// ErrEnded: the order has ended, and otherwise than was asked.
	ErrEnded = errors.New("the order has ended")
)

// placeCommand is a valid request with everything that the event needs, so that deciding asks no clock.
type placeCommand struct {
	orderID  string
	customer string
	currency string
	placedAt time.Time
	lines    []events.Line
	total    events.Minor
	digest   string
}

// decidePlace places the order. Where it was placed before by the same request, there is nothing to do.
func decidePlace(o Order, c placeCommand) ([]events.Event, error) {
	if o.Status != None {
		if o.Digest != c.digest {
			return nil, ErrOtherRequest
		}
		return nil, nil
	}
	ev, err := events.New(source, events.TypeOrderPlaced, c.orderID, c.placedAt, events.OrderPlaced{
		OrderID: c.orderID, CustomerID: c.customer, Currency: c.currency, PlacedAt: c.placedAt, Lines: c.lines, Total: c.total, RequestDigest: c.digest,
	})
	if err != nil {
		return nil, err
	}
	// The id stays random. Of two requests that race with one key, each must be able to tell its own append from the other's: a derived id would make the
	// store say "stored before" to both.
	ev.Version = 1
	return []events.Event{ev}, nil
}

// cause is the event that a decision answers, and when the decision was made.
type cause struct {
	id string
	at time.Time
}

// decideConfirm ends the order well: the stock is reserved, the payment captured.
func decideConfirm(o Order, payment string, why cause) ([]events.Event, error) {
	if done, err := ended(o, Confirmed); done {
		return nil, err
	}
	return ending(o, events.TypeOrderConfirmed, why, events.OrderConfirmed{
		OrderID: o.ID, CustomerID: o.Customer, Currency: o.Currency, Total: o.Total, PaymentID: payment,
	})
}

// decideReject ends the order for a reason.
func decideReject(o Order, reason events.RejectReason, detail string, why cause) ([]events.Event, error) {
	if done, err := ended(o, Rejected); done {
		return nil, err
	}
	return ending(o, events.TypeOrderRejected, why, events.OrderRejected{
		OrderID: o.ID, CustomerID: o.Customer, Reason: reason, Detail: truncate(detail, maxText),
	})
}

// decideCancel ends the order at the customer's wish.
func decideCancel(o Order, reason string, at time.Time) ([]events.Event, error) {
	if done, err := ended(o, Cancelled); done {
		return nil, err
	}
	return ending(o, events.TypeOrderCancelled, cause{id: o.PlacedID, at: at}, events.OrderCancelled{
		OrderID: o.ID, CustomerID: o.Customer, Reason: truncate(reason, maxText),
	})
}

// ended reports whether there is nothing to decide, with an error unless the order has ended as was wanted.
func ended(o Order, as Status) (bool, error) {
	switch {
	case o.Status == None:
		return true, ErrNotPlaced
	case !o.Status.Ended():
		return false, nil
	case o.Status == as:
		return true, nil
	}
	return true, fmt.Errorf("%w: it is %s", ErrEnded, o.Status)
}

// ending makes the last event of an order. Its id is derived from what it answers: deciding the same again gives the same event.
func ending(o Order, eventType string, why cause, payload any) ([]events.Event, error) {
	ev, err := events.New(source, eventType, o.ID, why.at, payload)
	if err != nil {
		return nil, err
	}
	ev.ID = events.DeriveID(eventType, why.id)
	ev.CausationID = why.id
	ev.Version = o.Version + 1
	return []events.Event{ev}, nil
}

// maxText is how many characters a reason or a detail may have.
const maxText = 1024

func truncate(s string, most int) string {
	runes := 0
	for i := range s {
		if runes == most {
			return s[:i]
		}
		runes++
	}
	return s
}

// shortages says which SKUs were short. The list is cut where the event's limit is.
func shortages(list []events.Shortage) string {
	parts := make([]string, len(list))
	for i, s := range list {
		parts[i] = fmt.Sprintf("%s: %d wanted, %d available", s.SKU, s.Requested, s.Available)
	}
	return truncate(strings.Join(parts, "; "), maxText)
}
