package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events/lookup"
)

// errDuplicateID: the stream remembers an id of the append, but the append does not stand where the lock says.
var errDuplicateID = errors.New("an id of the append is taken by another event")

// place is what stands behind a lock.
type place int

const (
	nothing place = iota // not stored, or not yet
	ours
	theirs
)

// locate reads, from the leader, what stands behind the lock, and returns the sequence of our last event or of the other's.
func (s *Store) locate(ctx context.Context, l lock, msgs []*nats.Msg, o outcome) (place, uint64, error) {
	if o == duplicate {
		return s.search(ctx, msgs)
	}
	request := lookup.Request{Sequence: l.sequence + 1, NextBySubject: l.subject}
	first, err := s.messages.FromLeader(ctx, request)
	if notFound(err) {
		return nothing, 0, nil
	}
	if err != nil {
		return nothing, 0, fmt.Errorf("read what stands behind the lock: %w", err)
	}
	return s.compare(ctx, msgs, first)
}

// compare tells whether the append begins at first. A batch is stored whole and in a row, and its last event is looked at first: mostly that tells. But events can
// reach the stream in other company too, when two writers give what they do the same ids and gather it differently, so all between are looked at besides.
func (s *Store) compare(ctx context.Context, msgs []*nats.Msg, first jetstream.RawStreamMsg) (place, uint64, error) {
	if !same(msgs[0], first) {
		return theirs, first.Sequence, nil
	}
	end := first.Sequence + uint64(len(msgs)) - 1
	for i := len(msgs) - 1; i > 0; i-- {
		m, err := s.messages.FromLeader(ctx, lookup.Request{Sequence: first.Sequence + uint64(i)})
		if notFound(err) {
			return theirs, first.Sequence, nil
		}
		if err != nil {
			return nothing, 0, fmt.Errorf("read the rest of the batch: %w", err)
		}
		if !same(msgs[i], m) {
			return theirs, first.Sequence, nil // an earlier append held the first event and others than ours
		}
	}
	return ours, end, nil
}

// search looks for the append anywhere in its first subject: the stream knows an id of it, so it was stored under another lock.
func (s *Store) search(ctx context.Context, msgs []*nats.Msg) (place, uint64, error) {
	for from := uint64(1); ; {
		m, err := s.messages.FromLeader(ctx, lookup.Request{Sequence: from, NextBySubject: msgs[0].Subject})
		if notFound(err) {
			return nothing, 0, nil
		}
		if err != nil {
			return nothing, 0, fmt.Errorf("search for the append: %w", err)
		}
		if same(msgs[0], m) {
			return s.compare(ctx, msgs, m)
		}
		from = m.Sequence + 1
	}
}

func same(sent *nats.Msg, stored jetstream.RawStreamMsg) bool {
	return sent.Subject == stored.Subject && idOf(sent.Header) == idOf(stored.Header)
}

// backoff is the n-th wait (from 0): first, doubled each time, at most longest, with up to a half taken off so that writers who met once do not meet again.
func backoff(first, longest time.Duration, n int) time.Duration {
	d := longest
	if n < 20 {
		d = min(first<<n, longest)
	}
	return d - rand.N(d/2+1) //nolint:gosec // jitter is no secret
}

// wait waits, and reports false where ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
