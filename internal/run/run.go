// Package run starts components together and stops them in order.
//
// A component is anything with Run(ctx), which blocks, and Ready(), which is closed once it serves. Groups of components start one after the other
// and stop in reverse: the services stop first, while the broker that they settle with still runs.
package run

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Component is one running part of a program.
type Component interface {
	Run(ctx context.Context) error
	Ready() <-chan struct{}
}

// Part is a component and its name in logs and in /readyz.
type Part struct {
	Name string
	Component
}

// ErrStopped is the cause of the context's end when the program was asked to stop.
var ErrStopped = errors.New("stopped")

// All runs the parts until ctx ends or one of them fails, then stops the others and waits for them, at most budget. A part that returns nil before ctx
// ends counts as failed: parts run until they are stopped.
func All(ctx context.Context, budget time.Duration, parts ...Part) error {
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(ErrStopped)
	stop := context.AfterFunc(ctx, func() { cancel(ErrStopped) })
	defer stop()

	var wg sync.WaitGroup
	errs := make(chan error, len(parts))
	for _, part := range parts {
		wg.Go(func() {
			err := part.Run(work)
			switch {
			case err != nil:
				errs <- fmt.Errorf("%s: %w", part.Name, err)
			case work.Err() == nil:
				errs <- fmt.Errorf("%s: ended by itself", part.Name)
			}
			cancel(ErrStopped)
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()

	<-work.Done()
	select {
	case <-done:
	case <-time.After(budget):
		return errors.Join(drain(errs), fmt.Errorf("not stopped within %s", budget))
	}
	return drain(errs)
}

func drain(errs chan error) error {
	var all []error
	for {
		select {
		case err := <-errs:
			all = append(all, err)
		default:
			return errors.Join(all...)
		}
	}
}

// NotReady are the names of the parts that are not ready yet.
func NotReady(parts []Part) []string {
	var names []string
	for _, part := range parts {
		select {
		case <-part.Ready():
		default:
			names = append(names, part.Name)
		}
	}
	return names
}

// Unwell is why parts that are ready don't do their work: what those say that have a method Healthy.
func Unwell(parts []Part) error {
	var errs []error
	for _, part := range parts {
		if p, ok := part.Component.(interface{ Healthy() error }); ok {
			errs = append(errs, p.Healthy())
		}
	}
	return errors.Join(errs...)
}

// AwaitReady waits until all parts are ready or ctx ends; the error then names those that are not.
func AwaitReady(ctx context.Context, parts ...Part) error {
	for _, part := range parts {
		select {
		case <-part.Ready():
		case <-ctx.Done():
			return fmt.Errorf("not ready: %v: %w", NotReady(parts), context.Cause(ctx))
		}
	}
	return nil
}

// Closed is a readiness that always holds.
func Closed() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}
