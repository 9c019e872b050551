package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/lookup"
)

var (
	// ErrConflict: somebody else appended first. Load again and decide again. Nothing of the append is stored, and nothing will be.
	ErrConflict = errors.New("append conflicts with another writer")
	// ErrUnknownOutcome: the broker did not answer, and reading did not tell whether the append was stored. It may still be stored later. Appending the same events with
	// the same lock again is safe.
	ErrUnknownOutcome = errors.New("append has an unknown outcome")
	// ErrNotFound: the subject holds no event.
	ErrNotFound = errors.New("no such event")
	// ErrInvalidAppend: the caller broke a rule of append: a subject with a wildcard, no event, too many, or one id twice.
	ErrInvalidAppend = errors.New("invalid append")
)

// UnknownEventError is how an aggregate refuses an event of a type that its fold does not know: a decision on a part of what happened would be wrong. It wraps
// [events.ErrUnknownType]. A projection may pass such an event over instead, and count it.
type UnknownEventError struct {
	Type     string
	Stream   string
	Subject  string
	Sequence uint64
}

func (e *UnknownEventError) Error() string {
	return fmt.Sprintf("%v: %q, sequence %d of %s, on %s", events.ErrUnknownType, e.Type, e.Sequence, e.Stream, e.Subject)
}

func (e *UnknownEventError) Unwrap() error { return events.ErrUnknownType }

// Unknown is the [UnknownEventError] of an event: what an Evolve answers to a type that it has no case for.
func Unknown(r Recorded) error {
	return &UnknownEventError{Type: r.Type, Stream: r.Stream, Subject: r.Subject, Sequence: r.Sequence}
}

// Error codes of the JetStream API that say how an append ended. nats-server keeps them in server/errors.json.
const (
	codeWrongSequence         jetstream.ErrorCode = 10071 // names the sequence that it found
	codeWrongSequenceConstant jetstream.ErrorCode = 10164 // the same on a replicated stream while another write is in flight
	codeDuplicateInProcess    jetstream.ErrorCode = 10158 // a message with this id is being replicated
	codeBatchDuplicate        jetstream.ErrorCode = 10201 // an id of the batch was stored before
	codeBatchIncomplete       jetstream.ErrorCode = 10176 // the leader changed inside the batch, or forgot it
	codeBatchesInFlight       jetstream.ErrorCode = 10210
	codeClusterUnavailable    jetstream.ErrorCode = 10008
	codeNotLeader             jetstream.ErrorCode = 10009
)

// outcome is what one try of an append tells.
type outcome int

const (
	stored    outcome = iota // and acknowledged
	refused                  // somebody was first: perhaps we
	duplicate                // an id is known to the stream: probably ours, at an unknown place
	unknown                  // no answer: stored, or not, or not yet
	notTaken                 // certainly not stored, for a reason that passes
	failed                   // certainly not stored, and another try would end the same way
)

func outcomeOf(err error) outcome {
	if err == nil {
		return stored
	}
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return outcomeOfCode(api)
	}
	switch {
	case errors.Is(err, errNotConnected) && errors.Is(err, nats.ErrConnectionClosed):
		return failed
	case errors.Is(err, errNotConnected), errors.Is(err, nats.ErrNoResponders):
		return notTaken
	case errors.Is(err, nats.ErrTimeout), errors.Is(err, nats.ErrDisconnected), errors.Is(err, lookup.ErrBadAnswer),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		errors.Is(err, nats.ErrConnectionClosed): // closed while waiting
		return unknown
	}
	return failed
}

func outcomeOfCode(api *jetstream.APIError) outcome {
	switch api.ErrorCode {
	case codeWrongSequence, codeWrongSequenceConstant:
		return refused
	case codeBatchDuplicate, codeDuplicateInProcess:
		return duplicate
	case codeBatchIncomplete, codeBatchesInFlight, codeClusterUnavailable, codeNotLeader:
		return notTaken
	}
	return failed
}

// notFound reports whether the answer to a read says that there is no such message.
func notFound(err error) bool {
	return errors.Is(err, jetstream.ErrMsgNotFound) || errors.Is(err, ErrNotFound)
}

func invalidAppend(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrInvalidAppend, fmt.Errorf(format, args...))
}

// The words for an error in spans and metrics.
const (
	typeConflict       = "conflict"
	typeUnknownOutcome = "unknown_outcome"
	typeInvalid        = "invalid"
	typeFailed         = "failed"
)

func errorType(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, ErrConflict):
		return typeConflict
	case errors.Is(err, ErrUnknownOutcome):
		return typeUnknownOutcome
	case errors.Is(err, ErrInvalidAppend), errors.Is(err, events.ErrInvalidEvent), errors.Is(err, events.ErrUnknownType), errors.Is(err, events.ErrSchema):
		return typeInvalid
	}
	return typeFailed
}
