package notify

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.uber.org/goleak"

	"github.com/tidemark/tidemark/internal/mailsink"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

const limit = 30 * time.Second // of anything that a test waits for

// The variables that make the test program a notify service of its own, so that a test can kill it.
const (
	childNATS = "TIDEMARK_TEST_NOTIFY_NATS"
	childSMTP = "TIDEMARK_TEST_NOTIFY_SMTP"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(childNATS); url != "" {
		if err := runChild(url, os.Getenv(childSMTP)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	// A server that is stopped soon after its start leaves these until they time out.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*stream).trySetupSourceConsumer.func3"))
}

func runChild(url, smtpAddr string) error {
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	registry, err := events.NewRegistry()
	if err != nil {
		return err
	}
	s, err := New(Config{SMTPAddr: smtpAddr}, Deps{NATS: nc, Topology: events.DefaultTopology(partitions), Registry: registry})
	if err != nil {
		return err
	}
	return s.Run(context.Background())
}

const partitions = 2

// site is a server with the streams of the shop, a mail sink, and what tests need to talk to them.
type site struct {
	tb       testing.TB
	server   *eventstest.Server
	topology events.Topology
	subjects events.Subjects
	registry *events.Registry
	js       jetstream.JetStream
	orders   *store.Store
	notices  *store.Store
	sink     *mailsink.Sink
}

func newSite(tb testing.TB) *site {
	tb.Helper()
	return newSiteOn(tb, eventstest.Start(tb))
}

func newSiteOn(tb testing.TB, server *eventstest.Server) *site {
	tb.Helper()
	registry, err := events.NewRegistry()
	if err != nil {
		tb.Fatal(err)
	}
	s := &site{tb: tb, server: server, topology: server.Apply(events.DefaultTopology(partitions)), registry: registry, js: server.JetStream()}
	s.subjects = s.topology.Subjects()
	encoder := bus.NewEncoder(registry, bus.Telemetry{})
	s.orders = store.New(s.js, events.StreamOrders, encoder, bus.Telemetry{})
	s.notices = store.New(s.js, events.StreamNotices, encoder, bus.Telemetry{})
	s.sink = startSink(tb)
	return s
}

func startSink(tb testing.TB) *mailsink.Sink {
	tb.Helper()
	sink, err := mailsink.New(mailsink.Config{Dir: tb.TempDir()})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- sink.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Errorf("the sink ended with %v", err)
		}
	})
	<-sink.Ready()
	return sink
}

// instance is a running service.
type instance struct {
	*Service
	tb    testing.TB
	meter *sdkmetric.ManualReader
	stop  func()
}

// start runs an instance until it is stopped or the test ends.
func (s *site) start(cfg Config) *instance {
	s.tb.Helper()
	if cfg.SMTPAddr == "" {
		cfg.SMTPAddr = s.sink.Addr()
	}
	reader := sdkmetric.NewManualReader()
	telemetry := bus.Telemetry{Meter: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))}
	service, err := New(cfg, Deps{NATS: s.server.Connect(), Topology: s.topology, Registry: s.registry, Telemetry: telemetry})
	if err != nil {
		s.tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- service.Run(ctx) }()
	in := &instance{Service: service, tb: s.tb, meter: reader}
	in.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				s.tb.Errorf("ended with %v", err)
			}
		case <-time.After(limit):
			s.tb.Error("not stopped in time")
		}
	})
	s.tb.Cleanup(in.stop)
	select {
	case <-service.Ready():
	case <-time.After(limit):
		s.tb.Fatal("not ready in time")
	}
	return in
}

// count is how many notices had an outcome, over all channels.
func (in *instance) count(outcome string) int64 {
	in.tb.Helper()
	var all metricdata.ResourceMetrics
	if err := in.meter.Collect(context.Background(), &all); err != nil {
		in.tb.Fatal(err)
	}
	var sum int64
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != "tidemark.notify.notices" {
				continue
			}
			for _, p := range m.Data.(metricdata.Sum[int64]).DataPoints {
				if v, _ := p.Attributes.Value("outcome"); v.AsString() == outcome {
					sum += p.Value
				}
			}
		}
	}
	return sum
}

// address gives a customer an address.
func (s *site) address(customer, email string) {
	s.tb.Helper()
	bucket, err := s.js.KeyValue(s.tb.Context(), events.BucketContacts)
	if err != nil {
		s.tb.Fatal(err)
	}
	if _, err := bucket.Put(s.tb.Context(), events.Token(customer), fmt.Appendf(nil, `{"email":%q}`, email)); err != nil {
		s.tb.Fatal(err)
	}
}

// order appends an order's events, as the order service does, after those that it has.
func (s *site) order(id string, payloads ...any) []events.Event {
	s.tb.Helper()
	recorded, err := s.orders.Load(s.tb.Context(), s.subjects.Order(id))
	if err != nil {
		s.tb.Fatal(err)
	}
	expected := uint64(0)
	if n := len(recorded); n > 0 {
		expected = recorded[n-1].Sequence
	}
	out := make([]events.Event, len(payloads))
	for i, p := range payloads {
		ev, err := events.New("/tidemark/order", typeOf(p), id, time.Now(), p)
		if err != nil {
			s.tb.Fatal(err)
		}
		ev.Version = uint64(len(recorded) + i + 1)
		if expected, err = s.orders.Append(s.tb.Context(), s.subjects.Order(id), expected, ev); err != nil {
			s.tb.Fatal(err)
		}
		out[i] = ev
	}
	return out
}

func typeOf(payload any) string {
	switch payload.(type) {
	case events.OrderPlaced:
		return events.TypeOrderPlaced
	case events.OrderConfirmed:
		return events.TypeOrderConfirmed
	case events.OrderRejected:
		return events.TypeOrderRejected
	}
	return events.TypeOrderCancelled
}

func placed(id, customer string) events.OrderPlaced {
	return events.OrderPlaced{
		OrderID: id, CustomerID: customer, Currency: "GBP", PlacedAt: time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC), Total: 123450,
		Lines: []events.Line{{SKU: "85123A", Quantity: 1200, UnitPrice: 100}, {SKU: "71053", Quantity: 1, UnitPrice: 3450}}, RequestDigest: "d",
	}
}

func confirmed(id, customer string) events.OrderConfirmed {
	return events.OrderConfirmed{OrderID: id, CustomerID: customer, Currency: "GBP", Total: 123450, PaymentID: "pay_1"}
}

func (s *site) mails() []mailsink.Mail {
	s.tb.Helper()
	mails, err := s.sink.Mails(0, 10_000)
	if err != nil {
		s.tb.Fatal(err)
	}
	return mails
}

// notice reads one notice.
func (s *site) notice(order string, version uint64, channel string) (store.Recorded, events.Notice) {
	s.tb.Helper()
	r, err := s.notices.Last(s.tb.Context(), s.subjects.Notice(order, version, channel))
	if err != nil {
		s.tb.Fatal(err)
	}
	n, err := events.Payload[events.Notice](&r.Event)
	if err != nil {
		s.tb.Fatal(err)
	}
	return r, n
}

// awaitNotices waits until so many notices are stored.
func (s *site) awaitNotices(n uint64) {
	s.tb.Helper()
	eventstest.Eventually(s.tb, limit, fmt.Sprintf("%d notices are stored", n), func() bool {
		last, err := s.notices.LastSequence(s.tb.Context())
		return err == nil && last >= n
	})
}

// awaitDone waits until the group has acknowledged everything in ORDERS.
func (s *site) awaitDone() {
	s.tb.Helper()
	group, _ := s.topology.Group(events.GroupNotify)
	eventstest.Eventually(s.tb, limit, "the group has acknowledged everything", func() bool {
		for p := range group.Partitions {
			c, err := s.js.Consumer(s.tb.Context(), group.Stream, group.Consumer(p))
			if err != nil {
				return false
			}
			if info, err := c.Info(s.tb.Context()); err != nil || info.NumPending > 0 || info.NumAckPending > 0 {
				return false
			}
		}
		return true
	})
}

// rewind moves the group's offset to the start of ORDERS, as an operator does.
func (s *site) rewind() {
	s.tb.Helper()
	group, _ := s.topology.Group(events.GroupNotify)
	for p := range group.Partitions {
		if _, err := s.js.ResetConsumerToSequence(s.tb.Context(), group.Stream, group.Consumer(p), 1); err != nil {
			s.tb.Fatal(err)
		}
	}
}

// letter waits for a dead letter of the group.
func (s *site) letter(order string) *jetstream.RawStreamMsg {
	s.tb.Helper()
	stream, err := s.js.Stream(s.tb.Context(), events.StreamDLQ)
	if err != nil {
		s.tb.Fatal(err)
	}
	var msg *jetstream.RawStreamMsg
	eventstest.Eventually(s.tb, limit, "there is a dead letter of order "+order, func() bool {
		msg, err = stream.GetLastMsgForSubject(s.tb.Context(), s.subjects.Letter(events.GroupNotify, s.subjects.PartitionOf(order), order))
		return err == nil
	})
	return msg
}
