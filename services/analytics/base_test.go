package analytics

import (
	"errors"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

func TestBaseIsDueWhenItCostsLessThanReadingAgain(t *testing.T) {
	t.Parallel()
	stored := time.Date(2010, 12, 1, 8, 0, 0, 0, time.UTC)
	b := base{Sequence: 1000, Stored: stored, pieces: pieces{Parts: []uint64{1}}}
	for _, c := range []struct {
		name     string
		base     base
		size     int
		sequence uint64
		stored   time.Time
		want     bool
	}{
		{"there is none", base{}, 10, 1, stored, true},
		{"nothing since", b, 10, 1000, stored.Add(time.Hour), false},
		{"few events since", b, 10, 1099, stored, false},
		{"a small state", b, 10, 1100, stored, true},
		{"a large state", b, 100_001, 2000, stored, false},
		{"a large state and as much to read", b, 100_000, 2000, stored, true},
		{"small and old", b, smallState, 1001, stored.Add(maxAge), true},
		{"large and old", b, smallState + 1, 1001, stored.Add(maxAge), false},
		{"large and very old", b, smallState + 1, 1001, stored.Add(maxAgeLarge), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := c.base.due(c.size, c.sequence, c.stored); got != c.want {
				t.Errorf("got %t, want %t", got, c.want)
			}
		})
	}
}

func TestLargeBaseIsStoredInParts(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start)
	j := newJournal(s.js, s.subjects)
	random := rand.NewChaCha8([32]byte{1})
	snapshot := make([]byte, (partsPerSubject+2)*partSize+1)
	_, _ = random.Read(snapshot)
	b, err := j.keep(t.Context(), baseName, snapshot, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Parts) != partsPerSubject+3 {
		t.Errorf("%d parts, want %d", len(b.Parts), partsPerSubject+3)
	}
	back, err := j.load(t.Context(), &b)
	if err != nil || string(back) != string(snapshot) {
		t.Errorf("came back with %d bytes, %v", len(back), err)
	}
	b.Digest = "00"
	if _, err := j.load(t.Context(), &b); !errors.Is(err, errState) {
		t.Errorf("another digest: got %v", err)
	}
	b.Parts[0] = 1 << 40
	if _, err := j.load(t.Context(), &b); !errors.Is(err, errState) {
		t.Errorf("a part that is gone: got %v", err)
	}
	if _, err := j.keep(t.Context(), baseName, make([]byte, maxParts*partSize+1), nil); !errors.Is(err, errTooLarge) {
		t.Errorf("too large: got %v", err)
	}
}

// 120,000 orders in open windows: the base has several parts, and a restart has them all.
func TestManyOpenEventsSurviveARestart(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start, withoutHeartbeats)
	w := s.worker()
	const n, batch = 120_000, 1000
	at := time.Now().UTC().Truncate(time.Minute)
	template := order(t, "template", at.Format(time.RFC3339), "GBP", 5)
	for from := 0; from < n; from += batch {
		ds := make([]bus.Delivery, batch)
		for i := range ds {
			ev := template
			ev.ID = strconv.Itoa(from + i)
			ds[i] = bus.Delivery{Event: ev, Stream: events.StreamTimeline, Sequence: uint64(from + i + 1), StoredAt: at}
		}
		if err := w.handle(t.Context(), ds); err != nil {
			t.Fatal(err)
		}
	}
	w.close(t.Context())
	if len(w.rec.Base.Parts) < 2 || w.rec.Base.Sequence != n {
		t.Fatalf("base of %d parts at %d", len(w.rec.Base.Parts), w.rec.Base.Sequence)
	}
	next := s.worker()
	ev := template
	ev.ID = "77" // known
	if err := next.handle(t.Context(), []bus.Delivery{{Event: ev, Stream: events.StreamTimeline, Sequence: n + 1, StoredAt: at}}); err != nil {
		t.Fatal(err)
	}
	if q := next.rec.Queries[0]; q.Counted != n || q.Duplicates != 1 {
		t.Errorf("got %+v", q)
	}
}

func testPlan(t *testing.T, qs []Query) *plan {
	t.Helper()
	return testPlanOf(t, Config{Queries: qs})
}

func testPlanOf(t *testing.T, cfg Config) *plan {
	t.Helper()
	registry, err := events.NewRegistry()
	if err != nil {
		t.Fatal(err)
	}
	topology := events.DefaultTopology(2)
	return newPlan(cfg.withDefaults(), &topology, registry)
}

func TestStateOfAnotherVersionIsRefused(t *testing.T) {
	t.Parallel()
	p := testPlan(t, nil)
	s, err := newState(p)
	if err != nil {
		t.Fatal(err)
	}
	good := s.snapshot()
	if _, err := restoreState(p, good); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"empty": nil, "another version": append([]byte{9}, good[1:]...), "cut": good[:len(good)/2]} {
		if _, err := restoreState(p, b); !errors.Is(err, errState) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestQueryThatIsNewHasReadNothingAndOneThatIsGoneIsForgotten(t *testing.T) {
	t.Parallel()
	qs := DefaultQueries()
	s, err := newState(testPlan(t, qs[:2]))
	if err != nil {
		t.Fatal(err)
	}
	ev := order(t, "1", "2010-12-01T08:26:10Z", "GBP", 5)
	if _, err := s.apply(&bus.Delivery{Event: ev, Sequence: 7, StoredAt: time.Now()}, &outputs{}); err != nil {
		t.Fatal(err)
	}
	back, err := restoreState(testPlan(t, qs[1:3]), s.snapshot())
	if err != nil {
		t.Fatal(err)
	}
	if back.sequence != 7 || len(back.running) != 2 || back.running[0].engine.Counts().Counted != 1 || back.running[0].sequence != 7 ||
		back.running[1].engine.Counts().Read() != 0 || back.running[1].sequence != 0 {
		t.Errorf("got %+v", back)
	}
}

// A base is a cache. One that another version has written is left alone, and the log is counted from its beginning.
func TestBaseOfAnotherVersionIsNotNeeded(t *testing.T) {
	t.Parallel()
	f := fill(t, eventstest.Start, 200)
	w := f.worker()
	if err := w.handle(t.Context(), f.deliveries[:120]); err != nil {
		t.Fatal(err)
	}
	snapshot := w.state.snapshot()
	snapshot[0] = 99
	rec := w.rec
	var err error
	if rec.Base.pieces, err = w.journal.keep(t.Context(), baseName, snapshot, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := w.journal.append(t.Context(), &rec, w.recSeq); err != nil {
		t.Fatal(err)
	}
	next := f.worker()
	if err := next.handle(t.Context(), f.deliveries[120:]); err != nil {
		t.Fatal(err)
	}
	f.verify(t, next)
}
