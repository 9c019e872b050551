package inventory

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// BenchmarkDecisions decides about new orders of two lines each, with so many callers at once. One operation is one decision, stored. It is what [Config].BatchFrom
// was chosen by: "single" never makes a batch, "batch" makes one of all that waits, "default" is what the service does.
func BenchmarkDecisions(b *testing.B) {
	for name, start := range map[string]func(testing.TB) *eventstest.Server{"R1": eventstest.Start, "R3": eventstest.StartCluster} {
		for _, callers := range []int{1, 8, 16, 32, 64, 128, 256, 512} {
			for from, batchFrom := range map[string]int{"single": queueLength + 1, "batch": 2, "default": 0} {
				b.Run(fmt.Sprintf("%s/callers=%d/%s", name, callers, from), func(b *testing.B) {
					benchmarkDecisions(b, start, callers, Config{BatchFrom: batchFrom})
				})
			}
		}
	}
}

func benchmarkDecisions(b *testing.B, start func(testing.TB) *eventstest.Server, callers int, cfg Config) {
	b.Helper()
	s := newSite(b, start)
	in := s.start(cfg)
	in.receive("A", 1_000_000_000)
	in.receive("B", 1_000_000_000)
	var next atomic.Uint64
	work := func() bool {
		n := next.Add(1)
		if n > uint64(b.N) { //nolint:gosec // never negative
			return false
		}
		d := delivery(b, events.TypeOrderPlaced, fmt.Sprintf("o%d", n), n, line("A", 1), line("B", 2))
		if err := in.handle(context.Background(), d); err != nil {
			b.Error(err)
		}
		return true
	}
	b.ResetTimer()
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for work() {
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
}

var startOrders = flag.Int("start-orders", 2000, "orders in the log that TestStartTime starts on")

// TestStartTime starts on a log of many orders, without and with the snapshot, and with a tail behind it. Measure with
//
//	go test ./services/inventory -run TestStartTime -v -start-orders 1000000 -timeout 30m
func TestStartTime(t *testing.T) {
	s := newSite(t, eventstest.Start)
	events := s.fill(*startOrders)
	time1, first := s.timeStart(Config{})
	t.Logf("%d orders, %d events: without a snapshot %s", *startOrders, events, time1)
	if first.live.position() != events {
		t.Fatalf("position %d, want %d", first.live.position(), events)
	}
	want := first.sum()
	orders := len(first.live.state.orders)
	first.stop() // stores the snapshot
	time2, second := s.timeStart(Config{})
	t.Logf("with the snapshot %s (%d orders in memory)", time2, orders)
	if second.saved != events || second.sum() != want {
		t.Errorf("started from %d with %s, want %d with %s", second.saved, second.sum(), events, want)
	}
	second.stop()
	blob, err := second.keeper.blobs.Get(t.Context(), snapshotName)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the snapshot has %d KiB", len(blob)>>10)
}

func (s *site) timeStart(cfg Config) (time.Duration, *instance) {
	s.tb.Helper()
	in := s.prepare(cfg)
	before := time.Now()
	in.runWithin(15 * time.Minute)
	return time.Since(before).Round(time.Millisecond), in
}

// fill stores a log as n orders of a real shop leave it, 20 lines each, and returns its last sequence: 4,000 SKUs received, every order reserved, and then
// committed, or every third one released; the last hundred stay open.
func (s *site) fill(n int) uint64 {
	s.tb.Helper()
	const skus, lines, open = 4000, 20, 100
	encoder := bus.NewEncoder(s.registry, bus.Telemetry{})
	js, err := jetstream.New(s.server.Connect(), jetstream.WithPublishAsyncMaxPending(4096))
	if err != nil {
		s.tb.Fatal(err)
	}
	var futures []jetstream.PubAckFuture
	check := func() { // a future that is not looked at is a lost event
		for _, f := range futures {
			select {
			case <-f.Ok():
			case err := <-f.Err():
				s.tb.Fatalf("fill: %v", err)
			case <-time.After(limit):
				s.tb.Fatal("fill: no answer")
			}
		}
		futures = futures[:0]
	}
	stored := uint64(0)
	put := func(kind, key, subject string, version uint64, payload any) {
		ev, err := events.New(source, kind, key, time.Now(), payload)
		if err != nil {
			s.tb.Fatal(err)
		}
		ev.Version, ev.CausationID = version, events.DeriveID(key, kind)
		msg, err := encoder.Encode(context.Background(), subject, ev)
		if err != nil {
			s.tb.Fatal(err)
		}
		f, err := js.PublishMsgAsync(msg)
		if err != nil {
			s.tb.Fatal(err)
		}
		stored++
		if futures = append(futures, f); len(futures) == 4096 {
			check()
		}
	}
	subjects := s.topology.Subjects()
	sku := func(i int) string { return fmt.Sprintf("SKU-%04d", i%skus) }
	for i := range skus {
		put(events.TypeStockReceived, sku(i), subjects.StockSKU(sku(i)), 1, events.StockReceived{SKU: sku(i), Quantity: 1_000_000, ReceiptID: events.NewID()})
	}
	for i := range n {
		id := events.DeriveID("order", fmt.Sprint(i))
		d := events.StockDecision{OrderID: id, OrderSeq: uint64(2*i) + 1} //nolint:gosec // never negative
		for l := range lines {
			d.Lines = append(d.Lines, events.Line{SKU: sku(i*7 + l), Quantity: int64(1 + l%5)})
		}
		put(events.TypeStockReserved, id, subjects.StockOrder(id), 1, d)
		if i >= n-open {
			continue
		}
		kind := events.TypeStockCommitted
		if i%3 == 0 {
			kind = events.TypeStockReleased
		}
		d.OrderSeq++
		put(kind, id, subjects.StockOrder(id), 2, d)
	}
	check()
	return stored
}
