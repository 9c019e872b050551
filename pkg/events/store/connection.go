package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// errNotConnected: nothing was sent.
var errNotConnected = errors.New("not connected to the broker")

// connected waits for the connection. A publish without one would go into the client's buffer and come out at some later time.
func (a *asker) connected(ctx context.Context) error {
	if a.nc.IsConnected() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, a.pace.answer)
	defer cancel()
	status := a.nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer a.nc.RemoveStatusListener(status)
	for !a.nc.IsConnected() { // looked at again, since it may have come back before we listened
		if a.nc.IsClosed() {
			return fmt.Errorf("%w: %w", errNotConnected, nats.ErrConnectionClosed)
		}
		select {
		case <-status:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", errNotConnected, ctx.Err())
		}
	}
	return nil
}

// promptly is how long an answer takes when all is well, on a busy machine too. Only who waits longer watches the connection, so that watching costs nothing.
const promptly = 100 * time.Millisecond

// patience waits for the connection, and returns a context for one question to the broker. It ends when the answer is overdue, and when the connection breaks: the
// client itself would go on waiting for an answer that was lost with it. done must be called.
func (a *asker) patience(ctx context.Context) (_ context.Context, done func(), err error) {
	if err := a.connected(ctx); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	reconnects := a.nc.Stats().Reconnects
	timer := time.AfterFunc(promptly, func() { a.watch(ctx, cancel, reconnects) })
	return ctx, func() {
		timer.Stop()
		cancel(nil)
	}, nil
}

func (a *asker) watch(ctx context.Context, cancel context.CancelCauseFunc, reconnects uint64) {
	status := a.nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	defer a.nc.RemoveStatusListener(status)
	if a.nc.Stats().Reconnects != reconnects || !a.nc.IsConnected() {
		cancel(nats.ErrDisconnected)
		return
	}
	overdue := time.NewTimer(a.pace.answer - promptly)
	defer overdue.Stop()
	select {
	case <-status:
		cancel(nats.ErrDisconnected)
	case <-overdue.C:
		cancel(nats.ErrTimeout)
	case <-ctx.Done():
	}
}

// cause says why a question ended: of a context that we ended ourselves, err tells only that it was.
func cause(ctx context.Context, err error) error {
	if why := context.Cause(ctx); why != nil && errors.Is(err, context.Canceled) {
		return why
	}
	return err
}
