package nexmark

import (
	"fmt"
	"math"
	"slices"
)

// Answer is what a query has to say about a log: the last result of each window, the events that some window misses, and those that it has twice.
type Answer struct {
	Results    []string // a line each, in no order
	Late       []string // likewise; an event that is sent twice may be late twice
	Duplicates []string
	Ended      int64 // windows that end here or before have come out; of a batch only
}

// Result is the line of a result.
func (a *Answer) Result(key string, start, end, count int64, v Value) {
	a.Results = append(a.Results, fmt.Sprintf("%s %d %d %d %d %s", key, start, end, count, v.Number, v.Item))
}

// Miss is the line of a late event. Windows are start and end.
func (a *Answer) Miss(id, verdict string, windows [][2]int64) {
	a.Late = append(a.Late, fmt.Sprint(id, " ", verdict, " ", windows))
}

// Batch computes what is right, from the rules and without the engine. In one pass over the log it decides what each window takes, by a clock of its own; then
// it groups what was taken, and counts. Nothing is shared between windows, and nothing is thrown away before the end. stored is when the log
// stored each delivery.
func (c Config) Batch(q *Query, log []Delivery, stored []int64) Answer {
	var a Answer
	t := newTimeline(c)
	w := newAssigner(q)
	for i := range log {
		d := &log[i]
		t.see(stored[i])
		e := c.Event(d.Number)
		if q.Takes(e.Kind) {
			at := d.Time
			if q.StoreTime {
				at = stored[i]
			}
			w.take(&a, t, d, &e, at)
		}
		t.move()
	}
	w.answer(&a, q, t)
	a.Ended = t.watermark
	return a
}

// assigner decides which windows have which events.
type assigner interface {
	take(a *Answer, t *timeline, d *Delivery, e *Event, at int64)
	answer(a *Answer, q *Query, t *timeline)
}

func newAssigner(q *Query) assigner {
	if q.gap > 0 {
		return newSessions(q)
	}
	return &grid{q: q, until: make(map[int64]int64), events: make(map[cell][]*Event)}
}

// timeline is how far event time has come.
type timeline struct {
	clock     int64
	reached   []int64 // by partition; never: nothing was seen
	life      []int64 // store time of the last event
	watermark int64
	silence   int64
}

const (
	never     = math.MinInt64
	maxFuture = 5 * 60 * 1000
)

func newTimeline(c Config) *timeline {
	t := &timeline{clock: never, watermark: never, silence: c.Silence.Milliseconds()}
	t.reached = slices.Repeat([]int64{never}, c.Partitions)
	t.life = slices.Repeat([]int64{never}, c.Partitions)
	return t
}

func (t *timeline) see(stored int64) {
	if t.clock == never {
		t.life = slices.Repeat([]int64{stored}, len(t.life))
	}
	t.clock = max(t.clock, stored)
}

// accept takes notice of an event that is not dated ahead. late says that no window has it.
func (t *timeline) accept(d *Delivery, at int64, late bool) {
	t.life[d.Partition] = t.clock
	if !late {
		t.reached[d.Partition] = max(t.reached[d.Partition], min(at, t.clock))
	}
}

// move follows the slowest partition that is waited for; where none is, the fastest.
func (t *timeline) move() {
	slowest, fastest := int64(math.MaxInt64), int64(never)
	for p, reached := range t.reached {
		fastest = max(fastest, reached)
		if t.clock-t.life[p] < t.silence {
			slowest = min(slowest, reached)
		}
	}
	if slowest == math.MaxInt64 {
		slowest = fastest
	}
	if slowest != never {
		t.watermark = max(t.watermark, slowest-Bound.Milliseconds())
	}
}

func (t *timeline) ended(end int64) bool { return t.watermark != never && end <= t.watermark }

func (t *timeline) gone(end int64) bool {
	return t.watermark != never && end <= t.watermark-Lateness.Milliseconds()
}

// grid are windows that are the same for all keys.
type grid struct {
	q      *Query
	until  map[int64]int64 // the end of the last window that has an event, by its number
	events map[cell][]*Event
}

type cell struct {
	key        string
	start, end int64
}

func (g *grid) take(a *Answer, t *timeline, d *Delivery, e *Event, at int64) {
	if until, known := g.until[d.Number]; known && !t.gone(until) {
		a.Duplicates = append(a.Duplicates, e.ID())
		t.accept(d, at, true)
		return
	}
	var missed [][2]int64
	var windows []cell
	key, _, _ := g.q.Read(e)
	first := at - at%g.q.slide + g.q.slide - g.q.size // start of the first window that has it; times are after 1970
	ahead := at > t.clock+maxFuture
	for start := first; start <= at; start += g.q.slide {
		if end := start + g.q.size; ahead || t.gone(end) {
			missed = append(missed, [2]int64{start, end})
		} else {
			windows = append(windows, cell{key, start, end})
		}
	}
	for _, w := range windows {
		g.events[w] = append(g.events[w], e)
		g.until[d.Number] = w.end
	}
	switch {
	case ahead:
		a.Miss(e.ID(), "future_skew", missed)
		return
	case len(windows) == 0:
		a.Miss(e.ID(), "too_late", missed)
	case len(missed) > 0:
		a.Miss(e.ID(), "partially_late", missed)
	}
	t.accept(d, at, len(windows) == 0)
}

func (g *grid) answer(a *Answer, q *Query, t *timeline) {
	for w, all := range g.events {
		if t.ended(w.end) {
			a.add(q, w, all)
		}
	}
}

func (a *Answer) add(q *Query, w cell, all []*Event) {
	v := q.value(all)
	if q.Keep == nil || v.Number > 0 {
		a.Result(w.key, w.start, w.end, int64(len(all)), v)
	}
}

func counted(all []*Event) Value { return Value{Number: int64(len(all))} }

func highest(all []*Event) Value {
	var v Value
	for _, e := range all {
		v.Number = max(v.Number, e.Price)
	}
	return v
}

func hottest(all []*Event) Value {
	perAuction := make(map[int64]int64)
	for _, e := range all {
		perAuction[e.Auction]++
	}
	var most Value
	for auction, n := range perAuction {
		name := decimal(auction)
		if n > most.Number || n == most.Number && name < most.Item {
			most = Value{Number: n, Item: name}
		}
	}
	return Value{Number: int64(len(all)), Item: fmt.Sprint(most.Item, ":", most.Number)}
}

func joined(all []*Event) Value {
	signedUp, opened := false, int64(0)
	for _, e := range all {
		signedUp = signedUp || e.Kind == Person
		if e.Kind == Auction {
			opened++
		}
	}
	if !signedUp {
		return Value{}
	}
	return Value{Number: opened}
}
