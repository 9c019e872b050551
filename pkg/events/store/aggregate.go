package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
)

// Aggregate folds one subject's events into a state S and executes commands on it. The zero value of S is the state before the first event.
type Aggregate[S any] struct {
	Store *Store
	// Evolve is the state after one more event. It must depend on nothing but its arguments, and not on StoredAt: an event that
	// Execute has just appended has none yet.
	Evolve func(S, Recorded) (S, error)
	// Snapshots, if set, spare long aggregates from being folded from their first event each time.
	Snapshots *AggregateSnapshots[S]
}

// State is a folded aggregate: its state, the version (number of events) and the sequence of its last event, which is the lock.
type State[S any] struct {
	Value    S
	Version  uint64
	Sequence uint64
}

// Load folds the subject.
func (a Aggregate[S]) Load(ctx context.Context, subject string) (State[S], error) {
	return a.load(ctx, subject, a.Store.loadPatiently)
}

// Execute loads, decides and appends. On a conflict it reads what is new and decides again, at most 5 times, with jitter; then the error wraps [ErrConflict]. A decision
// of no events appends nothing. Version is set by Execute: 1 for the first event of the subject, and on from there. An error of decide is returned as it is. The
// returned state includes what was appended.
//
// decide must not change the state that it is given, and is called again after each conflict, so its effects are the events that it returns and nothing else.
func (a Aggregate[S]) Execute(ctx context.Context, subject string, decide func(State[S]) ([]events.Event, error)) (State[S], error) {
	state, err := a.begin(ctx, subject)
	if err != nil {
		return State[S]{}, err
	}
	for again := 0; ; again++ {
		evs, err := decide(state)
		if err != nil || len(evs) == 0 {
			return state, err
		}
		next, err := a.commit(ctx, subject, state, evs)
		if err == nil {
			return next, nil
		}
		if !errors.Is(err, ErrConflict) || again >= a.Store.pace.decide {
			return state, err
		}
		if !wait(ctx, backoff(a.Store.pace.conflict, a.Store.pace.longest, again)) {
			return state, errors.Join(err, ctx.Err())
		}
		if state, err = a.refresh(ctx, subject, state); err != nil {
			return state, err
		}
	}
}

// begin loads from any replica: the lock refuses what is decided on an old state.
func (a Aggregate[S]) begin(ctx context.Context, subject string) (State[S], error) {
	return a.load(ctx, subject, a.Store.loadWhole)
}

// load folds what stands behind the last snapshot, or, where there is none, what whole reads.
func (a Aggregate[S]) load(ctx context.Context, subject string, whole func(context.Context, string) ([]Recorded, error)) (State[S], error) {
	began := time.Now()
	before, err := a.recall(ctx, subject)
	if err != nil {
		return State[S]{}, fmt.Errorf("load %s: %w", subject, err)
	}
	var recorded []Recorded
	if before.Sequence > 0 {
		recorded, err = a.Store.load(ctx, subject, before.Sequence+1, tailSingly)
	} else {
		recorded, err = whole(ctx, subject)
	}
	if err != nil {
		return State[S]{}, fmt.Errorf("load %s: %w", subject, err)
	}
	state, err := a.fold(before, recorded)
	if err == nil && a.Snapshots != nil {
		a.Snapshots.keep(ctx, state, recorded, time.Since(began))
	}
	return state, err
}

// recall returns the state of the last snapshot that can be used, or the one before the first event.
func (a Aggregate[S]) recall(ctx context.Context, subject string) (State[S], error) {
	if a.Snapshots == nil {
		return State[S]{}, nil
	}
	if err := a.Snapshots.validate(); err != nil {
		return State[S]{}, err
	}
	return a.Snapshots.recall(ctx, a.Store, subject), nil
}

// refresh folds what came since, as the leader knows it: a replica that was late once may be late again.
func (a Aggregate[S]) refresh(ctx context.Context, subject string, state State[S]) (State[S], error) {
	recorded, err := a.Store.loadFromLeader(ctx, subject, state.Sequence+1)
	if err != nil {
		return state, fmt.Errorf("load %s behind %d: %w", subject, state.Sequence, err)
	}
	return a.fold(state, recorded)
}

func (a Aggregate[S]) commit(ctx context.Context, subject string, state State[S], evs []events.Event) (State[S], error) {
	numbered := make([]events.Event, len(evs)) // the caller's events stay as they are, for the next decision
	for i, ev := range evs {
		ev.Version = state.Version + uint64(i) + 1
		numbered[i] = ev
	}
	done, err := a.Store.appendTo(ctx, subject, state.Sequence, numbered)
	if err != nil {
		return state, err
	}
	if done.earlier { // an earlier call stored them, perhaps with other content, and others may have followed
		return a.refresh(ctx, subject, state)
	}
	recorded := make([]Recorded, len(numbered))
	for i, ev := range numbered {
		sequence := done.sequence - uint64(len(numbered)-1-i) //nolint:gosec // an index below 1,000
		recorded[i] = Recorded{Event: ev, Stream: a.Store.stream, Subject: subject, Sequence: sequence}
	}
	return a.fold(state, recorded)
}

func (a Aggregate[S]) fold(state State[S], recorded []Recorded) (State[S], error) {
	for _, r := range recorded {
		value, err := a.Evolve(state.Value, r)
		if err != nil {
			return state, fmt.Errorf("fold %s, sequence %d: %w", r.Subject, r.Sequence, err)
		}
		state = State[S]{Value: value, Version: state.Version + 1, Sequence: r.Sequence}
	}
	return state, nil
}
