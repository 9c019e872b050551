package order

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// follow keeps the read model: two readers fold the streams side by side, a third stores what they folded. caughtUp is closed when both have
// read what was stored at the start.
func (s *Service) follow(ctx context.Context, readers *errgroup.Group, snapshots *snapshotting) {
	var left atomic.Int32
	left.Store(2)
	caughtUp := func() {
		if left.Add(-1) == 0 {
			snapshots.caughtUp()
			close(s.caughtUp)
		}
	}
	for _, log := range []*store.Store{s.log, s.stock} {
		once := sync.OnceFunc(caughtUp)
		stream := events.StreamOrders
		if log == s.stock {
			stream = events.StreamStock
		}
		readers.Go(func() error { return s.followOne(ctx, log, stream, snapshots, once) })
	}
	readers.Go(func() error { return snapshots.run(ctx, s.logger) })
}

// followOne folds one stream until ctx ends. An event that can't be read is passed over and named in the log: the others must not become invisible because of
// it. Event stores have no gaps, so it is the one behind the position.
func (s *Service) followOne(ctx context.Context, log *store.Store, stream string, snapshots *snapshotting, caughtUp func()) error {
	for {
		err := log.Follow(ctx, s.table.position(stream)+1, func(r store.Recorded) error {
			if err := s.table.apply(r); err != nil {
				s.logger.WarnContext(ctx, "an event has no place in the listing", "error", err)
			}
			snapshots.count()
			return nil
		}, caughtUp)
		if !errors.Is(err, events.ErrUndecodable) {
			if err != nil {
				err = fmt.Errorf("follow %s: %w", stream, err)
			}
			return err
		}
		s.logger.WarnContext(ctx, "an event can't be read and is not in the listing", "error", err)
		s.table.pass(stream)
	}
}

// position is the last sequence of a stream that was folded.
func (t *table) position(stream string) uint64 {
	p := t.where()
	if stream == events.StreamStock {
		return p.stock
	}
	return p.orders
}

func (t *table) where() positions {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.positions
}

func (p positions) byStream() map[string]uint64 {
	return map[string]uint64{events.StreamOrders: p.orders, events.StreamStock: p.stock}
}

// pass moves the position over one event that can't be read.
func (t *table) pass(stream string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if stream == events.StreamStock {
		t.positions.stock++
		return
	}
	t.positions.orders++
}

// snapshotting decides when a snapshot is written: after so many events, more of them while the log is still being read, and at a clean stop.
type snapshotting struct {
	*snapshotter
	every   int64 // 0 or less: never
	live    atomic.Bool
	counted atomic.Int64 // events since the last snapshot
	due     chan struct{}
}

const (
	behindFactor = 25 // a rebuild writes fewer snapshots, since reading is what it is about
	stopLimit    = 2 * time.Second
)

func newSnapshotting(s *snapshotter, every int) *snapshotting {
	return &snapshotting{snapshotter: s, every: int64(every), due: make(chan struct{}, 1)}
}

func (s *snapshotting) count() {
	threshold := s.every
	if !s.live.Load() {
		threshold *= behindFactor
	}
	if s.every > 0 && s.counted.Add(1) >= threshold {
		s.ask()
	}
}

func (s *snapshotting) ask() {
	select {
	case s.due <- struct{}{}:
	default: // one is asked for already
	}
}

// caughtUp asks for a snapshot where much was read: the next start need not read it again.
func (s *snapshotting) caughtUp() {
	s.live.Store(true)
	if s.every > 0 && s.counted.Load() >= s.every {
		s.ask()
	}
}

func (s *snapshotting) run(ctx context.Context, log *slog.Logger) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.due:
			s.tryOn(ctx, log)
		}
	}
}

// tryOn finishes a snapshot that was begun before the stop: half of one is work for nothing.
func (s *snapshotting) tryOn(ctx context.Context, log *slog.Logger) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(stopLimit, cancel) })()
	s.try(longer, log)
}

// try writes a snapshot. A failure costs the next start some time, and nothing else.
func (s *snapshotting) try(ctx context.Context, log *slog.Logger) {
	counted := s.counted.Swap(0)
	err := s.write(ctx)
	if err == nil {
		return
	}
	s.counted.Add(counted)
	if ctx.Err() == nil { // else it is the stop, which writes the last one
		log.WarnContext(ctx, "the listing is not stored", "error", err)
	}
}

// atStop writes the last snapshot, so that the next start reads nothing.
func (s *snapshotting) atStop(ctx context.Context, log *slog.Logger) {
	if s.every <= 0 || s.counted.Load() == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	s.try(ctx, log)
}
