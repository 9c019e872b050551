package run

import (
	"context"
	"sync/atomic"
)

// Boot is a component that is made when it is run: for what must wait for something else before it can be made, while health pages are
// served already.
type Boot struct {
	make  func(ctx context.Context) (Component, error)
	ready chan struct{}
	made  atomic.Pointer[Part]
}

// NewBoot returns a component that calls mk first.
func NewBoot(mk func(ctx context.Context) (Component, error)) *Boot {
	return &Boot{make: mk, ready: make(chan struct{})}
}

// Ready is closed when what was made is ready.
func (b *Boot) Ready() <-chan struct{} { return b.ready }

// Healthy is what the component that was made says.
func (b *Boot) Healthy() error {
	if made := b.made.Load(); made != nil {
		return Unwell([]Part{*made})
	}
	return nil
}

// Run makes the component and runs it. A program that is stopped while it waits has stopped cleanly.
func (b *Boot) Run(ctx context.Context) error {
	c, err := b.make(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the error says that it was stopped
		}
		return err
	}
	b.made.Store(&Part{Component: c})
	done := make(chan struct{})
	forwarded := make(chan struct{})
	go func() {
		defer close(forwarded)
		select {
		case <-c.Ready():
			close(b.ready)
		case <-done:
		}
	}()
	err = c.Run(ctx)
	close(done)
	<-forwarded
	return err
}
