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

const closeTimeout = time.Second // for the last base

// Config configures an instance. The zero value of a field means its default.
type Config struct {
	Queries  []Query             // what is counted; default [DefaultQueries]
	Default  *Settings           // of every query that Settings does not name; default [DefaultSettings]
	Settings map[string]Settings // by query, all fields of each

	step int // tests: most events of a step
}

func (c Config) withDefaults() Config {
	if c.Queries == nil {
		c.Queries = DefaultQueries()
	}
	if c.Default == nil {
		s := DefaultSettings()
		c.Default = &s
	}
	return c
}

// settingsOf are what holds for a query. The defaults must be in.
func (c Config) settingsOf(query string) Settings {
	if s, ok := c.Settings[query]; ok {
		return s
	}
	return *c.Default
}

// Validate reports every rule that the configuration breaks, joined.
func (c Config) Validate() error {
	if err := c.withDefaults().validateQueries(); err != nil {
		return fmt.Errorf("analytics: %w", err)
	}
	return nil
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
	worker    *worker
	log       *bus.Log
	index     *index
	follower  *follower
	feed      *feed
	clicks    *clickIntake
	backfills *backfills
	plan      *plan
	ready     chan struct{}
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
	p := newPlan(cfg.withDefaults(), &deps.Topology, deps.Registry)

	s := &Service{plan: p, index: newIndex(p), feed: newFeed(), ready: make(chan struct{})}
	s.worker = newWorker(js, subjects, encoder, p, s.index, telemetry)
	if err := observe(telemetry.Meter, s.worker.view); err != nil {
		return nil, fmt.Errorf("analytics: %w", err)
	}
	s.follower = newFollower(js, subjects, p, s.index, s.feed, telemetry.Logger)
	s.backfills = newBackfills(newBackfill(s.worker, group))
	s.clicks = newClickIntake(bus.NewPublisher(busDeps), deps.Registry, subjects)
	gather, most := p.gather()
	s.worker.view.fresh += gather
	if cfg.step > 0 {
		most = min(most, cfg.step)
	}
	s.log, err = bus.NewLog(bus.LogConfig{
		Group: group, Handler: s.worker.handle, Position: s.worker.position, Check: p.check, Gather: gather, MaxBatch: most,
		Due: s.worker.due,
	}, busDeps)
	if err != nil {
		return nil, fmt.Errorf("analytics: %w", err)
	}
	return s, nil
}

// Ready is closed when TIMELINE is read, by this instance or by another, and the closed windows are known.
func (s *Service) Ready() <-chan struct{} { return s.ready }

// Healthy says why nothing is counted any more, or nil. Some faults wait for a person: a log that does not hold what was committed, a query whose
// meaning was changed under its name.
func (s *Service) Healthy() error {
	return errors.Join(s.log.Healthy(), s.worker.health.failing(), s.worker.reach.failing())
}

// Standing is what there is to count, and to backfill. Windows that are open are not among it: they come out when heartbeats are read the next time.
func (s *Service) Standing(ctx context.Context) ([]bus.Standing, error) {
	standing, err := s.log.Standing(ctx)
	if err != nil {
		return nil, fmt.Errorf("analytics: %w", err)
	}
	standing.Jobs += s.backfills.unfinished()
	return []bus.Standing{standing}, nil
}

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
	g.Go(func() error { return s.backfills.run(ctx) })
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
