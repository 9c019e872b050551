package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// model is what a stream must be: a list. It says beforehand how every append ends, and afterwards what is stored.
type model struct {
	log   []modelEvent // the event with sequence n is log[n-1]
	tried []try
}

type modelEvent struct{ subject, id string }

// try is an append, kept so that it can be tried again.
type try struct {
	subject string // empty: under the stream's lock
	lock    uint64
	writes  []store.Write
}

// tail is the sequence of the subject's last event, or of the stream's.
func (m *model) tail(subject string) uint64 {
	for i := len(m.log); i > 0; i-- {
		if subject == "" || m.log[i-1].subject == subject {
			return uint64(i)
		}
	}
	return 0
}

// behind is the sequence of the first event of the subject, or of the stream, behind a sequence.
func (m *model) behind(subject string, sequence uint64) uint64 {
	for i := sequence; i < uint64(len(m.log)); i++ {
		if subject == "" || m.log[i].subject == subject {
			return i + 1
		}
	}
	return 0
}

// storedAt is the sequence of the first event of the try, 0 where it is not stored.
func (m *model) storedAt(t try) uint64 {
	for i, e := range m.log {
		if e.id == t.writes[0].Event.ID {
			return uint64(i + 1)
		}
	}
	return 0
}

// ending is how a try may end: with the sequence of its last event, in a conflict, or either.
type ending struct {
	sequence uint64
	conflict bool
}

func (e ending) allows(sequence uint64, err error) bool {
	if err != nil {
		return e.conflict && sequence == 0 && errors.Is(err, store.ErrConflict)
	}
	return e.sequence > 0 && sequence == e.sequence
}

func (m *model) apply(t try) ending {
	m.tried = append(m.tried, t)
	if first := m.storedAt(t); first > 0 {
		// Under a lock that is neither the one of then nor the one of now, it depends on what the server looks at first: the lock or the ids.
		known := m.behind(t.subject, t.lock) == first || t.lock == m.tail(t.subject)
		return ending{sequence: first + uint64(len(t.writes)) - 1, conflict: !known}
	}
	if t.lock != m.tail(t.subject) {
		return ending{conflict: true}
	}
	for _, w := range t.writes {
		m.log = append(m.log, modelEvent{w.Subject, w.Event.ID})
	}
	return ending{sequence: uint64(len(m.log))}
}

// machine runs the same commands on a store and on the model.
type machine struct {
	model
	store, plain *store.Store // through the proxy, and not
	proxy        *eventstest.Proxy
	subjects     []string
}

func (m *machine) run(t *rapid.T, attempt try) {
	// A lock from the future is a caller's mistake. Refused without an answer it stays unknown: the future may come.
	if attempt.lock <= m.tail(attempt.subject) && rapid.IntRange(0, 5).Draw(t, "lose the answer") == 0 {
		m.proxy.LoseAnswer(attempt.writes[len(attempt.writes)-1].Event.ID, true)
	}
	want := m.apply(attempt)
	var got uint64
	var err error
	if attempt.subject == "" {
		got, err = m.store.AppendAt(context.Background(), attempt.lock, attempt.writes...)
	} else {
		var evs []events.Event
		for _, w := range attempt.writes {
			evs = append(evs, w.Event)
		}
		got, err = m.store.Append(context.Background(), attempt.subject, attempt.lock, evs...)
	}
	if !want.allows(got, err) {
		t.Fatalf("append of %d to %q behind %d: %d, %v; want %+v", len(attempt.writes), attempt.subject, attempt.lock, got, err, want)
	}
}

// lockFor draws mostly the right lock, sometimes one from the past or the future.
func (m *machine) lockFor(t *rapid.T, subject string) uint64 {
	if rapid.IntRange(0, 3).Draw(t, "wrong lock") > 0 {
		return m.tail(subject)
	}
	return rapid.Uint64Range(0, uint64(len(m.log))+2).Draw(t, "lock")
}

func (m *machine) append(t *rapid.T) {
	subject := rapid.SampledFrom(m.subjects).Draw(t, "subject")
	a := try{subject: subject, lock: m.lockFor(t, subject)}
	for range rapid.IntRange(1, 3).Draw(t, "events") {
		a.writes = append(a.writes, store.Write{Subject: subject, Event: amount(1)})
	}
	m.run(t, a)
}

func (m *machine) appendAt(t *rapid.T) {
	a := try{lock: m.lockFor(t, "")}
	for range rapid.IntRange(1, 3).Draw(t, "events") {
		a.writes = append(a.writes, store.Write{Subject: rapid.SampledFrom(m.subjects).Draw(t, "subject"), Event: amount(1)})
	}
	m.run(t, a)
}

func (m *machine) again(t *rapid.T) {
	if len(m.tried) == 0 {
		t.Skip("nothing was tried")
	}
	a := rapid.SampledFrom(m.tried).Draw(t, "earlier append")
	if rapid.Bool().Draw(t, "on what is known now") {
		a.lock = m.tail(a.subject)
	}
	m.run(t, a)
}

// execute runs a command while another writer gets in first, a few times.
func (m *machine) execute(t *rapid.T) {
	subject := rapid.SampledFrom(m.subjects).Draw(t, "subject")
	others, n := rapid.IntRange(0, 6).Draw(t, "writers that are faster"), rapid.IntRange(0, 2).Draw(t, "events")
	var decided []events.Event
	aggregate := store.Aggregate[int]{Store: m.store, Evolve: func(n int, _ store.Recorded) (int, error) { return n + 1, nil }}
	state, err := aggregate.Execute(context.Background(), subject, func(state store.State[int]) ([]events.Event, error) {
		if state.Sequence != m.tail(subject) || state.Value != m.count(subject) || state.Version != uint64(state.Value) {
			t.Fatalf("decides on %+v", state)
		}
		if others > 0 {
			others--
			ev := amount(1)
			if _, err := m.plain.Append(context.Background(), subject, state.Sequence, ev); err != nil {
				t.Fatalf("faster writer: %v", err)
			}
			m.log = append(m.log, modelEvent{subject, ev.ID})
		}
		decided = nil
		for range n {
			decided = append(decided, amount(1))
		}
		return decided, nil
	})
	if others > 0 || errors.Is(err, store.ErrConflict) {
		return // gave up after 6 decisions: nothing of them may be stored, which the last check sees
	}
	if err != nil {
		t.Fatalf("execute: %v", err)
	}
	for _, ev := range decided {
		m.log = append(m.log, modelEvent{subject, ev.ID})
	}
	if n > 0 && (state.Sequence != m.tail(subject) || state.Value != m.count(subject)) {
		t.Fatalf("state after the command: %+v", state)
	}
}

func (m *machine) count(subject string) (n int) {
	for _, e := range m.log {
		if e.subject == subject {
			n++
		}
	}
	return n
}

// check compares the whole stream, and every subject of it, with the model.
func (m *machine) check(t *rapid.T) {
	last, err := m.plain.Read(context.Background(), 1, func(r store.Recorded) error {
		if r.Sequence > uint64(len(m.log)) || m.log[r.Sequence-1] != (modelEvent{r.Subject, r.ID}) {
			return fmt.Errorf("sequence %d holds %s of %s", r.Sequence, r.ID, r.Subject)
		}
		return nil
	})
	if err != nil || last != uint64(len(m.log)) {
		t.Fatalf("read %d of %d: %v", last, len(m.log), err)
	}
	for _, subject := range m.subjects {
		recorded, err := m.plain.Load(context.Background(), subject)
		if err != nil || len(recorded) != m.count(subject) {
			t.Fatalf("load %s: %d of %d, %v", subject, len(recorded), m.count(subject), err)
		}
	}
}

// Whatever is appended, in whatever order, again and with lost answers: the stream is what a list would be.
func TestStoreIsAList(t *testing.T) {
	t.Parallel()
	set := start(t, eventstest.Start)
	proxy := set.NewProxy()
	near, far := set.JetStream(), jetStream(t, proxy.Connect())
	var runs atomic.Int64
	rapid.Check(t, func(t *rapid.T) {
		name := fmt.Sprintf("MODEL%d", runs.Add(1))
		m := &machine{proxy: proxy}
		m.plain = store.New(near, name, set.encoder, noTelemetry)
		m.store = store.New(far, name, set.encoder, noTelemetry).Hurry()
		for _, token := range []string{"a", "b", "c"} {
			m.subjects = append(m.subjects, name+"."+token)
		}
		createStream(t, near, name)
		t.Repeat(map[string]func(*rapid.T){"append": m.append, "appendAt": m.appendAt, "again": m.again, "execute": m.execute})
		m.check(t)
	})
}
