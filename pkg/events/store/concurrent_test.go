package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

const writers = 8

// Each event carries the number of events that its writer had seen. An update is lost where two carry the same one.
func counting(s *store.Store) store.Aggregate[int64] {
	return store.Aggregate[int64]{Store: s, Evolve: func(n int64, r store.Recorded) (int64, error) {
		v, err := events.Payload[struct {
			Amount int64 `json:"amount"`
		}](&r.Event)
		if err != nil {
			return n, err
		}
		if v.Amount != n || r.Version != uint64(n)+1 {
			return n, fmt.Errorf("event %d says that it follows %d events, and is version %d", n+1, v.Amount, r.Version)
		}
		return n + 1, nil
	}}
}

// count adds one or two events on what is there.
func count(both bool) func(store.State[int64]) ([]events.Event, error) {
	return func(state store.State[int64]) ([]events.Event, error) {
		if both {
			return []events.Event{amount(state.Value), amount(state.Value + 1)}, nil
		}
		return []events.Event{amount(state.Value)}, nil
	}
}

func inParallel(t *testing.T, work func(writer int) error) {
	t.Helper()
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			if err := work(w); err != nil {
				t.Errorf("writer %d: %v", w, err)
			}
		})
	}
	wg.Wait()
}

// untilDone runs a command that may meet too many others.
func untilDone(command func() error) error {
	for {
		if err := command(); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

func TestEightWritersOnOneAggregate(t *testing.T) {
	t.Parallel()
	for name, server := range clusters {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const each = 15
			set := start(t, server)
			bucket := set.snapshots(t, noTelemetry)
			var conflicts atomic.Int64
			var want atomic.Int64
			inParallel(t, func(w int) error {
				a := counting(set.open(t))
				if w%2 == 0 { // half of them begin with snapshots, and leave some
					a.Snapshots = &store.AggregateSnapshots[int64]{Bucket: bucket, Fold: "count/1", Every: 10}
				}
				for i := range each {
					both := (w+i)%5 == 0
					err := untilDone(func() error {
						state, err := a.Execute(testContext(t), "ledger.hot", count(both))
						if err == nil && (state.Value != int64(state.Version) || state.Sequence == 0) {
							return fmt.Errorf("state after the command: %+v", state)
						}
						if errors.Is(err, store.ErrConflict) {
							conflicts.Add(1)
						}
						return err
					})
					if err != nil {
						return err
					}
					want.Add(1)
					if both {
						want.Add(1)
					}
				}
				return nil
			})
			state, err := counting(set.open(t)).Load(testContext(t), "ledger.hot")
			if err != nil || state.Value != want.Load() {
				t.Errorf("%d events are stored, want %d: %v", state.Value, want.Load(), err)
			}
			t.Logf("%d commands gave up after 5 conflicts", conflicts.Load())
		})
	}
}

func TestEightWritersOnOneStream(t *testing.T) {
	t.Parallel()
	for name, server := range clusters {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := start(t, server)
			warehouse(t, set, 12, func(int) {})
		})
	}
}

// warehouse lets writers append to many subjects of one stream under its one lock. Each event carries the sequence that its writer had seen.
func warehouse(t *testing.T, set setup, each int, meanwhile func(done int)) {
	t.Helper()
	var done atomic.Int64
	var stored atomic.Uint64
	inParallel(t, func(w int) error {
		s := set.open(t)
		for i := range each {
			n := 1
			if (w+i)%5 == 0 { // now and then: a batch on one server is staged in a file
				n = 3
			}
			err := untilDone(func() error { return appendSeen(t, s, fmt.Sprintf("ledger.%d", i%5), n) })
			if err != nil {
				return err
			}
			stored.Add(uint64(n))
			meanwhile(int(done.Add(1)))
		}
		return nil
	})
	var last uint64
	_, err := set.open(t).Read(testContext(t), 1, func(r store.Recorded) error {
		var i uint64
		if v := r.Extensions["index"]; v != "" {
			if _, err := fmt.Sscan(v, &i); err != nil {
				return err
			}
		}
		if r.Sequence != last+1 || uint64(amountOf(t, r))+i+1 != r.Sequence {
			t.Errorf("sequence %d, the event %d of an append at %d", r.Sequence, i, amountOf(t, r))
		}
		last = r.Sequence
		return nil
	})
	if err != nil || last != stored.Load() {
		t.Errorf("%d events are stored, want %d: %v", last, stored.Load(), err)
	}
}

func appendSeen(t *testing.T, s *store.Store, subject string, n int) error {
	t.Helper()
	seen, err := s.LastSequence(testContext(t))
	if err != nil {
		return err
	}
	writes := make([]store.Write, n)
	for i := range writes {
		ev := amount(int64(seen))
		ev.Extensions = map[string]string{"index": fmt.Sprint(i)}
		writes[i] = store.Write{Subject: subject, Event: ev}
	}
	end, err := s.AppendAt(testContext(t), seen, writes...)
	if err == nil && end != seen+uint64(n) {
		return fmt.Errorf("append of %d at %d ends at %d", n, seen, end)
	}
	return err
}

// A leader that steps down forgets what it was asked in the last moments, and may have stored it. Nothing is lost, and nothing is stored twice.
func TestStepDownInTheMiddleOfAppends(t *testing.T) {
	t.Parallel()
	set := start(t, eventstest.StartCluster)
	var once [4]sync.Once
	warehouse(t, set, 20, func(done int) {
		if i := done / 40; done%40 == 0 && i < len(once) {
			once[i].Do(func() { set.StepDown(ledger) })
		}
	})
}

// A command on one aggregate goes on while leaders change, and begins with a snapshot.
func TestStepDownInTheMiddleOfCommands(t *testing.T) {
	t.Parallel()
	set := start(t, eventstest.StartCluster)
	bucket := set.snapshots(t, noTelemetry)
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	var done atomic.Int64
	var wg sync.WaitGroup
	for range 3 {
		a := counting(set.open(t))
		a.Snapshots = &store.AggregateSnapshots[int64]{Bucket: bucket, Fold: "count/1", Every: 10}
		wg.Go(func() {
			for ctx.Err() == nil {
				err := untilDone(func() error {
					_, err := a.Execute(ctx, "ledger.hot", count(false))
					return err
				})
				switch {
				case err == nil:
					done.Add(1)
				case errors.Is(err, store.ErrUnknownOutcome) && ctx.Err() != nil: // the last one may or may not be stored
				case ctx.Err() == nil:
					t.Errorf("command: %v", err)
					return
				}
			}
		})
	}
	for range 3 {
		before := done.Load()
		eventstest.Eventually(t, waitLimit, "commands go on", func() bool { return done.Load() > before+20 })
		set.StepDown(ledger)
	}
	before := done.Load()
	eventstest.Eventually(t, waitLimit, "commands go on", func() bool { return done.Load() > before+20 })
	cancel()
	wg.Wait()
	state, err := counting(set.open(t)).Load(testContext(t), "ledger.hot") // fails where an event does not follow the one before
	if err != nil || state.Value < done.Load() || state.Value > done.Load()+3 {
		t.Errorf("%d events are stored, %d commands were acknowledged: %v", state.Value, done.Load(), err)
	}
}
