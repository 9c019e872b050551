package store

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/lookup"
)

// recorded decodes a message, into the newest version of its type.
func (s *Store) recorded(m jetstream.RawStreamMsg) (Recorded, error) {
	ev, err := s.registry.Decode(events.Header(m.Header), m.Data)
	if err != nil {
		return Recorded{}, fmt.Errorf("%s, sequence %d: %w", s.stream, m.Sequence, err)
	}
	return Recorded{Event: ev, Stream: s.stream, Subject: m.Subject, Sequence: m.Sequence, StoredAt: m.Time}, nil
}

// Last reads the last event of one exact subject. O(1). On a replicated stream it can be a little old. Wraps [ErrNotFound].
func (s *Store) Last(ctx context.Context, subject string) (Recorded, error) {
	if !exactSubject(subject) {
		return Recorded{}, fmt.Errorf("read last of %s: %w", subject, errNotExact)
	}
	r, err := s.one(ctx, lookup.Request{LastBySubject: subject})
	if err != nil {
		return Recorded{}, fmt.Errorf("read last of %s: %w", subject, err)
	}
	return r, nil
}

// Get reads the event with a stream sequence. O(1). Wraps [ErrNotFound].
func (s *Store) Get(ctx context.Context, sequence uint64) (Recorded, error) {
	if sequence == 0 {
		return Recorded{}, fmt.Errorf("read %s, sequence 0: %w", s.stream, ErrNotFound)
	}
	r, err := s.one(ctx, lookup.Request{Sequence: sequence})
	if err != nil {
		return Recorded{}, fmt.Errorf("read %s, sequence %d: %w", s.stream, sequence, err)
	}
	return r, nil
}

// LastSequence is the stream's last sequence, as its leader knows it.
func (s *Store) LastSequence(ctx context.Context) (uint64, error) {
	var info struct {
		State struct {
			LastSequence uint64 `json:"last_seq"`
		} `json:"state"`
		Error *jetstream.APIError `json:"error"`
	}
	if err := s.ask(ctx, "STREAM.INFO."+s.stream, nil, &info); err != nil {
		return 0, fmt.Errorf("read last sequence of %s: %w", s.stream, err)
	}
	if info.Error != nil {
		return 0, fmt.Errorf("read last sequence of %s: %w", s.stream, info.Error)
	}
	return info.State.LastSequence, nil
}

// one reads one event from any replica. What a replica does not know may not have reached it yet: then the leader is asked.
func (s *Store) one(ctx context.Context, request lookup.Request) (Recorded, error) {
	m, err := s.oneMessage(ctx, request)
	if err != nil {
		return Recorded{}, err
	}
	return s.recorded(m)
}

// OnOneServer reports whether the stream has one replica, so that no other knows more. Where that can't be found out, it says no, which costs a request.
func (s *Store) OnOneServer(ctx context.Context) bool { return s.onOneServer(ctx) }
