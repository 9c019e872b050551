package check

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// BenchmarkRead reads the logs of orders of three lines that end well (five events each, as with one notice), and tells what an order costs in time and
// in memory that stays.
func BenchmarkRead(b *testing.B) {
	const orders = 20_000
	server := eventstest.Start(b)
	topology := server.Apply(events.DefaultTopology(0))
	js := server.JetStream()
	fill(b, js, topology.Subjects(), orders)
	var kept uint64
	for b.Loop() {
		r := newReader(js, nil)
		if err := r.read(b.Context()); err != nil {
			b.Fatal(err)
		}
		if n := r.state.placed(); n != orders {
			b.Fatalf("%d orders read, want %d", n, orders)
		}
		with := heap()
		r.state = nil // the server is in this process and keeps more or less in memory: only the difference tells
		kept = with - min(with, heap())
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/orders, "µs/order")
	b.ReportMetric(float64(kept)/orders, "B/order")
}

func heap() uint64 {
	runtime.GC()
	runtime.GC() // what had a finalizer goes with the second one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func fill(b *testing.B, js jetstream.JetStream, subjects events.Subjects, orders int) {
	b.Helper()
	var acks []jetstream.PubAckFuture
	put := func(subject, eventType, key, cause string, version uint64, payload any) string {
		ev, err := events.New("/tidemark/bench", eventType, key, time.Now(), payload)
		if err != nil {
			b.Fatal(err)
		}
		ev.Version, ev.CausationID = version, cause
		header, data, err := events.Encode(&ev)
		if err != nil {
			b.Fatal(err)
		}
		ack, err := js.PublishMsgAsync(&nats.Msg{Subject: subject, Header: nats.Header(header), Data: data})
		if err != nil {
			b.Fatal(err)
		}
		acks = append(acks, ack)
		return ev.ID
	}
	for n := range orders {
		id := events.NewID()
		lines := []events.Line{{SKU: fmt.Sprintf("SKU-%d", n%1000), Quantity: 1, UnitPrice: 100}, {SKU: "B", Quantity: 2}, {SKU: "C", Quantity: 3}}
		decision := events.StockDecision{OrderID: id, OrderSeq: 1, Lines: lines}
		cause := put(subjects.Order(id), events.TypeOrderPlaced, id, "", 1, events.OrderPlaced{OrderID: id, CustomerID: fmt.Sprint(n % 4000), Currency: "GBP", Lines: lines, Total: 100})
		cause = put(subjects.StockOrder(id), events.TypeStockReserved, id, cause, 1, decision)
		cause = put(subjects.Order(id), events.TypeOrderConfirmed, id, cause, 2, events.OrderConfirmed{OrderID: id, Total: 100})
		put(subjects.Notice(id, 2, "email"), events.TypeNoticeSent, id, cause, 1, events.Notice{OrderID: id})
		put(subjects.StockOrder(id), events.TypeStockCommitted, id, cause, 2, decision)
		if len(acks) > 2000 {
			await(b, acks)
			acks = acks[:0]
		}
	}
	await(b, acks)
}

func await(b *testing.B, acks []jetstream.PubAckFuture) {
	b.Helper()
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			b.Fatal(err)
		case <-b.Context().Done():
			b.Fatal("the benchmark ends before all is stored")
		}
	}
}
