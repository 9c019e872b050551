package inventory

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidemark/tidemark/pkg/events"
)

// shop is the warehouse without a broker: a log in a slice, and decisions on it as the decider makes them.
type shop struct {
	log  []change
	live *live
}

func newShop() *shop { return &shop{live: newLive(1 << 62)} }

func (s *shop) append(t *rapid.T, c change) {
	s.log = append(s.log, c)
	if err := s.live.fold(uint64(len(s.log)), fmt.Sprint(len(s.log)), c); err != nil {
		t.Fatal(err)
	}
}

func (s *shop) deliver(t *rapid.T, e orderEvent) {
	w := s.live.state.sketch(map[string]orderState{})
	c, v := decideOrder(w, e)
	if v == verdictAsk {
		w.found[e.OrderID] = s.lastOf(e.OrderID)
		c, v = decideOrder(w, e)
	}
	switch v {
	case verdictAsk:
		t.Fatalf("%+v must be looked up twice", e)
	case verdictAppend:
		s.append(t, c)
	}
}

func (s *shop) lastOf(order string) orderState {
	for i, c := range slices.Backward(s.log) {
		if c.decision.OrderID == order {
			return orderState{phase: phaseReleased, version: c.version, sequence: uint64(i) + 1}
		}
	}
	return orderState{}
}

// restart replaces the state by what its snapshot gives.
func (s *shop) restart(t *rapid.T) {
	blob, err := json.Marshal(s.live.take())
	if err != nil {
		t.Fatal(err)
	}
	var shot snapshot
	if err := json.Unmarshal(blob, &shot); err != nil {
		t.Fatal(err)
	}
	w, err := shot.restore()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(w, s.live.state) {
		t.Fatalf("restored %+v\nwant     %+v", w, s.live.state)
	}
	s.live.state = w
}

// drawOrders makes the events of some orders with their sequences in ORDERS: an order's end stands anywhere behind its beginning.
func drawOrders(t *rapid.T) []orderEvent {
	var all []orderEvent
	orders := rapid.IntRange(1, 12).Draw(t, "orders")
	for i := range orders {
		id := fmt.Sprintf("o%d", i)
		lines := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) events.Line {
			return line(rapid.SampledFrom([]string{"A", "B", "C"}).Draw(t, "sku"), rapid.Int64Range(1, 6).Draw(t, "quantity"))
		}), 1, 4).Draw(t, "lines")
		all = append(all, orderEvent{ID: id + "-1", Type: events.TypeOrderPlaced, OrderID: id, Lines: lines})
	}
	ends := []string{events.TypeOrderConfirmed, events.TypeOrderRejected, events.TypeOrderCancelled}
	for i := range orders {
		end := rapid.SampledFrom(append(ends, "")).Draw(t, "end")
		if end == "" {
			continue
		}
		e := orderEvent{ID: fmt.Sprintf("o%d-2", i), Type: end, OrderID: fmt.Sprintf("o%d", i)}
		placed := slices.IndexFunc(all, func(other orderEvent) bool { return other.OrderID == e.OrderID })
		at := rapid.IntRange(placed+1, len(all)).Draw(t, "ended at")
		all = append(all[:at], append([]orderEvent{e}, all[at:]...)...)
	}
	for i := range all {
		all[i].Sequence = uint64(i) + 1
	}
	return all
}

// TestAnyOrderOfAnything delivers events of orders in any order, any number of times, between receipts, forgettings and restarts.
func TestAnyOrderOfAnything(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		orders := drawOrders(t)
		s := newShop()
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"event", "event", "event", "event", "receipt", "forget", "restart"}).Draw(t, "step") {
			case "event":
				s.deliver(t, rapid.SampledFrom(orders).Draw(t, "event"))
			case "receipt":
				r := receipt{ID: rapid.SampledFrom([]string{"r1", "r2", "r3", "r4"}).Draw(t, "receipt"), SKU: rapid.SampledFrom([]string{"A", "B", "C"}).Draw(t, "sku"), Quantity: 7}
				r.ID += r.SKU
				if c, repeated, err := decideReceipt(s.live.state, r); err == nil && !repeated {
					s.append(t, c)
				}
			case "forget":
				s.live.state.forget()
			case "restart":
				s.restart(t)
			}
		}
		judge(t, s.log)
		again := newWarehouse()
		for i, c := range s.log {
			if err := again.evolve(uint64(i)+1, c); err != nil {
				t.Fatal(err)
			}
		}
		if !reflect.DeepEqual(again.items, s.live.state.items) || !reflect.DeepEqual(again.receipts, s.live.state.receipts) {
			t.Fatalf("the log folds to %+v, the state is %+v", again.items, s.live.state.items)
		}
	})
}

// fatal is what *testing.T and *rapid.T have in common.
type fatal interface {
	Helper()
	Fatalf(format string, args ...any)
}

// judge reads a whole log and fails on the first event after which the warehouse is not sound. It knows nothing of evolve.
func judge(t fatal, log []change) {
	t.Helper()
	onHand, reserved, versions := map[string]int64{}, map[string]int64{}, map[string]uint64{}
	holds, ended, receipts := map[string][]events.Line{}, map[string]bool{}, map[string]bool{}
	for i, c := range log {
		key, d := c.decision.OrderID, c.decision
		if c.kind == events.TypeStockReceived {
			key = "sku " + c.received.SKU
			if receipts[c.received.ReceiptID] {
				t.Fatalf("event %d: receipt %s is added twice", i+1, c.received.ReceiptID)
			}
			receipts[c.received.ReceiptID] = true
			onHand[c.received.SKU] += c.received.Quantity
		} else if ended[key] {
			t.Fatalf("event %d: %s of order %s, which has ended", i+1, c.kind, key)
		}
		if versions[key]++; versions[key] != c.version {
			t.Fatalf("event %d: %s has version %d, want %d", i+1, key, c.version, versions[key])
		}
		held, holding := holds[key]
		switch c.kind {
		case events.TypeStockReserved:
			if holding {
				t.Fatalf("event %d: order %s reserves twice", i+1, key)
			}
			holds[key] = d.Lines
			for _, l := range d.Lines {
				reserved[l.SKU] += l.Quantity
			}
		case events.TypeStockRejected:
			ended[key] = true
			if holding || len(d.Shortages) == 0 {
				t.Fatalf("event %d: order %s is rejected: %+v", i+1, key, d)
			}
		case events.TypeStockCommitted, events.TypeStockReleased:
			ended[key] = true
			if len(held) != len(d.Lines) || len(held) > 0 && !reflect.DeepEqual(held, d.Lines) || c.kind == events.TypeStockCommitted && !holding {
				t.Fatalf("event %d: %s of order %s has %v, it held %v", i+1, c.kind, key, d.Lines, held)
			}
			delete(holds, key)
			for _, l := range d.Lines {
				reserved[l.SKU] -= l.Quantity
				if c.kind == events.TypeStockCommitted {
					onHand[l.SKU] -= l.Quantity
				}
			}
		}
		for sku := range reserved {
			if onHand[sku] < 0 || reserved[sku] < 0 || reserved[sku] > onHand[sku] {
				t.Fatalf("event %d (%s): SKU %s has %d on hand and %d reserved", i+1, c.kind, sku, onHand[sku], reserved[sku])
			}
		}
	}
}
