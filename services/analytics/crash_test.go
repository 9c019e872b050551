package analytics

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// filled is a TIMELINE with disorder, late events, repeated ids and things that can't be read, and what must come out of it.
type filled struct {
	*shop
	deliveries []bus.Delivery
	want       *state
	outputs    outputs
}

func fill(t *testing.T, start func(testing.TB) *eventstest.Server, n int) *filled {
	t.Helper()
	f := &filled{shop: newShopOf(t, start, 2, shortMemory, withoutHeartbeats)}
	random := rand.New(rand.NewPCG(1, 2)) // a seed, so that a failure comes again
	begin := time.Date(2010, 12, 1, 8, 0, 0, 0, time.UTC)
	var messages []bus.Message
	for i := range n {
		id := fmt.Sprint("order-", i)
		at := begin.Add(time.Duration(i)*20*time.Second - time.Duration(random.IntN(200))*time.Second)
		ev := order(t, id, at.Format(time.RFC3339), []string{"GBP", "EUR"}[random.IntN(2)], events.Minor(random.IntN(1000)))
		ev.ID = fmt.Sprint("event-", i-i%7%2) // some ids come twice
		messages = append(messages, bus.Message{Subject: f.subjects.Order(id), Event: ev})
	}
	for i := range messages {
		header, data, err := events.Encode(&messages[i].Event)
		if err != nil {
			t.Fatal(err)
		}
		if i%11 == 5 {
			data = []byte("{}")
		}
		if _, err := f.js.PublishMsgAsync(&nats.Msg{Subject: messages[i].Subject, Header: nats.Header(header), Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	<-f.js.PublishAsyncComplete()
	f.awaitTimeline(n)

	w := f.worker()
	var err error
	if f.want, err = newState(w.plan); err != nil {
		t.Fatal(err)
	}
	for _, m := range f.stored(events.StreamTimeline, "") {
		d := deliveryOf(&m, w.plan)
		f.deliveries = append(f.deliveries, d)
		if _, err := f.want.apply(&d, &f.outputs); err != nil {
			t.Fatal(err)
		}
		for i, r := range f.want.running {
			r.release(i, &f.outputs)
		}
	}
	if c := f.want.running[0].engine.Counts(); c.Late() == 0 || c.Duplicates == 0 || f.want.unreadable == 0 || len(f.outputs.Results) < 10 {
		t.Fatalf("the input is too tame: %+v, %d unreadable, %d results", c, f.want.unreadable, len(f.outputs.Results))
	}
	return f
}

// worker is an instance that knows nothing yet.
func (s *shop) worker() *worker { return s.workerOf(plain()) }

func (s *shop) workerOf(cfg Config) *worker {
	s.tb.Helper()
	p := s.plan(cfg)
	return newWorker(s.js, s.subjects, s.encoder, p, newIndex(p), bus.Telemetry{Logger: testLog(s.tb)})
}

// verify compares what is stored with what must come out: every result and late event once, in LATE in the order of the log.
func (f *filled) verify(t *testing.T, w *worker) {
	t.Helper()
	f.compare(t, w, true)
}

// verifyUnordered does not ask for the order of LATE.
func (f *filled) verifyUnordered(t *testing.T, w *worker) {
	t.Helper()
	f.compare(t, w, false)
}

func (f *filled) compare(t *testing.T, w *worker, ordered bool) {
	t.Helper()
	names := w.plan.names()
	var wantResults, wantLate []string
	for i := range f.outputs.Results {
		r := &f.outputs.Results[i]
		ev, err := r.event(names[r.Query])
		if err != nil {
			t.Fatal(err)
		}
		wantResults = append(wantResults, f.subjects.Window(names[r.Query], r.Key, r.Start)+" "+string(ev.Data))
	}
	for i := range f.outputs.Late {
		l := &f.outputs.Late[i]
		ev, err := l.event(names[l.Query])
		if err != nil {
			t.Fatal(err)
		}
		wantLate = append(wantLate, f.subjects.Late(l.Reason, names[l.Query])+" "+string(ev.Data))
	}
	got := func(stream, filter string) (out []string) {
		for _, m := range f.stored(stream, filter) {
			out = append(out, m.Subject+" "+string(m.Data))
		}
		return out
	}
	results := got(events.StreamWindows, "windows.")
	slices.Sort(results)
	slices.Sort(wantResults)
	if !slices.Equal(results, wantResults) {
		t.Errorf("%d results are stored, want %d, or they differ", len(results), len(wantResults))
	}
	late := got(events.StreamLate, "")
	if !ordered {
		slices.Sort(late)
		slices.Sort(wantLate)
	}
	if !slices.Equal(late, wantLate) {
		t.Errorf("%d late events are stored, want %d, or they differ", len(late), len(wantLate))
	}
	rec, _, err := w.journal.last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := sameCounts(&rec, f.want); err != nil || rec.Unreadable != f.want.unreadable {
		t.Errorf("unreadable %d, want %d; %v", rec.Unreadable, f.want.unreadable, err)
	}
}

var errKilled = errors.New("killed")

// TestCrashAnywhereChangesNothing drives instances step by step, kills them at every stage, and lets two of them believe at once that they are the active one. The
// streams forget message ids at once, as they have when a restart takes longer than two minutes.
func TestCrashAnywhereChangesNothing(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) *eventstest.Server{"R1": eventstest.Start, "R3": eventstest.StartCluster} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := fill(t, start, 400)
			random := rand.New(rand.NewPCG(3, 4))
			instances := []*worker{f.worker(), f.worker()}
			kills, conflicts := map[stage]int{}, 0
			for done := false; !done; {
				i := random.IntN(len(instances))
				w := instances[i]
				doom := stage(random.IntN(12)) // more often none
				if kills[duringBase] == 0 {
					doom = duringBase // there are few of them, and the first commit has one
				}
				w.fault = func(at stage) error {
					if at == doom {
						kills[at]++
						return errKilled
					}
					return nil
				}
				// An instance that reads on does not ask for the position; one that was reset does.
				if w.state == nil || random.IntN(4) == 0 {
					if _, err := w.position(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				from := uint64(0)
				if w.state != nil {
					from = w.state.sequence
				} else if rec, _, err := w.journal.last(t.Context()); err != nil {
					t.Fatal(err)
				} else {
					from = rec.Sequence
				}
				batch := f.deliveries[min(from, uint64(len(f.deliveries))):]
				if len(batch) == 0 {
					done = doom > duringRestore
					batch = f.deliveries[len(f.deliveries)-1:]
				}
				batch = batch[:min(len(batch), 1+random.IntN(12))]
				err := w.handle(t.Context(), batch)
				switch {
				case errors.Is(err, errKilled):
					instances[i] = f.worker() // another process
					done = false
				case errors.Is(err, errOtherInstance):
					conflicts++
					done = false
				case err != nil:
					t.Fatal(err)
				}
			}
			if conflicts == 0 || kills[beforeCommit]*kills[duringBase]*kills[afterCommit]*kills[duringPublish]*kills[afterPublish]*kills[duringRestore] == 0 {
				t.Errorf("not everything happened: kills %v, conflicts %d", kills, conflicts)
			}
			f.verify(t, f.worker())
		})
	}
}

// An instance that woke up late publishes what others published long ago, and what comes after it. Nothing changes.
func TestPublishingLateChangesNothing(t *testing.T) {
	t.Parallel()
	f := fill(t, eventstest.Start, 200)
	w := f.worker()
	half := len(f.deliveries) / 2
	if err := w.handle(t.Context(), f.deliveries[:half]); err != nil {
		t.Fatal(err)
	}
	old := w.rec
	if err := w.handle(t.Context(), f.deliveries[half:]); err != nil {
		t.Fatal(err)
	}
	if _, err := w.publisher.publish(t.Context(), &old); err != nil {
		t.Error(err)
	}
	if _, err := w.publisher.publish(t.Context(), &w.rec); err != nil {
		t.Error(err)
	}
	f.verify(t, w)
}

// A result that somebody else wrote is not taken for ours.
func TestForeignResultIsNoticed(t *testing.T) {
	t.Parallel()
	f := fill(t, eventstest.Start, 200)
	r := f.outputs.Results[0]
	f.raw(f.subjects.Window("orders-per-minute", r.Key, r.Start), nil, []byte("not ours"))
	if err := f.worker().handle(t.Context(), f.deliveries); !errors.Is(err, errForeign) {
		t.Errorf("got %v, want %v", err, errForeign)
	}
}

func TestRestartWithAnotherBound(t *testing.T) {
	t.Parallel()
	f := fill(t, eventstest.Start, 200)
	half := len(f.deliveries) / 2
	if err := f.worker().handle(t.Context(), f.deliveries[:half]); err != nil {
		t.Fatal(err)
	}
	w := f.workerOf(Config{Default: &Settings{Bound: time.Hour}})
	if err := w.handle(t.Context(), f.deliveries[half:]); err != nil {
		t.Fatal(err)
	}
	before, _ := f.want.running[0].engine.Watermark()
	if w.rec.Queries[0].Late >= f.want.running[0].engine.Counts().Late() || w.rec.Queries[0].Bound != time.Hour {
		t.Errorf("with a bound of an hour: %+v; with a minute the watermark was %d", w.rec.Queries[0], before)
	}
}

// A query whose meaning changes under its name would mix two meanings in one window.
func TestChangedMeaningIsRefused(t *testing.T) {
	t.Parallel()
	f := fill(t, eventstest.Start, 200)
	w := f.worker()
	if err := w.handle(t.Context(), f.deliveries[:100]); err != nil {
		t.Fatal(err)
	}
	if err := w.handle(t.Context(), f.deliveries[100:150]); err != nil { // behind the base
		t.Fatal(err)
	}
	others := DefaultQueries()
	others[0].Types = []string{events.TypeOrderConfirmed}
	changed := f.workerOf(Config{Queries: others, Default: plain().Default})
	if err := changed.handle(t.Context(), f.deliveries[150:]); !errors.Is(err, errOtherCounts) || changed.health.failing() == nil || !strings.Contains(err.Error(), "orders-per-minute") {
		t.Errorf("got %v, want %v", err, errOtherCounts)
	}
}

// A clean stop leaves a base at the last sequence, so a newer program replays nothing with rules of its own.
func TestCleanStopLeavesNothingToReplay(t *testing.T) {
	t.Parallel()
	f := fill(t, eventstest.Start, 150)
	w := f.worker()
	for _, batch := range [][]bus.Delivery{f.deliveries[:120], f.deliveries[120:]} {
		if err := w.handle(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	if w.rec.Base.Sequence == w.rec.Sequence {
		t.Fatal("the base is at the end before the stop: the test shows nothing")
	}
	w.close(t.Context())
	if w.rec.Base.Sequence != w.rec.Sequence {
		t.Errorf("base at %d, record at %d", w.rec.Base.Sequence, w.rec.Sequence)
	}
	f.verify(t, f.worker())
}

// TIMELINE that ends before the last commit means that the broker lost what it had acknowledged.
func TestLostLogIsNoticed(t *testing.T) {
	t.Parallel()
	f := fill(t, eventstest.Start, 150)
	w := f.worker()
	for _, batch := range [][]bus.Delivery{f.deliveries[:120], f.deliveries[120:]} {
		if err := w.handle(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := f.js.Stream(t.Context(), events.StreamTimeline)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	if err := f.js.DeleteStream(t.Context(), events.StreamTimeline); err != nil {
		t.Fatal(err)
	}
	cfg.Sources = nil
	if _, err := f.js.CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if err := f.worker().handle(t.Context(), f.deliveries[149:]); !errors.Is(err, errLogLost) {
		t.Errorf("got %v, want %v", err, errLogLost)
	}
}

// The outputs of a step stand in its record, and a message has a limit: a step with many outputs is cut.
func TestStepWithManyOutputsIsCut(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start, withoutHeartbeats)
	w := s.worker()
	first := order(t, "first", "2010-12-01T10:00:00Z", "GBP", 1)
	stored := time.Date(2010, 12, 1, 10, 0, 0, 0, time.UTC)
	if err := w.handle(t.Context(), []bus.Delivery{{Event: first, Sequence: 1, StoredAt: stored}}); err != nil {
		t.Fatal(err)
	}
	ds := make([]bus.Delivery, 1000)
	for i := range ds {
		ev := order(t, "late", "2010-12-01T09:00:00Z", "GBP", 1)
		ev.ID = fmt.Sprintf("%0*d", maxID, i) // longest, and each character takes six bytes in JSON
		ev.ID = strings.ReplaceAll(ev.ID, "0", "<")
		ds[i] = bus.Delivery{Event: ev, Sequence: uint64(i + 2), StoredAt: stored}
	}
	if err := w.handle(t.Context(), ds); err != nil {
		t.Fatal(err)
	}
	records := s.stored(events.StreamWindows, s.subjects.Commit(journalName, 0))
	if len(records) < 3 {
		t.Errorf("%d commits, want the step cut into several", len(records))
	}
	for _, m := range records {
		if len(m.Data) > 1<<20-4096 {
			t.Errorf("a record of %d bytes", len(m.Data))
		}
	}
	if n := len(s.stored(events.StreamLate, "")); n != 4000 {
		t.Errorf("%d late events are stored, want 4000", n)
	}
}

// The broker goes away in the middle and comes back. Nothing of it shows in the results.
func TestBrokerRestart(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start)
	in := s.start(plain())
	s.place("1", "2010-12-01T08:26:10Z", "GBP", 1000)
	in.awaitRead("orders-per-minute", 1)
	s.server.Restart(0)
	eventstest.Eventually(t, patience, "the broker takes orders again", func() bool {
		ev := order(t, "2", "2010-12-01T08:26:20Z", "GBP", 1)
		ev.ID = "order-2"
		_, err := s.publisher.Publish(t.Context(), s.subjects.Order("2"), ev)
		return err == nil
	})
	s.place("3", "2010-12-01T08:30:00Z", "GBP", 1)
	in.awaitRead("orders-per-minute", 3)
	if got, want := lines(in.windows("orders-per-minute")), []string{"08:26 on_time [2,2]", "08:30 open [1,1]"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
