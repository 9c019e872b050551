// Package store is the event store: append under an optimistic lock, load, fold.
package store

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

var (
	// ErrConflict: somebody else appended first. Load again and decide again.
	ErrConflict = errors.New("append conflicts with another writer")
	// ErrUnknownOutcome: the broker did not answer, and reading did not tell whether the append was stored.
	ErrUnknownOutcome = errors.New("append has an unknown outcome")
	// ErrNotFound: the subject holds no event.
	ErrNotFound = errors.New("no such event")
)

// Recorded is an event as it is stored.
type Recorded struct {
	events.Event
	Stream   string
	Subject  string
	Sequence uint64
	StoredAt time.Time
}

// Write is one event and the subject that it goes to.
type Write struct {
	Subject string
	Event   events.Event
}

// Store reads and appends one stream.
type Store struct{}

// New returns the store of one stream.
func New(js jetstream.JetStream, stream string, encoder *bus.Encoder, telemetry bus.Telemetry) *Store {
	return &Store{}
}

// Append stores events on one exact subject, all or none, if the subject's last message has the stream sequence expected (0: the subject is empty).
// It returns the sequence of the last event. An append that was stored before under the same event ids succeeds again.
func (s *Store) Append(ctx context.Context, subject string, expected uint64, evs ...events.Event) (uint64, error) {
	return 0, errors.New("not written yet")
}

// AppendAt stores events, all or none, if the stream's last sequence is last: the lock of a whole warehouse. It returns the sequence of the last
// one; sequences of one call are consecutive.
func (s *Store) AppendAt(ctx context.Context, last uint64, writes ...Write) (uint64, error) {
	return 0, errors.New("not written yet")
}

// Load reads all events of one exact subject, oldest first. A subject without events gives none and no error.
func (s *Store) Load(ctx context.Context, subject string) ([]Recorded, error) {
	return nil, errors.New("not written yet")
}

// Last reads the last event of one exact subject. O(1). Wraps [ErrNotFound].
func (s *Store) Last(ctx context.Context, subject string) (Recorded, error) {
	return Recorded{}, errors.New("not written yet")
}

// Get reads the event with a stream sequence. O(1). Wraps [ErrNotFound].
func (s *Store) Get(ctx context.Context, sequence uint64) (Recorded, error) {
	return Recorded{}, errors.New("not written yet")
}

// LastSequence is the stream's last sequence.
func (s *Store) LastSequence(ctx context.Context) (uint64, error) {
	return 0, errors.New("not written yet")
}

// Read hands every event from the sequence on to fn, in order, up to what was the end when it was called, and returns the last sequence that it read (from-1 when there
// is nothing). An error of fn ends it.
func (s *Store) Read(ctx context.Context, from uint64, fn func(Recorded) error) (uint64, error) {
	return 0, errors.New("not written yet")
}

// Follow is Read that goes on with what comes, until ctx ends (then it returns nil) or fn fails. caughtUp, if not nil, is called once, when everything that was stored at
// the call has been handed over.
func (s *Store) Follow(ctx context.Context, from uint64, fn func(Recorded) error, caughtUp func()) error {
	return errors.New("not written yet")
}

// Aggregate folds one subject's events into a state S and executes commands on it.
type Aggregate[S any] struct {
	Store  *Store
	Evolve func(S, Recorded) (S, error)
}

// State is a folded aggregate: its state, the version (number of events) and the sequence of its last event, which is the lock.
type State[S any] struct {
	Value    S
	Version  uint64
	Sequence uint64
}

// Load folds the subject.
func (a Aggregate[S]) Load(ctx context.Context, subject string) (State[S], error) {
	return State[S]{}, errors.New("not written yet")
}

// Execute loads, decides and appends. On a conflict it loads and decides again, at most 5 times, with jitter. A decision
// of no events appends nothing. Version and Sequence of the events are set by Execute. The returned state includes what was appended.
func (a Aggregate[S]) Execute(ctx context.Context, subject string, decide func(State[S]) ([]events.Event, error)) (State[S], error) {
	return State[S]{}, errors.New("not written yet")
}

// Snapshots is the disposable cache of folded state: named blobs of any size, each replaced as a whole.
type Snapshots struct{}

// NewSnapshots opens the bucket.
func NewSnapshots(ctx context.Context, js jetstream.JetStream, bucket string) (*Snapshots, error) {
	return nil, errors.New("not written yet")
}

// Put stores a blob under the name.
func (s *Snapshots) Put(ctx context.Context, name string, data []byte) error {
	return errors.New("not written yet")
}

// Get reads a blob. Wraps [ErrNotFound]; a blob that is damaged counts as not there.
func (s *Snapshots) Get(ctx context.Context, name string) ([]byte, error) {
	return nil, errors.New("not written yet")
}
