package analytics

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// drafting is a worker whose first base is behind it, and what is still to be read.
func drafting(t *testing.T) (f *filled, w *worker, rest []bus.Delivery) {
	t.Helper()
	f = fill(t, eventstest.Start, 400)
	w = f.worker()
	if err := w.handle(t.Context(), f.deliveries[:50]); err != nil {
		t.Fatal(err)
	}
	return f, w, f.deliveries[50:]
}

// A base is made over several steps, a query a step at most, so its queries are at different sequences. Whoever goes on from it comes to the same state.
func TestBaseIsMadeOverSeveralSteps(t *testing.T) {
	t.Parallel()
	f, w, rest := drafting(t)
	bases := 0
	for len(rest) > 0 {
		was := w.rec.Base.Sequence
		if err := w.handle(t.Context(), rest[:1]); err != nil {
			t.Fatal(err)
		}
		rest = rest[1:]
		if w.rec.Base.Sequence == was {
			continue
		}
		bases++
		data, err := w.journal.load(t.Context(), &w.rec.Base.pieces)
		if err != nil {
			t.Fatal(err)
		}
		s, err := restoreState(w.plan, data)
		if err != nil {
			t.Fatal(err)
		}
		before := w.rec.Base.Sequence
		for i, r := range s.running {
			if r.sequence <= before {
				t.Errorf("query %d of the base at %d has read up to %d, the one before it up to %d: more than a query a step", i, w.rec.Base.Sequence, r.sequence, before)
			}
			before = r.sequence
		}
		replayed, err := f.worker().replay(t.Context(), &w.rec)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(replayed.snapshot(), w.state.snapshot()) {
			t.Errorf("from the base at %d comes another state than the log's at %d", w.rec.Base.Sequence, w.rec.Sequence)
		}
	}
	if bases == 0 {
		t.Error("no base was made: the test shows nothing")
	}
	f.verify(t, f.worker())
}

// stepUntil steps until something holds, or all is read.
func stepUntil(t *testing.T, w *worker, rest []bus.Delivery, done func() bool) []bus.Delivery {
	t.Helper()
	for !done() {
		if len(rest) == 0 {
			t.Fatal("all is read")
		}
		if err := w.handle(t.Context(), rest[:1]); err != nil {
			t.Fatal(err)
		}
		rest = rest[1:]
	}
	return rest
}

// Parts that no record names stay behind. So that they don't push out those that one does, a base that was lost on the way is not begun again in small steps.
func TestDraftThatIsLostIsMadeGoodAtOnce(t *testing.T) {
	t.Parallel()
	f, w, rest := drafting(t)
	rest = stepUntil(t, w, rest, func() bool { return w.next.draft != nil && len(w.next.draft.sent) > 0 })
	w.fault = func(at stage) error {
		if at == duringBase {
			return errKilled
		}
		return nil
	}
	var err error
	for ; err == nil; rest = rest[1:] {
		err = w.handle(t.Context(), rest[:1])
	}
	if !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	w.fault = func(stage) error { return nil }
	if err := w.handle(t.Context(), rest); err != nil {
		t.Fatal(err)
	}
	if w.rec.Base.Sequence != w.rec.Sequence {
		t.Errorf("the base is at %d, the record at %d: want it written in one go", w.rec.Base.Sequence, w.rec.Sequence)
	}
	f.verify(t, f.worker())
}

// silent is a part whose answer is lost.
type silent struct{ jetstream.PubAckFuture }

func (silent) Ok() <-chan *jetstream.PubAck { return nil }
func (silent) Err() <-chan error            { return nil }

func TestLostAnswerToAPartEndsTheDraft(t *testing.T) {
	t.Parallel()
	f, w, rest := drafting(t)
	rest = stepUntil(t, w, rest, func() bool { return w.next.draft != nil && len(w.next.draft.sent) > 0 })
	w.next.draft.sent[0].future = silent{}
	rest = stepUntil(t, w, rest, func() bool { return w.next.draft.movedAt.Before(time.Now()) })
	if w.next.draft == nil {
		t.Fatal("the draft is given up at once")
	}
	w.now = func() time.Time { return time.Now().Add(draftTimeout + time.Second) }
	rest = stepUntil(t, w, rest, func() bool { return w.next.draft == nil })
	if w.baseDue() || !w.next.atOnce {
		t.Error("a base is due again at once, or the next one is to be made in small steps")
	}
	if err := w.handle(t.Context(), rest); err != nil {
		t.Fatal(err)
	}
	f.verify(t, f.worker())
}

// Where nothing happens, nothing is written: not after a base that was made while time went on, either.
func TestIdleSystemWritesNoBases(t *testing.T) {
	t.Parallel()
	_, w, rest := drafting(t)
	if err := w.handle(t.Context(), rest); err != nil {
		t.Fatal(err)
	}
	ended, at := w.state.sequence, w.state.stored
	tick := func() {
		at = at.Add(time.Second)
		if err := w.handle(t.Context(), []bus.Delivery{{Stream: events.StreamTimeline, Subject: events.SubjectTick, Sequence: w.state.sequence + 1, StoredAt: at}}); err != nil {
			t.Fatal(err)
		}
	}
	eventstest.Eventually(t, patience, "the base of what the log made due", func() bool {
		tick()
		return w.rec.Base.Sequence >= ended && !w.rebase
	})
	base := w.rec.Base.Sequence
	for range 400 {
		tick()
	}
	if w.rec.Base.Sequence != base || w.next.underWay() {
		t.Errorf("a base was written at %d, and what happened ended at %d", w.rec.Base.Sequence, ended)
	}
}
