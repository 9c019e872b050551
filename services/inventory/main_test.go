package inventory

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.uber.org/goleak"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

func TestMain(m *testing.M) {
	// A server that is stopped while it sets up the sources of TIMELINE leaves this goroutine of its own waiting for an answer.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*stream).trySetupSourceConsumer.func3"),
		// nats.go 1.55 leaves a goroutine behind when a Put into an object store ends before its status listener has begun to listen: it then waits on a nil channel.
		goleak.IgnoreAnyFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"))
}

const limit = 30 * time.Second // of anything that a test waits for

// site is a server with the streams of the shop, and what tests need to talk to it.
type site struct {
	tb       testing.TB
	server   *eventstest.Server
	topology events.Topology
	registry *events.Registry
	js       jetstream.JetStream
	log      *store.Store // of STOCK
}

func newSite(tb testing.TB, start func(testing.TB) *eventstest.Server) *site {
	tb.Helper()
	server := start(tb)
	registry, err := events.NewRegistry()
	if err != nil {
		tb.Fatal(err)
	}
	s := &site{tb: tb, server: server, topology: server.Apply(ownTopology()), registry: registry, js: server.JetStream()}
	s.log = store.New(s.js, events.StreamStock, bus.NewEncoder(registry, bus.Telemetry{}), bus.Telemetry{})
	return s
}

// ownTopology is what inventory needs of the shop's topology. The rest would only make each test slower.
func ownTopology() events.Topology {
	t := events.DefaultTopology(2)
	t.Streams = slices.DeleteFunc(t.Streams, func(s events.Stream) bool {
		return !slices.Contains([]string{events.StreamOrders, events.StreamStock, events.StreamDLQ, events.StreamDLQCtl}, s.Name)
	})
	t.Groups = slices.DeleteFunc(t.Groups, func(g events.Group) bool { return g.Name != events.GroupInventory })
	return t
}

// instance is a running service.
type instance struct {
	*Service
	tb     testing.TB
	meter  *sdkmetric.ManualReader
	cancel context.CancelFunc
	ended  chan error
	once   sync.Once
}

// idle reads no orders: tests that steer what is handled, and when, call handle themselves.
type idle chan struct{}

func (idle) Ready() <-chan struct{} {
	ready := make(chan struct{})
	close(ready)
	return ready
}

func (idle) Standing(context.Context) (bus.Standing, error) { return bus.Standing{}, nil }

func (idle) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// start runs an instance that reads no orders by itself. It ends with the test.
func (s *site) start(cfg Config) *instance {
	s.tb.Helper()
	in := s.prepare(cfg)
	in.run()
	return in
}

func (s *site) prepare(cfg Config) *instance {
	s.tb.Helper()
	reader := sdkmetric.NewManualReader()
	telemetry := bus.Telemetry{Meter: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))}.OrNothing()
	service, err := newService(cfg.withDefaults(), s.server.JetStream(), s.topology.Subjects(), bus.NewEncoder(s.registry, telemetry), telemetry)
	if err != nil {
		s.tb.Fatal(err)
	}
	service.group = idle(nil)
	return &instance{Service: service, tb: s.tb, meter: reader, ended: make(chan error, 1)}
}

func (in *instance) run() {
	in.tb.Helper()
	in.runWithin(limit)
}

func (in *instance) runWithin(limit time.Duration) {
	in.tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	in.cancel = cancel
	go func() { in.ended <- in.Run(ctx) }()
	in.tb.Cleanup(in.stop)
	select {
	case <-in.Ready():
	case err := <-in.ended:
		in.tb.Fatalf("ended before it was ready: %v", err)
	case <-time.After(limit):
		in.tb.Fatal("not ready in time")
	}
}

// stop stops the instance cleanly and waits.
func (in *instance) stop() {
	in.once.Do(func() {
		in.tb.Helper()
		in.cancel()
		select {
		case err := <-in.ended:
			if err != nil {
				in.tb.Errorf("ended with %v", err)
			}
		case <-time.After(limit):
			in.tb.Error("not stopped in time")
		}
	})
}

// count is the sum of a counter, or the number of appends of at least two events for the histogram of batches.
func (in *instance) count(name string) int64 {
	in.tb.Helper()
	var all metricdata.ResourceMetrics
	if err := in.meter.Collect(context.Background(), &all); err != nil {
		in.tb.Fatal(err)
	}
	var sum int64
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != "tidemark.inventory."+name {
				continue
			}
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					sum += p.Value
				}
			case metricdata.Histogram[int64]:
				for _, p := range data.DataPoints {
					sum += int64(p.Count - p.BucketCounts[0]) //nolint:gosec // a test's count
				}
			default:
				in.tb.Fatalf("%s is %T", name, m.Data)
			}
		}
	}
	return sum
}

// delivery is an event of ORDERS as the group hands it over. The same arguments give the same event.
func delivery(tb testing.TB, kind, order string, seq uint64, lines ...events.Line) bus.Delivery {
	tb.Helper()
	var payload any = events.OrderCancelled{OrderID: order, CustomerID: "c"}
	if kind == events.TypeOrderPlaced {
		payload = events.OrderPlaced{OrderID: order, CustomerID: "c", Currency: "GBP", PlacedAt: time.Unix(0, 0).UTC(), Lines: lines, RequestDigest: "d"}
	}
	ev, err := events.New("/test", kind, order, time.Unix(0, 0), payload)
	if err != nil {
		tb.Fatal(err)
	}
	ev.ID = events.DeriveID(order, kind)
	return bus.Delivery{Event: ev, Stream: events.StreamOrders, Sequence: seq, Attempt: 1}
}

func (in *instance) deliver(ds ...bus.Delivery) {
	in.tb.Helper()
	for _, d := range ds {
		if err := in.handle(in.tb.Context(), d); err != nil {
			in.tb.Fatalf("%s of %s: %v", d.Event.Type, d.Event.Subject, err)
		}
	}
}

func (in *instance) receive(sku string, quantity int64) {
	in.tb.Helper()
	if _, _, err := in.decider.receipt(in.tb.Context(), receipt{ID: events.NewID(), SKU: sku, Quantity: quantity}); err != nil {
		in.tb.Fatal(err)
	}
}

// sum is the state in one comparable text.
func (in *instance) sum() string {
	in.tb.Helper()
	out, err := in.getProjection(context.Background(), nil)
	if err != nil {
		in.tb.Fatal(err)
	}
	return fmt.Sprintf("%d %d %s", out.Body.Position[events.StreamStock], out.Body.Count, out.Body.Digest)
}

// read returns the whole log and fails if it is not sound.
func (s *site) read() ([]change, []store.Recorded) {
	s.tb.Helper()
	var log []change
	var recorded []store.Recorded
	_, err := s.log.Read(context.Background(), 1, func(r store.Recorded) error {
		c, err := decodeChange(r)
		log, recorded = append(log, c), append(recorded, r)
		return err
	})
	if err != nil {
		s.tb.Fatal(err)
	}
	judge(s.tb, log)
	return log, recorded
}

func (s *site) awaitPosition(in *instance, position uint64) {
	s.tb.Helper()
	eventstest.Eventually(s.tb, limit, fmt.Sprintf("an instance has folded %d events", position), func() bool { return in.live.position() >= position })
}
