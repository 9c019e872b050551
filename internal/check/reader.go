package check

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

const pullSize = 4096 // messages that a read asks for ahead

// reader reads the logs into the state, each message once: a later call goes on where the one before ended.
type reader struct {
	js       jetstream.JetStream
	registry *events.Registry // upcasts what is older
	state    *state
	done     map[string]uint64 // by stream: the last sequence that was read

	judged map[string]uint64 // by stream: up to here, causes must be known
}

func newReader(js jetstream.JetStream, registry *events.Registry) *reader {
	return &reader{js: js, registry: registry, state: newState(registry), done: make(map[string]uint64), judged: make(map[string]uint64)}
}

// bounds fixes how far each log is judged, and then how far ORDERS and STOCK are known. An event is stored before what it causes, so the causes of all
// that is judged are known, however fast the logs grow.
func (r *reader) bounds(ctx context.Context) (known map[string]uint64, err error) {
	for _, stream := range []string{events.StreamNotices, events.StreamStock, events.StreamOrders} {
		if r.judged[stream], err = r.end(ctx, stream); err != nil {
			return nil, err
		}
	}
	known = map[string]uint64{events.StreamNotices: r.judged[events.StreamNotices]}
	// STOCK before ORDERS again: what the warehouse decided, up to there, is about orders that are read.
	for _, stream := range []string{events.StreamStock, events.StreamOrders} {
		if known[stream], err = r.end(ctx, stream); err != nil {
			return nil, err
		}
	}
	return known, nil
}

func (r *reader) end(ctx context.Context, stream string) (uint64, error) {
	s, err := r.js.Stream(ctx, stream)
	if err != nil {
		return 0, fmt.Errorf("%w: read %s: %w", ErrNoSystem, stream, err)
	}
	return s.CachedInfo().State.LastSeq, nil
}

// read folds what is new of the three logs: ORDERS first, since the others answer it.
func (r *reader) read(ctx context.Context) error {
	known, err := r.bounds(ctx)
	if err != nil {
		return err
	}
	for _, stream := range []string{events.StreamOrders, events.StreamStock, events.StreamNotices} {
		if err := r.stream(ctx, stream, known[stream]); err != nil {
			return fmt.Errorf("read %s: %w", stream, err)
		}
	}
	return nil
}

func (r *reader) stream(ctx context.Context, stream string, to uint64) error {
	if r.done[stream] >= to {
		return nil
	}
	consumer, err := r.js.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: r.done[stream] + 1,
	})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(pullSize))
	if err != nil {
		return err
	}
	defer messages.Stop()
	for r.done[stream] < to {
		raw, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return errors.Join(err, ctx.Err())
		}
		meta, err := raw.Metadata()
		if err != nil {
			return err
		}
		if meta.Sequence.Stream <= to {
			r.state.fold(stream, raw, meta)
		}
		r.done[stream] = min(meta.Sequence.Stream, to)
		if meta.NumPending == 0 {
			r.done[stream] = to // the last ones may have been deleted: they don't come
		}
	}
	return nil
}

// event reads one event again.
func (r *reader) event(ctx context.Context, stream string, sequence uint64) (events.Event, error) {
	s, err := r.js.Stream(ctx, stream)
	if err != nil {
		return events.Event{}, fmt.Errorf("read %s %d: %w", stream, sequence, err)
	}
	raw, err := s.GetMsg(ctx, sequence)
	if err != nil {
		return events.Event{}, fmt.Errorf("read %s %d: %w", stream, sequence, err)
	}
	e, err := r.registry.Decode(events.Header(raw.Header), raw.Data)
	if err != nil {
		return events.Event{}, fmt.Errorf("read %s %d: %w", stream, sequence, err)
	}
	return e, nil
}

// last reads the last event of an exact subject. It wraps [jetstream.ErrMsgNotFound] where there is none.
func (r *reader) last(ctx context.Context, stream, subject string) (events.Event, error) {
	s, err := r.js.Stream(ctx, stream)
	if err != nil {
		return events.Event{}, fmt.Errorf("read %s: %w", stream, err)
	}
	raw, err := s.GetLastMsgForSubject(ctx, subject)
	if err != nil {
		return events.Event{}, fmt.Errorf("read last of %s: %w", subject, err)
	}
	return r.registry.Decode(events.Header(raw.Header), raw.Data)
}
