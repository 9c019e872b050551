package analytics

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/window"
)

// newBackfillOf is a backfill beside an instance.
func (s *shop) newBackfillOf(in *instance) *backfill {
	group, _ := s.topology.Group(events.GroupAnalytics)
	return newBackfill(in.svc.worker, group)
}

// mustBackfill runs a backfill of all queries.
func (b *backfill) must(tb testing.TB, dry bool) map[string]BackfillReport {
	tb.Helper()
	reports, err := b.try(tb, dry)
	if err != nil {
		tb.Fatal(err)
	}
	return reports
}

func (b *backfill) try(tb testing.TB, dry bool) (map[string]BackfillReport, error) {
	tb.Helper()
	by := make(map[string]BackfillReport)
	err := b.run(tb.Context(), b.plan.queries, dry, func(all []BackfillReport) {
		for _, r := range all {
			by[r.Query] = r
		}
	})
	return by, err
}

// place of a window in a comparison.
type windowPlace struct {
	query, key string
	start, end int64
}

// results are the newest results of all windows in WINDOWS, without those that were retracted, and how many results there are.
func (s *shop) results() (map[windowPlace]window.Result, int) {
	s.tb.Helper()
	all, n := make(map[windowPlace]window.Result), 0
	last := make(map[string]storedResult)
	for _, m := range s.stored(events.StreamWindows, "windows.") {
		w, err := resultIn(&m)
		if err != nil {
			s.tb.Fatal(err)
		}
		n++
		last[m.Subject] = w
	}
	for _, w := range last {
		if r := w.result(); r.Timing != window.Retract {
			all[windowPlace{w.Query, r.Key, r.Start, r.End}] = r
		}
	}
	return all, n
}

// batch is what a batch over all that TIMELINE holds gives: each event once, no watermark.
func (s *shop) batch(p *plan) map[windowPlace]window.Result {
	s.tb.Helper()
	all := make(map[windowPlace]window.Result)
	for i, q := range p.queries {
		cfg := q.config()
		cfg.Manual, cfg.MaxFuture = true, window.Unlimited
		engine, err := window.New(cfg)
		if err != nil {
			s.tb.Fatal(err)
		}
		clock := int64(0)
		for _, m := range s.stored(events.StreamTimeline, "") {
			d := deliveryOf(&m, p)
			clock = max(clock, m.Time.UnixMilli())
			takers := p.byType[d.Event.Type]
			n := slices.Index(takers, i)
			if d.Err != nil || n < 0 || d.Event.Time.UnixMilli() > clock+maxFutureOf(q) {
				continue
			}
			r := d.Checked.(readings)[n] //nolint:errcheck // of the type that check returns
			engine.Apply(window.Event{ID: identity(&d.Event), Key: r.Key, Item: r.Item, Value: r.Value, Parts: r.Parts, Time: d.Event.Time.UnixMilli()})
		}
		for _, r := range engine.End() {
			if q.Keep == nil || q.Keep(&r) {
				all[windowPlace{q.Name, r.Key, r.Start, r.End}] = r
			}
		}
	}
	return all
}

func maxFutureOf(q *asked) int64 {
	return cmp.Or(q.settings.MaxFuture, window.DefaultMaxFuture).Milliseconds()
}

// sameWindows compares those that end before a time.
func sameWindows(tb testing.TB, got, want map[windowPlace]window.Result, before time.Time) {
	tb.Helper()
	live := func(at windowPlace, _ window.Result) bool { return at.end > before.UnixMilli() }
	got, want = maps.Clone(got), maps.Clone(want)
	maps.DeleteFunc(got, live)
	maps.DeleteFunc(want, live)
	bad := 0
	for at, w := range want {
		if g, ok := got[at]; !ok || g.Count != w.Count || !g.Value.Equal(w.Value) {
			if bad++; bad < 10 {
				tb.Errorf("%+v: %+v, a batch gives %+v", at, g, w)
			}
		}
	}
	for at, g := range got {
		if _, ok := want[at]; !ok {
			if bad++; bad < 10 {
				tb.Errorf("%+v: %+v, a batch has no such window", at, g)
			}
		}
	}
	if len(want) == 0 {
		tb.Error("nothing to compare")
	}
}

// history places n orders of an hour of 2010 after one that is dated now: all of them are late.
func (s *shop) history(n int) {
	s.tb.Helper()
	before := s.inTimeline()
	s.place("now", time.Now().UTC().Format(time.RFC3339), "GBP", 1)
	s.click("now", "guest", time.Now())
	// TIMELINE may take the click behind the orders, and sessions wait for both streams.
	eventstest.Eventually(s.tb, patience, "both are in TIMELINE", func() bool { return s.inTimeline() == before+2 })
	start := time.Date(2010, 12, 1, 8, 0, 0, 0, time.UTC)
	for i := range n {
		at := start.Add(time.Duration(i*37%3600) * time.Second)
		s.place(fmt.Sprintf("old-%d", i), at.Format(time.RFC3339), []string{"GBP", "EUR"}[i%2], events.Minor(i))
	}
}

// click stores a click.
func (s *shop) click(id, user string, at time.Time) {
	s.tb.Helper()
	ev, err := events.New("/test", events.TypePageClicked, user, at.UTC(), events.PageClicked{User: user, Page: "/", Platform: "web"})
	if err != nil {
		s.tb.Fatal(err)
	}
	ev.ID = id
	if _, err := s.publisher.Publish(s.tb.Context(), s.subjects.Click(user), ev); err != nil {
		s.tb.Fatal(err)
	}
}

func awaitAll(in *instance, n uint64) {
	in.awaitRead("orders-per-minute", n)
}

func TestBackfillOfHistory(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start)
	in := s.start(Config{})
	s.history(60)
	awaitAll(in, 61)
	b := s.newBackfillOf(in)
	_, before := s.results()

	dry := b.must(t, true)
	if _, n := s.results(); n != before {
		t.Errorf("a dry run has published %d results", n-before)
	}
	did := b.must(t, false)
	for name, r := range did {
		if d := dry[name]; d.Published != r.Published || d.Late != r.Late {
			t.Errorf("%s: a dry run says %+v, then it did %+v", name, d, r)
		}
	}
	if r := did["orders-per-minute"]; r.Late != 60 || r.Published == 0 || r.Pending+r.Lost != 0 || r.Expired != 0 {
		t.Errorf("%+v", r)
	}
	after, n := s.results()
	sameWindows(t, after, s.batch(b.plan), time.Now().Add(-48*time.Hour))
	for name, r := range b.must(t, false) {
		if r.Published+r.Retracted+r.Late != 0 {
			t.Errorf("%s: a second run did %+v", name, r)
		}
	}
	if _, again := s.results(); again != n {
		t.Errorf("a second run has published %d results", again-n)
	}
}

var errStopped = errors.New("stopped by the test")

// A backfill that dies at any place leaves nothing wrong, and the next one does the rest.
func TestBackfillThatDies(t *testing.T) {
	t.Parallel()
	for stage, name := range map[backfillStage]string{beforeResults: "before results", duringResults: "during results", beforePosition: "before the position"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, eventstest.Start)
			in := s.start(Config{})
			s.history(30)
			awaitAll(in, 31)
			b := s.newBackfillOf(in)
			b.fault = func(at backfillStage) error {
				if at == stage {
					return errStopped
				}
				return nil
			}
			if _, err := b.try(t, false); !errors.Is(err, errStopped) {
				t.Fatalf("it did not die: %v", err)
			}
			next := s.newBackfillOf(in)
			next.must(t, false)
			got, _ := s.results()
			sameWindows(t, got, s.batch(b.plan), time.Now().Add(-48*time.Hour))
			for at, r := range got {
				if r.Timing == window.Backfill && r.Revision != 1 {
					t.Errorf("%+v came out %d times", at, r.Revision)
				}
			}
		})
	}
}

// Backfills at once, and while events come: whoever is slower begins again.
func TestBackfillsAtOnce(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start)
	in := s.start(Config{})
	s.history(40)
	awaitAll(in, 41)
	done := make(chan error, 3)
	for range 2 {
		b := s.newBackfillOf(in)
		b.mostWindows = 7
		go func() {
			done <- b.run(t.Context(), b.plan.queries, false, func([]BackfillReport) {})
		}()
	}
	go func() {
		for i := range 40 {
			at := time.Date(2010, 12, 1, 8, 0, 0, 0, time.UTC).Add(time.Duration(i*41%3600) * time.Second)
			ev := order(t, fmt.Sprintf("more-%d", i), at.Format(time.RFC3339), "GBP", 5)
			if _, err := s.publisher.Publish(t.Context(), s.subjects.Order(ev.ID), ev); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for range 3 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	awaitAll(in, 81)
	b := s.newBackfillOf(in)
	b.must(t, false)
	got, _ := s.results()
	sameWindows(t, got, s.batch(b.plan), time.Now().Add(-48*time.Hour))
}

// Where TIMELINE has lost its beginning, a window is made right or stays as it is, and is named.
func TestBackfillWithoutTheBeginning(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start)
	in := s.start(Config{})
	s.history(40)
	awaitAll(in, 41)
	stream, err := s.js.Stream(t.Context(), events.StreamTimeline)
	if err != nil {
		t.Fatal(err)
	}
	cut := s.stored(events.StreamTimeline, "orders.")[20].Sequence
	want := s.batch(s.newBackfillOf(in).plan)
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSequence(cut)); err != nil {
		t.Fatal(err)
	}
	b := s.newBackfillOf(in)
	did := b.must(t, false)
	r := did["orders-per-minute"]
	if r.Lost == 0 || r.Published == 0 || len(r.Examples) == 0 {
		t.Errorf("%+v", r)
	}
	got, _ := s.results()
	for at, w := range got {
		if at.end < time.Now().Add(-48*time.Hour).UnixMilli() && (w.Count != want[at].Count || !w.Value.Equal(want[at].Value)) {
			t.Errorf("%+v: %+v, a batch over everything gives %+v", at, w, want[at])
		}
	}
}

// What live counting publishes once more, after a crash, does not take the place of what a backfill has published.
func TestBackfillStaysAtop(t *testing.T) {
	t.Parallel()
	s := newShopOf(t, eventstest.Start, 1, withoutHeartbeats, shortMemory)
	in := s.start(plain())
	s.place("a", "2010-12-01T08:00:10Z", "GBP", 1)
	s.place("b", "2010-12-01T08:05:00Z", "GBP", 1) // closes the minute of a
	s.place("c", "2010-12-01T08:00:20Z", "GBP", 1) // late for it
	awaitAll(in, 3)
	var rec record // the one that closed the minute of a
	for _, m := range s.stored(events.StreamWindows, s.subjects.Commit(journalName, 0)) {
		var r record
		if err := json.Unmarshal(m.Data, &r); err != nil {
			t.Fatal(err)
		}
		if len(r.Outputs.Results) > 0 {
			rec = r
		}
	}
	b := s.newBackfillOf(in)
	b.must(t, false)
	got, n := s.results()
	in.stop()
	again := newPublisher(s.js, s.encoder, s.subjects, b.plan, func() error { return nil })
	if err := again.sendResults(t.Context(), namesOf(&rec), rec.Outputs.Results).settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	now, m := s.results()
	if n != m || !maps.EqualFunc(got, now, func(a, b window.Result) bool { return a.Count == b.Count && a.Revision == b.Revision }) {
		t.Errorf("%d results, now %d: %v, was %v", n, m, now, got)
	}
	at := windowPlace{"orders-per-minute", "", time.Date(2010, 12, 1, 8, 0, 0, 0, time.UTC).UnixMilli(), time.Date(2010, 12, 1, 8, 1, 0, 0, time.UTC).UnixMilli()}
	if r := now[at]; r.Count != 2 || r.Revision != 2 || r.Timing != window.Backfill {
		t.Errorf("%+v", r)
	}
}

func namesOf(rec *record) []string {
	var names []string
	for _, q := range rec.Queries {
		names = append(names, q.Name)
	}
	return names
}
