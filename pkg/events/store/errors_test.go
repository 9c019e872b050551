package store

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events/lookup"
)

// What each answer of the broker says about an append. A code in the wrong row loses an event or stores it twice.
func TestOutcomeOf(t *testing.T) {
	t.Parallel()
	code := func(n jetstream.ErrorCode) error { return &jetstream.APIError{ErrorCode: n} }
	tests := []struct {
		err  error
		want outcome
	}{
		{nil, stored},
		{code(10071), refused},
		{code(10164), refused},
		{code(10201), duplicate},
		{code(10158), duplicate},
		{code(10176), notTaken},
		{code(10210), notTaken},
		{code(10008), notTaken},
		{code(10009), notTaken},
		{nats.ErrNoResponders, notTaken},
		{fmt.Errorf("%w: %w", errNotConnected, context.DeadlineExceeded), notTaken},
		{nats.ErrTimeout, unknown},
		{context.DeadlineExceeded, unknown},
		{context.Canceled, unknown},
		{nats.ErrDisconnected, unknown},
		{nats.ErrConnectionClosed, unknown},
		{lookup.ErrBadAnswer, unknown},
		{fmt.Errorf("%w: %w", errNotConnected, nats.ErrConnectionClosed), failed},
		{nats.ErrMaxPayload, failed},
		{code(10060), failed}, // another stream's subject
		{code(10174), failed}, // no batches on this stream
		{code(10054), failed}, // too large
		{errors.New("anything else"), failed},
	}
	for _, tt := range tests {
		if got := outcomeOf(tt.err); got != tt.want {
			t.Errorf("%v: %d, want %d", tt.err, got, tt.want)
		}
		if tt.err == nil {
			continue
		}
		if got := outcomeOf(fmt.Errorf("publish: %w", tt.err)); got != tt.want {
			t.Errorf("%v, wrapped: %d, want %d", tt.err, got, tt.want)
		}
	}
}
