package natsconn

import (
	"context"
	"errors"
	"fmt"
)

// DeniedError says that the broker does not allow a user what it tried.
type DeniedError struct {
	User string
	Err  error
}

func (e *DeniedError) Error() string {
	return fmt.Sprintf("the broker does not allow this to its user %s: %v (`tidemark topology nats-conf` prints what each user may do)", e.User, e.Err)
}

func (e *DeniedError) Unwrap() error { return e.Err }

// EndWhenDenied returns a context that ends when the broker does not allow something: what is denied gets no answer, so waiting for it is of no use. denied is for
// [Config.Denied]; why turns the error of what was ended into its reason.
func EndWhenDenied(ctx context.Context) (ended context.Context, denied func(error), why func(error) error) {
	ctx, end := context.WithCancelCause(ctx)
	return ctx, func(err error) { end(err) }, func(err error) error {
		if reason, ok := errors.AsType[*DeniedError](context.Cause(ctx)); ok && err != nil {
			return reason
		}
		return err
	}
}
