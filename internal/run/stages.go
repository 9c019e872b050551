package run

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Stages runs stages of parts: each starts when the one before it is ready, and they stop in reverse, each within budget. It ends when ctx ends or any part fails.
// ready is called once when all are.
func Stages(ctx context.Context, budget time.Duration, ready func(), stages ...[]Part) error {
	type running struct {
		stop context.CancelFunc
		done chan error
	}
	failed, fail := context.WithCancel(ctx)
	defer fail()
	var started []running
	for _, parts := range stages {
		work, stop := context.WithCancel(context.WithoutCancel(ctx))
		r := running{stop: stop, done: make(chan error, 1)}
		started = append(started, r)
		go func() {
			r.done <- All(work, budget, parts...)
			fail()
		}()
		if AwaitReady(failed, parts...) != nil {
			break
		}
	}
	if failed.Err() == nil {
		ready()
	}
	<-failed.Done()

	var errs []error
	for i, s := range slices.Backward(started) {
		s.stop()
		if err := <-s.done; err != nil {
			errs = append(errs, fmt.Errorf("stage %d: %w", i, err))
		}
	}
	return errors.Join(errs...)
}
