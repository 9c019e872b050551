package deadletter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/lookup"
)

var (
	// ErrNotFound: there is no such letter or job.
	ErrNotFound = errors.New("not found")
	// ErrConflict: somebody else wrote first. Read again and decide again.
	ErrConflict = errors.New("changed meanwhile by somebody else")
	// ErrNotAllowed: the letter's or the job's state does not admit it.
	ErrNotAllowed = errors.New("not allowed in this state")
)

// Store reads letters and reads and writes their states and jobs. It is safe for use by many goroutines.
type Store struct {
	js       jetstream.JetStream
	subjects events.Subjects
	now      func() time.Time
	direct   atomic.Bool // the streams have one replica, as far as it was last seen
}

// New returns a store.
func New(js jetstream.JetStream, subjects events.Subjects) *Store {
	return &Store{js: js, subjects: subjects, now: time.Now}
}

// answerTime is how long one answer of the broker is waited for, where the caller's context has no deadline of its own.
const answerTime = 5 * time.Second

func patience(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, answerTime)
}

// Filter selects letters. Zero fields select all.
type Filter struct {
	Group       string
	ID          string
	Key         string
	State       State
	Reason      Reason
	Fingerprint string
	EventType   string
	Since       time.Time // parked at or after
	Until       time.Time // parked before
	After       uint64    // parked after the letter with this sequence in DLQ: where a page ended
}

// subject is the narrowest filter that the broker can apply.
func (f Filter) subject(s events.Subjects) string {
	switch {
	case f.Group != "" && f.Key != "":
		return s.LettersOfKey(f.Group, f.Key)
	case f.Group != "":
		return s.LettersOfGroup(f.Group)
	default:
		return s.Letters()
	}
}

// envelope reports whether a letter fits, as far as that can never change.
func (f Filter) envelope(l *Letter) bool {
	return (f.ID == "" || f.ID == l.ID) && (f.Group == "" || f.Group == l.Group) && (f.Key == "" || f.Key == l.Key) &&
		(f.EventType == "" || f.EventType == l.EventType) &&
		(f.Since.IsZero() || !l.ParkedAt.Before(f.Since)) && (f.Until.IsZero() || l.ParkedAt.Before(f.Until))
}

// current reports whether a letter's state fits. Reason and fingerprint are those of the last failure.
func (f Filter) current(l *Letter) bool {
	e := &l.Current
	return (f.State == "" || f.State == e.State) && (f.Reason == "" || f.Reason == e.Failure.Reason) &&
		(f.Fingerprint == "" || f.Fingerprint == e.Failure.Fingerprint)
}

// Letters yields the letters that fit, in the order in which they were parked, each with its current state. Letters that are parked while it reads may or may
// not be among them. An error ends it.
func (s *Store) Letters(ctx context.Context, f Filter) iter.Seq2[Letter, error] {
	return func(yield func(Letter, error) bool) {
		if f.Group == "" && f.ID != "" {
			f.Group, _ = GroupOfID(f.ID)
		}
		for from := f.After + 1; from != 0; {
			batch, next, err := s.batch(ctx, f, from)
			if err != nil {
				yield(Letter{}, fmt.Errorf("read dead letters: %w", err))
				return
			}
			for i := range batch {
				if f.current(&batch[i]) && !yield(batch[i], nil) {
					return
				}
			}
			from = next
		}
	}
}

const (
	batchLetters = 256
	batchBytes   = 4 << 20
)

// batch reads some letters with their states. next is where to go on, 0 at the end.
func (s *Store) batch(ctx context.Context, f Filter, from uint64) (letters []Letter, next uint64, err error) {
	ctx, cancel := patience(ctx)
	defer cancel()
	messages, err := jetstreamext.GetBatch(ctx, s.js, events.StreamDLQ, batchLetters,
		jetstreamext.GetBatchSeq(from), jetstreamext.GetBatchSubject(f.subject(s.subjects)), jetstreamext.GetBatchMaxBytes(batchBytes))
	if err != nil {
		return nil, 0, err
	}
	for m, err := range messages {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			break
		}
		if err != nil {
			return nil, 0, err
		}
		next = m.Sequence + 1
		l, err := Parse(m)
		if err != nil { // not ours: listing it would show a letter that nobody can replay
			continue
		}
		if f.envelope(&l) {
			letters = append(letters, l)
		}
	}
	if err := s.readStates(ctx, letters); err != nil {
		return nil, 0, err
	}
	return letters, next, nil
}

// readStates sets Current of many letters in one request.
func (s *Store) readStates(ctx context.Context, letters []Letter) error {
	if len(letters) == 0 {
		return nil
	}
	byID := make(map[string]*Letter, len(letters))
	subjects := make([]string, 0, len(letters))
	for i := range letters {
		byID[letters[i].ID] = &letters[i]
		subjects = append(subjects, s.subjects.LetterState(letters[i].Group, letters[i].ID))
	}
	messages, err := jetstreamext.GetLastMsgsFor(ctx, s.js, events.StreamDLQCtl, subjects)
	if err != nil {
		return err
	}
	for m, err := range messages {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return nil
		}
		if err != nil {
			return err
		}
		e, err := parseEntry(m.Data, m.Sequence)
		if err != nil {
			return err
		}
		if l := byID[e.Letter]; l != nil {
			l.Current = currentOf(l, e)
		}
	}
	return nil
}

// currentOf is the state of a letter after its last entry, which may be about an earlier parking of the same event.
func currentOf(l *Letter, last Entry) Entry {
	if last.LetterSequence == l.Sequence {
		return last
	}
	fresh := Initial(l)
	fresh.Sequence = last.Sequence
	return fresh
}

// Letter reads one letter by its id, with its state. A letter that was resolved or discarded is gone: [Store.History] still knows it. Wraps [ErrNotFound].
func (s *Store) Letter(ctx context.Context, id string) (Letter, error) {
	for l, err := range s.Letters(ctx, Filter{ID: id}) {
		return l, err
	}
	return Letter{}, fmt.Errorf("dead letter %s: %w", id, ErrNotFound)
}

// At reads one letter by its sequence in DLQ, from the stream's leader, with its state. Wraps [ErrNotFound].
func (s *Store) At(ctx context.Context, sequence uint64) (Letter, error) {
	return s.read(ctx, lookup.Request{Sequence: sequence})
}

// Peek is At without the state.
func (s *Store) Peek(ctx context.Context, sequence uint64) (Letter, error) {
	m, err := s.fromLeader(ctx, events.StreamDLQ, lookup.Request{Sequence: sequence})
	if err != nil {
		return Letter{}, fmt.Errorf("read dead letter: %w", err)
	}
	return Parse(m)
}

// Head reads the first letter of a subject, from the stream's leader, with its state. Wraps [ErrNotFound].
func (s *Store) Head(ctx context.Context, group string, partition int, key string) (Letter, error) {
	return s.read(ctx, lookup.Request{Sequence: 1, NextBySubject: s.subjects.Letter(group, partition, key)})
}

// Last reads the last letter of a subject, from the stream's leader, with its state. Wraps [ErrNotFound].
func (s *Store) Last(ctx context.Context, group string, partition int, key string) (Letter, error) {
	return s.read(ctx, lookup.Request{LastBySubject: s.subjects.Letter(group, partition, key)})
}

func (s *Store) read(ctx context.Context, request lookup.Request) (Letter, error) {
	m, err := s.fromLeader(ctx, events.StreamDLQ, request)
	if err != nil {
		return Letter{}, fmt.Errorf("read dead letter: %w", err)
	}
	l, err := Parse(m)
	if err != nil {
		return Letter{}, err
	}
	last, err := s.LastEntry(ctx, l.Group, l.ID)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Letter{}, err
	}
	if err == nil {
		l.Current = currentOf(&l, last)
	}
	return l, nil
}

// LastEntry reads the last entry about a letter's id, from the stream's leader. It may be about an earlier parking: compare LetterSequence. Wraps [ErrNotFound].
func (s *Store) LastEntry(ctx context.Context, group, id string) (Entry, error) {
	m, err := s.fromLeader(ctx, events.StreamDLQCtl, lookup.Request{LastBySubject: s.subjects.LetterState(group, id)})
	if err != nil {
		return Entry{}, fmt.Errorf("read state of %s: %w", id, err)
	}
	return parseEntry(m.Data, m.Sequence)
}

// History reads every entry about a letter's id, oldest first. It is empty where nothing was done about it.
func (s *Store) History(ctx context.Context, id string) ([]Entry, error) {
	group, ok := GroupOfID(id)
	if !ok {
		return nil, fmt.Errorf("dead letter %q: %w: an id is <group>:<stream>:<sequence>", id, ErrNotFound)
	}
	var out []Entry
	err := s.all(ctx, s.subjects.LetterState(group, id), func(m *jetstream.RawStreamMsg) error {
		e, err := parseEntry(m.Data, m.Sequence)
		if err != nil {
			return err
		}
		out = append(out, e)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("history of %s: %w", id, err)
	}
	return out, nil
}

// all reads every message of a subject of DLQCTL.
func (s *Store) all(ctx context.Context, subject string, each func(*jetstream.RawStreamMsg) error) error {
	return s.from(ctx, subject, 1, each)
}

// from reads every message of a subject of DLQCTL from a sequence on.
func (s *Store) from(ctx context.Context, subject string, from uint64, each func(*jetstream.RawStreamMsg) error) error {
	for from != 0 {
		next, err := s.some(ctx, subject, from, each)
		if err != nil {
			return err
		}
		from = next
	}
	return nil
}

func (s *Store) some(ctx context.Context, subject string, from uint64, each func(*jetstream.RawStreamMsg) error) (next uint64, err error) {
	ctx, cancel := patience(ctx)
	defer cancel()
	messages, err := jetstreamext.GetBatch(ctx, s.js, events.StreamDLQCtl, batchLetters,
		jetstreamext.GetBatchSeq(from), jetstreamext.GetBatchSubject(subject), jetstreamext.GetBatchMaxBytes(batchBytes))
	if err != nil {
		return 0, err
	}
	for m, err := range messages {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		if err := each(m); err != nil {
			return 0, err
		}
		next = m.Sequence + 1
	}
	return next, nil
}

// Write appends an entry. e must come from [Entry.Next] of the letter's current one, whose Sequence is the lock. It wraps [ErrConflict] where somebody
// was faster; nothing is written then.
func (s *Store) Write(ctx context.Context, e Entry) (Entry, error) {
	if err := e.validate(); err != nil {
		return Entry{}, err
	}
	group, ok := GroupOfID(e.Letter)
	if !ok {
		return Entry{}, fmt.Errorf("%w: letter: %q is no id", errEntry, e.Letter)
	}
	body, err := json.Marshal(e)
	if err != nil {
		return Entry{}, fmt.Errorf("write state of %s: %w", e.Letter, err)
	}
	sequence, err := s.append(ctx, s.subjects.LetterState(group, e.Letter), body, e.Sequence)
	if err != nil {
		return Entry{}, fmt.Errorf("write state of %s: %w", e.Letter, err)
	}
	e.Sequence = sequence
	return e, nil
}

// append publishes under the lock of the subject's last sequence. Where no answer came, the subject tells whether the message was stored.
func (s *Store) append(ctx context.Context, subject string, body []byte, last uint64) (uint64, error) {
	ctx, cancel := patience(ctx)
	defer cancel()
	for {
		try, cancel := context.WithTimeout(ctx, time.Second)
		ack, err := s.js.PublishMsg(try, &nats.Msg{Subject: subject, Data: body}, jetstream.WithExpectLastSequencePerSubject(last))
		cancel()
		if err == nil {
			return ack.Sequence, nil
		}
		if wrongSequence(err) { // perhaps ours, whose answer was lost
			return s.mine(ctx, subject, body, last)
		}
		if ctx.Err() != nil || !passes(err) {
			return 0, err
		}
		pause(ctx, 50*time.Millisecond)
	}
}

// mine looks whether the message that stands where ours should is ours.
func (s *Store) mine(ctx context.Context, subject string, body []byte, last uint64) (uint64, error) {
	m, err := s.fromLeader(ctx, events.StreamDLQCtl, lookup.Request{Sequence: last + 1, NextBySubject: subject})
	if err == nil && string(m.Data) == string(body) {
		return m.Sequence, nil
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return 0, err
	}
	return 0, ErrConflict
}

// Remove takes a closed letter out of DLQ. A letter that is gone already is no error.
func (s *Store) Remove(ctx context.Context, l *Letter) error {
	if !l.Current.State.Closed() {
		return fmt.Errorf("remove dead letter %s: %w: it is %s", l.ID, ErrNotAllowed, l.Current.State)
	}
	return s.delete(ctx, l.Sequence)
}

// accountable: every action of a person says who and why.
func accountable(by, why string) error {
	if strings.TrimSpace(by) == "" {
		return fmt.Errorf("%w: by: required: who does it?", errEntry)
	}
	if strings.TrimSpace(why) == "" {
		return fmt.Errorf("%w: why: required: the audit record needs a reason", errEntry)
	}
	return nil
}
