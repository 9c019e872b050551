package program

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// ErrTerminated is the cause of the context's end where whoever runs this program replaces or stops it (SIGTERM); a person at the terminal says Ctrl-C.
var ErrTerminated = errors.New("terminated")

var errInterrupted = errors.New("interrupted")

// SignalContext ends at the first interrupt or termination, and its cause says which; a second one kills the process as usual.
func SignalContext() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		defer signal.Stop(signals)
		select {
		case s := <-signals:
			if s == syscall.SIGTERM {
				cancel(ErrTerminated)
				return
			}
			cancel(errInterrupted)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}
