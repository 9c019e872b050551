package notify

import (
	"fmt"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

// news is what one order event has to say to the customer.
type news struct {
	eventID   string
	eventType string
	at        time.Time // event time
	data      []byte    // the event's payload as it is stored

	orderID       string
	version       uint64
	customerID    string
	correlationID string
	address       string // set when it is sent

	text func() text // made when it is sent: many an order has nobody to tell
}

// readNews reads an order event. tell is false for events that no customer needs to hear of, such as types that are newer than this program. Errors say
// that the event can never be told.
func readNews(d bus.Delivery, subjects events.Subjects) (n news, tell bool, err error) {
	e := &d.Event
	n = news{eventID: e.ID, eventType: e.Type, at: e.Time, data: e.Data, version: e.Version, correlationID: e.CorrelationID}
	switch e.Type {
	case events.TypeOrderPlaced:
		p, err := events.Payload[events.OrderPlaced](e)
		if err != nil {
			return n, false, err
		}
		n.orderID, n.customerID, n.text = p.OrderID, p.CustomerID, func() text { return placedText(p) }
	case events.TypeOrderConfirmed:
		p, err := events.Payload[events.OrderConfirmed](e)
		if err != nil {
			return n, false, err
		}
		n.orderID, n.customerID, n.text = p.OrderID, p.CustomerID, func() text { return confirmedText(p) }
	case events.TypeOrderRejected:
		p, err := events.Payload[events.OrderRejected](e)
		if err != nil {
			return n, false, err
		}
		n.orderID, n.customerID, n.text = p.OrderID, p.CustomerID, func() text { return rejectedText(p) }
	case events.TypeOrderCancelled:
		p, err := events.Payload[events.OrderCancelled](e)
		if err != nil {
			return n, false, err
		}
		n.orderID, n.customerID, n.text = p.OrderID, p.CustomerID, func() text { return cancelledText(p) }
	default:
		return n, false, nil
	}
	return n, true, n.check(d.Subject, subjects)
}

// check keeps a notice with the order that it is about: what names it comes from three places of the event, which must agree.
func (n *news) check(subject string, subjects events.Subjects) error {
	if n.orderID == "" || n.customerID == "" {
		return fmt.Errorf("%w: %s: order_id, customer_id: required, one is empty", events.ErrInvalidEvent, n.eventType)
	}
	if n.version == 0 {
		return fmt.Errorf("%w: %s: sequence: required, is missing", events.ErrInvalidEvent, n.eventType)
	}
	if want := subjects.Order(n.orderID); subject != want {
		return fmt.Errorf("%w: %s: order_id: its subject is %s, the event is stored under %s", events.ErrInvalidEvent, n.eventType, want, subject)
	}
	if n.correlationID == "" {
		n.correlationID = n.orderID
	}
	return nil
}
