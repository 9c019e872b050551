package bus

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
)

// letters parks the dead letters of one partition.
type letters struct {
	store     *deadletter.Store
	group     string
	partition int
	who       identity
	metrics   *metrics
	locked    locked
	forEver   bool         // an event that had a letter once is not parked again: the group reads a log again and again
	control   uint64       // last sequence of DLQCTL when the term began
	refused   atomic.Int32 // events that wait because their letter is not stored
}

func newLetters(js jetstream.JetStream, subjects events.Subjects, g events.Group, partition int, who identity, m *metrics) *letters {
	l := &letters{store: deadletter.New(js, subjects), group: g.Name, partition: partition, who: who, metrics: m}
	l.locked.counted = func(more int) {
		if more != 0 {
			m.blocked.Add(context.Background(), int64(more), m.with)
		}
	}
	return l
}

// errStale: another owner has parked or resolved letters meanwhile. What this one knows is old; it must not settle anything.
var errStale = errors.New("another owner has worked on the key's letters")

// begin reads which keys are locked.
func (l *letters) begin(ctx context.Context, work *termWork) error {
	control, err := l.store.LastControl(ctx)
	if err != nil {
		return err
	}
	keys, err := l.store.Keys(ctx, l.group, l.partition)
	if err != nil {
		return err
	}
	l.control = control
	l.locked.begin(keys, work)
	return nil
}

// letter is the dead letter of an event.
func (l *letters) letter(t *task, v verdict) deadletter.Letter {
	d := &t.delivery
	letter := deadletter.Letter{
		ID: deadletter.ID(l.group, d.Stream, d.Sequence), Group: l.group, Partition: l.partition, Key: t.key, KeyVersion: d.Event.Version,
		FirstState: deadletter.StateDead, Attempts: v.attempts, FirstFailedAt: v.firstAt, LastFailedAt: v.lastAt,
		Failure: l.who.failure(v, d.Event.Type),
		Stream:  d.Stream, Subject: d.Subject, StreamSeq: d.Sequence, StoredAt: d.StoredAt,
		Header: events.Header(t.msg.Header), Data: t.msg.Data,
	}
	switch v.reason {
	case deadletter.ReasonPredecessor:
		letter.FirstState = deadletter.StateBlocked
	case deadletter.ReasonTransient:
		letter.FirstState, letter.NextAt = deadletter.StateRetrying, v.nextAt
	}
	return letter
}

// park stores the letter of one event. known: the event had its letter before. It wraps [errStale]; any other error means that the letter is not stored.
func (l *letters) park(ctx context.Context, t *task, v verdict) (known bool, err error) {
	letter := l.letter(t, v)
	known, err = l.once(ctx, &letter)
	if err == nil && !known {
		l.metrics.lettered(ctx, letter.Failure.Reason)
	}
	return known, err
}

// once tries to store a letter behind the last one of its key.
func (l *letters) once(ctx context.Context, letter *deadletter.Letter) (known bool, err error) {
	last, sure := l.locked.last(letter.Key)
	if !sure {
		stored, err := l.store.OfKey(ctx, l.group, l.partition, letter.Key)
		if err != nil {
			return false, err
		}
		last = l.locked.learn(letter.Key, stored)
	}
	if l.locked.holds(letter.Key, letter.StreamSeq) { // stored by an owner that died before it settled the event
		return true, nil
	}
	if done, err := l.current(ctx, letter.ID); done || err != nil {
		return done, err
	}
	sequence, err := l.store.Park(ctx, letter, last)
	if errors.Is(err, deadletter.ErrConflict) {
		return false, l.mine(ctx, letter)
	}
	if err == nil {
		l.locked.lock(letter.Key, sequence)
	}
	return false, err
}

// current looks whether somebody has finished a letter of this event since the term began: then another member owns the partition. That it was
// finished before is no hindrance: an operator may have moved the group back.
func (l *letters) current(ctx context.Context, id string) (done bool, err error) {
	entry, err := l.store.LastEntry(ctx, l.group, id)
	switch {
	case errors.Is(err, deadletter.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	case entry.State.Closed() && l.forEver:
		return true, nil
	case entry.State.Closed() && entry.Sequence > l.control && entry.By != l.who.by(l.group):
		return false, errStale
	}
	return false, nil
}

// mine: the last letter is another one than we knew. Perhaps it is this one, whose acknowledgement was lost; else another owner wrote it.
func (l *letters) mine(ctx context.Context, letter *deadletter.Letter) error {
	newest, err := l.store.Last(ctx, l.group, l.partition, letter.Key)
	if err != nil && !errors.Is(err, deadletter.ErrNotFound) {
		return err
	}
	if err != nil || newest.ID != letter.ID {
		return errStale
	}
	l.locked.lock(letter.Key, newest.Sequence)
	return nil
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
