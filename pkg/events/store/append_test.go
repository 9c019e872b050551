package store_test

import (
	"errors"
	"testing"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/store"
)

func TestAppendHoldsTheLock(t *testing.T) {
	t.Parallel()
	for name, server := range clusters {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, server).open(t)
			first := mustAppend(t, s, "ledger.a", 0, amount(1))
			second := mustAppend(t, s, "ledger.a", first, amount(2), amount(3), amount(4))
			if second != first+3 {
				t.Errorf("a batch of 3 behind %d ends at %d", first, second)
			}
			mustAppend(t, s, "ledger.b", 0, amount(5))
			for _, expected := range []uint64{0, first, second + 1, second + 100} {
				if _, err := s.Append(testContext(t), "ledger.a", expected, amount(9)); !errors.Is(err, store.ErrConflict) {
					t.Errorf("append behind %d, where the subject ends at %d: %v", expected, second, err)
				}
				if _, err := s.Append(testContext(t), "ledger.a", expected, amount(9), amount(9)); !errors.Is(err, store.ErrConflict) {
					t.Errorf("append of two behind %d, where the subject ends at %d: %v", expected, second, err)
				}
			}
			recorded := mustLoad(t, s, "ledger.a")
			if len(recorded) != 4 {
				t.Fatalf("loaded %d events, want 4", len(recorded))
			}
			for i, r := range recorded {
				if amountOf(t, r) != int64(i+1) || r.Subject != "ledger.a" || r.Stream != ledger || r.StoredAt.IsZero() {
					t.Errorf("event %d: %+v", i, r)
				}
			}
		})
	}
}

func TestAppendAtHoldsTheStreamsLock(t *testing.T) {
	t.Parallel()
	for name, server := range clusters {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, server).open(t)
			ctx := testContext(t)
			first, err := s.AppendAt(ctx, 0, store.Write{Subject: "ledger.a", Event: amount(1)})
			if err != nil || first != 1 {
				t.Fatalf("append at 0: %d, %v", first, err)
			}
			second, err := s.AppendAt(ctx, 1, store.Write{Subject: "ledger.b", Event: amount(2)}, store.Write{Subject: "ledger.a", Event: amount(3)})
			if err != nil || second != 3 {
				t.Fatalf("append at 1: %d, %v", second, err)
			}
			for _, last := range []uint64{0, 1, 2, 4} {
				for _, writes := range [][]store.Write{{{"ledger.c", amount(9)}}, {{"ledger.c", amount(9)}, {"ledger.d", amount(9)}}} {
					if _, err := s.AppendAt(ctx, last, writes...); !errors.Is(err, store.ErrConflict) {
						t.Errorf("append of %d at %d, where the stream ends at 3: %v", len(writes), last, err)
					}
				}
			}
			if last, err := s.LastSequence(ctx); err != nil || last != 3 {
				t.Errorf("last sequence: %d, %v", last, err)
			}
		})
	}
}

// A second try may come long after the first one, from a process that knows nothing of it but the ids.
func TestAppendAgainReturnsTheFirstsSequence(t *testing.T) {
	t.Parallel()
	for name, server := range clusters {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := start(t, server)
			s, other := set.open(t), set.open(t)
			one := amount(1)
			batch := []events.Event{amount(2), amount(3), amount(4)}
			first := mustAppend(t, s, "ledger.a", 0, one)
			second := mustAppend(t, s, "ledger.a", first, batch...)
			third := mustAppend(t, s, "ledger.a", second, amount(5))
			for _, expected := range []uint64{0, third} { // the lock of then, and one of now
				if got := mustAppend(t, other, "ledger.a", expected, one); got != first {
					t.Errorf("one event again behind %d: %d, want %d", expected, got, first)
				}
			}
			for _, expected := range []uint64{first, third} {
				if got := mustAppend(t, other, "ledger.a", expected, batch...); got != second {
					t.Errorf("a batch again behind %d: %d, want %d", expected, got, second)
				}
			}
			for _, last := range []uint64{first, third} {
				got, err := other.AppendAt(testContext(t), last, store.Write{Subject: "ledger.a", Event: batch[0]}, store.Write{Subject: "ledger.a", Event: batch[1]}, store.Write{Subject: "ledger.a", Event: batch[2]})
				if err != nil || got != second {
					t.Errorf("a batch again at %d: %d, %v, want %d", last, got, err, second)
				}
			}
			if n := len(mustLoad(t, s, "ledger.a")); n != 5 {
				t.Errorf("%d events are stored, want 5", n)
			}
		})
	}
}

func TestAppendRefusesWhatIsNotAllOurs(t *testing.T) {
	t.Parallel()
	for name, server := range clusters {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, server).open(t)
			one, two := amount(1), amount(2)
			last := mustAppend(t, s, "ledger.a", 0, one, two)
			for what, evs := range map[string][]events.Event{
				"begins like ours": {one, amount(3)}, "is longer": {one, two, amount(3)}, "ends like ours": {amount(3), two},
			} {
				for _, expected := range []uint64{0, last} {
					if _, err := s.Append(testContext(t), "ledger.a", expected, evs...); !errors.Is(err, store.ErrConflict) {
						t.Errorf("%s, behind %d: %v", what, expected, err)
					}
				}
			}
			if _, err := s.Append(testContext(t), "ledger.b", 0, one); !errors.Is(err, store.ErrConflict) {
				t.Errorf("the id of another subject's event: %v", err)
			}
			if n := len(mustLoad(t, s, "ledger.a")); n != 2 {
				t.Errorf("%d events are stored, want 2", n)
			}
		})
	}
}

// Two writers that give the same ids to what they do may gather it differently: the ends of a batch don't speak for its middle.
func TestAppendLooksAtTheWholeBatch(t *testing.T) {
	t.Parallel()
	s := start(t, clusters["R1"]).open(t)
	one, two, three := amount(1), amount(2), amount(3)
	last := mustAppend(t, s, "ledger.a", 0, one, amount(9), three)
	for _, expected := range []uint64{0, last} {
		if got, err := s.Append(testContext(t), "ledger.a", expected, one, two, three); !errors.Is(err, store.ErrConflict) {
			t.Errorf("a batch whose middle is not stored, behind %d: %d, %v", expected, got, err)
		}
	}
}

func TestInvalidAppends(t *testing.T) {
	t.Parallel()
	s := start(t, clusters["R1"]).open(t)
	ctx := testContext(t)
	twice := amount(1)
	tests := map[string]struct {
		subject string
		evs     []events.Event
		want    error
	}{
		"no event":       {"ledger.a", nil, store.ErrInvalidAppend},
		"a wildcard":     {"ledger.*", []events.Event{amount(1)}, store.ErrInvalidAppend},
		"everything":     {"ledger.>", []events.Event{amount(1)}, store.ErrInvalidAppend},
		"a space":        {"ledger.a b", []events.Event{amount(1)}, store.ErrInvalidAppend},
		"no subject":     {"", []events.Event{amount(1)}, store.ErrInvalidAppend},
		"an empty token": {"ledger..a", []events.Event{amount(1)}, store.ErrInvalidAppend},
		"one id twice":   {"ledger.a", []events.Event{twice, twice}, store.ErrInvalidAppend},
		"too many":       {"ledger.a", make([]events.Event, store.MaxBatch+1), store.ErrInvalidAppend},
		"unknown type":   {"ledger.a", []events.Event{{ID: "1", Source: "/test", Type: "test.unknown.v1"}}, events.ErrUnknownType},
		"no source":      {"ledger.a", []events.Event{{ID: "1", Type: added, Data: amount(1).Data}}, events.ErrInvalidEvent},
		"bad payload":    {"ledger.a", []events.Event{{ID: "1", Source: "/test", Type: added, Data: []byte(`{"amount":"x"}`)}}, events.ErrSchema},
	}
	for what, tt := range tests {
		if _, err := s.Append(ctx, tt.subject, 0, tt.evs...); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", what, err, tt.want)
		}
	}
	if last, err := s.LastSequence(ctx); err != nil || last != 0 {
		t.Errorf("something was stored: last sequence %d, %v", last, err)
	}
}

func TestLargestBatch(t *testing.T) {
	t.Parallel()
	s := start(t, clusters["R1"]).open(t)
	evs := make([]events.Event, store.MaxBatch)
	for i := range evs {
		evs[i] = amount(int64(i))
	}
	if last := mustAppend(t, s, "ledger.a", 0, evs...); last != store.MaxBatch {
		t.Errorf("last sequence %d", last)
	}
	recorded := mustLoad(t, s, "ledger.a") // needs several requests
	for i, r := range recorded {
		if amountOf(t, r) != int64(i) {
			t.Fatalf("event %d has amount %d", i, amountOf(t, r))
		}
	}
	if len(recorded) != store.MaxBatch {
		t.Errorf("loaded %d", len(recorded))
	}
}

func TestAppendOnceSaysWhatIsKnown(t *testing.T) {
	t.Parallel()
	for name, server := range clusters {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := start(t, server)
			s, other := set.open(t), set.open(t)
			one := amount(1)
			for i, tc := range []struct {
				by    *store.Store
				ev    events.Event
				known bool
			}{{s, one, false}, {s, one, true}, {other, one, true}, {other, amount(2), true}} {
				if known, err := tc.by.AppendOnce(testContext(t), "ledger.a", tc.ev); err != nil || known != tc.known {
					t.Errorf("call %d: known %t, %v; want %t", i, known, err, tc.known)
				}
			}
			if n := len(mustLoad(t, s, "ledger.a")); n != 1 {
				t.Errorf("%d events are stored, want 1", n)
			}
			if known, err := s.AppendOnce(testContext(t), "ledger.*", one); err == nil || known {
				t.Errorf("a wildcard: known %t, %v", known, err)
			}
		})
	}
}
