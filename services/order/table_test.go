package order

import (
	"context"
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

// feed hands the rest of both streams to the table, interleaved anyhow.
func (h history) feed(t *rapid.T, tb testing.TB, table *table, until positions) {
	tb.Helper()
	for {
		p := table.where()
		orders, stock := h.orders[p.orders:until.orders], h.stock[p.stock:until.stock]
		var next store.Recorded
		switch {
		case len(orders) == 0 && len(stock) == 0:
			return
		case len(stock) == 0 || len(orders) > 0 && rapid.Bool().Draw(t, "orders first"):
			next = orders[0]
		default:
			next = stock[0]
		}
		if err := table.apply(next); err != nil {
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
		h.feed(r, t, live, h.end())

		cut := positions{uint64(rapid.IntRange(0, len(h.orders)).Draw(r, "cut orders")), uint64(rapid.IntRange(0, len(h.stock)).Draw(r, "cut stock"))}
		early := newTable()
		h.feed(r, t, early, cut)
		restored := thaw(t, early.snapshot(manifest{}))
		h.feed(r, t, restored, h.end())

		if a, b := live.project(), restored.project(); a != b {
			r.Fatalf("live %+v, from a snapshot %+v", a, b)
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

// thaw reads a snapshot that was not stored anywhere.
func thaw(tb testing.TB, f frozen) *table {
	tb.Helper()
	t := newTableFor(f.manifest.orders())
	t.positions = positions{orders: f.manifest.Orders, stock: f.manifest.Stock}
	t.texts = texts{numbers: make(map[string]uint32)}
	if err := t.loadKeys(f.manifest); err != nil {
		tb.Fatal(err)
	}
	for i, p := range f.manifest.Texts {
		if err := t.texts.decode(f.blobs[p.name("texts", i)]); err != nil {
			tb.Fatal(err)
		}
	}
	for i, p := range f.manifest.Rows {
		if err := t.decodeRows(f.blobs[p.name("rows", i)]); err != nil {
			tb.Fatal(err)
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
		h.feed(r, t, table, h.end())
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
		if err := table.apply(placedEvent(t, uint64(i+1), id, fmt.Sprint("c", i%3))); err != nil {
			t.Fatal(err)
		}
	}
	first := table.snapshot(manifest{})
	if len(first.manifest.Rows) != 3 || len(first.blobs) != 4 {
		t.Fatalf("%d pages of rows, %d blobs", len(first.manifest.Rows), len(first.blobs))
	}
	id := events.DeriveID("o", fmt.Sprint(pageSize+1))
	if err := table.apply(endEvent(t, uint64(n+1), events.TypeOrderCancelled, id)); err != nil {
		t.Fatal(err)
	}
	second := table.snapshot(first.manifest)
	changed := []string{}
	for name := range second.blobs {
		changed = append(changed, name)
	}
	slices.Sort(changed)
	if !slices.Equal(changed, []string{"orders/rows/1/b", "orders/texts/0/b"}) {
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

func TestOneBadEventHidesNoOther(t *testing.T) {
	t.Parallel()
	table := newTable()
	bad := placedEvent(t, 1, "o", "c")
	bad.Data = []byte(`{"total_minor":"much"}`)
	if err := table.apply(bad); err == nil {
		t.Error("took an event that can't be read")
	}
	if err := table.apply(endEvent(t, 2, events.TypeOrderConfirmed, "o")); err == nil {
		t.Error("took the end of an order that was never placed")
	}
	if err := table.apply(placedEvent(t, 3, "o", "c")); err != nil {
		t.Error(err)
	}
	if err := table.apply(placedEvent(t, 3, "o", "c")); err != nil {
		t.Errorf("an event that was folded before: %v", err)
	}
	if p := table.project(); p.count != 1 || p.positions.orders != 3 {
		t.Errorf("%+v", p)
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
	eventstest.Eventually(i.t, patience, "the listing has read everything", func() bool { return i.table.where() == end })
	return i.table.project()
}

func TestASnapshotThatCantBeTrustedIsNotRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.start(Config{SnapshotEvery: 1})
	first.placeOne("k", oneLine)
	live := first.settled()
	first.halt()
	ctx := context.Background()
	blobs, err := store.NewSnapshots(ctx, w.nats.JetStream(), events.BucketSnapshots)
	if err != nil {
		t.Fatal(err)
	}
	good, err := blobs.Get(ctx, manifestName)
	if err != nil {
		t.Fatal(err)
	}
	read := func() error {
		s := &snapshotter{table: newTable(), blobs: blobs}
		opened, err := w.make(Config{}).open(ctx)
		if err != nil {
			t.Fatal(err)
		}
		s.logs = opened.logs
		err = s.read(ctx)
		if err == nil && s.table.project() != live {
			t.Errorf("read %+v, live %+v", s.table.project(), live)
		}
		return err
	}
	if err := read(); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	for name, damage := range map[string]struct{ blob, data string }{
		"manifest is no JSON":   {manifestName, "nonsense"},
		"foreign format":        {manifestName, `{"format":"orders/0"}`},
		"of other logs":         {manifestName, `{"format":"` + snapshotFormat + `"}`},
		"a page is another one": {"orders/rows/0/a", "nonsense"},
	} {
		page := "orders/rows/0/a"
		before, _ := blobs.Get(ctx, page)
		if err := blobs.Put(ctx, damage.blob, []byte(damage.data)); err != nil {
			t.Fatal(err)
		}
		if err := blobs.Put(ctx, "orders/rows/0/b", []byte(damage.data)); err != nil {
			t.Fatal(err)
		}
		if err := read(); err == nil {
			t.Errorf("%s: was taken", name)
		}
		_ = blobs.Put(ctx, page, before)
		if err := blobs.Put(ctx, manifestName, good); err != nil {
			t.Fatal(err)
		}
	}
	second := w.begin(Config{})
	<-second.caughtUp
	if p := second.settled(); p != live {
		t.Fatalf("%+v, live %+v", p, live)
	}
}
