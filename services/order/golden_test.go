package order

import (
	"strings"
	"testing"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// Every event of an order that was ever published, in whatever version, still has its place in the fold.
func TestGoldenOrdersFold(t *testing.T) {
	t.Parallel()
	registry, err := events.NewRegistry()
	if err != nil {
		t.Fatal(err)
	}
	const before, after = 1, 2
	var placed, ends, stock []store.Recorded
	for _, g := range eventstest.Golden(t, registry) {
		r := store.Recorded{Event: g.Event, Stream: events.StreamOrders, Subject: g.File, Sequence: after}
		switch {
		case g.Type == events.TypeOrderDeadline: // lies in TIMERS
		case g.Type == events.TypeOrderPlaced:
			r.Sequence = before
			placed = append(placed, r)
		case strings.HasPrefix(g.Type, "shop.order."):
			ends = append(ends, r)
		case strings.HasPrefix(g.Type, "shop.stock."):
			r.Stream = events.StreamStock
			stock = append(stock, r)
		}
	}
	if len(placed) == 0 || len(ends) < 3 || len(stock) < 5 {
		t.Fatalf("the corpus holds %d, %d, %d events", len(placed), len(ends), len(stock))
	}
	for _, p := range placed {
		o, err := fold(t, p)
		if err != nil || o.Status != Placed || o.ID == "" || o.Customer == "" || o.Currency == "" || len(o.Lines) == 0 || o.Total == 0 || o.Digest == "" ||
			o.PlacedAt.IsZero() || o.UpdatedAt.IsZero() || o.PlacedID == "" || o.PlacedSeq != before || o.Version != 1 {
			t.Errorf("%s gives %+v, %v", p.Subject, o, err)
		}
		for _, e := range ends {
			o, err := fold(t, p, e)
			if err != nil || !o.Status.Ended() || o.Version != 2 || (o.Reason == "") == (o.PaymentID == "") {
				t.Errorf("%s and %s give %+v, %v", p.Subject, e.Subject, o, err)
			}
		}
		for _, s := range stock {
			if o, err := fold(t, p, s); err != nil || o.Version != 1 {
				t.Errorf("%s and %s give %+v, %v", p.Subject, s.Subject, o, err)
			}
		}
	}
}
