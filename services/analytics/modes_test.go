package analytics

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/window"
)

// drawn is a log: orders and clicks of few customers, with disorder, repeated ids, stragglers, silent partitions, heartbeats and what can't be read.
func drawn(t *rapid.T) []bus.Delivery {
	var ds []bus.Delivery
	stored := time.Date(2010, 12, 1, 8, 0, 0, 0, time.UTC)
	n := rapid.IntRange(1, 120).Draw(t, "events")
	for i := range n {
		stored = stored.Add(time.Duration(rapid.SampledFrom([]int{0, 200, 1000, 5000, 40_000, 600_000}).Draw(t, "pause")) * time.Millisecond)
		d := bus.Delivery{Stream: events.StreamTimeline, Sequence: uint64(i + 1), StoredAt: stored, Subject: events.SubjectTick} //nolint:gosec // small
		at := stored.Add(-time.Duration(rapid.SampledFrom([]int{0, 0, 1, 20, 70, 400, 4000}).Draw(t, "delay")) * time.Second)
		if rapid.IntRange(0, 30).Draw(t, "ahead") == 0 {
			at = stored.Add(time.Hour)
		}
		who := rapid.SampledFrom([]string{"ann", "bob"}).Draw(t, "who")
		var payload any
		eventType := events.TypeOrderPlaced
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0:
			ds = append(ds, d)
			continue
		case 1, 2, 3:
			eventType, payload = events.TypePageClicked, events.PageClicked{User: who, Page: "/", Platform: "web"}
			d.Subject = fmt.Sprintf("clicks.%d.x", rapid.IntRange(0, 1).Draw(t, "partition"))
		default:
			payload = events.OrderPlaced{
				OrderID: "1", CustomerID: who, Currency: "GBP", PlacedAt: at, Total: 7, RequestDigest: "d",
				Lines: []events.Line{{SKU: rapid.SampledFrom([]string{"A", "B"}).Draw(t, "sku"), Quantity: rapid.Int64Range(1, 3).Draw(t, "units"), UnitPrice: 1}},
			}
			d.Subject = fmt.Sprintf("orders.%d.x", rapid.IntRange(0, 1).Draw(t, "partition"))
		}
		ev, err := events.New("/test", eventType, "k", at, payload)
		if err != nil {
			t.Fatal(err)
		}
		ev.ID = fmt.Sprint("event-", rapid.IntRange(max(0, i-3), i).Draw(t, "id"))
		d.Event = ev
		if rapid.IntRange(0, 20).Draw(t, "unreadable") == 0 {
			d.Err = events.ErrUndecodable
		}
		ds = append(ds, d)
	}
	return ds
}

// simulation does what a worker does, with records and bases in memory.
type simulation struct {
	*rapid.T
	plan *plan
	log  []bus.Delivery

	state *state
	rec   record
	bases map[uint64][]byte
	out   outputs // of all commits
}

func simulate(t *rapid.T, p *plan, log []bus.Delivery) *simulation {
	s := &simulation{T: t, plan: p, log: log, bases: make(map[uint64][]byte)}
	var err error
	if s.state, err = newState(p); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *simulation) commit(out outputs, withBase bool) {
	base := s.rec.Base
	s.rec = recordOf(s.state)
	s.rec.Base = base
	if withBase || base.Sequence == 0 {
		s.rec.Base.Sequence = s.state.sequence
		s.bases[s.state.sequence] = s.state.snapshot()
	}
	s.out.Results = append(s.out.Results, out.Results...)
	s.out.Late = append(s.out.Late, out.Late...)
}

// crash forgets what is in memory and goes on from the record.
func (s *simulation) crash() {
	var err error
	if s.rec.Sequence == 0 {
		s.state, err = newState(s.plan)
	} else {
		recorded := s.plan.asRecorded(&s.rec)
		if s.state, err = restoreState(recorded, s.bases[s.rec.Base.Sequence]); err == nil {
			s.state.prepare(&s.rec)
			for i := s.state.sequence; err == nil && i < s.rec.Sequence; i++ {
				_, err = s.state.apply(&s.log[i], new(outputs))
			}
			s.state.arrive(s.rec.Sequence)
			if err == nil {
				err = sameCounts(&s.rec, s.state)
			}
			if err == nil {
				s.state, err = restoreState(s.plan, s.state.snapshot())
			}
		}
	}
	if err != nil {
		s.Fatal(err)
	}
}

// run reads the whole log. Batches, cuts, bases and crashes are drawn.
func (s *simulation) run() {
	for s.state.sequence < uint64(len(s.log)) {
		if rapid.IntRange(0, 5).Draw(s.T, "crash") == 0 {
			s.crash()
			continue
		}
		var out outputs
		from := int(s.state.sequence) //nolint:gosec // small
		to := min(from+rapid.IntRange(1, 8).Draw(s.T, "batch"), len(s.log))
		for i := from; i < to; i++ {
			if _, err := s.state.apply(&s.log[i], &out); err != nil {
				s.Fatal(err)
			}
		}
		if rapid.IntRange(0, 5).Draw(s.T, "crash before the commit") == 0 {
			s.crash()
			continue
		}
		for i, r := range s.state.running {
			switch {
			case len(r.held) == 0:
				r.passed()
			case !r.settings.Mode.batched() || rapid.Bool().Draw(s.T, "cut"):
				r.release(i, &out)
			}
		}
		s.commit(out, rapid.IntRange(0, 3).Draw(s.T, "base") == 0)
	}
	var out outputs
	for i, r := range s.state.running {
		r.release(i, &out)
	}
	s.commit(out, false)
}

// last is the last result of each window of each query. A session that was retracted is no window, and in a batch may never have been one.
func (s *simulation) last() map[string]string {
	last := make(map[string]string)
	for i := range s.out.Results {
		r := s.out.Results[i]
		at := fmt.Sprintf("%s %q %d", s.plan.queries[r.Query].Name, r.Key, r.Start)
		if last[at] = fmt.Sprint(r.End, r.Count, r.Value, r.Top, r.Revision, r.Timing, r.Sequence); r.Timing == string(window.Retract) {
			delete(last, at)
		}
	}
	return last
}

func (s *simulation) lates() []string {
	var all []string
	for i := range s.out.Late {
		l := &s.out.Late[i]
		w := int64(-1)
		if l.Watermark != nil {
			w = *l.Watermark
		}
		all = append(all, fmt.Sprint(l.Query, l.Reason, l.ID, l.Time, w, l.Sequence, l.Missed))
	}
	slices.Sort(all)
	return all
}

// In every mode, with every way of cutting, and also across restarts in the midst of a batch, what is counted, what is late, what is a duplicate and the last
// result of each window are the same.
func TestModesGiveTheSame(t *testing.T) {
	t.Parallel()
	registry, err := events.NewRegistry()
	if err != nil {
		t.Fatal(err)
	}
	topology := events.DefaultTopology(2)
	rapid.Check(t, func(t *rapid.T) {
		log := drawn(t)
		settings := DefaultSettings()
		settings.Lateness = rapid.SampledFrom([]time.Duration{0, time.Minute, 5 * time.Minute, time.Hour}).Draw(t, "lateness")
		settings.HoldIdle = rapid.Bool().Draw(t, "hold idle")
		cfg := Config{Default: &settings}.withDefaults()
		one := simulate(t, newPlan(cfg, &topology, registry), log)
		for i := range log {
			var out outputs
			if _, err := one.state.apply(&log[i], &out); err != nil {
				t.Fatal(err)
			}
			for q, r := range one.state.running {
				r.release(q, &out)
			}
			one.commit(out, false)
		}
		batched := settings
		batched.Mode = Mode{Every: time.Second}
		cfg.Settings = make(map[string]Settings)
		for _, q := range cfg.Queries {
			if rapid.Bool().Draw(t, "in batches") {
				cfg.Settings[q.Name] = batched
			}
		}
		other := simulate(t, newPlan(cfg, &topology, registry), log)
		other.run()

		if want, got := one.last(), other.last(); !maps.Equal(got, want) {
			t.Fatalf("last results: got %v\nwant %v", got, want)
		}
		if w, g := one.lates(), other.lates(); !slices.Equal(w, g) {
			t.Fatalf("late: got %v\nwant %v", g, w)
		}
		if err := sameCounts(&one.rec, other.state); err != nil {
			t.Fatal(err)
		}
	})
}
