// Package fail is how a handler says what kind of failure it met. A plain error is transient: it is retried.
package fail

import (
	"errors"
	"time"
)

type permanent struct{ err error }

func (p permanent) Error() string { return p.err.Error() }
func (p permanent) Unwrap() error { return p.err }

// Permanent marks an error that no retry will change: the event becomes a dead letter at once. nil stays nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

// IsPermanent reports whether err, or an error that it wraps, is permanent.
func IsPermanent(err error) bool {
	_, ok := errors.AsType[permanent](err)
	return ok
}

type retryAfter struct {
	err  error
	wait time.Duration
}

func (r retryAfter) Error() string { return r.err.Error() }
func (r retryAfter) Unwrap() error { return r.err }

// RetryAfter marks a transient error whose cause said how long to wait, such as an HTTP Retry-After. nil stays nil.
func RetryAfter(wait time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return retryAfter{err, wait}
}

// Wait is how long a [RetryAfter] error asks to wait.
func Wait(err error) (time.Duration, bool) {
	r, ok := errors.AsType[retryAfter](err)
	return r.wait, ok
}
