package bus_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/fail"
)

// TestStaleOwner: an owner was paused in a handler. Meanwhile another one, whom this test plays, took over and worked on the key. When the first one wakes, its letter is recognised or
// refused, and it settles nothing by what it knew.
func TestStaleOwner(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		meanwhile func(f *fixture, l deadletter.Letter)
		want      []string
	}{
		"it was parked": {func(f *fixture, l deadletter.Letter) { f.parkAs(l) }, []string{"k 1 dead permanent"}},
		"it was parked, and the next one behind it": {func(f *fixture, l deadletter.Letter) {
			f.parkAs(l)
			next := l
			next.ID, next.StreamSeq, next.KeyVersion = deadletter.ID("readers", l.Stream, 2), 2, 2
			next.FirstState, next.Failure.Reason = deadletter.StateBlocked, deadletter.ReasonPredecessor
			f.parkAs(next)
		}, []string{"k 1 dead permanent", "k 2 blocked predecessor"}},
		"it was resolved": {func(f *fixture, l deadletter.Letter) {
			l = f.parkAs(l)
			for _, state := range []deadletter.State{deadletter.StateReplaying, deadletter.StateResolved} {
				entry, err := f.desk().Write(f.Context(), l.Current.Next(state, deadletter.ActionResolve, "readers@other", time.Now()))
				if err != nil {
					f.Fatal(err)
				}
				l.Current = entry
			}
			if err := f.desk().Remove(f.Context(), &l); err != nil {
				f.Fatal(err)
			}
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, 1, single)
			f.publish("k")
			f.publish("k")
			paused, wake := make(chan struct{}), make(chan struct{})
			var calls atomic.Int64
			f.join(bus.GroupConfig{Handler: func(ctx context.Context, d bus.Delivery) error {
				if d.Event.Version != 1 || calls.Add(1) > 1 && c.want == nil { // done by the other one: the lock of what it writes says so
					return nil
				}
				if calls.Load() == 1 {
					close(paused)
					select {
					case <-wake:
					case <-ctx.Done():
					}
				}
				return fail.Permanent(errors.New("never"))
			}})
			<-paused
			c.meanwhile(f, deadletter.Letter{
				ID: deadletter.ID("readers", events.StreamOrders, 1), Group: "readers", Key: "k", KeyVersion: 1, FirstState: deadletter.StateDead,
				Failure: deadletter.Failure{Reason: deadletter.ReasonPermanent, Instance: "other"}, Stream: events.StreamOrders, Subject: f.subjects.Order("k"), StreamSeq: 1,
			})
			close(wake)
			f.settled(f.group)
			eventstest.Eventually(t, 10*time.Second, "what is parked is right", func() bool {
				letters := f.letters()
				return len(letters) == len(c.want) || len(letters) == 2 // behind the first one, the second event waits
			})
			if len(c.want) == 1 {
				c.want = append(c.want, "k 2 blocked predecessor") // by the woken owner, which has recognised the letter
			}
			f.wantLetters(c.want...)
		})
	}
}

// parkAs parks a letter as another owner.
func (f *fixture) parkAs(l deadletter.Letter) deadletter.Letter {
	f.Helper()
	last, err := f.desk().Last(f.Context(), l.Group, l.Partition, l.Key)
	if err != nil && !errors.Is(err, deadletter.ErrNotFound) {
		f.Fatal(err)
	}
	sequence, err := f.desk().Park(f.Context(), &l, last.Sequence)
	if err != nil {
		f.Fatal(err)
	}
	stored, err := f.desk().At(f.Context(), sequence)
	if err != nil {
		f.Fatal(err)
	}
	return stored
}

// TestLettersOfALog: what a log's reader can't read is parked once, however often it reads from the beginning. It can be discarded; replayed only where the reader says how.
func TestLettersOfALog(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	f.group = f.log
	f.publish("k")
	f.store(&nats.Msg{Subject: "orders.0.bad", Data: []byte("no event")})
	f.publish("k")
	read := func() (stop func()) {
		l := &ledger{}
		stop = f.readLog(bus.LogConfig{Handler: l.handle, Position: l.at}, f.server.JetStream())
		eventstest.Eventually(t, 10*time.Second, "all are read", l.reached(3))
		return stop
	}
	stop := read()
	f.wantLetters("bad 0 dead undecodable")
	stop()
	stop = read()
	f.wantLetters("bad 0 dead undecodable")
	if sum := f.done(f.job(deadletter.JobReplay)).Sum(); sum.Failed != 1 {
		t.Errorf("a replay: %+v, want it failed", sum)
	}
	if sum := f.done(f.job(deadletter.JobDiscard)).Sum(); sum.Discarded != 1 {
		t.Errorf("a discard: %+v", sum)
	}
	stop()
	read()
	f.wantLetters()
}
