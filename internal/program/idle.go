package program

import (
	"context"
	"log/slog"
	"time"

	"github.com/tidemark/tidemark/internal/run"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

// Bounds of how often is looked whether there is something to do.
const (
	looksInIdle  = 8
	shortestLook = 50 * time.Millisecond
	longestLook  = 5 * time.Second
)

// worker is a service that can say what its groups have to do.
type worker interface {
	Standing(ctx context.Context) ([]bus.Standing, error)
}

// idle is the part of a program that ends it when there was nothing to do for some time (--max-idle): no event was delivered or acknowledged in the service's groups,
// whichever member did it, none waits or is in flight, no dead letter waits for a retry, no job for its end, and nobody has asked the API for anything. A broker that can't be
// asked is no reason to leave: what it holds may be work.
type idle struct {
	after    time.Duration
	ready    func() <-chan struct{} // of the service
	standing func(ctx context.Context) ([]bus.Standing, error)
	requests func() (begun uint64, open int64)
	leave    func()
	log      *slog.Logger
}

// Ready holds at once.
func (i *idle) Ready() <-chan struct{} { return run.Closed() }

// Run looks until ctx ends, and asks the program to stop once it was idle for long enough.
func (i *idle) Run(ctx context.Context) error {
	select {
	case <-i.ready():
	case <-ctx.Done():
		return nil
	}
	tick := time.NewTicker(min(max(i.after/looksInIdle, shortestLook), longestLook))
	defer tick.Stop()
	before, since := trail{}, time.Now()
	for {
		now, quiet := i.look(ctx)
		if !quiet || now != before {
			since = time.Now()
		}
		before = now
		if time.Since(since) >= i.after {
			i.log.InfoContext(ctx, "nothing to do: leaving", "idle", i.after)
			i.leave()
			<-ctx.Done()
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// trail is what activity leaves behind.
type trail struct{ moves, begun uint64 }

func (i *idle) look(ctx context.Context) (t trail, quiet bool) {
	var open int64
	t.begun, open = i.requests()
	standings, err := i.standing(ctx)
	if err != nil {
		i.log.DebugContext(ctx, "could not ask the broker whether there is something to do", "error", err)
		return t, false
	}
	quiet = open == 0
	for _, s := range standings {
		t.moves += s.Moves
		quiet = quiet && s.Nothing()
	}
	return t, quiet
}
