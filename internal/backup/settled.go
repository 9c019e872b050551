package backup

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	settledTime = time.Minute     // a cluster that has not agreed by then has other troubles
	settledTry  = 2 * time.Second // what has no leader does not answer
	settledStep = 50 * time.Millisecond
)

// settled asks again until a cluster has agreed on what was just restored: a consumer is made, and has a leader, a moment after its stream.
func settled(ctx context.Context, ask func(context.Context) error) error {
	limit, cancel := context.WithTimeout(ctx, settledTime)
	defer cancel()
	tick := time.NewTicker(settledStep)
	defer tick.Stop()
	for {
		try, cancel := context.WithTimeout(limit, settledTry)
		err := ask(try)
		cancel()
		if err == nil || !unsettled(err) || limit.Err() != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-limit.Done():
			return errors.Join(err, limit.Err())
		}
	}
}

func unsettled(err error) bool {
	for _, passing := range []error{jetstream.ErrConsumerNotFound, context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}
