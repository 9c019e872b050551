package analytics

import (
	"fmt"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

// BenchmarkOrder is what an order of three lines costs in memory: its schema, one decoding, and the engines of all queries that take it. Broker, commit and results are
// BenchmarkBacklog's. Orders come three seconds apart, from 200 customers.
func BenchmarkOrder(b *testing.B) {
	registry, err := events.NewRegistry()
	if err != nil {
		b.Fatal(err)
	}
	topology := events.DefaultTopology(8)
	p := newPlan(Config{}.withDefaults(), &topology, registry)
	s, err := newState(p)
	if err != nil {
		b.Fatal(err)
	}
	begin := time.Date(2011, 1, 1, 0, 0, 0, 0, time.UTC)
	ds := make([]bus.Delivery, b.N)
	for i := range ds {
		at := begin.Add(time.Duration(i) * 3 * time.Second)
		ev, err := events.New("/bench", events.TypeOrderPlaced, fmt.Sprint(i), at, events.OrderPlaced{
			OrderID: fmt.Sprint(i), CustomerID: fmt.Sprint("customer-", i%200), Currency: "GBP", PlacedAt: at, Total: 765, RequestDigest: "d",
			Lines: []events.Line{{SKU: fmt.Sprint("sku-", i%50), Quantity: 1, UnitPrice: 255}, {SKU: "A", Quantity: 1, UnitPrice: 255}, {SKU: "B", Quantity: 1, UnitPrice: 255}},
		})
		if err != nil {
			b.Fatal(err)
		}
		ds[i] = bus.Delivery{Event: ev, Sequence: uint64(i + 1), Subject: fmt.Sprintf("orders.%d.x", i%8), StoredAt: at} //nolint:gosec // small
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range ds {
		ds[i].Checked, ds[i].Err = p.check(&ds[i].Event)
		var out outputs
		if _, err := s.apply(&ds[i], &out); err != nil {
			b.Fatal(err)
		}
		for q, r := range s.running {
			r.release(q, &out)
		}
	}
}
