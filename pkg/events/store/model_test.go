package store_test

import (
	"errors"
	"slices"

	"github.com/tidemark/tidemark/pkg/events/store"
)

// model is what a stream must be: a list. It says beforehand how every append ends, and afterwards what is stored. A state is the list of its events' ids,
// so that no two histories have the same.
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
	m.store(t)
	return ending{sequence: uint64(len(m.log))}
}

// store adds the events of a try.
func (m *model) store(t try) {
	for _, w := range t.writes {
		m.log = append(m.log, modelEvent{w.Subject, w.Event.ID})
	}
}

// state is what the first n events of a subject fold to; n < 0: all.
func (m *model) state(subject string, n int) (s store.State[history]) {
	for i, e := range m.log {
		if e.subject == subject && s.Version != uint64(n) {
			s = store.State[history]{Value: append(s.Value, e.id), Version: s.Version + 1, Sequence: uint64(i + 1)}
		}
	}
	return s
}

// history is the state of an aggregate in these tests.
type history []string

func evolveHistory(h history, r store.Recorded) (history, error) {
	return append(slices.Clip(h), r.ID), nil
}
