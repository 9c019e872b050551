package inventory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"golang.org/x/sync/errgroup"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// plan is what a batch of requests comes to on one state of the warehouse.
type plan struct {
	position uint64 // of STOCK, that it was decided on: the lock
	answers  []answer
	changes  []change
	causes   []*request // of each change
	writes   []store.Write
	strange  []orderEvent // that should not have happened
}

// plan decides the requests, each on what those before it leave. Orders that the warehouse has forgotten are looked up first.
func (d *decider) plan(ctx context.Context, batch []*request, found map[string]orderState) (*plan, error) {
	p, unknown := d.sketch(batch, found)
	if len(unknown) > 0 {
		// One look is enough: only this goroutine makes the warehouse forget, and what others append meanwhile stays in memory.
		if err := d.lookUp(ctx, unknown, found); err != nil {
			return nil, err
		}
		p, _ = d.sketch(batch, found)
	}
	for i, c := range p.changes {
		ev, subject, err := d.event(c, p.causes[i])
		if err != nil {
			return nil, err
		}
		p.writes = append(p.writes, store.Write{Subject: subject, Event: ev})
	}
	return p, nil
}

func (d *decider) sketch(batch []*request, found map[string]orderState) (*plan, []string) {
	d.live.mu.RLock()
	defer d.live.mu.RUnlock()
	w := d.live.state.sketch(found)
	p := &plan{position: w.at.position, answers: make([]answer, len(batch))}
	var unknown []string
	for i, r := range batch {
		var c change
		var v verdict
		if r.order != nil {
			c, v = decideOrder(w, *r.order)
		} else {
			c, v = d.planReceipt(w, *r.receipt, &p.answers[i])
		}
		switch v {
		case verdictNothing:
		case verdictAsk:
			unknown = append(unknown, r.order.OrderID)
		case verdictUnexpected:
			p.strange = append(p.strange, *r.order)
		case verdictAppend:
			if err := w.evolve(w.at.position+1, c); err != nil {
				p.answers[i].err = err
				continue
			}
			p.changes, p.causes = append(p.changes, c), append(p.causes, r)
		}
		if r.receipt != nil && p.answers[i].err == nil {
			it, _ := w.item(r.receipt.SKU)
			p.answers[i].stock = stockOf(r.receipt.SKU, it)
		}
	}
	return p, unknown
}

func (d *decider) planReceipt(w *warehouse, r receipt, a *answer) (change, verdict) {
	c, repeated, err := decideReceipt(w, r)
	a.repeated, a.err = repeated, err
	if repeated || err != nil {
		return c, verdictNothing
	}
	return c, verdictAppend
}

// report says what became of a plan that was carried out.
func (d *decider) report(ctx context.Context, p *plan) {
	d.metrics.decided(ctx, p)
	for _, e := range p.strange {
		d.telemetry.Logger.WarnContext(ctx, "an order was confirmed that holds no reservation", "order_id", e.OrderID, "event_id", e.ID, "sequence", e.Sequence)
	}
}

// lookUp reads the last event of each order's exact subject into found.
func (d *decider) lookUp(ctx context.Context, orderIDs []string, found map[string]orderState) error {
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxLookups)
	for _, id := range orderIDs {
		g.Go(func() error {
			o, err := d.lastOf(ctx, id)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			found[id] = o
			return nil
		})
	}
	return g.Wait()
}

func (d *decider) lastOf(ctx context.Context, orderID string) (orderState, error) {
	d.metrics.lookup(ctx)
	r, err := d.log.Last(ctx, d.subjects.StockOrder(orderID))
	if errors.Is(err, store.ErrNotFound) {
		return orderState{}, nil
	}
	if err != nil {
		return orderState{}, fmt.Errorf("look up what was decided about order %s: %w", orderID, err)
	}
	o := orderState{phase: phaseReleased, version: r.Version, sequence: r.Sequence}
	switch r.Type {
	case events.TypeStockCommitted:
		o.phase = phaseCommitted
	case events.TypeStockRejected:
		o.phase = phaseRejected
	}
	// A reservation can't be forgotten: where the last event seems to be one, the replica that answered is behind, and the order has ended.
	return o, nil
}

// event makes the event of STOCK for a change, and its subject. The id of a decision comes from what it answers, so that the broker and the readers see
// two instances deciding the same as one decision.
func (d *decider) event(c change, r *request) (events.Event, string, error) {
	if r.receipt != nil {
		ev, err := events.New(source, c.kind, r.receipt.SKU, time.Now(), c.received)
		// Its id is new at each try, so that a repeated key meets the lock, and then the receipt of before; with an id of the key's, the
		// broker would take the second for the first and call both stored, also when their quantities differ.
		ev.CorrelationID, ev.Version = r.receipt.ID, c.version
		d.trace(r.ctx, &ev)
		return ev, d.subjects.StockSKU(r.receipt.SKU), err
	}
	ev, err := events.New(source, c.kind, r.order.OrderID, time.Now(), c.decision)
	ev.ID = events.DeriveID(r.order.ID, c.kind)
	ev.CausationID, ev.CorrelationID = r.order.ID, r.order.CorrelationID
	ev.Version = c.version
	d.trace(r.ctx, &ev)
	return ev, d.subjects.StockOrder(r.order.OrderID), err
}

// trace gives the event the trace of its own request: a batch has many.
func (d *decider) trace(ctx context.Context, ev *events.Event) {
	bus.NoteAttempt(ctx, ev)
	carrier := propagation.MapCarrier{}
	d.telemetry.Propagator.Inject(ctx, carrier)
	ev.TraceParent, ev.TraceState = carrier[events.HeaderTraceParent], carrier[events.HeaderTraceState]
}
