package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// The broker stores an append, and the connection breaks before the answer: the append is found and reported, once.
func TestLostAnswerIsFound(t *testing.T) {
	t.Parallel()
	for name, server := range clusters {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := start(t, server)
			writer := set.open(t)
			for what, evs := range map[string][]events.Event{"one": {amount(1)}, "batch": {amount(1), amount(2), amount(3)}} {
				proxy := set.NewProxy()
				s := set.openOn(t, proxy.Connect())
				subject := "ledger." + what
				before := mustAppend(t, writer, subject, 0, amount(0))
				lost := proxy.LoseAnswer(evs[len(evs)-1].ID, true)
				last := mustAppend(t, s, subject, before, evs...)
				select {
				case <-lost:
				default:
					t.Fatal("the answer was not lost")
				}
				recorded := mustLoad(t, writer, subject)
				if len(recorded) != 1+len(evs) || recorded[len(evs)].Sequence != last {
					t.Errorf("%s: reported at %d, stored: %d events, last at %d", what, last, len(recorded), recorded[len(recorded)-1].Sequence)
				}

				end, err := writer.LastSequence(testContext(t))
				if err != nil {
					t.Fatal(err)
				}
				var writes []store.Write
				for _, ev := range evs {
					ev.ID = events.NewID()
					writes = append(writes, store.Write{Subject: subject + ev.ID, Event: ev})
				}
				lost = proxy.LoseAnswer(writes[len(writes)-1].Event.ID, true)
				at, err := s.AppendAt(testContext(t), end, writes...)
				<-lost
				if err != nil || at != end+uint64(len(evs)) {
					t.Errorf("%s: append at %d: %d, %v", what, end, at, err)
				}
				if now, err := writer.LastSequence(testContext(t)); err != nil || now != at {
					t.Errorf("%s: reported at %d, the stream ends at %d, %v", what, at, now, err)
				}
			}
		})
	}
}

// Another writer comes in between the lost answer and the second look: ours is still ours.
func TestLostAnswerIsFoundBehindOthers(t *testing.T) {
	t.Parallel()
	set := start(t, clusters["R1"])
	writer, proxy := set.open(t), set.NewProxy()
	s := set.openOn(t, proxy.Connect())
	ev := amount(1)
	lost := proxy.LoseAnswer(ev.ID, false)
	ended := make(chan error, 1)
	go func() {
		last, err := s.Append(testContext(t), "ledger.a", 0, ev)
		if err == nil && last != 1 {
			err = errors.New("wrong sequence")
		}
		ended <- err
	}()
	<-lost
	mustAppend(t, writer, "ledger.a", 1, amount(2))
	proxy.Cut()
	if err := <-ended; err != nil {
		t.Errorf("append: %v", err)
	}
	if n := len(mustLoad(t, writer, "ledger.a")); n != 2 {
		t.Errorf("%d events are stored", n)
	}
}

// A broker that says nothing at all, to reads neither, leaves the outcome unknown. The same append tells it later.
func TestUnknownOutcome(t *testing.T) {
	t.Parallel()
	set := start(t, clusters["R1"])
	proxy := set.NewProxy()
	s := set.openOn(t, proxy.Connect())
	ev := amount(1)
	lost := proxy.LoseAnswer(ev.ID, false)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := s.Append(ctx, "ledger.a", 0, ev)
	<-lost
	if !errors.Is(err, store.ErrUnknownOutcome) || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, store.ErrConflict) {
		t.Fatalf("append to a silent broker: %v", err)
	}
	proxy.Cut()
	if last := mustAppend(t, s, "ledger.a", 0, ev); last != 1 {
		t.Errorf("the same append again: %d", last)
	}
	if n := len(mustLoad(t, s, "ledger.a")); n != 1 {
		t.Errorf("%d events are stored", n)
	}
}

// What was certainly not sent has no unknown outcome.
func TestAppendWithoutABroker(t *testing.T) {
	t.Parallel()
	set := start(t, clusters["R1"])
	nc := set.Connect()
	s := set.openOn(t, nc)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Append(ended, "ledger.a", 0, amount(1)); !errors.Is(err, context.Canceled) || errors.Is(err, store.ErrUnknownOutcome) {
		t.Errorf("append with an ended context: %v", err)
	}
	set.Stop(0)
	eventstest.Eventually(t, waitLimit, "the connection is lost", func() bool { return nc.Status() == nats.RECONNECTING })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := s.Append(ctx, "ledger.a", 0, amount(1)); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, store.ErrUnknownOutcome) {
		t.Errorf("append while the broker is away: %v", err)
	}
	nc.Close()
	if _, err := s.Append(t.Context(), "ledger.a", 0, amount(1)); err == nil || errors.Is(err, store.ErrUnknownOutcome) || errors.Is(err, store.ErrConflict) {
		t.Errorf("append on a closed connection: %v", err)
	}
}

// An append outlives a restart of the broker.
func TestAppendWaitsForTheBroker(t *testing.T) {
	t.Parallel()
	set := start(t, clusters["R1"])
	nc := set.Connect()
	s := set.openOn(t, nc)
	first := mustAppend(t, s, "ledger.a", 0, amount(1))
	set.Stop(0)
	ended := make(chan error, 1)
	go func() {
		_, err := s.Append(testContext(t), "ledger.a", first, amount(2), amount(3))
		ended <- err
	}()
	set.Restart(0)
	if err := <-ended; err != nil {
		t.Errorf("append over a restart: %v", err)
	}
	if n := len(mustLoad(t, s, "ledger.a")); n != 3 {
		t.Errorf("%d events are stored", n)
	}
}
