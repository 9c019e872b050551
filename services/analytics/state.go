package analytics

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/window"
	"github.com/tidemark/tidemark/services/analytics/lateness"
)

// state is everything that the log up to one sequence amounts to, and what of it is not out yet. The same log gives the same state.
type state struct {
	plan       *plan
	sequence   uint64    // the last of TIMELINE whose effect is in
	stored     time.Time // its store time
	unreadable uint64    // events that could not be read, whether or not a query would have taken them
	running    []*running
}

// running is one query at work.
type running struct {
	*asked
	engine     *window.Engine
	lateness   *lateness.Meter
	sequence   uint64 // the last that it has read: the state's, but for a query that is new and reads history first
	until      uint64 // in a replay: what comes behind is not its business
	unreadable uint64 // events of its types that could not be read
	given      uint64 // events of its types that came, counted before anything is made of them: what the verdicts must add up to
	clock      int64  // the latest store time that the engine was told

	// What came out of the engine and is not out yet, in the order of the log, and the sequence up to which all is out. See held.go.
	held  []result
	cut   uint64
	taken int // events since the cut

	settled *int64 // [window.Engine.Gone] at the cut
}

func newRunning(a *asked) (*running, error) {
	e, err := window.New(a.config())
	if err != nil {
		return nil, fmt.Errorf("query %s: %w", a.Name, err)
	}
	return &running{asked: a, engine: e, lateness: lateness.New(a.settings.waits()), until: math.MaxUint64, clock: math.MinInt64}, nil
}

func newState(p *plan) (*state, error) {
	s := &state{plan: p}
	for _, a := range p.queries {
		r, err := newRunning(a)
		if err != nil {
			return nil, err
		}
		s.running = append(s.running, r)
	}
	return s, nil
}

// apply takes one delivery, adds what comes out of it to what is held and to the late events, and reports whether it changed more than how far time has come.
// What a query has read before it passes over.
func (s *state) apply(d *bus.Delivery, out *outputs) (changed bool, err error) {
	in, err := s.incoming(d)
	if err != nil {
		return false, err
	}
	next := 0 // of the readings
	for i, r := range s.running {
		takes := next < len(in.takers) && in.takers[next] == i
		if takes {
			next++
		}
		if d.Sequence <= r.sequence || d.Sequence > r.until {
			continue
		}
		r.sequence = d.Sequence
		if takes {
			r.given++
		}
		switch {
		case !takes:
			changed = r.tick(&in) || changed
		case d.Err != nil:
			r.unreadable++
			changed = r.tick(&in) || true
		default:
			changed = true
			r.take(i, &in, &in.readings[next-1], out)
		}
	}
	if d.Sequence > s.sequence {
		s.sequence, s.stored = d.Sequence, d.StoredAt
		if d.Err != nil {
			s.unreadable++
			changed = true
		}
	}
	return changed, nil
}

// incoming is a delivery as all queries look at it.
type incoming struct {
	*bus.Delivery
	id                string
	stored            int64
	stream, partition int
	takers            []int
	readings          readings
}

func (s *state) incoming(d *bus.Delivery) (incoming, error) {
	in := incoming{Delivery: d, stored: d.StoredAt.UnixMilli(), takers: s.plan.byType[d.Event.Type]}
	if d.Err != nil || len(in.takers) == 0 {
		return in, nil //nolint:nilerr // what can't be read is counted as that
	}
	in.readings, _ = d.Checked.(readings)
	if in.readings == nil {
		var err error
		if in.readings, err = s.plan.read(&d.Event); err != nil {
			return in, fmt.Errorf("sequence %d: %w", d.Sequence, err)
		}
	}
	in.id = identity(&d.Event)
	in.stream, in.partition, _ = s.plan.origins.Of(d.Subject)
	return in, nil
}

// tick tells the engine the time. A time that it knows changes nothing, so most messages of other types cost a look.
func (r *running) tick(in *incoming) (fired bool) {
	if in.stored <= r.clock {
		return false
	}
	r.clock = in.stored
	results := r.engine.Tick(in.stored)
	r.hold(results, in.Sequence)
	return len(results) > 0
}

func (r *running) take(query int, in *incoming, reading *Reading, out *outputs) {
	r.taken++
	r.clock = max(r.clock, in.stored)
	before, started := r.engine.Watermark()
	outcome := r.engine.Apply(window.Event{
		ID: in.id, Key: reading.Key, Item: reading.Item, Value: reading.Value, Parts: reading.Parts,
		Time: r.timeOf(&in.Event, in.stored), Stored: in.stored, Partition: r.partition(in.stream, in.partition),
	})
	r.lateness.Add(in.stored, outcome.Sample, r.engine.State(), r.engine.Size())
	r.hold(outcome.Results, in.Sequence)
	if outcome.Verdict.Late() {
		out.Late = append(out.Late, lateOf(query, in.Delivery, reading.Key, outcome, before, started))
	}
}

// identity is what makes two events the same: source and id together, as CloudEvents says. Two producers may both count from 1.
func identity(ev *events.Event) string {
	return strconv.Itoa(len(ev.Source)) + ":" + ev.Source + ev.ID
}

// lagging is the least sequence that some query has come to, if there is one that is behind the others.
func (s *state) lagging() (from uint64, behind bool) {
	from = s.sequence
	for _, r := range s.running {
		from = min(from, r.sequence)
	}
	return from, from < s.sequence
}
