package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/lookup"
)

// The headers of an atomic batch (NATS ADR-50). The messages share an id and are numbered from 1; the one with the commit header stores them all.
const (
	headerBatchID       = "Nats-Batch-Id"
	headerBatchSequence = "Nats-Batch-Sequence"
	headerBatchCommit   = "Nats-Batch-Commit"
)

// answer is the broker's word on a publish.
type answer struct {
	Sequence  uint64              `json:"seq"`
	Duplicate bool                `json:"duplicate"`
	Count     int                 `json:"count"` // messages of a batch
	Error     *jetstream.APIError `json:"error"`
}

// send tries once to store the messages. One message is a plain publish: a batch of one would cost milliseconds on a stream that is not replicated.
func (s *Store) send(ctx context.Context, msgs []*nats.Msg) (answer, error) {
	ctx, done, err := s.patience(ctx)
	if err != nil {
		return answer{}, err
	}
	defer done()
	if len(msgs) == 1 {
		return s.publish(ctx, msgs[0])
	}
	// Each try has an id of its own: what is left of a broken one is never completed, and the server forgets it after 10 s.
	id := events.NewID()
	for i, msg := range msgs {
		msg.Header[headerBatchID] = []string{id}
		msg.Header[headerBatchSequence] = []string{strconv.Itoa(i + 1)}
	}
	last := msgs[len(msgs)-1]
	last.Header[headerBatchCommit] = []string{"1"}
	for _, msg := range msgs[:len(msgs)-1] {
		// Without a reply subject: if the server refuses one of these, the commit finds the batch incomplete.
		if err := s.nc.PublishMsg(msg); err != nil {
			return answer{}, fmt.Errorf("publish batch: %w", err)
		}
	}
	a, err := s.publish(ctx, last)
	if err == nil && a.Count != len(msgs) {
		return a, fmt.Errorf("%w: %d of %d events of a batch are acknowledged", lookup.ErrBadAnswer, a.Count, len(msgs))
	}
	return a, err
}

func (s *Store) publish(ctx context.Context, msg *nats.Msg) (answer, error) {
	reply, err := s.nc.RequestMsgWithContext(ctx, msg)
	if err != nil {
		return answer{}, fmt.Errorf("publish: %w", cause(ctx, err))
	}
	var a answer
	if err := json.Unmarshal(reply.Data, &a); err != nil {
		return answer{}, fmt.Errorf("%w: %w", lookup.ErrBadAnswer, err)
	}
	if a.Error != nil {
		return answer{}, a.Error
	}
	return a, nil
}
