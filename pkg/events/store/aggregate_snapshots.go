package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"reflect"
	"time"

	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/lookup"
)

// AggregateSnapshots makes loads of long aggregates short: now and then the folded state is kept, and a later load reads only the events behind it.
//
// A snapshot is a cache. It is used if it is whole, was made by this fold, and the event that it names stands in the log at that very place; else the log is
// folded from its beginning. So deleting or damaging snapshots, or restoring the log or the bucket from an older copy, changes nothing but speed.
//
// A snapshot costs three requests at each load, as much as reading two events: an aggregate with a handful of events needs none.
type AggregateSnapshots[S any] struct {
	Bucket *SnapshotBucket // required
	// Fold names what the state means, such as "account/1"; required. Give it another name when Evolve comes to another state for the same events: snapshots of
	// another fold are not used. A change of the type S is noticed without.
	Fold string
	// Encode and Decode turn the state into bytes and back; nil: JSON. A state that does not come back deeply equal is not kept.
	Encode func(S) ([]byte, error)
	Decode func([]byte) (S, error)
	// Every is how many events a load reads behind the last snapshot before it leaves a new one; default 50.
	Every int
	// Slow is how long a load takes before it leaves a new one with fewer events, but at least 10; default 20 ms. Negative: never.
	Slow time.Duration
}

const (
	defaultSnapshotEvery = 50
	defaultSnapshotSlow  = 20 * time.Millisecond
	slowSnapshotEvents   = 10 // a slow load of fewer is slow for other reasons than its events
)

// snapshotHead says what a snapshot is of. Its last event is named so that no other can be taken for it: a log that was restored or made anew may hold another
// event under the same sequence.
type snapshotHead struct {
	Fold     string    `json:"fold"` // [AggregateSnapshots.fingerprint]
	Stream   string    `json:"stream"`
	Subject  string    `json:"subject"`
	Version  uint64    `json:"version"`
	Sequence uint64    `json:"sequence"`
	ID       string    `json:"id"`
	StoredAt time.Time `json:"stored_at"`
}

var errSnapshot = errors.New("damaged snapshot")

func (s *AggregateSnapshots[S]) validate() error {
	switch {
	case s.Bucket == nil:
		return errors.New("snapshots: bucket: required, is nil")
	case s.Fold == "":
		return errors.New("snapshots: fold: required, is empty")
	case s.Every < 0:
		return fmt.Errorf("snapshots: every: is %d, must not be negative", s.Every)
	}
	return nil
}

// recall returns the state of the last snapshot, if it can be used; else the state before the first event.
func (s *AggregateSnapshots[S]) recall(ctx context.Context, log *Store, subject string) State[S] {
	entry, ok := s.Bucket.read(ctx, subject)
	if !ok {
		return State[S]{}
	}
	head, encoded, err := unpackSnapshot(entry)
	if err == nil && (head.Stream != log.stream || head.Subject != subject) {
		err = fmt.Errorf("%w: it is of %s in %s", errSnapshot, head.Subject, head.Stream)
	}
	if err != nil {
		s.Bucket.complain(ctx, snapshotDamaged, subject, err)
		return State[S]{}
	}
	if head.Fold != s.fingerprint() {
		s.Bucket.count(ctx, snapshotOtherFold)
		return State[S]{}
	}
	value, err := s.decode(encoded)
	if err != nil {
		s.Bucket.complain(ctx, snapshotDamaged, subject, err)
		return State[S]{}
	}
	if o, err := head.standsIn(ctx, log); err != nil {
		s.Bucket.complain(ctx, o, subject, err)
		return State[S]{}
	}
	s.Bucket.count(ctx, snapshotUsed)
	return State[S]{Value: value, Version: head.Version, Sequence: head.Sequence}
}

// standsIn looks whether the log holds the snapshot's last event, and so all before it: event stores lose none. If not, it says why.
func (h snapshotHead) standsIn(ctx context.Context, log *Store) (snapshotOutcome, error) {
	m, err := log.oneMessage(ctx, lookup.Request{Sequence: h.Sequence})
	switch {
	case errors.Is(err, ErrNotFound):
		return snapshotNotInLog, fmt.Errorf("sequence %d: %w", h.Sequence, err)
	case err != nil:
		return snapshotUnread, err
	case m.Subject != h.Subject || idOf(m.Header) != h.ID || !m.Time.Equal(h.StoredAt):
		return snapshotNotInLog, fmt.Errorf("sequence %d holds %s of %s, stored at %s", h.Sequence, idOf(m.Header), m.Subject, m.Time)
	}
	return snapshotUsed, nil
}

// keep leaves a snapshot if the load was worth one: recorded are the events that it read, the last of which led to the state.
func (s *AggregateSnapshots[S]) keep(ctx context.Context, state State[S], recorded []Recorded, took time.Duration) {
	if !s.due(len(recorded), took) {
		return
	}
	last := recorded[len(recorded)-1]
	head := snapshotHead{
		Fold: s.fingerprint(), Stream: last.Stream, Subject: last.Subject, Version: state.Version,
		Sequence: last.Sequence, ID: bus.MessageID(&last.Event), StoredAt: last.StoredAt,
	}
	entry, err := s.pack(head, state.Value)
	if err != nil {
		s.Bucket.complain(ctx, snapshotLossy, last.Subject, err)
		return
	}
	s.Bucket.write(ctx, last.Subject, entry)
}

func (s *AggregateSnapshots[S]) due(read int, took time.Duration) bool {
	every, slow := s.Every, s.Slow
	if every == 0 {
		every = defaultSnapshotEvery
	}
	if slow == 0 {
		slow = defaultSnapshotSlow
	}
	return read >= every || read >= slowSnapshotEvents && slow > 0 && took >= slow
}

// pack encodes, and looks whether the state would come back: one that lost a field on the way would be decided on.
func (s *AggregateSnapshots[S]) pack(head snapshotHead, value S) ([]byte, error) {
	encoded, err := s.encode(value)
	if err != nil {
		return nil, fmt.Errorf("encode the state: %w", err)
	}
	back, err := s.decode(encoded)
	if err != nil {
		return nil, fmt.Errorf("decode the state: %w", err)
	}
	if !reflect.DeepEqual(back, value) {
		return nil, fmt.Errorf("%T is not the same after it was encoded and decoded: are there fields that the encoding leaves out?", value)
	}
	return packSnapshot(head, encoded)
}

func (s *AggregateSnapshots[S]) encode(value S) ([]byte, error) {
	if s.Encode == nil {
		return json.Marshal(value)
	}
	return s.Encode(value)
}

func (s *AggregateSnapshots[S]) decode(encoded []byte) (value S, err error) {
	if s.Decode == nil {
		err = json.Unmarshal(encoded, &value)
		return value, err
	}
	return s.Decode(encoded)
}

// fingerprint stands for the fold and for the shape of the state.
func (s *AggregateSnapshots[S]) fingerprint() string {
	sum := sha256.Sum256([]byte(s.Fold + "\n" + shapeOf(reflect.TypeFor[S]())))
	return s.Fold + " " + hex.EncodeToString(sum[:8])
}

// A snapshot is stored as a checksum of all that follows, a line of JSON, and the encoded state: an operator can read it.

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const checksumSize = 8 // hexadecimal digits

func packSnapshot(head snapshotHead, encoded []byte) ([]byte, error) {
	line, err := json.Marshal(head)
	if err != nil {
		return nil, err
	}
	rest := append(append(line, '\n'), encoded...)
	return append(fmt.Appendf(nil, "%08x ", crc32.Checksum(rest, castagnoli)), rest...), nil
}

func unpackSnapshot(entry []byte) (head snapshotHead, encoded []byte, err error) {
	if len(entry) <= checksumSize {
		return head, nil, fmt.Errorf("%w: %d bytes", errSnapshot, len(entry))
	}
	rest := entry[checksumSize+1:]
	if want := fmt.Sprintf("%08x ", crc32.Checksum(rest, castagnoli)); want != string(entry[:checksumSize+1]) {
		return head, nil, fmt.Errorf("%w: wrong checksum", errSnapshot)
	}
	line, encoded, _ := bytes.Cut(rest, []byte{'\n'})
	if err := json.Unmarshal(line, &head); err != nil {
		return head, nil, fmt.Errorf("%w: head: %w", errSnapshot, err)
	}
	return head, encoded, nil
}
