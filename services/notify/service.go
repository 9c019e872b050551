package notify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// Service is one instance of notify.
type Service struct {
	cfg      Config
	js       jetstream.JetStream
	group    *bus.Group
	channels []channel
	email    *email
	webhook  *webhook // nil where none is configured
	notices  notices
	orders   *store.Store
	metrics  *metrics
	tracer   trace.Tracer
	ready    chan struct{}
}

// New checks and puts together. It does not block. The topology must have been applied by whoever starts the service.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := errors.Join(cfg.Validate(), deps.validate()); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	telemetry := deps.Telemetry.OrNothing()
	js, err := jetstream.New(deps.NATS)
	if err != nil {
		return nil, fmt.Errorf("notify: %w", err)
	}
	encoder, subjects := bus.NewEncoder(deps.Registry, telemetry), deps.Topology.Subjects()
	s := &Service{
		cfg: cfg, js: js, tracer: telemetry.Tracer.Tracer("github.com/tidemark/tidemark/services/notify"), ready: make(chan struct{}), orders: store.New(js, events.StreamOrders, encoder, telemetry),
		notices: notices{log: store.New(js, events.StreamNotices, encoder, telemetry), subjects: subjects},
	}
	if s.metrics, err = newMetrics(telemetry.Meter); err != nil {
		return nil, fmt.Errorf("notify: metrics: %w", err)
	}
	if err := s.makeChannels(cfg, telemetry); err != nil {
		return nil, fmt.Errorf("notify: %w", err)
	}
	group, _ := deps.Topology.Group(events.GroupNotify)
	s.group, err = bus.NewGroup(
		bus.GroupConfig{Group: group, Handler: s.handle, Lanes: cfg.Lanes, Timeout: handlerTime(cfg), Retries: cfg.Retries},
		bus.Deps{JS: js, Encoder: encoder, Subjects: subjects, Telemetry: telemetry},
	)
	if err != nil {
		return nil, fmt.Errorf("notify: %w", err)
	}
	return s, nil
}

// handlerTime leaves each channel its time to send, and as much again to wait for a connection.
func handlerTime(cfg Config) time.Duration { return 4 * cfg.SendTimeout }

func (s *Service) makeChannels(cfg Config, telemetry bus.Telemetry) error {
	from, err := parseFrom(cfg.From)
	if err != nil {
		return err
	}
	mailer, err := newMailer(cfg)
	if err != nil {
		return err
	}
	s.email = &email{from: from, mailer: mailer}
	s.channels = []channel{s.email}
	if cfg.WebhookURL == "" {
		return nil
	}
	if s.webhook, err = newWebhook(cfg, telemetry.Propagator); err != nil {
		return err
	}
	s.channels = append(s.channels, s.webhook)
	return nil
}

// Ready is closed when the orders are read, by this instance or by another.
func (s *Service) Ready() <-chan struct{} { return s.ready }

// Standing is what the group has to do.
func (s *Service) Standing(ctx context.Context) ([]bus.Standing, error) {
	if s.cfg.APIOnly {
		return nil, nil
	}
	standing, err := s.group.Standing(ctx)
	if err != nil {
		return nil, fmt.Errorf("notify: %w", err)
	}
	return []bus.Standing{standing}, nil
}

// Run reads until ctx ends. It then finishes what is being sent and records it, closes the connections, and returns nil.
func (s *Service) Run(ctx context.Context) error {
	defer s.close()
	var err error
	if s.email.contacts, err = openContacts(ctx, s.js); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("notify: %w", err)
	}
	if s.cfg.APIOnly {
		close(s.ready)
		<-ctx.Done()
		return nil
	}
	read := make(chan error, 1)
	go func() { read <- s.group.Run(ctx) }()
	ready := s.group.Ready()
	for {
		select {
		case <-ready:
			close(s.ready)
			ready = nil
		case err := <-read:
			return err
		}
	}
}

func (s *Service) close() {
	s.email.mailer.close()
	if s.webhook != nil {
		s.webhook.close()
	}
}
