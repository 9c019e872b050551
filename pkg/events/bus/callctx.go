package bus

import (
	"context"
	"sync"
	"time"
)

// callContext is the context of one call of a handler: its parent's, with the time limit. It is [context.WithDeadline], made when somebody first asks for Done: a
// timer costs more than what many a handler does, and a handler that folds an event into memory never waits for one.
type callContext struct {
	context.Context // the parent
	deadline        time.Time
	attempt         int

	mu     sync.Mutex
	timed  context.Context // nil until it is needed
	cancel context.CancelFunc
	over   bool // the call has returned
}

// begin starts the call's time. The context is the zero value before.
func (c *callContext) begin(parent context.Context, limit time.Duration, attempt int) {
	c.Context, c.deadline, c.attempt = parent, time.Now().Add(limit), attempt
	if sooner, ok := parent.Deadline(); ok && sooner.Before(c.deadline) {
		c.deadline = sooner
	}
}

// end is what the cancel function of a context is. The handler may have kept the context.
func (c *callContext) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	if c.cancel != nil {
		c.cancel()
	}
}

func (c *callContext) Deadline() (time.Time, bool) { return c.deadline, true }

func (c *callContext) Done() <-chan struct{} { return c.needed().Done() }

func (c *callContext) Err() error {
	if ctx := c.made(); ctx != nil {
		return ctx.Err()
	}
	if c.Context.Err() == nil && time.Now().Before(c.deadline) {
		return nil
	}
	return c.needed().Err()
}

// Value asks the timed context where there is one: package context finds by it what a child must be told of.
func (c *callContext) Value(key any) any {
	if key == (attemptKey{}) {
		return c.attempt
	}
	if ctx := c.made(); ctx != nil {
		return ctx.Value(key)
	}
	return c.Context.Value(key)
}

// made is the timed context, or nil where nobody needed it and the call is not over.
func (c *callContext) made() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timed == nil && c.over {
		c.make()
	}
	return c.timed
}

func (c *callContext) needed() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timed == nil {
		c.make()
	}
	return c.timed
}

func (c *callContext) make() {
	c.timed, c.cancel = context.WithDeadline(c.Context, c.deadline)
	if c.over {
		c.cancel()
	}
}
