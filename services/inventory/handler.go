package inventory

import (
	"context"
	"fmt"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/fail"
)

// handle answers one event of ORDERS. It may be called again for the same event, at any time: what was decided stays decided.
func (s *Service) handle(ctx context.Context, d bus.Delivery) error {
	e, wanted, err := readOrderEvent(d)
	if err != nil {
		return fail.Permanent(err)
	}
	if !wanted {
		return nil
	}
	if err := s.decider.orderEvent(ctx, e); err != nil {
		return fmt.Errorf("answer %s of order %s: %w", e.Type, e.OrderID, err)
	}
	return nil
}

// readOrderEvent takes what a decision needs. wanted is false for events that are not the warehouse's business.
func readOrderEvent(d bus.Delivery) (e orderEvent, wanted bool, err error) {
	e = orderEvent{ID: d.Event.ID, Type: d.Event.Type, CorrelationID: d.Event.CorrelationID, Sequence: d.Sequence}
	switch d.Event.Type {
	case events.TypeOrderPlaced:
		p, err := events.Payload[events.OrderPlaced](&d.Event)
		if err != nil {
			return e, false, err
		}
		e.OrderID, e.Lines = p.OrderID, p.Lines
		if err := checkLines(p.Lines); err != nil {
			return e, false, err
		}
	case events.TypeOrderConfirmed, events.TypeOrderRejected, events.TypeOrderCancelled:
		p, err := events.Payload[struct {
			OrderID string `json:"order_id"`
		}](&d.Event)
		if err != nil {
			return e, false, err
		}
		e.OrderID = p.OrderID
	default:
		return e, false, nil
	}
	if e.OrderID == "" {
		return e, false, fmt.Errorf("%w: %s: order_id: required, is empty", events.ErrInvalidEvent, e.Type)
	}
	if e.CorrelationID == "" {
		e.CorrelationID = e.OrderID
	}
	return e, true, nil
}

// checkLines guards the arithmetic: a quantity below 1 would give units away. The order service never writes one; other producers may.
func checkLines(lines []events.Line) error {
	if len(lines) == 0 {
		return fmt.Errorf("%w: lines: required, are empty", events.ErrInvalidEvent)
	}
	for i, l := range lines {
		if l.Quantity < 1 {
			return fmt.Errorf("%w: lines[%d].quantity: must be 1 or more, is %d", events.ErrInvalidEvent, i, l.Quantity)
		}
	}
	return nil
}
