package order

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// Service is the order service.
type Service struct {
	cfg       Config
	js        jetstream.JetStream
	subjects  events.Subjects
	logger    *slog.Logger
	log       *store.Store // ORDERS
	stock     *store.Store // STOCK, which is only read
	orders    store.Aggregate[Order]
	publisher *bus.Publisher
	groups    []*bus.Group
	payments  *payments
	idle      func() // closes connections to the gateway that nobody uses
	metrics   *metrics
	listing   *store.Projection[*table]
	waiters   *waiters
	once      *once
	slots     chan struct{} // one for each request that is worked on

	contacts *contacts // set before caughtUp is closed

	caughtUp chan struct{} // the read model holds what was stored when the service started
	ready    chan struct{}
	stopped  chan struct{}
}

// New checks the configuration and builds the service; Run runs it. The topology must be applied.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := errors.Join(cfg.Validate(), deps.validate()); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	telemetry := deps.Telemetry.OrNothing()
	js, err := jetstream.New(deps.NATS)
	if err != nil {
		return nil, fmt.Errorf("order: %w", err)
	}
	encoder := bus.NewEncoder(deps.Registry, telemetry)
	s := &Service{
		cfg: cfg, js: js, subjects: deps.Topology.Subjects(), logger: telemetry.Logger.With("service", events.ServiceOrder),
		log: store.New(js, events.StreamOrders, encoder, telemetry), stock: store.New(js, events.StreamStock, encoder, telemetry),
		waiters: newWaiters(), slots: make(chan struct{}, cfg.MaxRequests),
		caughtUp: make(chan struct{}), ready: make(chan struct{}), stopped: make(chan struct{}),
	}
	s.orders = store.Aggregate[Order]{Store: s.log, Evolve: evolve}
	if s.listing, err = s.newListing(telemetry); err != nil {
		return nil, fmt.Errorf("order: %w", err)
	}
	if s.metrics, err = newMetrics(telemetry.Meter, s.table, s.oldestOpen, cfg.Deadline); err != nil {
		return nil, fmt.Errorf("order: %w", err)
	}
	if s.once, err = newOnce(); err != nil {
		return nil, fmt.Errorf("order: %w", err)
	}
	busDeps := bus.Deps{Quarantine: bus.NewQuarantine(), JS: js, Encoder: encoder, Subjects: s.subjects, Telemetry: telemetry}
	s.publisher = bus.NewPublisher(busDeps)
	for name, handler := range map[string]bus.Handler{events.GroupOrderStock: s.onStock, events.GroupOrderDeadlines: s.onDeadline} {
		declared, _ := deps.Topology.Group(name)
		group, err := bus.NewGroup(bus.GroupConfig{Group: declared, Handler: handler}, busDeps)
		if err != nil {
			return nil, fmt.Errorf("order: group %s: %w", name, err)
		}
		s.groups = append(s.groups, group)
	}
	client, idle := gatewayClient(deps.HTTP)
	s.payments = &payments{client: client, base: strings.TrimSuffix(cfg.GatewayURL, "/"), timeout: cfg.PaymentTimeout}
	s.idle = idle
	return s, nil
}

// paymentsAtOnce is how many connections to the gateway are kept. The client of net/http keeps two to a host and opens all others anew.
const paymentsAtOnce = 256

func gatewayClient(given *http.Client) (client *http.Client, idle func()) {
	if given != nil {
		return given, func() {} // its owner closes it
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConns: paymentsAtOnce, MaxIdleConnsPerHost: paymentsAtOnce, IdleConnTimeout: time.Minute}
	return &http.Client{Transport: transport}, transport.CloseIdleConnections
}

// Ready is closed when the read model has caught up and every partition of the groups is read.
func (s *Service) Ready() <-chan struct{} { return s.ready }

// Run serves until ctx ends. It returns nil after a clean stop: the groups finish what is in flight, then the read model is stored. A Service runs once.
func (s *Service) Run(ctx context.Context) error {
	defer s.idle()
	defer close(s.stopped)
	if err := s.open(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("order: start: %w", err)
	}
	// The read model goes on while the groups finish: their handlers look into it.
	reading, stopReading := context.WithCancel(context.WithoutCancel(ctx))
	defer stopReading()
	readers, reading := errgroup.WithContext(reading)
	readers.Go(func() error { return s.follow(reading) })

	working, stopWorking := context.WithCancel(ctx)
	defer stopWorking()
	defer context.AfterFunc(reading, stopWorking)()
	err := s.work(working)
	stopReading()
	if err := errors.Join(err, readers.Wait()); err != nil {
		return fmt.Errorf("order: %w", err)
	}
	return nil
}

// work reads STOCK and TIMERS once the read model has caught up: its handlers rely on it to save loads.
func (s *Service) work(ctx context.Context) error {
	select {
	case <-s.caughtUp:
	case <-ctx.Done():
		return nil
	}
	if s.cfg.APIOnly {
		close(s.ready)
		<-ctx.Done()
		return nil
	}
	workers, ctx := errgroup.WithContext(ctx)
	for _, group := range s.groups {
		workers.Go(func() error { return group.Run(ctx) })
	}
	workers.Go(func() error {
		for _, group := range s.groups {
			select {
			case <-group.Ready():
			case <-ctx.Done():
				return nil
			}
		}
		close(s.ready)
		return nil
	})
	return workers.Wait()
}

// Standing is what the groups have to do. An order that is open, with a deadline to come, is not among it: the deadline comes as an event.
func (s *Service) Standing(ctx context.Context) ([]bus.Standing, error) {
	if s.cfg.APIOnly {
		return nil, nil
	}
	all := make([]bus.Standing, 0, len(s.groups))
	for _, g := range s.groups {
		standing, err := g.Standing(ctx)
		if err != nil {
			return nil, fmt.Errorf("order: %w", err)
		}
		all = append(all, standing)
	}
	return all, nil
}

// open finds the bucket.
func (s *Service) open(ctx context.Context) error {
	bucket, err := s.js.KeyValue(ctx, events.BucketContacts)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", events.BucketContacts, err)
	}
	s.contacts, err = newContacts(bucket)
	return err
}
