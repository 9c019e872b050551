package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events/lookup"
)

// Read hands every event from the sequence on to fn, in order, up to what was the end when it was called, and returns the last sequence that it read (from-1 when there
// is nothing). An error of fn ends it and is returned as it is. A broker that goes away is waited for until ctx ends.
func (s *Store) Read(ctx context.Context, from uint64, fn func(Recorded) error) (uint64, error) {
	f := &follower{store: s, next: max(from, 1), fn: fn, stopAtEnd: true}
	if err := f.run(ctx); err != nil {
		return f.next - 1, err
	}
	if from == 0 && f.next == 1 {
		return 0, nil
	}
	return f.next - 1, nil
}

// Follow is Read that goes on with what comes, until ctx ends (then it returns nil) or fn fails. caughtUp, if not nil, is called once, when everything that was stored at
// the call has been handed over. It outlives restarts of the broker: each event is handed over once, in order, however often the connection breaks.
func (s *Store) Follow(ctx context.Context, from uint64, fn func(Recorded) error, caughtUp func()) error {
	f := &follower{store: s, next: max(from, 1), fn: fn, caughtUp: caughtUp}
	err := f.run(ctx)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// follower reads a stream in order. It is what jetstream.OrderedConsumer is, a throw-away consumer that is made anew behind the last event whenever anything
// looks wrong, but ends with its context also while the broker is away.
type follower struct {
	store    *Store
	next     uint64 // the sequence to go on from
	fn       func(Recorded) error
	caughtUp func()
	// undecodable, if not nil, is told of messages that are no events, instead of fn; nil: they end the follower.
	undecodable func(jetstream.RawStreamMsg, error) error

	stopAtEnd bool
	end       uint64 // the stream's last sequence at the call
	endKnown  bool
	reached   bool
}

// The follower's sessions end with one of these, or with an error that ends the follower.
var (
	errReachedEnd = errors.New("reached the end")
	errSession    = errors.New("reading session broke")
)

const (
	heartbeat     = time.Second      // the broker says that it is alive; two missed ones end a session
	consumerKept  = 30 * time.Second // how long the broker keeps a consumer that we could not delete
	pullSize      = 1000
	deleteTimeout = time.Second
)

func (f *follower) run(ctx context.Context) error {
	for idle := 0; ; {
		before := f.next
		err := f.session(ctx)
		switch {
		case errors.Is(err, errReachedEnd):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !errors.Is(err, errSession):
			return err
		}
		if f.next > before {
			idle = 0
		}
		f.store.log.LogAttrs(ctx, slog.LevelWarn, "reading begins anew", slog.String("stream", f.store.stream), slog.Uint64("from", f.next), slog.Any("cause", err))
		if !wait(ctx, backoff(f.store.pace.recover, f.store.pace.longest, idle)) {
			return ctx.Err()
		}
		idle++
	}
}

// session reads with one consumer until it breaks.
func (f *follower) session(ctx context.Context) error {
	if err := f.findEnd(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer f.store.onDisconnect(func() { cancel(nats.ErrDisconnected) })()
	consumer, err := f.create(ctx)
	if err != nil {
		return err
	}
	defer f.remove(ctx, consumer)
	if consumer.CachedInfo().NumPending == 0 {
		if err := f.nothingPending(ctx); err != nil {
			return err
		}
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(pullSize), jetstream.PullHeartbeat(heartbeat), jetstream.PullExpiry(10*heartbeat))
	if err != nil {
		return fmt.Errorf("%w: %w", errSession, err)
	}
	defer messages.Stop()
	return f.consume(ctx, messages)
}

func (f *follower) consume(ctx context.Context, messages jetstream.MessagesContext) error {
	untilEnd := jetstream.NextContext(ctx)
	for delivered := uint64(1); ; delivered++ {
		msg, err := messages.Next(untilEnd)
		if err != nil {
			return fmt.Errorf("%w: %w", errSession, errors.Join(err, context.Cause(ctx)))
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("%w: %w", errSession, err)
		}
		if meta.Sequence.Consumer != delivered {
			return fmt.Errorf("%w: got delivery %d instead of %d", errSession, meta.Sequence.Consumer, delivered)
		}
		if err := f.hand(ctx, msg, meta); err != nil {
			return err
		}
	}
}

// hand gives one event to fn.
func (f *follower) hand(ctx context.Context, msg jetstream.Msg, meta *jetstream.MsgMetadata) error {
	sequence := meta.Sequence.Stream
	if f.stopAtEnd && sequence > f.end {
		return errReachedEnd
	}
	m := jetstream.RawStreamMsg{Subject: msg.Subject(), Sequence: sequence, Time: meta.Timestamp.UTC(), Header: msg.Headers(), Data: msg.Data()}
	recorded, err := f.store.recorded(m)
	switch {
	case err == nil:
		err = f.fn(recorded)
	case f.undecodable != nil:
		err = f.undecodable(m, err)
	default:
		err = fmt.Errorf("read %w", err)
	}
	if err != nil {
		return err
	}
	f.next = sequence + 1
	if sequence >= f.end {
		return f.atEnd()
	}
	if meta.NumPending == 0 {
		return f.nothingPending(ctx)
	}
	return nil
}

// nothingPending tells an end whose last events are expired from a consumer whose server is behind: it has nothing more, and the leader has.
func (f *follower) nothingPending(ctx context.Context) error {
	if f.next > f.end {
		return f.atEnd()
	}
	m, err := f.store.messages.FromLeader(ctx, lookup.Request{Sequence: f.next, NextBySubject: ">"})
	switch {
	case notFound(err), err == nil && m.Sequence > f.end:
		return f.atEnd()
	case err != nil:
		return broken(err)
	}
	return fmt.Errorf("%w: the server that reads is behind", errSession)
}

// findEnd reads once where the stream ends.
func (f *follower) findEnd(ctx context.Context) error {
	if f.endKnown {
		return nil
	}
	end, err := f.store.LastSequence(ctx)
	if err != nil {
		return broken(err)
	}
	f.end, f.endKnown = end, true
	if f.next > end {
		return f.atEnd()
	}
	return nil
}

func (f *follower) atEnd() error {
	if f.stopAtEnd {
		return errReachedEnd
	}
	if !f.reached && f.caughtUp != nil {
		f.caughtUp()
	}
	f.reached = true
	return nil
}

func (f *follower) create(ctx context.Context) (jetstream.Consumer, error) {
	if err := f.store.connected(ctx); err != nil {
		return nil, broken(err)
	}
	ctx, cancel := context.WithTimeout(ctx, f.store.pace.answer)
	defer cancel()
	consumer, err := f.store.js.CreateConsumer(ctx, f.store.stream, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: f.next, AckPolicy: jetstream.AckNonePolicy,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: consumerKept,
	})
	if err != nil {
		return nil, broken(err)
	}
	return consumer, nil
}

// broken tells an error that passes from one that stays: a stream that is not there, a right that is missing, a connection that was closed.
func broken(err error) error {
	var api *jetstream.APIError
	switch {
	case errors.As(err, &api) && api.Code < 500 && outcomeOf(err) == failed,
		errors.Is(err, jetstream.ErrStreamNotFound),
		errors.Is(err, nats.ErrConnectionClosed):
		return fmt.Errorf("read: %w", err)
	}
	return fmt.Errorf("%w: %w", errSession, err)
}

func (f *follower) remove(ctx context.Context, consumer jetstream.Consumer) {
	if !f.store.nc.IsConnected() {
		return // the broker forgets it by itself
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTimeout)
	defer cancel()
	if err := f.store.js.DeleteConsumer(ctx, f.store.stream, consumer.CachedInfo().Name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		f.store.log.LogAttrs(ctx, slog.LevelDebug, "consumer is left to expire", slog.String("stream", f.store.stream), slog.Any("cause", err))
	}
}

// onDisconnect calls fn when the connection breaks, until the function that it returns is called.
func (s *Store) onDisconnect(fn func()) (stop func()) {
	status := s.nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-status:
			fn()
		case <-done:
		}
	}()
	return func() {
		close(done)
		<-ended
		s.nc.RemoveStatusListener(status)
	}
}
