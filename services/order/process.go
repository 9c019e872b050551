package order

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/fail"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// onStock is the process manager: it leads an order on when the warehouse has answered. It is the handler of the group order-stock.
//
// It may be called again for an answer that it has handled, and it may be killed at any point. What keeps the books right is the order of its steps: charge under
// the order's key (once, however often), then append behind order.placed (once, because of the lock), and void where the append shows that the order has
// ended otherwise.
func (s *Service) onStock(ctx context.Context, d bus.Delivery) error {
	switch d.Event.Type {
	case events.TypeStockReserved:
		return s.onReserved(ctx, d)
	case events.TypeStockRejected:
		return s.onShort(ctx, d)
	}
	return nil // receipts, and what the warehouse did because the order ended
}

// onReserved asks for the payment and ends the order by the answer.
func (s *Service) onReserved(ctx context.Context, d bus.Delivery) error {
	o, _, err := s.answered(ctx, d)
	if err != nil {
		return err
	}
	if o.Status.Ended() {
		return s.settle(ctx, o)
	}
	paid, err := s.charge(ctx, o)
	if err != nil {
		return err
	}
	why := cause{id: d.Event.ID, at: time.Now()}
	var evs []events.Event
	switch paid.Status {
	case paymentCaptured:
		evs, err = decideConfirm(o, paid.ID, why)
	case paymentDeclined:
		evs, err = decideReject(o, events.ReasonPaymentDeclined, "the payment was declined", why)
	case paymentVoided:
		return s.onSpent(ctx, o, why)
	}
	if err != nil {
		return err
	}
	return s.end(ctx, o, evs)
}

// onShort ends an order that the warehouse can't fill.
func (s *Service) onShort(ctx context.Context, d bus.Delivery) error {
	o, answer, err := s.answered(ctx, d)
	if err != nil {
		return err
	}
	if o.Status.Ended() {
		return nil
	}
	evs, err := decideReject(o, events.ReasonOutOfStock, shortages(answer.Shortages), cause{id: d.Event.ID, at: time.Now()})
	if err != nil {
		return err
	}
	return s.end(ctx, o, evs)
}

// answered is the order that the warehouse answers, with the answer folded in. Usually the read model knows enough, and nothing is loaded: if it is behind,
// the append is refused. Where the event may have been handled before, the log is asked first, so that nobody is charged for an order that has ended.
func (s *Service) answered(ctx context.Context, d bus.Delivery) (Order, events.StockDecision, error) {
	answer, err := events.Payload[events.StockDecision](&d.Event)
	if err != nil {
		return Order{}, answer, fail.Permanent(err)
	}
	o, known := s.table().get(answer.OrderID)
	switch {
	case known && o.Status.Ended():
		return o, answer, nil
	case d.Repeated:
		o, err = s.load(ctx, answer.OrderID)
	case !known:
		o, err = s.placedAt(ctx, answer)
	}
	if err != nil {
		return Order{}, answer, err
	}
	if o.PlacedSeq != answer.OrderSeq {
		return Order{}, answer, fail.Permanent(fmt.Errorf("%s %s answers sequence %d, but order %s was placed at %d", d.Event.Type, d.Event.ID, answer.OrderSeq, o.ID, o.PlacedSeq))
	}
	if o.Status.Ended() {
		return o, answer, nil
	}
	o, err = evolve(o, store.Recorded{Event: d.Event, Stream: d.Stream, Subject: d.Subject, Sequence: d.Sequence, StoredAt: d.StoredAt})
	return o, answer, err
}

// placedAt reads the one event that the warehouse answers.
func (s *Service) placedAt(ctx context.Context, answer events.StockDecision) (Order, error) {
	r, err := s.log.Get(ctx, answer.OrderSeq)
	if errors.Is(err, store.ErrNotFound) {
		return Order{}, fail.Permanent(err)
	}
	if err != nil {
		return Order{}, err
	}
	if r.Subject != s.subjects.Order(answer.OrderID) {
		return Order{}, fail.Permanent(fmt.Errorf("sequence %d holds %s, not order %s", answer.OrderSeq, r.Subject, answer.OrderID))
	}
	return evolve(Order{}, r)
}

// load folds the order from the log. An order that is not there is [ErrNotPlaced].
func (s *Service) load(ctx context.Context, id string) (Order, error) {
	state, err := s.orders.Load(ctx, s.subjects.Order(id))
	if err != nil {
		return Order{}, err
	}
	if state.Value.Status == None {
		return Order{}, fmt.Errorf("order %s: %w", id, ErrNotPlaced)
	}
	return state.Value, nil
}

// end appends the event that ends the order. Where the order has ended otherwise meanwhile, what was captured is voided before the cause is
// acknowledged.
func (s *Service) end(ctx context.Context, o Order, evs []events.Event) error {
	_, err := s.log.Append(ctx, s.subjects.Order(o.ID), o.PlacedSeq, evs...)
	if err == nil {
		s.metrics.ended(ctx, o.ID, evs)
		return nil
	}
	if !errors.Is(err, store.ErrConflict) {
		return err
	}
	now, loadErr := s.load(ctx, o.ID)
	if loadErr != nil {
		return errors.Join(err, loadErr)
	}
	if !now.Status.Ended() {
		return fmt.Errorf("order %s is still %s: %w", o.ID, now.Status, err)
	}
	return s.settle(ctx, now)
}

// settle makes the gateway's books agree with an order that has ended: a confirmed order keeps its payment, any other has none.
func (s *Service) settle(ctx context.Context, o Order) error {
	if o.Status == Confirmed {
		return nil
	}
	return s.payments.void(ctx, o.ID)
}

// onSpent is for an order whose payment key was voided. As a rule it has ended, and the read model is behind. One that is open has another past: it had ended in a log that a restore
// took back, and was placed again. Its key can't be charged any more, so it can't be paid.
func (s *Service) onSpent(ctx context.Context, o Order, why cause) error {
	now, err := s.load(ctx, o.ID)
	switch {
	case err != nil:
		return err
	case now.Status == Confirmed:
		return fmt.Errorf("order %s is %s, but its payment is voided", o.ID, now.Status)
	case now.Status.Ended():
		return nil
	}
	evs, err := decideReject(o, events.ReasonPaymentDeclined, "the payment under the order's key was voided before", why)
	if err != nil {
		return err
	}
	return s.end(ctx, o, evs)
}

func (s *Service) charge(ctx context.Context, o Order) (payment, error) {
	start := time.Now()
	p, err := s.payments.charge(ctx, o)
	s.metrics.charged(ctx, time.Since(start), p, err)
	return p, err
}
