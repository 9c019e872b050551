package analytics

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

// DefaultBound is how much disorder the queries wait for unless told otherwise.
const DefaultBound = time.Minute

const closeTimeout = time.Second // for the last base

// Config configures an instance. The zero value of a field means its default.
type Config struct {
	Bound time.Duration // how far each watermark trails the largest event time; default [DefaultBound]
}

func (c Config) withDefaults() Config {
	if c.Bound == 0 {
		c.Bound = DefaultBound
	}
	return c
}

// Validate reports every rule that the configuration breaks, joined.
func (c Config) Validate() error {
	var errs []error
	for _, q := range queries(c.withDefaults().Bound) {
		if err := q.window.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("analytics: query %s: %w", q.name, err))
		}
	}
	return errors.Join(errs...)
}

// Deps are what an instance needs.
type Deps struct {
	NATS      *nats.Conn       // required
	Topology  events.Topology  // as it was applied to the broker
	Registry  *events.Registry // required
	Telemetry bus.Telemetry
}

// Service is one instance of analytics.
type Service struct {
	worker   *worker
	log      *bus.Log
	index    *index
	follower *follower
	clicks   *clickIntake
	queries  []query
	ready    chan struct{}
}

// New checks and puts together. It does not block. The topology must have been applied by whoever starts the service.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.NATS == nil || deps.Registry == nil {
		return nil, errors.New("analytics: NATS and Registry: required")
	}
	group, ok := deps.Topology.Group(events.GroupAnalytics)
	if !ok {
		return nil, fmt.Errorf("analytics: the topology has no group %q", events.GroupAnalytics)
	}
	js, err := jetstream.New(deps.NATS)
	if err != nil {
		return nil, fmt.Errorf("analytics: %w", err)
	}
	telemetry := deps.Telemetry.OrNothing()
	encoder := bus.NewEncoder(deps.Registry, telemetry)
	subjects := deps.Topology.Subjects()
	busDeps := bus.Deps{JS: js, Encoder: encoder, Subjects: subjects, Telemetry: telemetry}
	qs := queries(cfg.withDefaults().Bound)

	s := &Service{queries: qs, index: newIndex(qs), ready: make(chan struct{})}
	s.worker = newWorker(js, subjects, encoder, deps.Registry, qs, s.index, telemetry)
	if err := observe(telemetry.Meter, s.worker.view); err != nil {
		return nil, fmt.Errorf("analytics: %w", err)
	}
	s.follower = newFollower(js, subjects, qs, s.index, telemetry.Logger)
	s.clicks = newClickIntake(bus.NewPublisher(busDeps), deps.Registry, subjects)
	s.log, err = bus.NewLog(bus.LogConfig{
		Group: group, Handler: s.worker.handle, Position: s.worker.position, Check: s.worker.check,
	}, busDeps)
	if err != nil {
		return nil, fmt.Errorf("analytics: %w", err)
	}
	return s, nil
}

// Ready is closed when TIMELINE is read, by this instance or by another, and the closed windows are known.
func (s *Service) Ready() <-chan struct{} { return s.ready }

// Run serves until ctx ends; the step that is under way is finished.
func (s *Service) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		err := s.log.Run(ctx)
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		s.worker.close(last)
		return err
	})
	g.Go(func() error { return s.follower.run(ctx) })
	g.Go(func() error {
		for _, part := range []<-chan struct{}{s.log.Ready(), s.follower.ready} {
			select {
			case <-part:
			case <-ctx.Done():
				return nil
			}
		}
		close(s.ready)
		return nil
	})
	return g.Wait()
}
