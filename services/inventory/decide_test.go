package inventory

import (
	"errors"
	"math"
	"reflect"
	"testing"

	"github.com/tidemark/tidemark/pkg/events"
)

// fold makes a warehouse of changes, as the log would.
func fold(t *testing.T, changes ...change) *warehouse {
	t.Helper()
	w := newWarehouse()
	for i, c := range changes {
		if err := w.evolve(uint64(i)+1, c); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func line(sku string, quantity int64) events.Line { return events.Line{SKU: sku, Quantity: quantity} }

func received(sku string, quantity int64, id string) change {
	return change{kind: events.TypeStockReceived, version: 1, received: events.StockReceived{SKU: sku, Quantity: quantity, ReceiptID: id}}
}

func decided(kind, order string, seq, version uint64, lines ...events.Line) change {
	return change{kind: kind, version: version, decision: events.StockDecision{OrderID: order, OrderSeq: seq, Lines: lines}}
}

func TestDecideOrder(t *testing.T) {
	t.Parallel()
	stock := []change{received("A", 10, "r1"), received("B", 5, "r2")}
	reserved := append(stock[:2:2], decided(events.TypeStockReserved, "o", 1, 1, line("A", 3)))
	rejected := append(stock[:2:2], decided(events.TypeStockRejected, "o", 1, 1))
	committed := append(reserved[:3:3], decided(events.TypeStockCommitted, "o", 2, 2, line("A", 3)))
	released := append(reserved[:3:3], decided(events.TypeStockReleased, "o", 2, 2, line("A", 3)))
	tombstone := append(stock[:2:2], decided(events.TypeStockReleased, "o", 2, 1))
	short := func(s ...events.Shortage) *change {
		return &change{kind: events.TypeStockRejected, version: 1, decision: events.StockDecision{OrderID: "o", OrderSeq: 7, Shortages: s}}
	}
	is := func(c change) *change { return &c }

	for name, test := range map[string]struct {
		log   []change
		event string
		lines []events.Line
		want  *change // nil: nothing is appended
		odd   bool
	}{
		"all lines are there": {stock, events.TypeOrderPlaced, []events.Line{line("A", 10), line("B", 5)},
			is(decided(events.TypeStockReserved, "o", 7, 1, line("A", 10), line("B", 5))), false},
		"one SKU in two lines fits together": {stock, events.TypeOrderPlaced, []events.Line{line("A", 4), line("B", 1), line("A", 6)},
			is(decided(events.TypeStockReserved, "o", 7, 1, line("A", 10), line("B", 1))), false},
		"one SKU in two lines is too much together": {stock, events.TypeOrderPlaced, []events.Line{line("A", 4), line("A", 7)},
			short(events.Shortage{SKU: "A", Requested: 11, Available: 10}), false},
		"every shortage is named": {stock, events.TypeOrderPlaced, []events.Line{line("B", 6), line("A", 1), line("C", 2)},
			short(events.Shortage{SKU: "B", Requested: 6, Available: 5}, events.Shortage{SKU: "C", Requested: 2}), false},
		"what others reserved is not there": {append(stock[:2:2], decided(events.TypeStockReserved, "other", 1, 1, line("A", 8))), events.TypeOrderPlaced,
			[]events.Line{line("A", 3)}, short(events.Shortage{SKU: "A", Requested: 3, Available: 2}), false},
		"the sum does not wrap around": {stock, events.TypeOrderPlaced, []events.Line{line("A", math.MaxInt64), line("A", math.MaxInt64)},
			short(events.Shortage{SKU: "A", Requested: math.MaxInt64, Available: 10}), false},
		"placed again while reserved": {reserved, events.TypeOrderPlaced, []events.Line{line("A", 3)}, nil, false},
		"placed again after rejected": {rejected, events.TypeOrderPlaced, []events.Line{line("A", 3)}, nil, false},
		"placed again after the end":  {committed, events.TypeOrderPlaced, []events.Line{line("A", 3)}, nil, false},
		"placed after its tombstone":  {tombstone, events.TypeOrderPlaced, []events.Line{line("A", 3)}, nil, false},

		"confirmed commits":        {reserved, events.TypeOrderConfirmed, nil, is(decided(events.TypeStockCommitted, "o", 7, 2, line("A", 3))), false},
		"confirmed again":          {committed, events.TypeOrderConfirmed, nil, nil, false},
		"confirmed from nowhere":   {stock, events.TypeOrderConfirmed, nil, nil, true},
		"confirmed after rejected": {rejected, events.TypeOrderConfirmed, nil, nil, true},
		"confirmed after released": {released, events.TypeOrderConfirmed, nil, nil, true},

		"rejected releases":                  {reserved, events.TypeOrderRejected, nil, is(decided(events.TypeStockReleased, "o", 7, 2, line("A", 3))), false},
		"cancelled releases":                 {reserved, events.TypeOrderCancelled, nil, is(decided(events.TypeStockReleased, "o", 7, 2, line("A", 3))), false},
		"rejected before placed: tombstone":  {stock, events.TypeOrderRejected, nil, is(decided(events.TypeStockReleased, "o", 7, 1)), false},
		"cancelled before placed: tombstone": {stock, events.TypeOrderCancelled, nil, is(decided(events.TypeStockReleased, "o", 7, 1)), false},
		"rejected since the stock was":       {rejected, events.TypeOrderRejected, nil, nil, false},
		"rejected again":                     {released, events.TypeOrderRejected, nil, nil, false},
		"cancelled after committed":          {committed, events.TypeOrderCancelled, nil, nil, false},
		"a newer kind of event":              {reserved, "shop.order.amended.v1", nil, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, v := decideOrder(fold(t, test.log...), orderEvent{ID: "e", Type: test.event, OrderID: "o", Sequence: 7, Lines: test.lines})
			if (v == verdictAppend) != (test.want != nil) || (v == verdictUnexpected) != test.odd || v == verdictAsk {
				t.Fatalf("verdict %d, want change %+v, odd %t", v, test.want, test.odd)
			}
			if test.want != nil && !reflect.DeepEqual(got, *test.want) {
				t.Errorf("got  %+v\nwant %+v", got, *test.want)
			}
		})
	}
}

func TestDecideReceipt(t *testing.T) {
	t.Parallel()
	w := fold(t, received("A", maxUnits-5, "r1"))
	for name, test := range map[string]struct {
		in       receipt
		repeated bool
		err      error
	}{
		"new":                      {receipt{"r2", "A", 5}, false, nil},
		"new SKU":                  {receipt{"r2", "B", maxUnits}, false, nil},
		"repeated":                 {receipt{"r1", "A", maxUnits - 5}, true, nil},
		"repeated, other quantity": {receipt{"r1", "A", 1}, false, ErrOtherQuantity},
		"too many":                 {receipt{"r2", "A", 6}, false, ErrTooManyUnits},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, repeated, err := decideReceipt(w, test.in)
			if !errors.Is(err, test.err) || repeated != test.repeated {
				t.Fatalf("repeated %t, error %v", repeated, err)
			}
			if want := (err == nil && !repeated); (c.kind == events.TypeStockReceived) != want {
				t.Errorf("change %+v, want one: %t", c, want)
			}
		})
	}
}

func TestEvolve(t *testing.T) {
	t.Parallel()
	log := []change{
		received("A", 10, "r1"),
		decided(events.TypeStockReserved, "o1", 4, 1, line("A", 3)),
		decided(events.TypeStockReserved, "o2", 5, 1, line("A", 2)),
		decided(events.TypeStockRejected, "o3", 6, 1),
		decided(events.TypeStockCommitted, "o1", 9, 2, line("A", 3)),
		decided(events.TypeStockReleased, "o2", 8, 2, line("A", 2)),
		decided(events.TypeStockReleased, "o4", 7, 1),
		received("A", 1, "r2"),
	}
	want := []item{{10, 0, 1}, {10, 3, 1}, {10, 5, 1}, {10, 5, 1}, {7, 2, 1}, {7, 0, 1}, {7, 0, 1}, {8, 0, 1}}
	for i := range log {
		w := fold(t, log[:i+1]...)
		if got, _ := w.item("A"); got != want[i] {
			t.Errorf("after %s: %+v, want %+v", log[i].kind, got, want[i])
		}
	}
	w := fold(t, log...)
	if w.at != (mark{position: 8, orderSeq: 9}) {
		t.Errorf("at %+v", w.at)
	}
	phases := map[string]phase{"o1": phaseCommitted, "o2": phaseReleased, "o3": phaseRejected, "o4": phaseReleased, "o5": phaseNone}
	for id, want := range phases {
		if o, _ := w.order(id); o.phase != want || len(o.lines) != 0 {
			t.Errorf("order %s: %+v, want phase %d without lines", id, o, want)
		}
	}
	if err := w.evolve(9, change{kind: "shop.stock.counted.v1"}); !errors.Is(err, events.ErrUnknownType) {
		t.Errorf("unknown event: error %v", err)
	}
}

func TestSketchLeavesItsParentAlone(t *testing.T) {
	t.Parallel()
	w := fold(t, received("A", 10, "r1"), decided(events.TypeStockReserved, "o1", 1, 1, line("A", 4)))
	before := fold(t, received("A", 10, "r1"), decided(events.TypeStockReserved, "o1", 1, 1, line("A", 4)))
	s := w.sketch(nil)
	for i, c := range []change{
		decided(events.TypeStockReserved, "o2", 2, 1, line("A", 6)), decided(events.TypeStockCommitted, "o1", 3, 2, line("A", 4)), received("B", 1, "r2"),
	} {
		if err := s.evolve(uint64(i)+3, c); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(w, before) {
		t.Errorf("parent changed: %+v", w)
	}
	if it, _ := s.item("A"); it.onHand != 6 || it.reserved != 6 {
		t.Errorf("sketch has %+v", it)
	}
	if o, _ := s.order("o1"); o.phase != phaseCommitted {
		t.Errorf("sketch has o1 as %+v", o)
	}
}

func TestForget(t *testing.T) {
	t.Parallel()
	w := fold(t, received("A", 10, "r1"),
		decided(events.TypeStockReserved, "held", 1, 1, line("A", 1)), decided(events.TypeStockRejected, "old", 2, 1))
	ask := func(kind, order string, seq uint64) bool {
		_, certain := w.lookup(orderEvent{Type: kind, OrderID: order, Sequence: seq})
		return !certain
	}
	w.forget() // keeps what ended since the last time
	if _, ok := w.order("old"); !ok || ask(events.TypeOrderRejected, "new", 3) {
		t.Error("the first forgetting must forget nothing, and memory must still be certain")
	}
	if err := w.evolve(4, decided(events.TypeStockRejected, "young", 5, 1)); err != nil {
		t.Fatal(err)
	}
	w.forget()
	if _, ok := w.order("old"); ok {
		t.Error("an order that ended before the last forgetting is still there")
	}
	if o, ok := w.order("young"); !ok || o.phase != phaseRejected {
		t.Error("an order that ended since is gone")
	}
	if o, ok := w.order("held"); !ok || len(o.lines) != 1 {
		t.Error("a reservation is gone")
	}
	for _, test := range []struct {
		kind, order string
		seq         uint64
		ask         bool
	}{
		{events.TypeOrderPlaced, "new", 3, false}, // above all that was answered then: never decided
		{events.TypeOrderPlaced, "new", 2, true},  // may be an old one that comes again
		{events.TypeOrderRejected, "new", 9, true},
		{events.TypeOrderConfirmed, "new", 9, true},
		{events.TypeOrderPlaced, "held", 1, false},
		{events.TypeOrderRejected, "young", 2, false},
	} {
		if got := ask(test.kind, test.order, test.seq); got != test.ask {
			t.Errorf("%s of %s at %d: must be looked up: %t, want %t", test.kind, test.order, test.seq, got, test.ask)
		}
	}
}

func TestAddSaturates(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ a, b, want int64 }{
		{1, 2, 3}, {-1, 1, 0}, {math.MaxInt64, 1, math.MaxInt64}, {math.MinInt64, -1, math.MinInt64}, {math.MaxInt64, math.MinInt64, -1},
		{math.MaxInt64, math.MaxInt64, math.MaxInt64}, {math.MinInt64, math.MinInt64, math.MinInt64},
	} {
		if got := add(test.a, test.b); got != test.want {
			t.Errorf("%d + %d = %d, want %d", test.a, test.b, got, test.want)
		}
	}
}
