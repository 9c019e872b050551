package load

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark/tidemark/internal/client"
)

const (
	watchAtOnce  = 8
	watchBatch   = 256
	watchShort   = 50 * time.Millisecond
	watchLongest = time.Second
)

// watch asks for the outcome of every order that is not known to have ended: once, or with wait until all have. It asks for a part at a time, oldest
// first, and pauses where little has changed, since the asking takes from what it waits for.
func (s *sender) watch(ctx context.Context, wait bool) error {
	queue := s.takeOpen()
	s.report.phase("outcomes", len(queue))
	again := len(queue)
	pause := watchShort
	for len(queue) > 0 {
		n := min(watchBatch, len(queue))
		if !wait {
			n = min(n, again)
			again -= n
		}
		if n == 0 {
			break
		}
		still, err := s.ask(ctx, queue[:n])
		queue = append(queue[n:], still...)
		if err != nil {
			s.setOpen(len(queue))
			return err
		}
		s.report.add(n - len(still))
		if !wait {
			continue
		}
		if len(still) <= n/2 {
			pause = watchShort
			continue
		}
		if err := sleep(ctx, pause); err != nil {
			s.setOpen(len(queue))
			return err
		}
		pause = min(pause*2, watchLongest)
	}
	s.setOpen(len(queue))
	return nil
}

// ask reads orders and returns those that are still open, also where it fails.
func (s *sender) ask(ctx context.Context, ids []string) ([]string, error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(watchAtOnce)
	ended := make([]atomic.Bool, len(ids))
	for i, id := range ids {
		group.Go(func() error {
			o, err := s.api.Order(ctx, id)
			if client.StatusOf(err) == 404 {
				return nil // accepted, so it will be there
			}
			if err != nil {
				return err
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			ended[i].Store(s.ended(o))
			return nil
		})
	}
	err := group.Wait()
	var still []string
	for i, id := range ids {
		if !ended[i].Load() {
			still = append(still, id)
		}
	}
	return still, err
}

func (s *sender) takeOpen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	queue := s.open
	s.open = nil
	return queue
}

func (s *sender) setOpen(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sum.Open = n
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
