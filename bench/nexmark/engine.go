package nexmark

import (
	"github.com/tidemark/tidemark/pkg/window"
)

// storedFrom is how much later than event time the log of [Config.Stored] is: so much that no event is dated ahead of it, but for those that are meant to be.
const storedFrom = 11 * 365 * 24 * 60 * 60 * 1000

// Stored are times at which a log could have stored the deliveries: as fast as things happened.
func (c Config) Stored(log []Delivery) []int64 {
	all := make([]int64, len(log))
	for i := range all {
		all[i] = c.at(int64(i)) + storedFrom
	}
	return all
}

// Place is a window of a key.
type Place struct {
	Key        string
	Start, End int64
}

// Streamed is what the engine has said of a log.
type Streamed struct {
	Answer
	First map[Place]int // the delivery that made a window come out the first time
	State window.State  // at its largest
}

// Stream gives the log to the engine, from memory. batch is the number of deliveries after which results come out together; 0: at once.
func (c Config) Stream(q *Query, log []Delivery, stored []int64, batch int) (*Streamed, error) {
	e, err := window.New(q.Config(c))
	if err != nil {
		return nil, err
	}
	s := &Streamed{First: make(map[Place]int)}
	last := make(map[Place]window.Result)
	var held []window.Result
	for i := range log {
		d := &log[i]
		ev := c.Event(d.Number)
		before := len(held)
		if q.Takes(ev.Kind) {
			held = append(held, s.apply(e, q, d, &ev, stored[i])...)
		} else {
			held = append(held, e.Tick(stored[i])...)
		}
		s.first(q, held[before:], i)
		if batch > 0 && i%batch < batch-1 && i < len(log)-1 {
			continue
		}
		for _, r := range window.Coalesce(held) {
			keep(last, q, r)
		}
		held = held[:0]
		s.State = larger(s.State, e.State())
	}
	for at, r := range last {
		s.Result(at.Key, at.Start, at.End, r.Count, valueOf(r.Value))
	}
	return s, nil
}

// Results calls take with every result that comes out when the log is fed to the engine event by event, and with the delivery that made it come out.
func (c Config) Results(q *Query, log []Delivery, take func(place int, r *window.Result)) error {
	e, err := window.New(q.Config(c))
	if err != nil {
		return err
	}
	var ignored Streamed
	for i, stored := range c.Stored(log) {
		var out []window.Result
		if ev := c.Event(log[i].Number); q.Takes(ev.Kind) {
			out = ignored.apply(e, q, &log[i], &ev, stored)
		} else {
			out = e.Tick(stored)
		}
		for n := range out {
			if r := &out[n]; r.Timing == window.Retract || q.Keep == nil || q.Keep(r) {
				take(i, r)
			}
		}
	}
	return nil
}

func (s *Streamed) apply(e *window.Engine, q *Query, d *Delivery, ev *Event, stored int64) []window.Result {
	in := window.Event{ID: ev.ID(), Time: d.Time, Stored: stored, Partition: d.Partition}
	if q.StoreTime {
		in.Time = stored
	}
	in.Key, in.Item, in.Value = q.Read(ev)
	out := e.Apply(in)
	switch {
	case out.Verdict == window.Duplicate:
		s.Duplicates = append(s.Duplicates, in.ID)
	case out.Verdict.Late():
		var missed [][2]int64
		for _, w := range out.Missed {
			missed = append(missed, [2]int64{w.Start, w.End})
		}
		s.Miss(in.ID, out.Verdict.String(), missed)
	}
	return out.Results
}

func (s *Streamed) first(q *Query, results []window.Result, i int) {
	for n := range results {
		r := &results[n]
		if at := (Place{r.Key, r.Start, r.End}); r.Timing != window.Retract && (q.Keep == nil || q.Keep(r)) {
			if _, known := s.First[at]; !known {
				s.First[at] = i
			}
		}
	}
}

func keep(last map[Place]window.Result, q *Query, r window.Result) {
	at := Place{r.Key, r.Start, r.End}
	switch {
	case r.Timing == window.Retract:
		delete(last, at)
	case q.Keep == nil || q.Keep(&r):
		last[at] = r
	}
}

// valueOf is a result's value as the oracle writes it.
func valueOf(v window.Value) Value {
	out := Value{Number: v.Number}
	if len(v.Top) > 0 {
		out.Item = v.Top[0].Item + ":" + decimal(v.Top[0].Sum)
	}
	return out
}

func larger(a, b window.State) window.State {
	return window.State{Cells: max(a.Cells, b.Cells), IDs: max(a.IDs, b.IDs), Tombstones: max(a.Tombstones, b.Tombstones)}
}
