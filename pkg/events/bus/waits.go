package bus

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff is the n-th wait: first doubled n-1 times, at most limit, ±20 %.
func backoff(n int, first, limit time.Duration) time.Duration {
	wait := first << min(n-1, 16)
	return jitter(min(wait, limit))
}

// jitter moves d by up to 20 % either way, so that many who failed together don't try again together.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64())) //nolint:gosec // spreads load, guards nothing
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
