package check

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/tidemark/tidemark/internal/client"
	"github.com/tidemark/tidemark/pkg/events"
)

// projections are what the services say of their read models.
type projections struct {
	orders, stock, windows client.Projection
	missing                string // why they could not be read
}

// projections reads the read models that have read as far as the logs go. The reason says which one has not.
func (c *checker) projections(ctx context.Context, ends heads) (p projections, why string, err error) {
	if c.sys.api == nil {
		p.missing = "there is no API to ask"
		return p, "", nil
	}
	for _, one := range []struct {
		name string
		into *client.Projection
		want heads
	}{
		{client.ProjectionOrders, &p.orders, heads{events.StreamOrders: ends[events.StreamOrders], events.StreamStock: ends[events.StreamStock]}},
		{client.ProjectionStock, &p.stock, heads{events.StreamStock: ends[events.StreamStock]}},
		{client.ProjectionWindows, &p.windows, heads{events.StreamTimeline: c.timelineTarget}},
	} {
		*one.into, err = c.sys.api.Projection(ctx, one.name)
		if err != nil {
			p.missing = fmt.Sprintf("projection %s: %v", one.name, err)
			return p, "", ctx.Err()
		}
		for stream, end := range one.want {
			at := one.into.Position[stream]
			if at < end || at > end && stream != events.StreamTimeline {
				return p, fmt.Sprintf("projection %s is at %s %d of %d", one.name, stream, at, end), nil
			}
		}
	}
	return p, "", nil
}

// judgeProjections: each read model is what the logs come to.
func (c *checker) judgeProjections(ctx context.Context, r rest) (Result, error) {
	p := r.projections
	if p.missing != "" {
		return Result{Invariant: 8, Name: names[8], Unchecked: p.missing}, nil
	}
	s := c.read.state
	f := finding{counted: 2}
	if want := s.ordersDigest(); p.orders.Digest != want {
		f.breaks("projection orders: %d orders with digest %s, the logs come to %d with %s", p.orders.Count, p.orders.Digest, s.placed(), want)
	}
	if want := s.stockDigest(); p.stock.Digest != want {
		f.breaks("projection stock: %d SKUs with digest %s, the log comes to %d with %s%s", p.stock.Count, p.stock.Digest, len(s.skus), want, c.firstStock(ctx))
	}
	missing, err := c.judgeWindows(ctx, r, &f)
	res := result(8, f)
	res.Unchecked = missing
	return res, err
}

func (s *state) placed() int {
	n := 0
	for i := range s.orders {
		if s.orders[i].placedSeq > 0 {
			n++
		}
	}
	return n
}

// ordersDigest is the SHA-256 of a line an order, sorted by id.
func (s *state) ordersDigest() string {
	byID := make([]uint32, 0, len(s.orders))
	for i := range s.orders {
		if s.orders[i].placedSeq > 0 {
			byID = append(byID, uint32(i)) //nolint:gosec // as orders are numbered
		}
	}
	slices.SortFunc(byID, func(a, b uint32) int { return strings.Compare(s.orders[a].id, s.orders[b].id) })
	sum := sha256.New()
	for _, n := range byID {
		o := &s.orders[n]
		stands := o.status.String()
		if o.status == placed && o.reservations > 0 {
			stands = client.StatusReserved
		}
		_, _ = fmt.Fprintf(sum, "%s|%s|%d|%d|%s\n", o.id, stands, o.version, o.total, s.texts[o.customer]) // never fails
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// stockDigest is the SHA-256 of a line a SKU, sorted by SKU.
func (s *state) stockDigest() string {
	sum := sha256.New()
	for _, name := range sortedKeys(s.skus) {
		_, _ = fmt.Fprintf(sum, "%s|%d|%d\n", name, s.skus[name].onHand, s.skus[name].reserved) // never fails
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// firstStock names the first SKU of which the warehouse says something else than the log. It only makes the message better.
func (c *checker) firstStock(ctx context.Context) string {
	for said, err := range c.sys.api.Stocks(ctx) {
		if err != nil {
			return ""
		}
		k, ok := c.read.state.skus[said.SKU]
		if !ok {
			return fmt.Sprintf("; SKU %s was never received", said.SKU)
		}
		if said.OnHand != k.onHand || said.Reserved != k.reserved {
			return fmt.Sprintf("; SKU %s: %d on hand and %d reserved, the log leaves %d and %d", said.SKU, said.OnHand, said.Reserved, k.onHand, k.reserved)
		}
	}
	return ""
}

// The queries that the logs of orders can be compared with. Clicks are forgotten after a while, so of theirs only the sums are judged.
const (
	queryOrders  = "orders-per-minute"
	queryRevenue = "revenue-per-minute"

	timingBackfill = "backfill" // as a window's result says it
)

// judgeWindows: what the queries read is what they counted, left out as late, knew already or could not read; and orders were counted in the minute in which
// they were placed. Which of them were late depends on the order of TIMELINE, so a window may hold fewer orders than the logs, by as many as were
// late altogether, and never more. A backfill puts late ones into their windows, and does not change what the query says of itself.
func (c *checker) judgeWindows(ctx context.Context, r rest, f *finding) (missing string, err error) {
	for _, q := range r.projections.windows.Queries {
		f.counted++
		if sum := q.Counted + q.Late + q.Duplicates + q.Unreadable; sum != q.Read {
			f.breaks("query %s: %d read, but %d counted, late, duplicate or unreadable", q.Query, q.Read, sum)
			continue
		}
		if q.Query != queryOrders && q.Query != queryRevenue {
			continue
		}
		// An event that can't be read is a dead letter, and counts with no query until it is replayed.
		lost := int64(c.read.state.placed()) - (q.Counted + q.Late)
		if letters := r.letters.orders; lost > 0 && lost <= int64(letters.parked+letters.discarded) {
			if lost > int64(letters.discarded) {
				f.waiting++
			}
			continue
		}
		if lost != 0 {
			f.breaks("query %s: %d counted and %d late, but %d orders were placed", q.Query, q.Counted, q.Late, c.read.state.placed())
			continue
		}
		wrong, err := c.compareWindows(ctx, q)
		if err != nil {
			return fmt.Sprintf("windows of %s: %v", q.Query, err), ctx.Err()
		}
		if wrong != "" {
			f.breaks("query %s: %s", q.Query, wrong)
		}
	}
	return "", nil
}

// window is one window of a minute, and tally what is in it.
type window struct {
	minute int64
	key    string
}

type tally struct{ count, value int64 }

// windows are those of a query, from the logs, if no order had been late.
func (s *state) windows(query string) map[window]tally {
	all := make(map[window]tally)
	for i := range s.orders {
		o := &s.orders[i]
		if o.placedSeq == 0 {
			continue
		}
		w, value := window{minute: o.minute}, int64(1)
		if query == queryRevenue {
			w.key, value = s.texts[o.currency], int64(o.total)
		}
		t := all[w]
		all[w] = tally{t.count + 1, t.value + value}
	}
	return all
}

func (c *checker) compareWindows(ctx context.Context, q client.QueryCounts) (string, error) {
	all := c.read.state.windows(q.Query)
	var sum int64
	backfilled := false
	for w, err := range c.sys.api.Windows(ctx, client.WindowFilter{Query: q.Query}) {
		if err != nil {
			return "", err
		}
		sum += w.Count
		backfilled = backfilled || w.Timing == timingBackfill
		log := all[window{floorMinute(w.Start.Unix()), w.Key}]
		if w.Count > log.count || w.Value > log.value || w.Count == log.count && w.Value != log.value {
			return fmt.Sprintf("the window %q from %s has %d orders and value %d, the log %d and %d", w.Key, w.Start, w.Count, w.Value, log.count, log.value), nil
		}
	}
	if sum < q.Counted || sum > q.Counted && !backfilled || sum > q.Counted+q.Late {
		return fmt.Sprintf("its windows have %d orders altogether, it says %d", sum, q.Counted), nil
	}
	return "", nil
}
