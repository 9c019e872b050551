package order

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// fill is a table of n confirmed orders of n/10 customers.
func fill(b *testing.B, n int) *table {
	b.Helper()
	t := newTable()
	for i := range n {
		t.insert(row{
			id: mustKey(events.DeriveID("o", fmt.Sprint(i))), placedSeq: uint64(2*i + 1), total: int64(i), placedAt: at.UnixMicro(), updatedAt: at.UnixMicro(), //nolint:gosec // small
			customer: t.texts.number(fmt.Sprint("customer ", i%(n/10+1))), currency: t.texts.number("GBP"), version: 2, status: Confirmed,
		})
	}
	return t
}

func mustKey(id string) key {
	k, foreign := keyOf(id)
	if foreign {
		panic(id)
	}
	return k
}

// BenchmarkSnapshotLoad is what a start costs without the broker: decoding a snapshot of a million orders.
func BenchmarkSnapshotLoad(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			full := fill(b, n)
			runtime.GC()
			runtime.ReadMemStats(&after)
			bytes := 0
			parts := encoded(full)
			for _, part := range parts {
				bytes += len(part.data)
			}
			for b.Loop() {
				thawParts(b, parts)
			}
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "heap-B/order")
			b.ReportMetric(float64(bytes)/float64(n), "snapshot-B/order")
			runtime.KeepAlive(full)
		})
	}
}

func BenchmarkListingOfACustomer(b *testing.B) {
	t := fill(b, 1_000_000)
	for b.Loop() {
		if got, _ := t.list(query{customer: "customer 4711", limit: 100}); len(got) == 0 {
			b.Fatal("nothing")
		}
	}
}

func BenchmarkListingOfARareStatus(b *testing.B) {
	t := fill(b, 1_000_000)
	for b.Loop() {
		t.list(query{status: Reserved, limit: 100})
	}
}

func BenchmarkDecodeAndValidate(b *testing.B) {
	body := `{"customer":"17850","email":"17850@customers.example","currency":"GBP","placed_at":"2010-12-01T08:26:00Z","lines":[`
	for i := range 20 {
		if i > 0 {
			body += ","
		}
		body += `{"sku":"85123A","quantity":6,"unit_price":"2.55"}`
	}
	body += `]}`
	b.ReportAllocs()
	for b.Loop() {
		r, f, err := decodeRequest([]byte(body))
		if err != nil {
			b.Fatal(err)
		}
		r.validate(time.Now(), &f)
		if _, err := r.digest(); err != nil || len(f.list) > 0 {
			b.Fatal(f.list, err)
		}
	}
}

// BenchmarkStart is how long a start takes with so many confirmed orders stored: from the logs alone, and from the snapshot that the first start left. Run it with
// -benchtime 1x: making the orders takes far longer than reading them.
func BenchmarkStart(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			if n > 100_000 && testing.Short() {
				b.Skip("short")
			}
			w := newBenchWorld(b)
			w.store(n)
			for b.Loop() {
				fromLog, orders := w.startOnce()
				fromSnapshot, again := w.startOnce()
				if orders.count != n || orders != again {
					b.Fatalf("%+v, then %+v", orders, again)
				}
				b.ReportMetric(fromLog.Seconds(), "s-from-log")
				b.ReportMetric(fromSnapshot.Seconds(), "s-from-snapshot")
			}
		})
	}
}

type benchWorld struct {
	b        *testing.B
	nats     *eventstest.Server
	topology events.Topology
	registry *events.Registry
}

func newBenchWorld(b *testing.B) *benchWorld {
	b.Helper()
	registry, err := events.NewRegistry()
	if err != nil {
		b.Fatal(err)
	}
	s := eventstest.Start(b)
	return &benchWorld{b: b, nats: s, topology: s.Apply(needed(events.DefaultTopology(8))), registry: registry}
}

// store puts n confirmed orders and what the warehouse said of them into the logs.
func (w *benchWorld) store(n int) {
	w.b.Helper()
	js, subjects := w.nats.JetStream(), w.topology.Subjects()
	encoder := bus.NewEncoder(w.registry, bus.Telemetry{})
	var futures []jetstream.PubAckFuture
	put := func(subject, eventType, id string, payload any) {
		ev, err := events.New(source, eventType, id, at, payload)
		if err != nil {
			w.b.Fatal(err)
		}
		msg, err := encoder.Encode(context.Background(), subject, ev)
		if err != nil {
			w.b.Fatal(err)
		}
		f, err := js.PublishMsgAsync(msg)
		if err != nil {
			w.b.Fatal(err)
		}
		futures = append(futures, f)
	}
	settle := func() {
		<-js.PublishAsyncComplete()
		for _, f := range futures {
			select {
			case err := <-f.Err():
				w.b.Fatal(err)
			case <-f.Ok():
			}
		}
		futures = futures[:0]
	}
	for i := range n {
		id := events.DeriveID("order", fmt.Sprint(i))
		lines := []events.Line{{SKU: "85123A", Quantity: 6, UnitPrice: 255}, {SKU: "71053", Quantity: 6, UnitPrice: 339}}
		customer := fmt.Sprint("customer ", i%(n/10+1))
		put(subjects.Order(id), events.TypeOrderPlaced, id, events.OrderPlaced{OrderID: id, CustomerID: customer, Currency: "GBP", PlacedAt: at, Lines: lines, Total: 3564, RequestDigest: "d"})
		put(subjects.StockOrder(id), events.TypeStockReserved, id, events.StockDecision{OrderID: id, OrderSeq: uint64(i + 1), Lines: lines}) //nolint:gosec // small
		put(subjects.Order(id), events.TypeOrderConfirmed, id, events.OrderConfirmed{OrderID: id, CustomerID: customer, Currency: "GBP", Total: 3564, PaymentID: "p"})
		if len(futures) > 3000 {
			settle()
		}
	}
	settle()
}

// startOnce measures until the listing has caught up, and stops cleanly.
func (w *benchWorld) startOnce() (time.Duration, projection) {
	w.b.Helper()
	s, err := New(Config{GatewayURL: "http://127.0.0.1:1"}, Deps{NATS: w.nats.Connect(), Topology: w.topology, Registry: w.registry})
	if err != nil {
		w.b.Fatal(err)
	}
	s.groups = nil // nobody works on what is stored: it is the start that is measured
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	start := time.Now()
	go func() { ended <- s.Run(ctx) }()
	<-s.caughtUp
	took := time.Since(start)
	p := s.project()
	cancel()
	if err := <-ended; err != nil {
		w.b.Fatal(err)
	}
	return took, p
}

// BenchmarkReplay sets folding the logs into the listing, from the first event to the last and with its snapshots, against plain ordered consumers of nats.go that read the same
// two streams side by side and look at nothing. The two take turns. Run it with -benchtime 10x.
func BenchmarkReplay(b *testing.B) {
	w := newBenchWorld(b)
	const orders = 50_000
	w.store(orders)
	var plain, ours []float64
	for b.Loop() {
		plain = append(plain, w.readPlainly(2*orders, orders))
		ours = append(ours, w.replay(len(ours), orders))
	}
	slices.Sort(plain)
	slices.Sort(ours)
	middle := len(ours) / 2
	b.ReportMetric(3*orders/plain[middle], "plain-events/s")
	b.ReportMetric(3*orders/ours[middle], "events/s")
	b.ReportMetric(plain[middle]/ours[middle], "ratio")
}

// readPlainly reads both streams to their ends, and returns the seconds that it took.
func (w *benchWorld) readPlainly(orders, stock uint64) float64 {
	w.b.Helper()
	js := w.nats.JetStream()
	start := time.Now()
	var both sync.WaitGroup
	for stream, end := range map[string]uint64{events.StreamOrders: orders, events.StreamStock: stock} {
		both.Go(func() {
			consumer, err := js.OrderedConsumer(context.Background(), stream, jetstream.OrderedConsumerConfig{})
			if err != nil {
				w.b.Error(err)
				return
			}
			done, read := make(chan struct{}), uint64(0)
			consuming, err := consumer.Consume(func(jetstream.Msg) {
				if read++; read == end {
					close(done)
				}
			})
			if err != nil {
				w.b.Error(err)
				return
			}
			<-done
			consuming.Stop()
		})
	}
	both.Wait()
	return time.Since(start).Seconds()
}

// replay folds both streams into a new listing, and returns the seconds that it took.
func (w *benchWorld) replay(round, orders int) float64 {
	w.b.Helper()
	js, encoder := w.nats.JetStream(), bus.NewEncoder(w.registry, bus.Telemetry{})
	open := func(stream string) *store.Store { return store.New(js, stream, encoder, bus.Telemetry{}) }
	p, err := store.NewProjection(store.ProjectionConfig[*table]{
		Name: fmt.Sprint("bench-", round), Fold: listingFold, Layout: listingLayout, Logs: []*store.Store{open(events.StreamOrders), open(events.StreamStock)}, New: newTable,
	}, store.ProjectionDeps{JS: js, Snapshots: events.BucketSnapshots, Versions: events.BucketProjections})
	if err != nil {
		w.b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	start := time.Now()
	go func() { ended <- p.Run(ctx) }()
	<-p.CaughtUp()
	took := time.Since(start).Seconds()
	cancel()
	if err := <-ended; err != nil || p.Live().count() != orders {
		w.b.Fatal(p.Live().count(), err)
	}
	return took
}
