package bus

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
	"github.com/tidemark/tidemark/pkg/events/fail"
)

// panicked is a panic of a handler as an error.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("handler panicked: %v", p.value) }

// reasonOf says why err makes a letter at once, or "" where a retry may help.
func reasonOf(err error) deadletter.Reason {
	switch {
	case errors.Is(err, events.ErrUndecodable):
		return deadletter.ReasonUndecodable
	case errors.Is(err, events.ErrUnsupportedVersion): // before the next case: it is one of those too
		return deadletter.ReasonUnsupportedVersion
	case errors.Is(err, events.ErrUnknownType):
		return deadletter.ReasonUnknownType
	case errors.Is(err, events.ErrSchema):
		return deadletter.ReasonSchema
	case fail.IsPermanent(err):
		return deadletter.ReasonPermanent
	}
	return ""
}

// letters stores dead letters for one group.
type letters struct {
	js       jetstream.JetStream
	group    string
	subjects events.Subjects
	metrics  *metrics
	refused  atomic.Int32 // events that wait because their letter is not stored
}

// verdict is what is to be written on a letter.
type verdict struct {
	reason      deadletter.Reason
	err         error
	attempts    int
	traceparent string
}

// park stores the letter of one event, and tries until it is stored or ctx ends: an event is never dropped because there is no room for its
// letter. warn is told of each failure; alive is called before each try, so that the broker knows that the event is worked on.
func (l *letters) park(ctx context.Context, t *task, v verdict, alive func(), warn func(error)) error {
	letter := l.letter(t, v)
	for failures := 1; ; failures++ {
		alive()
		err := l.publish(ctx, &letter)
		if err == nil {
			l.metrics.parked.add(ctx)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		warn(err)
		l.wait(ctx, backoff(failures, 200*time.Millisecond, 5*time.Second))
	}
}

// wait counts as refusing: the partition takes nothing new meanwhile.
func (l *letters) wait(ctx context.Context, d time.Duration) {
	if l.refused.Add(1) == 1 {
		l.metrics.refusing.Add(ctx, 1, l.metrics.with)
	}
	defer func() {
		if l.refused.Add(-1) == 0 {
			l.metrics.refusing.Add(ctx, -1, l.metrics.with)
		}
	}()
	sleep(ctx, d)
}

func (l *letters) publish(ctx context.Context, letter *deadletter.Letter) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	msg := letter.Message(l.subjects)
	_, err := l.js.PublishMsg(ctx, msg)
	if errors.Is(err, nats.ErrMaxPayload) && len(msg.Data) > 0 {
		letter.Omitted = true
		_, err = l.js.PublishMsg(ctx, letter.Message(l.subjects))
	}
	if err != nil {
		return fmt.Errorf("park on %s: %w", msg.Subject, err)
	}
	return nil
}

// letter is the dead letter of an event.
func (l *letters) letter(t *task, v verdict) deadletter.Letter {
	d := &t.delivery
	return deadletter.Letter{
		ID: deadletter.ID(l.group, d.Stream, d.Sequence), Group: l.group, Partition: d.Partition, Key: t.key, KeyVersion: d.Event.Version,
		FirstState: deadletter.StateDead, Attempts: v.attempts,
		Failure: deadletter.Failure{Reason: v.reason, Error: v.err.Error(), TraceParent: v.traceparent},
		Stream:  d.Stream, Subject: d.Subject, StreamSeq: d.Sequence, StoredAt: d.StoredAt,
		Header: events.Header(t.msg.Header), Data: t.msg.Data,
	}
}
