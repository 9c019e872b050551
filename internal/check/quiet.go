package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

// grace is how long after its deadline an order may still be open: the deadline's message comes a little later, and has to be handled.
const grace = 5 * time.Second

// rest is what was seen of the system at rest besides the logs.
type rest struct {
	letters     letters
	mails       mails
	payments    payments
	projections projections
}

// observe sees what the logs don't hold. The reason says what has to be waited for.
func (c *checker) observe(ctx context.Context, ends heads) (rest, string, error) {
	var r rest
	var err error
	if r.letters, err = c.dead(ctx); err != nil {
		return r, "", err
	}
	if r.payments, err = c.ledger(ctx); err != nil {
		return r, "", err
	}
	if r.mails, err = c.outbox(ctx); err != nil {
		return r, "", err
	}
	var why string
	r.projections, why, err = c.projections(ctx, ends)
	return r, why, err
}

// judgeRest judges what holds when the system is at rest.
func (c *checker) judgeRest(ctx context.Context, r rest) ([]Result, error) {
	onHand, err := c.judgeOnHand(ctx)
	if err != nil {
		return nil, err
	}
	ended, err := c.judgeEnded(ctx, r)
	if err != nil {
		return nil, err
	}
	deadlines, err := c.judgeDeadlines(ctx, r)
	if err != nil {
		return nil, err
	}
	out := []Result{result(2, onHand), result(3, c.judgeReserved(r)), result(5, ended), c.judgePaid(r), c.judgeTold(r), c.judgeConservation(r), deadlines}
	projected, err := c.judgeProjections(ctx, r)
	return append(out, projected), err
}

// judgeOnHand: what left the warehouse is what the orders say whose stock was committed.
func (c *checker) judgeOnHand(ctx context.Context) (finding, error) {
	s := c.read.state
	sold := make(map[string]int64)
	for _, odd := range s.odd {
		o := &s.orders[odd.order]
		if s.hash.lines(odd.lines) == o.lines && o.commits == 1 {
			for _, l := range odd.lines { // the order was read after the commit
				sold[l.SKU] += l.Quantity
			}
			continue
		}
		lines, err := c.placedLines(ctx, o)
		if err != nil {
			return finding{}, err
		}
		if o.commits > 1 && odd.sequence != c.firstCommit(odd.order) {
			lines = nil // the first commit took them
		}
		for _, l := range lines {
			sold[l.SKU] += l.Quantity
		}
	}
	f := finding{counted: len(s.skus)}
	for _, name := range sortedKeys(s.skus) {
		k := s.skus[name]
		if want := k.received - k.sold - sold[name]; k.onHand != want {
			f.breaks("SKU %s: %d received, %d ordered and committed, so %d must be on hand; the log leaves %d", name, k.received, k.sold+sold[name], want, k.onHand)
		}
	}
	return f, nil
}

// firstCommit is the sequence of the first of an order's commits that are odd, unless an even one came before.
func (c *checker) firstCommit(n uint32) uint64 {
	odd := 0
	first := uint64(0)
	for _, s := range c.read.state.odd {
		if s.order != n {
			continue
		}
		if odd++; first == 0 {
			first = s.sequence
		}
	}
	if odd < int(c.read.state.orders[n].commits) {
		return 0
	}
	return first
}

// placedLines reads an order's lines again; an order that was never placed has none.
func (c *checker) placedLines(ctx context.Context, o *order) ([]line, error) {
	if o.placedSeq == 0 {
		return nil, nil
	}
	e, err := c.read.event(ctx, events.StreamOrders, o.placedSeq)
	if err != nil {
		return nil, err
	}
	p, err := events.Payload[placedPayload](&e)
	return p.Lines, err
}

// judgeReserved: what the log leaves reserved is what open reservations hold, and ended orders hold nothing.
func (c *checker) judgeReserved(r rest) finding {
	s := c.read.state
	f := finding{counted: len(s.skus)}
	held := make(map[string]int64)
	for n, lines := range s.active {
		for _, l := range lines {
			held[l.SKU] += l.Quantity
		}
		o := &s.orders[n]
		if !o.status.ended() {
			continue
		}
		f.counted++
		if r.letters.keys[o.id] {
			f.waiting++
			continue
		}
		f.breaks("order %s is %s and still holds its reservation", o.id, o.status)
	}
	for _, name := range sortedKeys(s.skus) {
		if k := s.skus[name]; k.reserved != held[name] {
			f.breaks("SKU %s: open reservations hold %d, the log leaves %d reserved", name, held[name], k.reserved)
		}
	}
	return f
}

// judgeEnded: an order that is open has its deadline before it, or a parked letter.
func (c *checker) judgeEnded(ctx context.Context, r rest) (finding, error) {
	s := c.read.state
	var f finding
	for i := range s.orders {
		o := &s.orders[i]
		if o.version == 0 {
			continue
		}
		f.counted++
		if o.status.ended() {
			continue
		}
		waiting := r.letters.keys[o.id]
		if !waiting {
			var err error
			if waiting, err = c.inTime(ctx, o); err != nil {
				return f, err
			}
		}
		if waiting {
			f.waiting++
			continue
		}
		f.breaks("order %s, placed at ORDERS %d, is open after its deadline", o.id, o.placedSeq)
	}
	return f, nil
}

// inTime reports whether the order is inside of its deadline, as it stands in TIMERS.
func (c *checker) inTime(ctx context.Context, o *order) (bool, error) {
	now := time.Now()
	if now.Before(time.UnixMilli(o.storedAt).Add(c.cfg.OrderDeadline)) {
		return true, nil
	}
	subjects := c.cfg.Topology.Subjects()
	e, err := c.read.last(ctx, events.StreamTimers, subjects.Timer(o.id))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("deadline of order %s: %w", o.id, err)
	}
	d, err := events.Payload[events.OrderDeadline](&e)
	if err != nil {
		return false, fmt.Errorf("deadline of order %s: %w", o.id, err)
	}
	return now.Before(d.DueAt.Add(grace)), nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
