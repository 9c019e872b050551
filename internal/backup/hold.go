package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/tidemark/tidemark/pkg/events"
)

const (
	// pauseFor is how long the broker keeps a group still that nobody lets go on: what becomes of it if the backup is killed.
	pauseFor   = 30 * time.Second
	renewEvery = 10 * time.Second
	settleTime = 5 * time.Second
	settleStep = 5 * time.Millisecond
	atOnce     = 8 // requests to the broker at a time
)

// hold keeps consumer groups still: the broker sends them nothing new until they are released.
type hold struct {
	js      jetstream.JetStream
	began   time.Time
	floors  []Floor
	settled bool

	mu     sync.Mutex // also held while the broker is told, so that nothing is paused that was just released
	groups []events.Group
	lost   error // they did not stand still all the time

	stop context.CancelFunc
	kept sync.WaitGroup
}

// holdGroups pauses the groups, waits until what they have in hand is done, and notes where they stand. A group that has something in hand for long, such as an order whose payment is
// tried again, is not waited for: it is noted where its acknowledged part ends.
func holdGroups(ctx context.Context, js jetstream.JetStream, groups []events.Group, settle time.Duration) (*hold, error) {
	renewing, stop := context.WithCancel(ctx)
	h := &hold{js: js, groups: groups, began: time.Now(), stop: stop}
	if err := h.pause(ctx); err != nil {
		return nil, errors.Join(err, h.release(ctx))
	}
	h.kept.Go(func() { h.renew(renewing) })
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

// each calls fn for every partition of groups, some at once, and again where a busy broker does not answer.
func each(ctx context.Context, groups []events.Group, fn func(ctx context.Context, stream, consumer string) error) error {
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(atOnce)
	for _, g := range groups {
		for p := range g.Partitions {
			all.Go(func() error {
				err := settled(ctx, func(ctx context.Context) error { return fn(ctx, g.Stream, g.Consumer(p)) })
				if err != nil {
					return fmt.Errorf("consumer %s: %w", g.Consumer(p), err)
				}
				return nil
			})
		}
	}
	return all.Wait()
}

func (h *hold) pause(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	until := time.Now().Add(pauseFor)
	err := each(ctx, h.groups, func(ctx context.Context, stream, consumer string) error {
		_, err := h.js.PauseConsumer(ctx, stream, consumer, until)
		return err
	})
	if err != nil {
		return fmt.Errorf("hold the groups: %w", err)
	}
	return nil
}

// renew pauses again and again, until ctx ends.
func (h *hold) renew(ctx context.Context) {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := h.pause(ctx); err != nil && ctx.Err() == nil {
				h.mu.Lock()
				h.lost = err
				h.mu.Unlock()
			}
		case <-ctx.Done():
			return
		}
	}
}

// look notes where the groups stand, and says how many events they have in hand.
func (h *hold) look(ctx context.Context) (busy int, err error) {
	var mu sync.Mutex
	var floors []Floor
	err = each(ctx, h.groups, func(ctx context.Context, stream, consumer string) error {
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

// letGo releases all groups but those that are named. The error says that they did not stand still all the time.
func (h *hold) letGo(ctx context.Context, but ...string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	free := make([]events.Group, 0, len(h.groups))
	rest := make([]events.Group, 0, len(but))
	for _, g := range h.groups {
		if slices.Contains(but, g.Name) {
			rest = append(rest, g)
		} else {
			free = append(free, g)
		}
	}
	h.groups = rest
	err := each(ctx, free, func(ctx context.Context, stream, consumer string) error {
		_, err := h.js.ResumeConsumer(ctx, stream, consumer)
		return err
	})
	if err != nil {
		err = fmt.Errorf("let the groups go on (they do so by themselves in %s): %w", pauseFor, err)
	}
	return errors.Join(h.lost, err)
}

// release lets all groups go on that don't yet, also where ctx has ended: they must not wait because somebody pressed Ctrl-C.
func (h *hold) release(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pauseFor)
	defer cancel()
	h.stop()
	h.kept.Wait()
	return h.letGo(ctx)
}
