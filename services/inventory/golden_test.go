package inventory

import (
	"strings"
	"testing"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// Every event of STOCK that was ever published, in whatever version, still has its place in the fold.
func TestGoldenStockFolds(t *testing.T) {
	t.Parallel()
	registry, err := events.NewRegistry()
	if err != nil {
		t.Fatal(err)
	}
	byType := make(map[string][]change)
	for _, g := range eventstest.Golden(t, registry) {
		if !strings.HasPrefix(g.Type, "shop.stock.") {
			continue
		}
		c, err := decodeChange(store.Recorded{Event: g.Event, Stream: events.StreamStock, Subject: g.File, Sequence: 1})
		if err != nil {
			t.Errorf("%s: %v", g.File, err)
			continue
		}
		if d := c.decision; c.received == (events.StockReceived{}) && (d.OrderID == "" || d.OrderSeq == 0 || len(d.Lines)+len(d.Shortages) == 0) {
			t.Errorf("%s is read as %+v", g.File, c)
		}
		byType[g.Type] = append(byType[g.Type], c)
	}
	received := only(t, byType, events.TypeStockReceived)
	reserved := only(t, byType, events.TypeStockReserved)
	for kind, want := range map[string]phase{
		events.TypeStockRejected: phaseRejected, events.TypeStockReserved: phaseReserved,
		events.TypeStockCommitted: phaseCommitted, events.TypeStockReleased: phaseReleased,
	} {
		if len(byType[kind]) == 0 {
			t.Errorf("the corpus holds no %s", kind)
		}
		for _, c := range byType[kind] {
			history := []change{received, c}
			if want > phaseRejected {
				history = []change{received, reserved, c}
			}
			w := fold(t, history...)
			o, _ := w.order(c.decision.OrderID)
			it, known := w.item(received.received.SKU)
			held, sold := int64(0), int64(0)
			for _, l := range reserved.decision.Lines {
				switch {
				case l.SKU != received.received.SKU:
				case want == phaseReserved:
					held = l.Quantity
				case want == phaseCommitted:
					sold = l.Quantity
				}
			}
			if o.phase != want || !known || it.reserved != held || it.onHand != received.received.Quantity-sold {
				t.Errorf("%s gives phase %d, %+v; want phase %d, %d held, %d sold", kind, o.phase, it, want, held, sold)
			}
		}
	}
}

// only is the first event of a type: others are tried after it.
func only(t *testing.T, byType map[string][]change, kind string) change {
	t.Helper()
	if len(byType[kind]) == 0 {
		t.Fatalf("the corpus holds no %s", kind)
	}
	return byType[kind][0]
}
