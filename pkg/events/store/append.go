package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/trace"

	"github.com/tidemark/tidemark/pkg/events"
)

// MaxBatch is the most events that one append can store: the server's limit on an atomic batch.
const MaxBatch = 1000

// Append stores events on one exact subject, all or none, if the subject's last message has the stream sequence expected (0: the subject is empty).
// It returns the sequence of the last event; those of one call are consecutive. An append that was stored before succeeds again, with the sequence of then, under the same
// expectation at any time, and under the one that holds now as long as the stream remembers its ids (2 minutes, unless its topology says otherwise). The error wraps [ErrConflict], [ErrUnknownOutcome], [ErrInvalidAppend], or what
// [bus.Encoder] found wrong with an event.
func (s *Store) Append(ctx context.Context, subject string, expected uint64, evs ...events.Event) (uint64, error) {
	a, err := s.appendTo(ctx, subject, expected, evs)
	return a.sequence, err
}

// AppendOnce stores the one event that a subject is to have. That the subject has one is no error: known is set where an earlier call stored it, or somebody else did, perhaps with
// other content.
func (s *Store) AppendOnce(ctx context.Context, subject string, ev events.Event) (known bool, err error) {
	a, err := s.appendTo(ctx, subject, 0, []events.Event{ev})
	if errors.Is(err, ErrConflict) {
		return true, nil
	}
	return a.earlier, err
}

// AppendAt stores events, all or none, if the stream's last sequence is last: the lock of a whole warehouse. It returns the sequence of the last
// one; sequences of one call are consecutive. Everything else is as in [Store.Append].
func (s *Store) AppendAt(ctx context.Context, last uint64, writes ...Write) (uint64, error) {
	a, err := s.append(ctx, lock{sequence: last}, writes)
	if err != nil {
		return 0, fmt.Errorf("append to %s behind %d: %w", s.stream, last, err)
	}
	return a.sequence, nil
}

func (s *Store) appendTo(ctx context.Context, subject string, expected uint64, evs []events.Event) (appended, error) {
	writes := make([]Write, len(evs))
	for i := range evs {
		writes[i] = Write{Subject: subject, Event: evs[i]}
	}
	a, err := s.append(ctx, lock{subject: subject, sequence: expected}, writes)
	if err != nil {
		return appended{}, fmt.Errorf("append to %s behind %d: %w", subject, expected, err)
	}
	return a, nil
}

// lock is what must hold for an append to be stored: the sequence of the last message of the subject, or of the stream where subject is empty.
type lock struct {
	subject  string
	sequence uint64
}

func (l lock) header() string {
	if l.subject == "" {
		return headerExpectedLast
	}
	return headerExpectedLastOfSubject
}

const (
	headerExpectedStream        = "Nats-Expected-Stream"
	headerExpectedLast          = "Nats-Expected-Last-Sequence"
	headerExpectedLastOfSubject = "Nats-Expected-Last-Subject-Sequence"
)

// appended is an append that is stored. found is set where the broker did not say so and it was looked for; earlier where an
// earlier call stored it, perhaps with other content under the same ids.
type appended struct {
	sequence       uint64
	found, earlier bool
}

func (s *Store) append(ctx context.Context, l lock, writes []Write) (appended, error) {
	if err := checkWrites(writes); err != nil {
		return appended{}, err
	}
	each, span := s.startSpan(ctx, writes)
	a, err := s.encodeAndStore(ctx, each, l, writes)
	s.spans.End(span, err, errorType(err))
	s.metrics.ended(ctx, a, err)
	return a, err
}

// startSpan starts the span of the append, and returns a context for each event to be encoded with.
func (s *Store) startSpan(ctx context.Context, writes []Write) ([]context.Context, trace.Span) {
	if len(writes) == 1 {
		ctx, span := s.spans.Start(ctx, writes[0].Subject, &writes[0].Event)
		return []context.Context{ctx}, span
	}
	return s.spans.Batch(ctx, len(writes), func(i int) (string, *events.Event) { return writes[i].Subject, &writes[i].Event })
}

func (s *Store) encodeAndStore(ctx context.Context, each []context.Context, l lock, writes []Write) (appended, error) {
	msgs, err := s.encode(each, l, writes)
	if err != nil {
		return appended{}, err
	}
	return s.store(ctx, l, msgs)
}

func checkWrites(writes []Write) error {
	if len(writes) == 0 {
		return invalidAppend("no event")
	}
	if len(writes) > MaxBatch {
		return invalidAppend("%d events, at most %d can be stored at once", len(writes), MaxBatch)
	}
	for i := range writes {
		if !exactSubject(writes[i].Subject) {
			return invalidAppend("subject %q: must be exact, without wildcard, space or empty token", writes[i].Subject)
		}
	}
	return nil
}

func exactSubject(subject string) bool {
	if subject == "" || strings.HasPrefix(subject, ".") || strings.HasSuffix(subject, ".") || strings.Contains(subject, "..") {
		return false
	}
	return !strings.ContainsAny(subject, "*> \t\r\n")
}

// encode makes the messages. The lock stands on the first one alone: repeated on a later message of the same subject, the server refuses the batch.
func (s *Store) encode(each []context.Context, l lock, writes []Write) ([]*nats.Msg, error) {
	msgs := make([]*nats.Msg, len(writes))
	for i := range writes {
		msg, err := s.encoder.Encode(each[i], writes[i].Subject, writes[i].Event)
		if err != nil {
			return nil, err
		}
		msgs[i] = msg
	}
	if err := distinctIDs(msgs); err != nil {
		return nil, err
	}
	first := msgs[0].Header
	first[headerExpectedStream] = []string{s.stream}
	first[l.header()] = []string{strconv.FormatUint(l.sequence, 10)}
	return msgs, nil
}

func distinctIDs(msgs []*nats.Msg) error {
	if len(msgs) == 1 {
		return nil
	}
	seen := make(map[string]struct{}, len(msgs))
	for _, msg := range msgs {
		id := idOf(msg.Header)
		if _, twice := seen[id]; twice {
			return invalidAppend("id %q: stands in two events", id)
		}
		seen[id] = struct{}{}
	}
	return nil
}

// idOf is the id that the stream knows a message by.
func idOf(h nats.Header) string {
	if values := h[nats.MsgIdHdr]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// store sends the messages until it is known how the append ended, or the tries are used up. All tries carry the same lock, so at most one is stored.
func (s *Store) store(ctx context.Context, l lock, msgs []*nats.Msg) (appended, error) {
	t := tries{pace: s.pace}
	for t.next(ctx) {
		answer, err := s.send(ctx, msgs)
		o := outcomeOf(err)
		t.record(o, err)
		switch o {
		case stored:
			if !answer.Duplicate {
				return appended{sequence: answer.Sequence}, nil
			}
			o = duplicate
			t.record(o, errDuplicateID)
		case failed:
			return appended{}, t.failure()
		case notTaken:
			continue
		}
		where, sequence, err := s.locate(ctx, l, msgs, o)
		switch {
		case err != nil:
			t.note(err)
		case where == ours:
			return appended{sequence: sequence, found: true, earlier: !t.unanswered}, nil
		case where == theirs:
			return appended{}, fmt.Errorf("%w: sequence %d is taken by another event", ErrConflict, sequence)
		}
	}
	return appended{}, t.failure()
}

// tries counts the tries of one append and remembers what they told.
type tries struct {
	pace       pace
	made       int
	last       outcome
	unanswered bool // a try may be stored, or may still come to be
	refusals   int
	err        error
}

// next waits before every try but the first, and reports whether there is one more.
func (t *tries) next(ctx context.Context) bool {
	if t.made > 0 {
		first := t.pace.recover
		if t.last == refused || t.last == duplicate {
			first = t.pace.refused // the write that was first is being replicated: a matter of milliseconds
		}
		if t.made >= t.pace.tries || t.refusals >= t.pace.refusals && !t.unanswered {
			return false
		}
		if !wait(ctx, backoff(first, t.pace.longest, t.made-1)) {
			t.note(ctx.Err())
			return false
		}
	}
	if err := ctx.Err(); err != nil {
		t.note(err)
		return false
	}
	t.made++
	return true
}

func (t *tries) record(o outcome, err error) {
	t.last = o
	switch o {
	case unknown:
		t.unanswered = true
	case refused, duplicate:
		t.refusals++
	}
	t.note(err)
}

func (t *tries) note(err error) {
	if err != nil {
		t.err = err
	}
}

// failure is the error of an append whose tries are used up.
func (t *tries) failure() error {
	switch {
	case t.unanswered:
		return fmt.Errorf("%w after %d tries: %w", ErrUnknownOutcome, t.made, t.err)
	case t.refusals > 0:
		return fmt.Errorf("%w: %w", ErrConflict, t.err)
	}
	return t.err
}
