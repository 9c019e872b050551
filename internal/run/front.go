package run

import (
	"context"
	"errors"
	"time"
)

// Front runs a part together with those behind it, and stops it before them: what it lets in is answered by those behind. It ends when ctx ends or any part fails. The
// budgets are the times that the stop of each may take.
func Front(ctx context.Context, front Part, frontBudget, budget time.Duration, behind ...Part) error {
	work, stopWork := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stopWork(ErrStopped)
	serve, stopFront := context.WithCancel(ctx)
	defer stopFront()
	done := make(chan error, 1)
	go func() {
		done <- All(work, budget, behind...)
		stopFront()
	}()
	err := All(serve, frontBudget, front)
	stopWork(ErrStopped)
	return errors.Join(err, <-done)
}
