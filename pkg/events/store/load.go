package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events/lookup"
)

const (
	loadSingly = 16      // events that are read one by one; a subscription for a batch costs as much as about eight of them
	tailSingly = 2       // the same behind a snapshot, where there are none or dozens
	loadBatch  = 256     // events that one request asks for, when there are more
	loadBytes  = 4 << 20 // and bytes: the client drops what it can't buffer
)

// errNotExact: reading a wildcard would walk every subject that matches.
var errNotExact = errors.New("subject must be exact")

// Load reads all events of one exact subject, oldest first. A subject without events gives none and no error. On a replicated stream what was stored in the
// last moments may be missing; an append that was decided without it is refused.
func (s *Store) Load(ctx context.Context, subject string) ([]Recorded, error) {
	recorded, err := s.loadPatiently(ctx, subject)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", subject, err)
	}
	return recorded, nil
}

// loadPatiently reads a whole subject, and does not believe in an empty one: a new subject may not have reached the replica that answered.
func (s *Store) loadPatiently(ctx context.Context, subject string) ([]Recorded, error) {
	recorded, err := s.loadWhole(ctx, subject)
	if err == nil && len(recorded) == 0 {
		recorded, err = s.loadFromLeader(ctx, subject, 1)
	}
	return recorded, err
}

func (s *Store) loadWhole(ctx context.Context, subject string) ([]Recorded, error) {
	return s.load(ctx, subject, 1, loadSingly)
}

// load reads a subject from a sequence on, from any replica, the first events one by one. Each answer is a whole prefix of what the leader knows, and so are all together.
func (s *Store) load(ctx context.Context, subject string, from uint64, singly int) ([]Recorded, error) {
	if !exactSubject(subject) {
		return nil, errNotExact
	}
	var all []Recorded
	for range singly {
		m, err := s.messages.FromAny(ctx, lookup.Request{Sequence: from, NextBySubject: subject})
		if notFound(err) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		r, err := s.recorded(m)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
		from = m.Sequence + 1
	}
	return s.loadRest(ctx, subject, from, all)
}

// loadRest reads on in batches. What came before a connection broke is kept.
func (s *Store) loadRest(ctx context.Context, subject string, from uint64, all []Recorded) ([]Recorded, error) {
	t := tries{pace: s.pace}
	for t.next(ctx) {
		part, more, err := s.loadPart(ctx, subject, from)
		for _, m := range part {
			r, err := s.recorded(m)
			if err != nil {
				return nil, err
			}
			all = append(all, r)
			from = m.Sequence + 1
		}
		if err == nil && !more {
			return all, nil
		}
		if err == nil {
			t = tries{pace: s.pace}
			continue
		}
		t.last = outcomeOf(err)
		t.note(err)
		if t.last == failed {
			break
		}
	}
	return nil, fmt.Errorf("%d tries: %w", t.made, t.err)
}

// loadPart asks for a batch of a subject in one round trip. more is set where the subject goes on. With an error, what came before it is whole.
func (s *Store) loadPart(ctx context.Context, subject string, from uint64) (part []jetstream.RawStreamMsg, more bool, err error) {
	ctx, done, err := s.patience(ctx)
	if err != nil {
		return nil, false, err
	}
	defer done()
	body, err := json.Marshal(batchRequest{lookup.Request{Sequence: from, NextBySubject: subject}, loadBatch, loadBytes})
	if err != nil {
		return nil, false, err
	}
	inbox := s.nc.NewInbox()
	sub, err := s.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, false, fmt.Errorf("subscribe: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only with the connection, which ends it too
	if err := s.nc.PublishRequest(s.prefix+"DIRECT.GET."+s.stream, inbox, body); err != nil {
		return nil, false, fmt.Errorf("ask: %w", err)
	}
	return collect(ctx, sub)
}

func collect(ctx context.Context, sub *nats.Subscription) (part []jetstream.RawStreamMsg, more bool, err error) {
	var previous uint64
	for {
		reply, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return part, false, fmt.Errorf("read batch: %w", cause(ctx, err))
		}
		m, err := lookup.Direct(reply)
		switch {
		case notFound(err):
			return part, false, nil
		case err != nil && lookup.Header(reply, headerStatus) == statusEndOfBatch:
			return part, lookup.Header(reply, headerPending) != "0", nil
		case err != nil:
			return part, false, err
		}
		if before := lookup.Header(reply, headerLastSequence); before != strconv.FormatUint(previous, 10) {
			return part, false, fmt.Errorf("%w: a message between %d and %d is lost", lookup.ErrBadAnswer, previous, m.Sequence)
		}
		previous = m.Sequence
		part = append(part, m)
	}
}

// loadFromLeader reads a subject from a sequence on, one message a round trip, with nothing missing.
func (s *Store) loadFromLeader(ctx context.Context, subject string, from uint64) ([]Recorded, error) {
	var all []Recorded
	for {
		m, err := s.messages.FromLeader(ctx, lookup.Request{Sequence: from, NextBySubject: subject})
		if notFound(err) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		r, err := s.recorded(m)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
		from = m.Sequence + 1
	}
}

// batchRequest asks the direct API for the next messages of a subject.
type batchRequest struct {
	lookup.Request
	Batch    int `json:"batch"`
	MaxBytes int `json:"max_bytes"`
}

// The headers by which a batch of the direct API can be checked.
const (
	headerStatus       = "Status"
	statusEndOfBatch   = "204"
	headerPending      = "Nats-Num-Pending"
	headerLastSequence = jetstream.LastSequenceHeader
)
