package order

import (
	"context"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// cancel ends an order at the customer's wish. An order that is cancelled already stays so; one that has ended otherwise is [ErrEnded]. A payment that
// is being asked for meanwhile is voided by the process manager, whose append is refused, and at the latest by the deadline.
func (s *Service) cancel(ctx context.Context, id, reason string) (Order, error) {
	if _, err := s.load(ctx, id); err != nil {
		return Order{}, err
	}
	var decided []events.Event
	state, err := s.orders.Execute(ctx, s.subjects.Order(id), func(state store.State[Order]) (evs []events.Event, err error) {
		decided, err = decideCancel(state.Value, reason, time.Now())
		return decided, err
	})
	if err != nil {
		return state.Value, err
	}
	s.metrics.ended(ctx, id, decided)
	return state.Value, nil
}
