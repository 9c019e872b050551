package order

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// ErrTooManyOpen: so many orders are open that no more are taken.
var ErrTooManyOpen = errors.New("too many orders are open")

// orderID is the id of the order that a request makes: derived from the caller and the idempotency key, so that a repetition meets what it repeats, and nobody meets another
// caller's order under the same key.
func orderID(caller, key string) string {
	if key == "" {
		return events.NewID()
	}
	return events.DeriveID("order", caller, key)
}

// place stores an order: its customer's address, its deadline, itself, in this order. replayed is set where the same request had placed it before. The
// error wraps ErrOtherRequest, ErrTooManyOpen or what the store said.
func (s *Service) place(ctx context.Context, id string, v validOrder, digest string) (o Order, replayed bool, err error) {
	known, done, err := s.once.enter(ctx, id)
	if err != nil {
		return Order{}, false, err
	}
	defer func() { done(err == nil) }()
	if _, listed := s.table().get(id); known || listed {
		o, err := s.repeated(ctx, id, digest)
		return o, true, err
	}
	if s.table().openOrders() >= s.cfg.MaxOpen {
		return Order{}, false, ErrTooManyOpen
	}
	c := placeCommand{orderID: id, customer: v.customer, currency: v.currency, placedAt: v.placedAt, lines: v.lines, total: v.total, digest: digest}
	if c.customer == "" {
		c.customer = guest(id)
	}
	evs, err := decidePlace(Order{}, c)
	if err != nil {
		return Order{}, false, err
	}
	if err := s.contacts.remember(ctx, c.customer, v.email); err != nil {
		return Order{}, false, err
	}
	began := time.Now()
	sequence, err := s.appendInTime(ctx, id, evs[0])
	if errors.Is(err, store.ErrConflict) {
		o, err := s.repeated(ctx, id, digest)
		return o, true, err
	}
	if err != nil {
		return Order{}, false, err
	}
	s.metrics.placed(ctx, id, began)
	o, err = evolve(Order{}, store.Recorded{Event: evs[0], Stream: events.StreamOrders, Sequence: sequence})
	return o, false, err
}

// appendInTime sets the deadline and appends the order, or gives up when half of the deadline has passed: a deadline that has come and gone before its order
// would leave the order open for ever.
func (s *Service) appendInTime(ctx context.Context, id string, ev events.Event) (uint64, error) {
	now := time.Now()
	ctx, cancel := context.WithDeadlineCause(ctx, now.Add(s.cfg.Deadline/2), fmt.Errorf("half of the order's time has passed: %w", context.DeadlineExceeded))
	defer cancel()
	if err := s.setDeadline(ctx, id, now); err != nil {
		return 0, err
	}
	return s.log.Append(ctx, s.subjects.Order(id), 0, ev)
}

// repeated answers a request whose order is there: the same request gets the order as it is now, another one is refused.
func (s *Service) repeated(ctx context.Context, id, digest string) (Order, error) {
	o, err := s.current(ctx, id)
	if err != nil {
		return Order{}, err
	}
	if _, err := decidePlace(o, placeCommand{orderID: id, digest: digest}); err != nil {
		return Order{}, err
	}
	return o, nil
}

// current is the order as the log has it, with what the read model knows from STOCK.
func (s *Service) current(ctx context.Context, id string) (Order, error) {
	o, err := s.load(ctx, id)
	if err != nil {
		return Order{}, err
	}
	if seen, ok := s.table().get(id); ok && seen.Status == Reserved && o.Status == Placed {
		o.Status, o.UpdatedAt = seen.Status, seen.UpdatedAt
	}
	return o, nil
}

// awaitEnd waits until the order has ended, as far as the read model knows, at most for the time given. It returns the newest that is known.
func (s *Service) awaitEnd(ctx context.Context, o Order, limit time.Duration) Order {
	ended, stop := s.watch(o.ID)
	defer stop()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
	case <-ctx.Done():
	case <-s.stopped:
	}
	if seen, ok := s.table().get(o.ID); ok && seen.Version >= o.Version && seen.Status >= o.Status {
		o.Status, o.Reason, o.UpdatedAt, o.Version = seen.Status, seen.Reason, seen.UpdatedAt, seen.Version
	}
	return o
}
