package order

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// history is what two streams hold.
type history struct{ orders, stock []store.Recorded }

var customers = []string{"ann", "bob", ""}

// drawHistory makes up orders of few customers, some of them ended, with the warehouse's answers in any order relative to them. Some ids are not ours.
func drawHistory(t *rapid.T, tb testing.TB) history {
	var h history
	open := []string{}
	for n := range rapid.IntRange(0, 60).Draw(t, "steps") {
		if len(open) == 0 || rapid.Bool().Draw(t, "place") {
			id := events.DeriveID("order", fmt.Sprint(n))
			if rapid.IntRange(0, 9).Draw(t, "foreign") == 0 {
				id = fmt.Sprint("foreign order ", n)
			}
			customer := rapid.SampledFrom(customers).Draw(t, "customer")
			if customer == "" {
				customer = guest(id)
			}
			h.orders = append(h.orders, placedEvent(tb, uint64(len(h.orders)+1), id, customer))
			open = append(open, id)
			if rapid.Bool().Draw(t, "reserve") {
				h.stock = append(h.stock, stockEvent(tb, uint64(len(h.stock)+1), events.TypeStockReserved, id, uint64(len(h.orders))))
			}
			continue
		}
		i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
		eventType := rapid.SampledFrom([]string{events.TypeOrderConfirmed, events.TypeOrderRejected, events.TypeOrderCancelled}).Draw(t, "end")
		h.orders = append(h.orders, endEvent(tb, uint64(len(h.orders)+1), eventType, open[i]))
		open = slices.Delete(open, i, i+1)
	}
	return h
}

// feed hands what is between two positions of both streams to the table, interleaved anyhow.
func (h history) feed(t *rapid.T, tb testing.TB, table *table, from, until positions) {
	tb.Helper()
	orders, stock := h.orders[from.orders:until.orders], h.stock[from.stock:until.stock]
	for len(orders) > 0 || len(stock) > 0 {
		var next store.Recorded
		if len(stock) == 0 || len(orders) > 0 && rapid.Bool().Draw(t, "orders first") {
			next, orders = orders[0], orders[1:]
		} else {
			next, stock = stock[0], stock[1:]
		}
		if err := table.Fold(next); err != nil {
			tb.Fatal(err)
		}
	}
}

func (h history) end() positions {
	return positions{uint64(len(h.orders)), uint64(len(h.stock))}
}

// folded is every order as the aggregate's own fold has it, in the order of placing.
func (h history) folded(tb testing.TB) []Order {
	tb.Helper()
	var list []Order
	at := map[string]int{}
	for _, r := range append(slices.Clone(h.orders), h.stock...) {
		i, ok := at[r.Event.Subject]
		if !ok {
			i = len(list)
			at[r.Event.Subject] = i
			list = append(list, Order{})
		}
		var err error
		if list[i], err = evolve(list[i], r); err != nil {
			tb.Fatal(err)
		}
	}
	return list
}

// same compares what a listing shows.
func same(a, b Order) bool {
	return fmt.Sprint(bodyOf(a)) == fmt.Sprint(bodyOf(b))
}

// The table is the fold of the two logs, whatever the interleaving, and whether it was read in one go or from a snapshot on.
func TestTheTableIsTheFoldOfTheLogs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		h := drawHistory(r, t)
		live := newTable()
		h.feed(r, t, live, positions{}, h.end())

		cut := positions{uint64(rapid.IntRange(0, len(h.orders)).Draw(r, "cut orders")), uint64(rapid.IntRange(0, len(h.stock)).Draw(r, "cut stock"))}
		early := newTable()
		h.feed(r, t, early, positions{}, cut)
		restored := thaw(t, early)
		h.feed(r, t, restored, cut, h.end())

		if a, b := encoded(live), encoded(restored); !slices.EqualFunc(a, b, samePart) {
			r.Fatalf("live %v, from a snapshot %v", a, b)
		}
		want := h.folded(t)
		for _, table := range []*table{live, restored} {
			got, next := table.list(query{limit: 1000})
			if next != 0 || !slices.EqualFunc(got, want, same) {
				r.Fatalf("table\n%s\nfold\n%s", brief(got), brief(want))
			}
			open := 0
			for _, o := range want {
				if !o.Status.Ended() {
					open++
				}
			}
			if table.openOrders() != open {
				r.Fatalf("%d open, want %d", table.openOrders(), open)
			}
		}
	})
}

func brief(orders []Order) (s string) {
	for _, o := range orders {
		s += fmt.Sprintf("%+v\n", bodyOf(o))
	}
	return s
}

type encodedPart struct {
	name string
	data []byte
}

func samePart(a, b encodedPart) bool { return a.name == b.name && bytes.Equal(a.data, b.data) }

// encoded is the table as it is stored.
func encoded(t *table) (parts []encodedPart) {
	for _, p := range t.Parts() {
		parts = append(parts, encodedPart{p.Name, p.Encode()})
	}
	return parts
}

// thaw restores what a table is stored as.
func thaw(tb testing.TB, of *table) *table {
	tb.Helper()
	return thawParts(tb, encoded(of))
}

func thawParts(tb testing.TB, parts []encodedPart) *table {
	tb.Helper()
	t := newTable()
	for _, p := range parts {
		if err := t.Restore(p.name, p.data); err != nil {
			tb.Fatalf("%s: %v", p.name, err)
		}
	}
	return t
}

// A listing by pages shows what filtering the whole would.
func TestListing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		h := drawHistory(r, t)
		table := newTable()
		h.feed(r, t, table, positions{}, h.end())
		all := h.folded(t)
		wanted := append([]string{"", "nobody", "guest-x"}, "ann", "bob")
		for _, o := range all {
			wanted = append(wanted, o.Customer)
		}
		customer := rapid.SampledFrom(wanted).Draw(r, "customer")
		status := Status(rapid.IntRange(int(None), int(Cancelled)).Draw(r, "status"))
		var want []string
		for _, o := range all {
			if (customer == "" || o.Customer == customer) && (status == None || o.Status == status) {
				want = append(want, o.ID)
			}
		}
		var got []string
		q := query{customer: customer, status: status, limit: rapid.IntRange(1, 7).Draw(r, "limit")}
		for {
			page, next := table.list(q)
			if len(page) > q.limit || next != 0 && len(page) < q.limit {
				r.Fatalf("a page of %d, limit %d, next %d", len(page), q.limit, next)
			}
			for _, o := range page {
				got = append(got, o.ID)
			}
			if next == 0 {
				break
			}
			q.after = next
		}
		if !slices.Equal(got, want) {
			r.Fatalf("customer %q, status %s: %v, want %v", customer, status, got, want)
		}
	})
}

func TestPagesBeyondTheFirst(t *testing.T) {
	t.Parallel()
	table := newTable()
	n := 2*pageSize + 5
	for i := range n {
		id := events.DeriveID("o", fmt.Sprint(i))
		if err := table.Fold(placedEvent(t, uint64(i+1), id, fmt.Sprint("c", i%3))); err != nil {
			t.Fatal(err)
		}
	}
	before := revisions(table)
	if len(before) != 5 {
		t.Fatalf("parts: %v", before)
	}
	id := events.DeriveID("o", fmt.Sprint(pageSize+1))
	if err := table.Fold(endEvent(t, uint64(n+1), events.TypeOrderCancelled, id)); err != nil {
		t.Fatal(err)
	}
	changed := []string{}
	for name, revision := range revisions(table) {
		if before[name] != revision {
			changed = append(changed, name)
		}
	}
	slices.Sort(changed)
	if !slices.Equal(changed, []string{"rows/1", "texts/0"}) {
		t.Fatalf("a change of one order writes %v", changed)
	}
	if got, _ := table.list(query{status: Cancelled, limit: 10}); len(got) != 1 || got[0].ID != id {
		t.Fatalf("cancelled: %+v", got)
	}
	got, next := table.list(query{limit: 10, after: uint64(2*pageSize - 3)})
	if len(got) != 8 || next != 0 || got[0].PlacedSeq != uint64(2*pageSize-2) {
		t.Fatalf("%d orders from %d, next %d", len(got), got[0].PlacedSeq, next)
	}
}

func revisions(t *table) map[string]uint64 {
	all := map[string]uint64{}
	for _, p := range t.Parts() {
		all[p.Name] = p.Revision
	}
	return all
}

// What can't be folded leaves no trace.
func TestABadEventHasNoEffect(t *testing.T) {
	t.Parallel()
	table := newTable()
	if err := table.Fold(placedEvent(t, 1, "o", "c")); err != nil {
		t.Fatal(err)
	}
	before := encoded(table)
	bad := placedEvent(t, 2, "p", "c")
	bad.Data = []byte(`{"total_minor":"much"}`)
	strange := placedEvent(t, 3, "p", "c")
	strange.Type = "shop.order.painted.v1"
	for _, r := range []store.Recorded{bad, strange, endEvent(t, 4, events.TypeOrderConfirmed, "nobody"), placedEvent(t, 5, "o", "d")} {
		if err := table.Fold(r); err == nil || errors.Is(err, events.ErrUnknownType) != (r.Sequence == 3) {
			t.Errorf("sequence %d: %v", r.Sequence, err)
		}
	}
	if after := encoded(table); !slices.EqualFunc(before, after, samePart) {
		t.Errorf("before %v, after %v", before, after)
	}
}

// A start from the snapshot, a start from the log and the instance that never stopped agree.
func TestRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.start(Config{SnapshotEvery: 3})
	for n := range 10 {
		id := first.placeOne(fmt.Sprint("k", n), oneLine)
		switch n % 3 {
		case 0:
			first.answer(id, events.TypeStockReserved)
			first.await(id, "confirmed")
		case 1:
			first.answer(id, events.TypeStockRejected)
			first.await(id, "rejected")
		}
	}
	live := first.settled()
	first.halt()

	second := w.begin(Config{SnapshotEvery: 3})
	<-second.caughtUp
	if p := second.settled(); p != live {
		t.Fatalf("from the snapshot %+v, live %+v", p, live)
	}
	second.halt()
	third := w.start(Config{SnapshotEvery: -1})
	if p := third.settled(); p != live {
		t.Fatalf("from the log %+v, live %+v", p, live)
	}
	third.halt()
}

// settled waits until the table has read both streams to their ends.
func (i *instance) settled() projection {
	i.t.Helper()
	end := positions{i.lastOf(events.StreamOrders), i.lastOf(events.StreamStock)}
	eventstest.Eventually(i.t, patience, "the listing has read everything", func() bool { return i.where() == end })
	return i.project()
}

// where is how far the listing has read.
func (i *instance) where() (p positions) {
	i.listing.View(func(_ *table, at map[string]uint64) { p = positionsOf(at) })
	return p
}

// The stored listing is a cache: whatever of it is damaged or lost, the logs tell.
func TestASnapshotThatCantBeTrustedIsNotRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.start(Config{SnapshotEvery: 1})
	first.placeOne("k", oneLine)
	live := first.settled()
	first.halt()
	ctx := context.Background()
	blobs, err := w.nats.JetStream().ObjectStore(ctx, events.BucketSnapshots)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := blobs.List(ctx)
	if err != nil || len(stored) != 3 {
		t.Fatalf("%d blobs, %v", len(stored), err)
	}
	for _, part := range stored {
		for _, damage := range []func() error{
			func() error { _, err := blobs.PutBytes(ctx, part.Name, []byte("nonsense")); return err },
			func() error { return blobs.Delete(ctx, part.Name) },
		} {
			if err := damage(); err != nil {
				t.Fatal(err)
			}
			i := w.begin(Config{})
			<-i.caughtUp
			if p := i.settled(); p != live {
				t.Errorf("%s damaged: %+v, live %+v", part.Name, p, live)
			}
			i.halt()
		}
	}
}

func TestRestoreRefusesWhatItCantRead(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]string{
		"texts/0": "\xff", "keys": "{", "rows/0": "short", "other": "",
	} {
		if err := newTable().Restore(name, []byte(data)); err == nil {
			t.Errorf("%s: %q was taken", name, data)
		}
	}
	if err := newTable().Restore("keys", []byte(`{"early":{"zz":1}}`)); err == nil {
		t.Error("took a key that is none")
	}
	if err := newTable().Restore("rows/0", make([]byte, rowSize)); err == nil {
		t.Error("took a row without a status")
	}
}
