package inventory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/store"
)

const (
	defaultForgetEvery = 20_000      // events, where snapshots are off
	followPause        = time.Second // before the log is followed again after a failure
)

// Service is one instance of inventory.
type Service struct {
	cfg       Config
	js        jetstream.JetStream
	log       *store.Store
	group     reader
	live      *live
	decider   *decider
	keeper    keeper
	metrics   *metrics
	telemetry bus.Telemetry

	caughtUp chan struct{} // closed when the state has everything that was stored at the start
	ready    chan struct{}

	saved  uint64         // position of the last snapshot that was taken; the decider's
	stored atomic.Uint64  // and of the last one that is stored
	saving sync.WaitGroup // a snapshot on its way
	idle   chan struct{}  // holds the right to store one
}

// reader hands the events of ORDERS to handle: the consumer group, or nothing where others read, and in tests that call handle themselves.
type reader interface {
	Run(ctx context.Context) error
	Ready() <-chan struct{}
	Standing(ctx context.Context) (bus.Standing, error)
}

// nobody reads nothing.
type nobody struct{ ready chan struct{} }

func newNobody() nobody {
	n := nobody{ready: make(chan struct{})}
	close(n.ready)
	return n
}

// Run waits for the end.
func (nobody) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Ready holds at once.
func (n nobody) Ready() <-chan struct{} { return n.ready }

// Standing is nothing.
func (nobody) Standing(context.Context) (bus.Standing, error) { return bus.Standing{}, nil }

// New checks and puts together. It does not block. The topology must have been applied by whoever starts the service.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := errors.Join(cfg.Validate(), deps.validate()); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	telemetry := deps.Telemetry.OrNothing()
	js, err := jetstream.New(deps.NATS)
	if err != nil {
		return nil, fmt.Errorf("inventory: %w", err)
	}
	encoder := bus.NewEncoder(deps.Registry, telemetry)
	s, err := newService(cfg, js, deps.Topology.Subjects(), encoder, telemetry)
	if err != nil {
		return nil, fmt.Errorf("inventory: %w", err)
	}
	if cfg.APIOnly {
		s.group = newNobody()
		return s, nil
	}
	group, _ := deps.Topology.Group(events.GroupInventory)
	s.group, err = bus.NewGroup(
		bus.GroupConfig{Group: group, Handler: s.handle, Lanes: cfg.Lanes},
		bus.Deps{JS: js, Encoder: encoder, Subjects: deps.Topology.Subjects(), Telemetry: telemetry},
	)
	if err != nil {
		return nil, fmt.Errorf("inventory: %w", err)
	}
	return s, nil
}

// newService is everything but the reader of ORDERS.
func newService(cfg Config, js jetstream.JetStream, subjects events.Subjects, encoder *bus.Encoder, telemetry bus.Telemetry) (*Service, error) {
	s := &Service{
		cfg: cfg, js: js, telemetry: telemetry, log: store.New(js, events.StreamStock, encoder, telemetry),
		caughtUp: make(chan struct{}), ready: make(chan struct{}), idle: make(chan struct{}, 1),
	}
	s.idle <- struct{}{}
	s.live = newLive(defaultForgetEvery)
	if cfg.SnapshotEvery > 0 {
		s.live.forgetEvery = uint64(cfg.SnapshotEvery)
	}
	var err error
	if s.metrics, err = newMetrics(telemetry.Meter, s.live); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	s.decider = &decider{
		log: s.log, subjects: subjects, live: s.live, telemetry: telemetry, metrics: s.metrics,
		batchFrom: cfg.BatchFrom, maxBatch: cfg.MaxBatch, between: s.keepHouse,
		queue: make(chan *request, queueLength), done: make(chan struct{}),
	}
	return s, nil
}

// Ready is closed when the state has caught up with the log and the orders are read, by this instance or by another.
func (s *Service) Ready() <-chan struct{} { return s.ready }

// Standing is what the group has to do.
func (s *Service) Standing(ctx context.Context) ([]bus.Standing, error) {
	standing, err := s.group.Standing(ctx)
	if err != nil {
		return nil, fmt.Errorf("inventory: %w", err)
	}
	return []bus.Standing{standing}, nil
}

// Run serves until ctx ends. It then stops in the order in which nothing is lost: no new orders, decide what is in flight, store the state.
func (s *Service) Run(ctx context.Context) error {
	if err := s.load(ctx); err != nil {
		return stopped(ctx, err)
	}
	following, stopFollowing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopFollowing()
	followed := make(chan error, 1)
	go func() { followed <- s.follow(following) }()
	select {
	case <-s.caughtUp:
	case err := <-followed:
		return err
	case <-ctx.Done():
		stopFollowing()
		return <-followed
	}

	s.decider.appended = s.live.position()-s.saved >= s.live.forgetEvery // after a long start, spare the next one
	deciding, stopDeciding := context.WithCancel(context.WithoutCancel(ctx))
	defer stopDeciding()
	go s.decider.run(deciding)
	err := s.read(ctx, followed)
	stopDeciding()
	<-s.decider.done
	stopFollowing()
	err = errors.Join(err, <-followed)
	s.saving.Wait()
	if err == nil {
		s.saveLast(ctx)
	}
	return err
}

// read runs the consumer group until ctx ends or the log can't be followed any more. followed then still has its one value.
func (s *Service) read(ctx context.Context, followed chan error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
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
		case err := <-followed:
			followed <- err
			cancel()
			return <-read
		}
	}
}

func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the error says that it was stopped
	}
	return err
}

// load starts from the snapshot, if there is a good one.
func (s *Service) load(ctx context.Context) error {
	blobs, err := store.NewSnapshots(ctx, s.js, events.BucketSnapshots)
	if err != nil {
		return fmt.Errorf("inventory: %w", err)
	}
	s.keeper = keeper{blobs: blobs, log: s.log}
	if s.cfg.SnapshotEvery < 0 {
		return nil
	}
	w, lastID, err := s.keeper.load(ctx)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		s.telemetry.Logger.WarnContext(ctx, "the snapshot can't be used; the whole log is read", "error", err)
		return nil
	}
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	s.live.state, s.live.lastID, s.live.forgotAt = w, lastID, w.at.position
	s.saved = w.at.position
	s.stored.Store(w.at.position)
	return nil
}

// follow keeps the state up to date with the log until ctx ends. After it has caught up once, a broker that is away is waited for; a log that can't be
// folded is the end: deciding on a wrong state could sell what is not there.
func (s *Service) follow(ctx context.Context) error {
	first := true
	caughtUp := func() {
		if !first {
			return
		}
		first = false
		s.live.mu.Lock()
		defer s.live.mu.Unlock()
		s.live.starting = false
		close(s.caughtUp)
	}
	for {
		err := s.log.Follow(ctx, s.live.position()+1, s.live.foldRecorded, caughtUp)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the error says that it was stopped
		}
		if broken := s.live.brokenBy(); broken != nil {
			return fmt.Errorf("inventory: %w", broken)
		}
		if first {
			return fmt.Errorf("inventory: %w", err)
		}
		s.telemetry.Logger.WarnContext(ctx, "following the stock log ended; it is followed again", "error", err)
		select {
		case <-time.After(followPause):
		case <-ctx.Done():
		}
	}
}
