package order

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// ErrNotThen: the order exists, and had not come so far at the moment that was asked for.
var ErrNotThen = errors.New("the order was not there then")

// pastOf is everything that happened to an order, in its own log and in the warehouse's. An order that is not there is [ErrNotPlaced].
func (s *Service) pastOf(ctx context.Context, id string) ([]store.Recorded, error) {
	var own, stock []store.Recorded
	loads, ctx := errgroup.WithContext(ctx)
	loads.Go(func() (err error) {
		own, err = s.log.Load(ctx, s.subjects.Order(id))
		return err
	})
	loads.Go(func() (err error) {
		stock, err = s.stock.Load(ctx, s.subjects.StockOrder(id))
		return err
	})
	if err := loads.Wait(); err != nil {
		return nil, err
	}
	if len(own) == 0 {
		return nil, ErrNotPlaced
	}
	return interleave(own, stock), nil
}

// interleave puts the events of two logs in one order. What caused what comes first: the two streams may have different leaders, whose clocks differ. Where that
// tells nothing, the time of storing decides.
func interleave(own, stock []store.Recorded) []store.Recorded {
	all := make([]store.Recorded, 0, len(own)+len(stock))
	for len(own) > 0 && len(stock) > 0 {
		if ownFirst(own[0], stock) {
			all, own = append(all, own[0]), own[1:]
		} else {
			all, stock = append(all, stock[0]), stock[1:]
		}
	}
	return append(append(all, own...), stock...)
}

func ownFirst(own store.Recorded, stock []store.Recorded) bool {
	for i := range stock {
		if own.CausationID == stock[i].ID {
			return false
		}
	}
	if stock[0].CausationID == own.ID || answeredBy(stock[0]) >= own.Sequence {
		return true
	}
	return !stock[0].StoredAt.Before(own.StoredAt)
}

// answeredBy is the sequence in ORDERS that an event of the warehouse answers, or 0.
func answeredBy(r store.Recorded) uint64 {
	var d struct {
		OrderSeq uint64 `json:"order_seq"`
	}
	if err := json.Unmarshal(r.Data, &d); err != nil {
		return 0
	}
	return d.OrderSeq
}

// moment is a point in an order's history: a version, or a time.
type moment struct {
	version uint64
	at      time.Time // if version is 0
}

const (
	momentRule = "must be a version (1, 2, 3, …) or a time in RFC 3339, such as 2026-01-02T15:04:05Z; a plus sign in a query is written %2B"
	// clockSkew is how far a caller's clock may be ahead of ours before "now" counts as the future.
	clockSkew = time.Minute
)

// parseMoment reads what a caller asked for. The error is the rule that it breaks.
func parseMoment(text string, now time.Time) (moment, error) {
	if strings.Trim(text, "0123456789") == "" && text != "" {
		version, err := strconv.ParseUint(text, 10, 63)
		if err != nil {
			return moment{}, errors.New(momentRule)
		}
		if version == 0 {
			return moment{}, errors.New("versions begin with 1")
		}
		return moment{version: version}, nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return moment{}, errors.New(momentRule)
	}
	if at.After(now.Add(clockSkew)) {
		return moment{}, errors.New("must not lie in the future: nobody knows the order's state then")
	}
	return moment{at: at}, nil
}

// prefix is what had happened at the moment. Of a version it ends with the event that made it. Of a time it is what was stored by then, by the broker's clock: what the
// system knew, whenever the things themselves happened. The error wraps [ErrNotThen] and says why.
func (m moment) prefix(history []store.Recorded) ([]store.Recorded, error) {
	n := 0
	newest := uint64(0)
	for i, r := range history {
		if m.version == 0 && r.StoredAt.After(m.at) {
			break
		}
		if r.Stream == events.StreamOrders {
			newest++
		}
		if n = i + 1; m.version > 0 && newest == m.version {
			return history[:n], nil
		}
	}
	switch {
	case m.version > 0:
		return nil, fmt.Errorf("%w: it has no version %d yet, its newest is %d", ErrNotThen, m.version, newest)
	case newest == 0:
		return nil, fmt.Errorf("%w: it was stored at %s", ErrNotThen, history[0].StoredAt.UTC().Format(time.RFC3339Nano))
	}
	return history[:n], nil
}

// asOf is the order as it was at the moment, and the last event that is in it.
func (s *Service) asOf(ctx context.Context, id string, m moment) (Order, store.Recorded, error) {
	all, err := s.pastOf(ctx, id)
	if err != nil {
		return Order{}, store.Recorded{}, err
	}
	then, err := m.prefix(all)
	if err != nil {
		return Order{}, store.Recorded{}, err
	}
	var o Order
	for _, r := range then {
		if o, err = evolve(o, r); err != nil {
			return Order{}, store.Recorded{}, err
		}
	}
	return o, then[len(then)-1], nil
}
