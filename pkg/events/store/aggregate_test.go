package store_test

import (
	"context"
	"errors"
	"testing"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// sum is an account that adds up amounts and refuses to fall below zero.
func sum(s *store.Store) store.Aggregate[int64] {
	return store.Aggregate[int64]{Store: s, Evolve: func(total int64, r store.Recorded) (int64, error) {
		v, err := events.Payload[struct {
			Amount int64 `json:"amount"`
		}](&r.Event)
		return total + v.Amount, err
	}}
}

func adding(evs ...events.Event) func(store.State[int64]) ([]events.Event, error) {
	return func(store.State[int64]) ([]events.Event, error) { return evs, nil }
}

func TestExecuteReturnsTheStateWithWhatItAppended(t *testing.T) {
	t.Parallel()
	for name, server := range clusters {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, server).open(t)
			a, ctx := sum(s), testContext(t)
			want := store.State[int64]{}
			for _, amounts := range [][]int64{{5}, {7, 8, 9}, {}, {1}} {
				var evs []events.Event
				for _, n := range amounts {
					evs = append(evs, amount(n))
					want.Value += n
					want.Version++
					want.Sequence++
				}
				got, err := a.Execute(ctx, "ledger.a", adding(evs...))
				if err != nil || got != want {
					t.Errorf("after %v: %+v, %v, want %+v", amounts, got, err, want)
				}
				for i := range evs {
					if evs[i].Version != 0 {
						t.Errorf("the caller's event got version %d", evs[i].Version)
					}
				}
			}
			if got, err := a.Load(ctx, "ledger.a"); err != nil || got != want {
				t.Errorf("loaded %+v, %v, want %+v", got, err, want)
			}
			for i, r := range mustLoad(t, s, "ledger.a") {
				if r.Version != uint64(i)+1 {
					t.Errorf("event %d has version %d", i, r.Version)
				}
			}
		})
	}
}

func TestExecutePassesErrorsOn(t *testing.T) {
	t.Parallel()
	s := start(t, eventstest.Start).open(t)
	a, ctx := sum(s), testContext(t)
	refusal := errors.New("not enough")
	if _, err := a.Execute(ctx, "ledger.a", func(store.State[int64]) ([]events.Event, error) { return nil, refusal }); err != refusal { //nolint:errorlint // unchanged is the promise
		t.Errorf("decide's error came back as %v", err)
	}
	if _, err := a.Execute(ctx, "ledger.a", adding(events.Event{ID: "1", Source: "/test", Type: "test.unknown.v1"})); !errors.Is(err, events.ErrUnknownType) {
		t.Errorf("an event of an unknown type: %v", err)
	}
	if _, err := a.Execute(ctx, "ledger.*", adding(amount(1))); err == nil {
		t.Error("a wildcard is executed")
	}
	broken := errors.New("broken")
	a.Evolve = func(n int64, _ store.Recorded) (int64, error) { return n, broken }
	mustAppend(t, s, "ledger.b", 0, amount(1))
	if _, err := a.Execute(ctx, "ledger.b", adding(amount(1))); !errors.Is(err, broken) {
		t.Errorf("an event that can't be folded: %v", err)
	}
	if n := len(mustLoad(t, s, "ledger.b")); n != 1 {
		t.Errorf("%d events are stored", n)
	}
}

// Who always comes second gives up after five more decisions, each on the newest state.
func TestExecuteGivesUpAfterFiveConflicts(t *testing.T) {
	t.Parallel()
	for name, server := range clusters {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, server).open(t)
			decided := 0
			last := uint64(0)
			_, err := sum(s).Execute(testContext(t), "ledger.a", func(state store.State[int64]) ([]events.Event, error) {
				if state.Value != int64(decided) || state.Version != uint64(decided) || state.Sequence != last {
					t.Errorf("decision %d sees %+v", decided, state)
				}
				decided++
				last = mustAppend(t, s, "ledger.a", last, amount(1))
				return []events.Event{amount(100)}, nil
			})
			if !errors.Is(err, store.ErrConflict) || decided != 6 {
				t.Errorf("after %d decisions: %v", decided, err)
			}
			if n := len(mustLoad(t, s, "ledger.a")); n != 6 {
				t.Errorf("%d events are stored", n)
			}
		})
	}
}

func TestExecuteDecidesAgainAndSucceeds(t *testing.T) {
	t.Parallel()
	s := start(t, eventstest.Start).open(t)
	first := true
	state, err := sum(s).Execute(testContext(t), "ledger.a", func(state store.State[int64]) ([]events.Event, error) {
		if first {
			first = false
			mustAppend(t, s, "ledger.a", 0, amount(1))
		}
		return []events.Event{amount(10 + state.Value)}, nil
	})
	if want := (store.State[int64]{Value: 12, Version: 2, Sequence: 2}); err != nil || state != want {
		t.Errorf("%+v, %v, want %+v", state, err, want)
	}
}

func TestExecuteEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := start(t, eventstest.Start).open(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := sum(s).Execute(ctx, "ledger.a", func(store.State[int64]) ([]events.Event, error) {
		cancel()
		return []events.Event{amount(1)}, nil
	})
	if !errors.Is(err, context.Canceled) || errors.Is(err, store.ErrUnknownOutcome) {
		t.Errorf("%v", err)
	}
}

// An earlier call stored the events under the same ids, and their content differs. What is stored counts, not what would have been.
func TestExecuteReturnsWhatIsStored(t *testing.T) {
	t.Parallel()
	for name, server := range clusters {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, server).open(t)
			id := events.NewID()
			state, err := sum(s).Execute(testContext(t), "ledger.a", func(store.State[int64]) ([]events.Event, error) {
				mustAppend(t, s, "ledger.a", 0, amountID(id, 5)) // as another instance of a handler that was given the same event
				return []events.Event{amountID(id, 6)}, nil
			})
			if want := (store.State[int64]{Value: 5, Version: 1, Sequence: 1}); err != nil || state != want {
				t.Errorf("%+v, %v, want %+v", state, err, want)
			}
		})
	}
}
