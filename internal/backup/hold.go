package backup

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/tidemark/tidemark/pkg/events"
)

const (
	// pauseFor is how long the broker keeps a group still that nobody lets go on: what becomes of it if the backup is killed.
	pauseFor     = 30 * time.Second
	renewEvery   = 10 * time.Second
	settleTime   = 5 * time.Second
	settleStep   = 5 * time.Millisecond
	atOnce       = 8 // requests to the broker at a time
	releaseLimit = 10 * time.Second
)

// hold keeps all consumer groups still: the broker sends them nothing new until they are released.
type hold struct {
	js      jetstream.JetStream
	groups  []events.Group
	began   time.Time
	floors  []Floor
	settled bool

	stop context.CancelFunc
	kept sync.WaitGroup
	lost error // valid when kept is done
	once sync.Once
	took time.Duration
}

// holdGroups pauses the groups, waits until what they have in hand is done, and notes where they stand. A group that has something in hand for long, such as an order whose payment is
// tried again, is not waited for: it is noted where its acknowledged part ends.
func holdGroups(ctx context.Context, js jetstream.JetStream, groups []events.Group, settle time.Duration) (*hold, error) {
	h := &hold{js: js, groups: groups, began: time.Now()}
	if err := h.pause(ctx); err != nil {
		return nil, errors.Join(err, h.resume(ctx))
	}
	renewing, stop := context.WithCancel(ctx)
	h.stop = stop
	h.kept.Go(func() { h.lost = h.renew(renewing) })
	deadline := time.Now().Add(settle)
	tick := time.NewTicker(settleStep)
	defer tick.Stop()
	for {
		busy, err := h.look(ctx)
		if err != nil {
			return nil, errors.Join(err, h.release(ctx))
		}
		if h.settled = busy == 0; h.settled || time.Now().After(deadline) {
			return h, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), h.release(ctx))
		}
	}
}

// each calls fn for every partition of every group, some at once.
func (h *hold) each(ctx context.Context, fn func(ctx context.Context, stream, consumer string) error) error {
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(atOnce)
	for _, g := range h.groups {
		for p := range g.Partitions {
			all.Go(func() error {
				ctx, cancel := context.WithTimeout(ctx, requestTimeout)
				defer cancel()
				if err := fn(ctx, g.Stream, g.Consumer(p)); err != nil {
					return fmt.Errorf("consumer %s: %w", g.Consumer(p), err)
				}
				return nil
			})
		}
	}
	return all.Wait()
}

func (h *hold) pause(ctx context.Context) error {
	until := time.Now().Add(pauseFor)
	err := h.each(ctx, func(ctx context.Context, stream, consumer string) error {
		_, err := h.js.PauseConsumer(ctx, stream, consumer, until)
		return err
	})
	if err != nil {
		return fmt.Errorf("hold the groups: %w", err)
	}
	return nil
}

// renew pauses again and again, until ctx ends.
func (h *hold) renew(ctx context.Context) error {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := h.pause(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// look notes where the groups stand, and says how many events they have in hand.
func (h *hold) look(ctx context.Context) (busy int, err error) {
	var mu sync.Mutex
	var floors []Floor
	err = h.each(ctx, func(ctx context.Context, stream, consumer string) error {
		c, err := h.js.Consumer(ctx, stream, consumer)
		if err != nil {
			return err
		}
		info := c.CachedInfo()
		mu.Lock()
		defer mu.Unlock()
		busy += info.NumAckPending
		floors = append(floors, Floor{stream, consumer, info.AckFloor.Stream})
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("see where the groups stand: %w", err)
	}
	h.floors = floors
	return busy, nil
}

// release lets the groups go on. The error says that they did not stand still all the time, or that they could not be told; then they go on by themselves in [pauseFor].
func (h *hold) release(ctx context.Context) error {
	var err error
	h.once.Do(func() {
		h.stop()
		h.kept.Wait()
		h.took = time.Since(h.began)
		err = errors.Join(h.lost, h.resume(ctx))
	})
	return err
}

// resume works also where ctx has ended: groups must not wait because somebody pressed Ctrl-C.
func (h *hold) resume(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseLimit)
	defer cancel()
	err := h.each(ctx, func(ctx context.Context, stream, consumer string) error {
		_, err := h.js.ResumeConsumer(ctx, stream, consumer)
		return err
	})
	if err != nil {
		return fmt.Errorf("let the groups go on (they do so by themselves in %s): %w", pauseFor, err)
	}
	return nil
}
