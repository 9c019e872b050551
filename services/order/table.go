package order

import (
	"encoding/base32"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// table is the read model: every order without its lines, folded from ORDERS and STOCK. It holds a million orders, so a row has no pointer (the garbage
// collector does not look into it) and texts are kept once. Rows stand in the order of placing, in pages, which are the units in which it is stored.
//
// It is a [store.Model]: what it holds depends on the events alone, not on how the reading of the two streams interleaved.
type table struct {
	mu         sync.RWMutex
	pages      []*page
	index      map[key]uint32 // row numbers
	texts      texts
	byCustomer map[uint32][]uint32 // row numbers, ascending, by text number; guests have no entry
	early      map[key]int64       // orders that STOCK reserved before ORDERS was read so far: when, in µs
	foreign    map[key]string      // ids that are not in the shape of events.NewID
	open       int                 // orders that have not ended
	keys       uint64              // counts the changes of early, foreign and the number of rows
	waiters    *waiters            // told of orders that end, if this table answers
}

const pageSize = 10_000

// page is a range of rows. counts allow a listing by status to pass it over.
type page struct {
	rows     []row
	counts   [statuses]int
	revision uint64
}

// key is an order's id without its encoding.
type key [16]byte

// row is one order. Times are in µs since 1970; texts are numbers in the table's texts.
type row struct {
	id        key
	placedSeq uint64
	total     int64
	placedAt  int64
	updatedAt int64
	customer  uint32 // 0: a guest
	currency  uint32
	reason    uint32
	version   uint32
	status    Status
}

func newTable() *table {
	return &table{
		index: make(map[key]uint32), byCustomer: make(map[uint32][]uint32), early: make(map[key]int64), foreign: make(map[key]string), texts: newTexts(),
	}
}

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// keyOf packs an id. Ids of another shape get a derived key and are remembered beside it.
func keyOf(id string) (k key, foreign bool) {
	if events.ValidID(id) {
		var again [26]byte // not every text of this shape is the encoding of a key
		if n, err := idEncoding.Decode(k[:], []byte(id)); err == nil && n == len(k) {
			if idEncoding.Encode(again[:], k[:]); string(again[:]) == id {
				return k, false
			}
		}
	}
	k, _ = keyOf(events.DeriveID("foreign order id", id))
	return k, true
}

const guestPrefix = "guest-"

// guest is the customer of an order that names none.
func guest(orderID string) string { return guestPrefix + orderID }

// change is what one event says to the table, read before the lock is taken.
type change struct {
	OrderID    string       `json:"order_id"`
	CustomerID string       `json:"customer_id"`
	Currency   string       `json:"currency"`
	PlacedAt   time.Time    `json:"placed_at"`
	Total      events.Minor `json:"total_minor"`
	Reason     string       `json:"reason"`
}

// Fold folds one event. An error says that the event has no effect.
func (t *table) Fold(r store.Recorded) error {
	switch r.Type {
	case events.TypeOrderPlaced, events.TypeOrderConfirmed, events.TypeOrderRejected, events.TypeOrderCancelled, events.TypeStockReserved:
	case events.TypeStockReceived, events.TypeStockRejected, events.TypeStockCommitted, events.TypeStockReleased:
		return nil // the order's own events say what becomes of it
	default:
		return fmt.Errorf("%w: %s", events.ErrUnknownType, r.Type)
	}
	c, err := changeOf(&r.Event)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch r.Type {
	case events.TypeOrderPlaced:
		return t.placed(c, r)
	case events.TypeOrderConfirmed:
		return t.end(c, r, Confirmed)
	case events.TypeOrderRejected:
		return t.end(c, r, Rejected)
	case events.TypeOrderCancelled:
		return t.end(c, r, Cancelled)
	default:
		t.reserved(c, r)
		return nil
	}
}

// changeOf reads what an event says to the table. Of two types that is only which order it is about, which its envelope says, too; reading payloads is most of what a rebuild
// does. Of the others, the lines are not decoded.
func changeOf(e *events.Event) (change, error) {
	if e.Subject != "" && (e.Type == events.TypeStockReserved || e.Type == events.TypeOrderConfirmed) {
		return change{OrderID: e.Subject}, nil
	}
	return events.Payload[change](e)
}

func (t *table) placed(c change, r store.Recorded) error {
	k, foreign := keyOf(c.OrderID)
	if _, ok := t.index[k]; ok {
		return fmt.Errorf("order %s is placed twice", c.OrderID)
	}
	if foreign {
		t.foreign[k] = c.OrderID // insert counts the change
	}
	w := row{
		id: k, placedSeq: r.Sequence, total: int64(c.Total), placedAt: c.PlacedAt.UnixMicro(), updatedAt: r.Time.UnixMicro(),
		currency: t.texts.number(c.Currency), version: 1, status: Placed,
	}
	if of, isGuest := strings.CutPrefix(c.CustomerID, guestPrefix); !isGuest || of != c.OrderID {
		w.customer = t.texts.number(c.CustomerID)
	}
	if at, ok := t.early[k]; ok {
		delete(t.early, k)
		w.status, w.updatedAt = Reserved, at
	}
	t.insert(w)
	return nil
}

// insert adds a row behind the others.
func (t *table) insert(w row) {
	number := uint32(t.count()) //nolint:gosec // a table of 4 billion rows would not fit
	last := len(t.pages) - 1
	if last < 0 || len(t.pages[last].rows) == pageSize {
		t.pages = append(t.pages, &page{})
		last++
	}
	p := t.pages[last]
	p.rows = append(p.rows, w)
	p.counts[w.status]++
	p.revision++
	t.keys++
	t.index[w.id] = number
	if w.customer != 0 {
		t.byCustomer[w.customer] = append(t.byCustomer[w.customer], number)
	}
	if !w.status.Ended() {
		t.open++
	}
}

func (t *table) end(c change, r store.Recorded, status Status) error {
	k, _ := keyOf(c.OrderID)
	number, ok := t.index[k]
	if !ok {
		return fmt.Errorf("order %s ends and was never placed", c.OrderID)
	}
	p, w := t.at(number)
	if w.status.Ended() {
		return fmt.Errorf("order %s is %s, and %s follows", c.OrderID, w.status, r.Type)
	}
	p.move(w, status)
	if status != Confirmed { // which has none
		w.reason = t.texts.number(c.Reason)
	}
	w.version++
	w.updatedAt = r.Time.UnixMicro()
	t.open--
	if t.waiters != nil {
		t.waiters.ended(k)
	}
	return nil
}

// reserved marks an order that the warehouse has answered. The answer can be read before the order: two streams are read side by side.
func (t *table) reserved(c change, r store.Recorded) {
	k, _ := keyOf(c.OrderID)
	number, ok := t.index[k]
	if !ok {
		t.early[k] = r.Time.UnixMicro()
		t.keys++
		return
	}
	if p, w := t.at(number); w.status == Placed {
		p.move(w, Reserved)
		w.updatedAt = r.Time.UnixMicro()
	}
}

func (p *page) move(w *row, to Status) {
	p.counts[w.status]--
	p.counts[to]++
	w.status = to
	p.revision++
}

func (t *table) at(number uint32) (*page, *row) {
	p := t.pages[number/pageSize]
	return p, &p.rows[number%pageSize]
}

func (t *table) count() int {
	if len(t.pages) == 0 {
		return 0
	}
	last := len(t.pages) - 1
	return last*pageSize + len(t.pages[last].rows)
}

// idOf is the id of a row.
func (t *table) idOf(w *row) string {
	if len(t.foreign) > 0 {
		if id, ok := t.foreign[w.id]; ok {
			return id
		}
	}
	return idEncoding.EncodeToString(w.id[:])
}

func (t *table) order(w *row) Order {
	o := Order{
		ID: t.idOf(w), Currency: t.texts.of(w.currency), Status: w.status, Reason: t.texts.of(w.reason), Total: events.Minor(w.total),
		PlacedAt: time.UnixMicro(w.placedAt).UTC(), UpdatedAt: time.UnixMicro(w.updatedAt).UTC(), PlacedSeq: w.placedSeq, Version: uint64(w.version),
	}
	o.Customer = t.texts.of(w.customer)
	if w.customer == 0 {
		o.Customer = guest(o.ID)
	}
	return o
}

// texts keeps each text once and gives it a number. Number 0 is the empty text.
type texts struct {
	list    []string
	numbers map[string]uint32
}

func newTexts() texts {
	return texts{list: []string{""}, numbers: map[string]uint32{"": 0}}
}

func (t *texts) number(s string) uint32 {
	if n, ok := t.numbers[s]; ok {
		return n
	}
	s = strings.Clone(s)     // it may be a part of a whole event
	n := uint32(len(t.list)) //nolint:gosec // as rows
	t.list = append(t.list, s)
	t.numbers[s] = n
	return n
}

func (t *texts) of(n uint32) string { return t.list[n] }
