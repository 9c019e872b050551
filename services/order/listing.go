package order

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sort"
	"strings"

	"github.com/tidemark/tidemark/pkg/events"
)

// get is one order without its lines.
func (t *table) get(id string) (Order, bool) {
	k, _ := keyOf(id)
	t.mu.RLock()
	defer t.mu.RUnlock()
	number, ok := t.index[k]
	if !ok {
		return Order{}, false
	}
	_, w := t.at(number)
	return t.order(w), true
}

// openOrders is how many orders have not ended.
func (t *table) openOrders() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.open
}

// query is a listing in the order of placing.
type query struct {
	customer string // empty: any
	status   Status // None: any
	after    uint64 // sequence in ORDERS of the last order that is not wanted any more
	limit    int
}

// list is one page of a listing, and the sequence to go on after; 0 where it ends.
func (t *table) list(q query) ([]Order, uint64) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var out []Order
	more := false
	add := func(w *row) bool {
		if q.status != None && w.status != q.status {
			return true
		}
		if len(out) == q.limit {
			more = true
			return false
		}
		out = append(out, t.order(w))
		return true
	}
	if q.customer != "" {
		t.eachOfCustomer(q, add)
	} else {
		t.each(q, add)
	}
	if !more {
		return out, 0
	}
	return out, out[len(out)-1].PlacedSeq
}

// eachOfCustomer goes through one customer's rows, without looking at anybody else's.
func (t *table) eachOfCustomer(q query, visit func(*row) bool) {
	if id, ok := strings.CutPrefix(q.customer, guestPrefix); ok {
		k, _ := keyOf(id)
		if number, ok := t.index[k]; ok {
			if _, w := t.at(number); w.customer == 0 && w.placedSeq > q.after {
				visit(w)
				return
			}
		}
	}
	text, ok := t.texts.numbers[q.customer]
	if !ok {
		return
	}
	rows := t.byCustomer[text]
	first := sort.Search(len(rows), func(i int) bool {
		_, w := t.at(rows[i])
		return w.placedSeq > q.after
	})
	for _, number := range rows[first:] {
		if _, w := t.at(number); !visit(w) {
			return
		}
	}
}

// each goes through the rows behind q.after, passing over pages that hold none of the wanted status.
func (t *table) each(q query, visit func(*row) bool) {
	first := sort.Search(len(t.pages), func(i int) bool {
		rows := t.pages[i].rows
		return rows[len(rows)-1].placedSeq > q.after
	})
	for _, p := range t.pages[first:] {
		if q.status != None && p.counts[q.status] == 0 {
			continue
		}
		start := sort.Search(len(p.rows), func(i int) bool { return p.rows[i].placedSeq > q.after })
		for i := range p.rows[start:] {
			if !visit(&p.rows[start+i]) {
				return
			}
		}
	}
}

// projection is what the table holds, in one number.
type projection struct {
	positions positions
	count     int
	digest    string // SHA-256 of a line an order, sorted by id
}

// positions are the last sequences that were folded.
type positions struct{ orders, stock uint64 }

func positionsOf(at map[string]uint64) positions {
	return positions{orders: at[events.StreamOrders], stock: at[events.StreamStock]}
}

func (p positions) byStream() map[string]uint64 {
	return map[string]uint64{events.StreamOrders: p.orders, events.StreamStock: p.stock}
}

// project computes the digest of the live listing over a copy, so that nobody waits for a million lines.
func (s *Service) project() projection {
	var frozen *table
	var p projection
	s.listing.View(func(t *table, at map[string]uint64) { frozen, p.positions = t.freeze(), positionsOf(at) })
	p.count, p.digest = frozen.count(), frozen.digest()
	return p
}

func (t *table) digest() string {
	lines := make([]string, 0, t.count())
	for _, row := range t.Rows() {
		lines = append(lines, row+"\n")
	}
	sortByID(lines)
	h := sha256.New()
	for _, line := range lines {
		_, _ = h.Write([]byte(line)) // never fails
	}
	return hex.EncodeToString(h.Sum(nil))
}

// freeze copies what the digest needs. Texts are only ever added, so their list can be shared.
func (t *table) freeze() *table {
	t.mu.RLock()
	defer t.mu.RUnlock()
	frozen := &table{texts: texts{list: t.texts.list}, foreign: maps.Clone(t.foreign)}
	for _, p := range t.pages {
		frozen.pages = append(frozen.pages, &page{rows: slices.Clone(p.rows)})
	}
	return frozen
}

// Rows are the orders in the order of placing, by id.
func (t *table) Rows() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, page := range t.pages {
			for i := range page.rows {
				o := t.order(&page.rows[i])
				if !yield(o.ID, fmt.Sprintf("%s|%s|%d|%d|%s", o.ID, o.Status, o.Version, o.Total, o.Customer)) {
					return
				}
			}
		}
	}
}

// Count is how many orders there are.
func (t *table) Count() int { return t.count() }

// sortByID sorts lines by what stands before their first bar.
func sortByID(lines []string) {
	slices.SortFunc(lines, func(a, b string) int {
		ida, _, _ := strings.Cut(a, "|")
		idb, _, _ := strings.Cut(b, "|")
		return strings.Compare(ida, idb)
	})
}
