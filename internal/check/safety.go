package check

import (
	"context"

	"github.com/tidemark/tidemark/pkg/events"
)

// names are the invariants by number. Those without a name are not checked here.
var names = [...]string{
	1:  "stock stays in bounds: nothing below zero, no more reserved than on hand",
	2:  "receipts - committed = on hand",
	3:  "reserved = what open orders hold",
	4:  "an order reserves once, and never after its release",
	5:  "every order ends once, in time",
	6:  "confirmed = committed and paid; otherwise neither",
	7:  "each event of an order is told once",
	8:  "each projection = the fold of the logs",
	9:  "versions without a gap, event ids unique",
	10: "every cause exists, one correlation an order",
	11: "delivered = applied + duplicates + parked + discarded",
	12: "events of a key are handled in order, none is skipped",
	16: "every open order has a deadline, no letter waits for nothing",
}

func result(n int, f finding) Result {
	return Result{Invariant: n, Name: names[n], Counted: f.counted, Waiting: f.waiting, Broken: f.broken, First: f.first}
}

// judgeSafety judges what was read, whatever the system does meanwhile.
func (c *checker) judgeSafety(ctx context.Context) ([]Result, error) {
	s := c.read.state
	negative, reserving, ending, versions, causes := s.negative, s.reserving, s.ending, s.versions, s.causes
	negative.counted = s.stocks
	for i := range s.orders {
		o := &s.orders[i]
		if o.stock > 0 {
			reserving.counted++
		}
		if o.version > 0 {
			ending.counted++
		}
	}
	versions.counted, causes.counted = s.events, s.events
	if err := c.judgeIDs(ctx, &versions); err != nil {
		return nil, err
	}
	if err := c.judgeCauses(ctx, &causes); err != nil {
		return nil, err
	}
	l, err := c.dead(ctx) // after the logs: what was skipped by then is on record
	if err != nil {
		return nil, err
	}
	return []Result{c.judgeOrder(&l), result(1, negative), result(4, reserving), result(5, ending), result(9, versions), result(10, causes)}, nil
}

// judgeIDs looks for events of one log with the same id. Equal hashes are only a suspicion: the events are read again.
func (c *checker) judgeIDs(ctx context.Context, f *finding) error {
	for _, stream := range []string{events.StreamOrders, events.StreamStock, events.StreamNotices} {
		err := c.read.state.ids[stream].twice(func(first, second uint64) error {
			a, err := c.read.event(ctx, stream, first)
			if err != nil {
				return err
			}
			b, err := c.read.event(ctx, stream, second)
			if err != nil {
				return err
			}
			if a.ID == b.ID {
				f.breaks("%s %d has the event id of %s %d: %s", stream, second, stream, first, a.ID)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// judgeCauses looks for causes that no log holds.
func (c *checker) judgeCauses(ctx context.Context, f *finding) error {
	s := c.read.state
	for stream, pending := range s.pending {
		var left []cause
		for _, p := range pending {
			if s.ids[events.StreamOrders].has(p.hash) || s.ids[events.StreamStock].has(p.hash) {
				continue
			}
			left = append(left, p)
			if p.sequence > c.read.judged[stream] {
				continue // its cause may be stored and not read
			}
			e, err := c.read.event(ctx, stream, p.sequence)
			if err != nil {
				return err
			}
			f.breaks("%s %d: %s was caused by %s, which no log holds", stream, p.sequence, e.Type, e.CausationID)
		}
		s.pending[stream] = left // found ones need no second look
	}
	return nil
}
