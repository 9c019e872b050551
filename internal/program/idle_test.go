package program

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark/tidemark/pkg/events/bus"
)

// watched is what an idle part sees, and when it left.
type watched struct {
	standing atomic.Pointer[bus.Standing]
	fails    atomic.Bool
	begun    atomic.Uint64
	open     atomic.Int64
	left     chan time.Time
}

func (w *watched) part(after time.Duration, leave func()) *idle {
	ready := make(chan struct{})
	close(ready)
	w.left = make(chan time.Time, 1)
	return &idle{
		after: after, ready: func() <-chan struct{} { return ready }, log: slog.New(slog.DiscardHandler),
		leave:    func() { w.left <- time.Now(); leave() },
		requests: func() (uint64, int64) { return w.begun.Load(), w.open.Load() },
		standing: func(context.Context) ([]bus.Standing, error) {
			if w.fails.Load() {
				return nil, errors.New("no broker")
			}
			return []bus.Standing{{Moves: 7}, *w.standing.Load()}, nil
		},
	}
}

func TestIdleLeavesAfterItsTimeAndNotBefore(t *testing.T) {
	t.Parallel()
	quiet := func(w *watched) { w.standing.Store(&bus.Standing{}) }
	for name, c := range map[string]struct {
		stay func(*watched) // what holds it for ten minutes
	}{
		"an event waits":            {func(w *watched) { w.standing.Store(&bus.Standing{Lag: 1}) }},
		"a letter waits for retry":  {func(w *watched) { w.standing.Store(&bus.Standing{Retries: 1}) }},
		"a job has not ended":       {func(w *watched) { w.standing.Store(&bus.Standing{Jobs: 1}) }},
		"another member reads":      {func(w *watched) { w.standing.Store(&bus.Standing{StandsBy: true}) }},
		"a request is open":         {func(w *watched) { w.open.Store(1) }},
		"the broker does not reply": {func(w *watched) { w.fails.Store(true) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := new(watched)
				quiet(w)
				c.stay(w)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan error, 1)
				p := w.part(time.Minute, cancel)
				go func() { done <- p.Run(ctx) }()
				select {
				case at := <-w.left:
					t.Fatalf("left at %s though %s", at, name)
				case <-time.After(10 * time.Minute):
				}
				w.open.Store(0)
				w.fails.Store(false)
				quiet(w)
				began := time.Now()
				at := <-w.left
				if idle := at.Sub(began); idle < 55*time.Second || idle > 70*time.Second {
					t.Errorf("left after %s of idleness, want a minute", idle)
				}
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestIdleTakesActivityBetweenTwoLooksForActivity(t *testing.T) {
	t.Parallel()
	for name, act := range map[string]func(*watched){
		"an event came and was done": func(w *watched) { w.standing.Store(&bus.Standing{Moves: w.standing.Load().Moves + 2}) },
		"a request came and ended":   func(w *watched) { w.begun.Add(1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := new(watched)
				w.standing.Store(&bus.Standing{})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan error, 1)
				p := w.part(time.Minute, cancel)
				go func() { done <- p.Run(ctx) }()
				for range 20 {
					select {
					case <-w.left:
						t.Fatal("left in the midst of activity")
					case <-time.After(40 * time.Second):
					}
					act(w)
				}
				<-w.left
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestIdleOfAStoppedProgramLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := new(watched)
		w.standing.Store(&bus.Standing{Lag: 1})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		p := w.part(time.Minute, cancel)
		go func() { done <- p.Run(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-done; err != nil || len(w.left) != 0 {
			t.Errorf("%v, left %d times", err, len(w.left))
		}
	})
}
