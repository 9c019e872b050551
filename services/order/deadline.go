package order

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/fail"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// setDeadline stores the order's timer: a message that the broker publishes when it is due. It comes before the order, since an order without a deadline could
// stay open for ever, while the deadline of an order that never came does nothing. A second timer of the same order replaces the first one.
func (s *Service) setDeadline(ctx context.Context, orderID string, now time.Time) error {
	due := now.Add(s.cfg.Deadline)
	// The schedule is written in whole seconds, rounded down; an order must not lose any of its time.
	due = due.Add(time.Second - 1).Truncate(time.Second)
	// The id is random: the broker forgets a message whose id it has seen in the last two minutes, and a second request must get a timer of its own.
	ev, err := events.New(source, events.TypeOrderDeadline, orderID, now, events.OrderDeadline{OrderID: orderID, DueAt: due})
	if err != nil {
		return err
	}
	_, err = s.publisher.Publish(ctx, s.subjects.Timer(orderID), ev, jetstream.WithScheduleAt(due), jetstream.WithScheduleTarget(s.subjects.Timeout(orderID)))
	if err != nil {
		return fmt.Errorf("set deadline: %w", err)
	}
	return nil
}

// onDeadline ends an order that is still open when its time is over. It is the handler of the group order-deadlines, and the last one who looks at an
// order: what was captured for one that did not end confirmed is voided here at the latest.
func (s *Service) onDeadline(ctx context.Context, d bus.Delivery) error {
	if d.Event.Type != events.TypeOrderDeadline {
		return nil
	}
	deadline, err := events.Payload[events.OrderDeadline](&d.Event)
	if err != nil {
		return fail.Permanent(err)
	}
	o, known := s.table().get(deadline.OrderID)
	if known && o.Status.Ended() {
		return s.settle(ctx, o)
	}
	if _, err := s.load(ctx, deadline.OrderID); errors.Is(err, ErrNotPlaced) && !known {
		return nil // the deadline was stored, and the order never came
	} else if err != nil {
		return err
	}
	o, err = s.timeout(ctx, deadline.OrderID)
	if err != nil {
		return err
	}
	return s.settle(ctx, o)
}

// timeout rejects the order, unless it has ended, and returns how it ended.
func (s *Service) timeout(ctx context.Context, id string) (Order, error) {
	var decided []events.Event
	state, err := s.orders.Execute(ctx, s.subjects.Order(id), func(state store.State[Order]) (evs []events.Event, err error) {
		why := cause{id: state.Value.PlacedID, at: time.Now()}
		decided, err = decideReject(state.Value, events.ReasonTimeout, "not ended within "+s.cfg.Deadline.String(), why)
		return decided, err
	})
	if errors.Is(err, ErrEnded) {
		return state.Value, nil
	}
	if err != nil {
		return Order{}, err
	}
	s.metrics.ended(ctx, id, decided)
	return state.Value, nil
}
