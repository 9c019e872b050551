package order

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

func decode[T any](t *testing.T, r reply) (v T) {
	t.Helper()
	if r.code != http.StatusOK {
		t.Fatalf("%d %s", r.code, r.raw)
	}
	if err := json.Unmarshal(r.raw, &v); err != nil {
		t.Fatalf("%s: %v", r.raw, err)
	}
	return v
}

func TestListingEventsAndProjectionOverHTTP(t *testing.T) {
	t.Parallel()
	i := newWorld(t).start(Config{})
	var ids []string
	for n := range 5 {
		ids = append(ids, i.placeOne(fmt.Sprint("k", n), oneLine))
	}
	guests := i.placeOne("guest", line(`"sku":"A","quantity":1,"unit_price":"0"`))
	i.answer(ids[1], events.TypeStockReserved)
	i.await(ids[1], "confirmed")
	i.settled()

	type list struct {
		Items []OrderBody `json:"items"`
		Next  string      `json:"next_cursor"`
	}
	var got []string
	cursor := ""
	for {
		page := decode[list](t, i.do(http.MethodGet, "/v1/orders?customer=17850&status=placed&limit=2&cursor="+cursor, ""))
		for _, o := range page.Items {
			if o.Status != "placed" || o.Customer != "17850" || o.Total != "15.30" || len(o.Lines) > 0 {
				t.Errorf("%+v", o)
			}
			got = append(got, o.ID)
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if want := []string{ids[0], ids[2], ids[3], ids[4]}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("listed %v, want %v", got, want)
	}
	if page := decode[list](t, i.do(http.MethodGet, "/v1/orders?customer=guest-"+guests, "")); len(page.Items) != 1 || page.Items[0].ID != guests {
		t.Fatalf("a guest's: %+v", page)
	}

	history := decode[struct{ Items []EventBody }](t, i.do(http.MethodGet, "/v1/orders/"+ids[1]+"/events", "")).Items
	if len(history) != 3 || history[1].Type != events.TypeStockReserved || history[1].Stream != events.StreamStock || history[1].Sequence != 1 ||
		history[2].Type != events.TypeOrderConfirmed || history[2].Version != 2 || history[2].StoredAt.IsZero() || history[0].Sequence == 0 {
		t.Fatalf("%+v", history)
	}
	if data, ok := history[0].Data.(map[string]any); !ok || data["order_id"] != ids[1] {
		t.Fatalf("data is %v", history[0].Data)
	}

	type shown struct {
		Name     string
		Position map[string]uint64
		Count    int
		Digest   string
	}
	p := decode[shown](t, i.do(http.MethodGet, "/v1/projections/orders", ""))
	if p.Name != "orders" || p.Count != 6 || p.Position["ORDERS"] != 7 || p.Position["STOCK"] != 1 || len(p.Digest) != 64 {
		t.Fatalf("%+v", p)
	}
}

// What others put into the streams, the listing passes over; the orders behind it are placed and shown.
func TestRubbishInTheLogs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.start(Config{SnapshotEvery: -1})
	first := i.placeOne("k1", oneLine)
	s := w.topology.Subjects()
	for _, subject := range []string{s.Order("rubbish"), s.StockOrder("rubbish")} {
		if _, err := w.nats.JetStream().PublishMsg(t.Context(), &nats.Msg{Subject: subject, Data: []byte("rubbish")}); err != nil {
			t.Fatal(err)
		}
	}
	second := i.placeOne("k2", oneLine)
	i.answer(second, events.TypeStockReserved)
	i.await(second, "confirmed")
	live := i.settled()
	if live.count != 2 {
		t.Fatalf("%+v", live)
	}
	i.halt()
	again := w.begin(Config{SnapshotEvery: -1})
	eventstest.Eventually(t, patience, "the listing is read again", func() bool { return again.where() == live.positions })
	if p := again.project(); p != live {
		t.Fatalf("%+v, then %+v", live, p)
	}
	again.await(first, "placed")
}

func TestConfigNamesEveryError(t *testing.T) {
	t.Parallel()
	err := Config{GatewayURL: "here", Deadline: 1, PaymentTimeout: MaxPaymentTimeout + 1, MaxRequests: -1, MaxOpen: -1}.Validate()
	var list interface{ Unwrap() []error }
	if list, _ = err.(interface{ Unwrap() []error }); list == nil || len(list.Unwrap()) != 5 { //nolint:errorlint // it is joined here
		t.Fatalf("%v", err)
	}
	if err := (Config{GatewayURL: "http://127.0.0.1:1"}).Validate(); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{GatewayURL: "http://127.0.0.1:1"}, Deps{}); err == nil {
		t.Fatal("made without a connection")
	}
}
