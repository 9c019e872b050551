package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

// Ack is what the broker says of a stored event.
type Ack struct {
	Stream    string
	Sequence  uint64
	Duplicate bool
}

// Publisher publishes events that need no lock. It is safe for use by many goroutines.
type Publisher struct {
	js      jetstream.JetStream
	encoder *Encoder
	tracing tracing
}

// NewPublisher returns a publisher.
func NewPublisher(deps Deps) *Publisher {
	return &Publisher{js: deps.JS, encoder: deps.Encoder, tracing: newTracing(deps.Telemetry.OrNothing())}
}

const (
	publishTries = 5 // where nobody answers, as between two leaders of a stream
	publishWait  = 200 * time.Millisecond
)

// Publish stores the event and waits for the broker's word. An event with an id that the stream has seen within its duplicate window is not stored
// again. A time-out means that the outcome is unknown: publishing the same event again is safe within that window.
func (p *Publisher) Publish(ctx context.Context, subject string, ev events.Event, opts ...jetstream.PublishOpt) (Ack, error) {
	ctx, span := p.tracing.publish(ctx, subject, &ev)
	ack, err := p.publish(ctx, subject, ev, opts)
	finish(span, err, "publish")
	return ack, err
}

func (p *Publisher) publish(ctx context.Context, subject string, ev events.Event, opts []jetstream.PublishOpt) (Ack, error) {
	msg, err := p.encoder.Encode(ctx, subject, ev)
	if err != nil {
		return Ack{}, err
	}
	all := append([]jetstream.PublishOpt{jetstream.WithRetryAttempts(publishTries), jetstream.WithRetryWait(publishWait)}, opts...)
	ack, err := p.js.PublishMsg(ctx, msg, all...)
	if err != nil {
		return Ack{}, fmt.Errorf("publish to %s: %w", subject, err)
	}
	return Ack{Stream: ack.Stream, Sequence: ack.Sequence, Duplicate: ack.Duplicate}, nil
}

// Message is an event and the subject that it goes to.
type Message struct {
	Subject string
	Event   events.Event
}

// PublishBatch stores many events with one wait for all of them. They are independent: some may be stored and others not. acks has one entry a
// message, zero where it was not stored; the error joins every failure and names the index of each.
func (p *Publisher) PublishBatch(ctx context.Context, messages []Message) (acks []Ack, err error) {
	acks = make([]Ack, len(messages))
	futures := make([]jetstream.PubAckFuture, len(messages))
	var errs []error
	fail := func(i int, err error) {
		errs = append(errs, fmt.Errorf("message %d, to %s: %w", i, messages[i].Subject, err))
	}
	each, span := p.tracing.publishBatch(ctx, len(messages), func(i int) (string, *events.Event) { return messages[i].Subject, &messages[i].Event })
	defer func() { finish(span, err, "publish") }()
	for i, m := range messages {
		msg, err := p.encoder.Encode(each[i], m.Subject, m.Event)
		if err != nil {
			fail(i, err)
			continue
		}
		futures[i], err = p.js.PublishMsgAsync(msg, jetstream.WithRetryAttempts(publishTries), jetstream.WithRetryWait(publishWait), jetstream.WithStallWait(requestTimeout))
		if err != nil {
			fail(i, err)
		}
	}
	for i, f := range futures {
		if f == nil {
			continue
		}
		select {
		case ack := <-f.Ok():
			acks[i] = Ack{Stream: ack.Stream, Sequence: ack.Sequence, Duplicate: ack.Duplicate}
		case err := <-f.Err():
			fail(i, err)
		case <-ctx.Done():
			fail(i, ctx.Err())
		}
	}
	return acks, errors.Join(errs...)
}
