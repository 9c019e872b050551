package order

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/store"
)

var at = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

// recorded makes an event as the log gives it back.
func recorded(t testing.TB, stream string, sequence uint64, eventType, id string, when time.Time, payload any) store.Recorded {
	t.Helper()
	ev, err := events.New(source, eventType, id, when, payload)
	if err != nil {
		t.Fatal(err)
	}
	ev.ID = fmt.Sprint(stream, sequence)
	return store.Recorded{Event: ev, Stream: stream, Sequence: sequence}
}

func placedEvent(t testing.TB, sequence uint64, id, customer string) store.Recorded {
	t.Helper()
	return recorded(t, events.StreamOrders, sequence, events.TypeOrderPlaced, id, at, events.OrderPlaced{
		OrderID: id, CustomerID: customer, Currency: "GBP", PlacedAt: at, Lines: []events.Line{{SKU: "A", Quantity: 1, UnitPrice: 100}}, Total: 100, RequestDigest: "d",
	})
}

func endEvent(t testing.TB, sequence uint64, eventType, id string) store.Recorded {
	t.Helper()
	payload := map[string]any{"order_id": id, "customer_id": "c", "reason": "timeout", "payment_id": "p"}
	return recorded(t, events.StreamOrders, sequence, eventType, id, at.Add(time.Minute), payload)
}

func stockEvent(t testing.TB, sequence uint64, eventType, id string, orderSeq uint64) store.Recorded {
	t.Helper()
	return recorded(t, events.StreamStock, sequence, eventType, id, at.Add(time.Second), events.StockDecision{OrderID: id, OrderSeq: orderSeq})
}

func fold(t *testing.T, history ...store.Recorded) (Order, error) {
	t.Helper()
	var o Order
	for _, r := range history {
		var err error
		if o, err = evolve(o, r); err != nil {
			return o, err
		}
	}
	return o, nil
}

func TestEvolve(t *testing.T) {
	t.Parallel()
	placed := placedEvent(t, 7, "o", "c")
	reserved := stockEvent(t, 3, events.TypeStockReserved, "o", 7)
	confirmed := endEvent(t, 9, events.TypeOrderConfirmed, "o")
	cancelled := endEvent(t, 9, events.TypeOrderCancelled, "o")
	rejected := endEvent(t, 9, events.TypeOrderRejected, "o")
	tests := map[string]struct {
		history []store.Recorded
		status  Status
		version uint64
		broken  bool
	}{
		"nothing":                       {nil, None, 0, false},
		"placed":                        {[]store.Recorded{placed}, Placed, 1, false},
		"reserved":                      {[]store.Recorded{placed, reserved}, Reserved, 1, false},
		"confirmed":                     {[]store.Recorded{placed, reserved, confirmed}, Confirmed, 2, false},
		"confirmed, answer seen late":   {[]store.Recorded{placed, confirmed, reserved}, Confirmed, 2, false},
		"rejected":                      {[]store.Recorded{placed, rejected}, Rejected, 2, false},
		"cancelled":                     {[]store.Recorded{placed, reserved, cancelled}, Cancelled, 2, false},
		"stock committed means nothing": {[]store.Recorded{placed, stockEvent(t, 4, events.TypeStockCommitted, "o", 9)}, Placed, 1, false},
		"placed twice":                  {[]store.Recorded{placed, placed}, Placed, 1, true},
		"ended without a beginning":     {[]store.Recorded{confirmed}, None, 0, true},
		"ended twice":                   {[]store.Recorded{placed, confirmed, cancelled}, Confirmed, 2, true},
		"a type that is not known":      {[]store.Recorded{placed, endEvent(t, 9, "shop.order.shipped.v1", "o")}, Placed, 1, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, err := fold(t, test.history...)
			if o.Status != test.status || o.Version != test.version || (err != nil) != test.broken {
				t.Fatalf("%s, version %d, %v; want %s, %d, broken %t", o.Status, o.Version, err, test.status, test.version, test.broken)
			}
		})
	}
	o, err := fold(t, placed, rejected)
	if err != nil || o.Reason != "timeout" || o.PlacedSeq != 7 || o.PlacedID != placed.ID || !o.UpdatedAt.Equal(at.Add(time.Minute)) || o.Total != 100 || len(o.Lines) != 1 {
		t.Fatalf("%+v, %v", o, err)
	}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	why := cause{id: "because", at: at}
	states := map[string]Order{"none": {}}
	for name, status := range map[string]Status{"placed": Placed, "reserved": Reserved, "confirmed": Confirmed, "rejected": Rejected, "cancelled": Cancelled} {
		states[name] = Order{ID: "o", Customer: "c", Currency: "GBP", Status: status, Version: 1, PlacedID: "placed", Digest: "d"}
	}
	commands := map[string]func(Order) ([]events.Event, error){
		"place": func(o Order) ([]events.Event, error) {
			return decidePlace(o, placeCommand{orderID: "o", customer: "c", currency: "GBP", placedAt: at, lines: []events.Line{{SKU: "A", Quantity: 1}}, digest: "d"})
		},
		"place another": func(o Order) ([]events.Event, error) { return decidePlace(o, placeCommand{orderID: "o", digest: "e"}) },
		"confirm":       func(o Order) ([]events.Event, error) { return decideConfirm(o, "pay", why) },
		"reject":        func(o Order) ([]events.Event, error) { return decideReject(o, events.ReasonTimeout, "", why) },
		"cancel":        func(o Order) ([]events.Event, error) { return decideCancel(o, "", at) },
	}
	const nothing = "-"
	table := []string{
		//               none                       placed                      reserved                    confirmed  rejected  cancelled
		"place         | shop.order.placed.v1     | -                         | -                         | -        | -       | -",
		"place another | shop.order.placed.v1     | ErrOtherRequest           | ErrOtherRequest           | ErrOtherRequest | ErrOtherRequest | ErrOtherRequest",
		"confirm       | ErrNotPlaced             | shop.order.confirmed.v1   | shop.order.confirmed.v1   | -        | ErrEnded | ErrEnded",
		"reject        | ErrNotPlaced             | shop.order.rejected.v1    | shop.order.rejected.v1    | ErrEnded | -       | ErrEnded",
		"cancel        | ErrNotPlaced             | shop.order.cancelled.v1   | shop.order.cancelled.v1   | ErrEnded | ErrEnded | -",
	}
	sentinels := map[string]error{"ErrOtherRequest": ErrOtherRequest, "ErrNotPlaced": ErrNotPlaced, "ErrEnded": ErrEnded}
	registry, err := events.NewRegistry()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range table {
		cells := strings.Split(row, "|")
		command := strings.TrimSpace(cells[0])
		for n, state := range []string{"none", "placed", "reserved", "confirmed", "rejected", "cancelled"} {
			want := strings.TrimSpace(cells[n+1])
			evs, err := commands[command](states[state])
			switch sentinel := sentinels[want]; {
			case sentinel != nil:
				if !errors.Is(err, sentinel) || len(evs) > 0 {
					t.Errorf("%s when %s: %v, %v; want %s", command, state, evs, err, want)
				}
			case want == nothing:
				if err != nil || len(evs) > 0 {
					t.Errorf("%s when %s: %v, %v; want nothing", command, state, evs, err)
				}
			default:
				if err != nil || len(evs) != 1 || evs[0].Type != want {
					t.Fatalf("%s when %s: %v, %v; want %s", command, state, evs, err, want)
				}
				if err := registry.Validate(&evs[0]); err != nil && command != "place another" {
					t.Errorf("%s when %s: %v", command, state, err)
				}
			}
		}
	}
}

func TestIdsTellARepetitionFromACompetitor(t *testing.T) {
	t.Parallel()
	open := Order{ID: "o", Customer: "c", Currency: "GBP", Status: Reserved, Version: 1, PlacedID: "placed"}
	decide := func(payment string, why cause) events.Event {
		evs, err := decideConfirm(open, payment, why)
		if err != nil {
			t.Fatal(err)
		}
		return evs[0]
	}
	one, same, other := decide("p", cause{"s1", at}), decide("p", cause{"s1", at.Add(time.Hour)}), decide("p", cause{"s2", at})
	if one.ID != same.ID || one.ID == other.ID || one.CausationID != "s1" || one.Version != 2 || one.CorrelationID != "o" {
		t.Errorf("ids %s, %s, %s; event %+v", one.ID, same.ID, other.ID, one)
	}
	c := placeCommand{orderID: "o", customer: "c", currency: "GBP", placedAt: at, digest: "d"}
	first, _ := decidePlace(Order{}, c)
	second, _ := decidePlace(Order{}, c)
	if first[0].ID == second[0].ID {
		t.Error("two requests share the id of order.placed: the store would tell both that they placed it")
	}
}

func TestTextsAreCutAtTheLimitOfTheirSchema(t *testing.T) {
	t.Parallel()
	list := make([]events.Shortage, 1000)
	for i := range list {
		list[i] = events.Shortage{SKU: strings.Repeat("漢", 64), Requested: 1_000_000}
	}
	evs, err := decideReject(Order{ID: "o", Customer: "c", Status: Placed, Version: 1}, events.ReasonOutOfStock, shortages(list), cause{"s", at})
	if err != nil {
		t.Fatal(err)
	}
	registry, err := events.NewRegistry()
	if err != nil {
		t.Fatal(err)
	}
	if err := registry.Validate(&evs[0]); err != nil {
		t.Fatal(err)
	}
	var p events.OrderRejected
	if err := json.Unmarshal(evs[0].Data, &p); err != nil || len([]rune(p.Detail)) != maxText {
		t.Fatalf("%d characters, %v", len([]rune(p.Detail)), err)
	}
}

func TestPreferredWait(t *testing.T) {
	t.Parallel()
	for prefer, want := range map[string]time.Duration{
		"": 0, "wait=5": 5 * time.Second, "respond-async, wait=5": 5 * time.Second, "Wait = 5; x=1": 5 * time.Second, "wait=31": maxWaitFor, "wait=99999999999": 0,
		"wait=-1": 0, "wait": 0, "wait=soon": 0, "await=5": 0,
	} {
		if got := preferredWait(prefer); got != want {
			t.Errorf("%q: %s, want %s", prefer, got, want)
		}
	}
}
