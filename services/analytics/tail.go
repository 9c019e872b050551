package analytics

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events/lookup"
)

// tail reads a stream in its order, with a throw-away consumer that is made anew behind the last message whenever anything looks wrong.
type tail struct {
	js      jetstream.JetStream
	stream  string
	filters []string // none: everything
	next    uint64   // the sequence to go on from
	latest  bool     // begin with the last message of each subject instead of next
}

const (
	pullHeartbeat = time.Second      // the broker says that it is alive; two missed ones end a session
	consumerKept  = 10 * time.Second // how long the broker keeps a consumer that we could not delete
	deleteTimeout = time.Second
	readTries     = 5
	readPause     = 250 * time.Millisecond // before reading goes on after it broke off
)

var (
	errAtEnd   = errors.New("at the end")
	errSession = errors.New("reading broke off") // of the reading, not of what is read: reading goes on behind the last message
)

// session reads until fn or atEnd returns an error, or reading fails. atEnd is called whenever nothing more is stored.
func (t *tail) session(ctx context.Context, fn func(*jetstream.RawStreamMsg) error, atEnd func() error) error {
	cfg := jetstream.ConsumerConfig{
		FilterSubjects: t.filters, AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: consumerKept,
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(t.next, 1),
	}
	if t.latest {
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverLastPerSubjectPolicy, 0
	}
	consumer, err := t.js.CreateConsumer(ctx, t.stream, cfg)
	if err != nil {
		return fmt.Errorf("%w: %w", errSession, err)
	}
	defer t.remove(ctx, consumer)
	if consumer.CachedInfo().NumPending == 0 {
		if err := atEnd(); err != nil {
			return err
		}
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(1000), jetstream.PullHeartbeat(pullHeartbeat), jetstream.PullExpiry(10*pullHeartbeat))
	if err != nil {
		return fmt.Errorf("%w: %w", errSession, err)
	}
	defer messages.Stop()
	untilEnd := jetstream.NextContext(ctx)
	for delivered := uint64(1); ; delivered++ {
		m, err := messages.Next(untilEnd)
		if err != nil {
			return fmt.Errorf("%w: %w", errSession, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("%w: %w", errSession, err)
		}
		if meta.Sequence.Consumer != delivered {
			return fmt.Errorf("%w: got delivery %d instead of %d", errSession, meta.Sequence.Consumer, delivered)
		}
		if err := fn(&jetstream.RawStreamMsg{Subject: m.Subject(), Sequence: meta.Sequence.Stream, Header: m.Headers(), Data: m.Data(), Time: meta.Timestamp}); err != nil {
			return err
		}
		t.next = meta.Sequence.Stream + 1
		if meta.NumPending == 0 {
			if err := atEnd(); err != nil {
				return err
			}
		}
	}
}

func (t *tail) remove(ctx context.Context, consumer jetstream.Consumer) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTimeout)
	defer cancel()
	_ = t.js.DeleteConsumer(ctx, t.stream, consumer.CachedInfo().Name) // the broker removes it by itself, only later
}

// readAll hands what a stream holds from a sequence on to fn, up to its end, and returns the last sequence of the stream. fn may end it early with
// errAtEnd.
func readAll(ctx context.Context, js jetstream.JetStream, stream string, from uint64, fn func(*jetstream.RawStreamMsg) error) (last uint64, err error) {
	info, err := js.Stream(ctx, stream)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", stream, err)
	}
	last = info.CachedInfo().State.LastSeq
	if last < from {
		return last, nil
	}
	end := last
	t := tail{js: js, stream: stream, next: from}
	for try := 1; ; try++ {
		err = t.session(ctx, func(m *jetstream.RawStreamMsg) error {
			last = max(last, m.Sequence)
			return fn(m)
		}, func() error { return t.atEnd(ctx, end) })
		switch {
		case errors.Is(err, errAtEnd):
			return last, nil
		case !errors.Is(err, errSession) || try == readTries || ctx.Err() != nil:
			return last, fmt.Errorf("read %s: %w", stream, err)
		}
		pause(ctx, readPause)
	}
}

// atEnd is errAtEnd where the stream's end was reached. A consumer is kept by one server, which may be behind: then it has nothing more, and the leader has.
func (t *tail) atEnd(ctx context.Context, end uint64) error {
	if t.next > end {
		return errAtEnd
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	switch m, err := lookup.Of(t.js, t.stream).FromLeader(ctx, lookup.Request{Sequence: t.next, NextBySubject: ">"}); {
	case errors.Is(err, jetstream.ErrMsgNotFound), err == nil && m.Sequence > end:
		return errAtEnd // what was there is expired
	case err != nil:
		return fmt.Errorf("%w: %w", errSession, err)
	}
	return fmt.Errorf("%w: the server that reads is behind", errSession)
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
