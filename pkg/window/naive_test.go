package window_test

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/tidemark/tidemark/pkg/window"
)

// naive is the rules once more, as plainly as can be, for tests to compare with: it keeps everything for ever, shares nothing between windows and
// looks through all of it at each event. Nothing of the engine is used but the types, and the calendar.
type naive struct {
	spec  spec
	clock int64
	begun bool

	partitions []naivePartition
	watermark  *int64
	gone       *int64

	pairs    []pair // windows that are aligned: which event is in which window
	sessions []*naiveSession
	emitted  map[place]int // revisions
	misses   []window.Miss
}

// spec is a configuration in numbers.
type spec struct {
	kind                      string
	size, slide, offset       int64
	bounds                    []int64
	lateness, idle, maxFuture int64
	idleAdvance               bool
	aggregate                 string
	k                         int
	cfg                       window.Config
}

type naivePartition struct {
	reached *int64
	life    int64
}

type place struct {
	key string
	window.Window
}

type pair struct {
	ev window.Event
	at window.Window
}

type naiveSession struct {
	place
	events   []window.Event
	revision int
	dropped  bool // and its end is a tombstone
}

func newNaive(s spec) *naive {
	return &naive{spec: s, partitions: make([]naivePartition, len(s.bounds)), emitted: make(map[place]int)}
}

// windowsOf tries every start near t.
func (s *spec) windowsOf(t int64) (all []window.Window) {
	switch s.kind {
	case "calendar":
		return s.cfg.Windows.Of(t)
	case "session":
		return []window.Window{{Start: t, End: t + s.size}}
	}
	for start := t - s.size; start <= t; start++ {
		onGrid := (start-s.offset)%s.slide == 0
		if onGrid && start <= t && t < start+s.size {
			all = append(all, window.Window{Start: start, End: start + s.size})
		}
	}
	return all
}

func (n *naive) isGone(end int64) bool  { return n.gone != nil && end <= *n.gone }
func (n *naive) isEnded(end int64) bool { return n.watermark != nil && end <= *n.watermark }

func (n *naive) see(stored int64) {
	if !n.begun {
		n.begun, n.clock = true, stored
		for i := range n.partitions {
			n.partitions[i].life = stored
		}
	}
	n.clock = max(n.clock, stored)
}

func (n *naive) apply(ev window.Event) (out window.Outcome) {
	n.see(ev.Stored)
	defer func() { out.Results = append(out.Results, n.move()...) }()
	if ev.ID == "" {
		return window.Outcome{Verdict: window.NoID, Missed: n.spec.windowsOf(ev.Time)}
	}
	if n.remembers(ev.ID) {
		n.partitions[ev.Partition].life = n.clock
		return window.Outcome{Verdict: window.Duplicate}
	}
	if n.spec.maxFuture >= 0 && ev.Time > n.clock+n.spec.maxFuture {
		return window.Outcome{Verdict: window.FutureSkew, Missed: n.spec.windowsOf(ev.Time)}
	}
	n.partitions[ev.Partition].life = n.clock
	if n.spec.kind == "session" {
		out = n.applySession(ev)
	} else {
		out = n.applyAligned(ev)
	}
	for _, w := range out.Missed {
		n.misses = append(n.misses, window.Miss{Key: ev.Key, Window: w})
	}
	if out.Verdict != window.TooLate {
		p := &n.partitions[ev.Partition]
		if t := min(ev.Time, n.clock); p.reached == nil || t > *p.reached {
			p.reached = &t
		}
	}
	return out
}

func (n *naive) remembers(id string) bool {
	for _, p := range n.pairs {
		if p.ev.ID == id && !n.isGone(p.at.End) {
			return true
		}
	}
	for _, s := range n.sessions {
		for _, ev := range s.events {
			if ev.ID == id && !s.dropped {
				return true
			}
		}
	}
	return false
}

func (n *naive) applyAligned(ev window.Event) (out window.Outcome) {
	for _, w := range n.spec.windowsOf(ev.Time) {
		if n.isGone(w.End) {
			out.Missed = append(out.Missed, w)
			continue
		}
		n.pairs = append(n.pairs, pair{ev, w})
		if n.isEnded(w.End) {
			out.Results = append(out.Results, n.emit(place{ev.Key, w}, n.eventsIn(place{ev.Key, w}), window.Late))
		}
	}
	switch windows := len(n.spec.windowsOf(ev.Time)); len(out.Missed) {
	case 0:
		out.Verdict = window.Counted
	case windows:
		out.Verdict = window.TooLate
	default:
		out.Verdict = window.PartiallyLate
	}
	return out
}

func (n *naive) eventsIn(at place) (events []window.Event) {
	for _, p := range n.pairs {
		if p.at == at.Window && p.ev.Key == at.key {
			events = append(events, p.ev)
		}
	}
	return events
}

func (n *naive) applySession(ev window.Event) (out window.Outcome) {
	own := window.Window{Start: ev.Time, End: ev.Time + n.spec.size}
	var near []*naiveSession
	for _, s := range n.sessions {
		if s.key != ev.Key {
			continue
		}
		if s.dropped && ev.Time < s.End {
			return window.Outcome{Verdict: window.TooLate, Missed: []window.Window{own}}
		}
		if !s.dropped && s.Start < own.End && own.Start < s.End {
			near = append(near, s)
		}
	}
	if len(near) == 0 && n.isGone(own.End) {
		return window.Outcome{Verdict: window.TooLate, Missed: []window.Window{own}}
	}
	whole := &naiveSession{place: place{ev.Key, own}, events: []window.Event{ev}}
	for _, s := range near {
		whole.Start, whole.End = min(whole.Start, s.Start), max(whole.End, s.End)
		whole.events = append(whole.events, s.events...)
	}
	slices.SortFunc(near, func(a, b *naiveSession) int { return cmp.Compare(a.Start, b.Start) })
	for _, s := range near {
		switch {
		case s.place == whole.place:
			whole.revision = s.revision
		case s.revision > 0:
			out.Results = append(out.Results, window.Result{Key: ev.Key, Window: s.Window, Revision: s.revision + 1, Timing: window.Retract})
		}
	}
	n.sessions = slices.DeleteFunc(n.sessions, func(s *naiveSession) bool { return slices.Contains(near, s) })
	n.sessions = append(n.sessions, whole)
	if n.isEnded(whole.End) {
		whole.revision++
		out.Results = append(out.Results, n.result(whole.place, whole.events, whole.revision, window.Late))
	}
	return out
}

func (n *naive) emit(at place, events []window.Event, timing window.Timing) window.Result {
	n.emitted[at]++
	return n.result(at, events, n.emitted[at], timing)
}

func (n *naive) result(at place, events []window.Event, revision int, timing window.Timing) window.Result {
	return window.Result{Key: at.key, Window: at.Window, Count: int64(len(events)), Value: n.spec.value(events), Revision: revision, Timing: timing}
}

// move moves the watermark, and fires what has ended.
func (n *naive) move() (results []window.Result) {
	candidate := n.candidate()
	if candidate == nil || n.watermark != nil && *candidate <= *n.watermark {
		return nil
	}
	return n.moveTo(*candidate)
}

func (n *naive) moveTo(w int64) (results []window.Result) {
	before := n.watermark
	n.watermark = &w
	fires := func(end int64) bool { return end <= w && (before == nil || end > *before) }
	done := make(map[place]bool)
	for _, p := range n.pairs {
		if at := (place{p.ev.Key, p.at}); fires(p.at.End) && !done[at] {
			done[at] = true
			results = append(results, n.emit(at, n.eventsIn(at), window.OnTime))
		}
	}
	gone := w - n.spec.lateness
	if w == math.MaxInt64 {
		gone = w
	}
	n.gone = &gone
	for _, s := range n.sessions {
		if !s.dropped && s.revision == 0 && s.End <= w {
			s.revision = 1
			results = append(results, n.result(s.place, s.events, 1, window.OnTime))
		}
		s.dropped = s.dropped || s.End <= gone
	}
	slices.SortFunc(results, func(a, b window.Result) int {
		return cmp.Or(cmp.Compare(a.End, b.End), cmp.Compare(a.Start, b.Start), strings.Compare(a.Key, b.Key))
	})
	return results
}

// candidate is where the watermark would stand if it could go back.
func (n *naive) candidate() *int64 {
	if !n.begun {
		return nil
	}
	var least, most *int64
	idle := 0
	for i, p := range n.partitions {
		var w *int64
		if p.reached != nil {
			at := *p.reached - n.spec.bounds[i]
			w = &at
		}
		if w != nil && (most == nil || *w > *most) {
			most = w
		}
		if n.spec.idle > 0 && n.clock-p.life >= n.spec.idle {
			idle++
			continue
		}
		if w == nil {
			return nil
		}
		if least == nil || *w < *least {
			least = w
		}
	}
	if idle < len(n.partitions) {
		return least
	}
	if at := n.clock - slices.Max(n.spec.bounds) - n.spec.idle; n.spec.idleAdvance && (most == nil || at > *most) {
		most = &at
	}
	return most
}

// value is what the aggregate says, straight from the events.
func (s *spec) value(events []window.Event) window.Value {
	var total int64
	least, most := int64(math.MaxInt64), int64(math.MinInt64)
	sums := make(map[string]int64)
	var values int
	for _, ev := range events {
		parts := ev.Parts
		if parts == nil {
			parts = []window.Part{{Item: ev.Item, Value: ev.Value}}
		}
		for _, p := range parts {
			values++
			total += p.Value
			least, most = min(least, p.Value), max(most, p.Value)
			sums[p.Item] += p.Value
		}
	}
	switch s.aggregate {
	case "count":
		return window.Value{Number: int64(len(events))}
	case "sum":
		return window.Value{Number: total}
	case "min":
		return window.Value{Number: least}
	case "max":
		return window.Value{Number: most}
	case "mean":
		return window.Value{Number: int64(math.Round(float64(total) / float64(values)))} // halves away from zero
	}
	v := window.Value{Number: total}
	for item, sum := range sums {
		v.Top = append(v.Top, window.Rank{Item: item, Sum: sum})
	}
	slices.SortFunc(v.Top, func(a, b window.Rank) int { return cmp.Or(cmp.Compare(b.Sum, a.Sum), strings.Compare(a.Item, b.Item)) })
	v.Top = v.Top[:min(len(v.Top), s.k)]
	return v
}

// batch is what all windows have after these events, without any watermark.
func (s *spec) batch(events []window.Event) map[place]window.Result {
	in := make(map[place][]window.Event)
	if s.kind == "session" {
		events = slices.SortedStableFunc(slices.Values(events), func(a, b window.Event) int { return cmp.Compare(a.Time, b.Time) })
		last := make(map[string]place)
		for _, ev := range events {
			at, known := last[ev.Key]
			if !known || ev.Time >= at.End {
				at = place{ev.Key, window.Window{Start: ev.Time, End: ev.Time}}
			}
			longer := at
			longer.End = ev.Time + s.size
			in[longer] = append(in[at], ev)
			if longer != at {
				delete(in, at)
			}
			last[ev.Key] = longer
		}
	} else {
		for _, ev := range events {
			for _, w := range s.windowsOf(ev.Time) {
				in[place{ev.Key, w}] = append(in[place{ev.Key, w}], ev)
			}
		}
	}
	return s.results(in)
}

func (s *spec) results(in map[place][]window.Event) map[place]window.Result {
	all := make(map[place]window.Result)
	for at, events := range in {
		all[at] = window.Result{Key: at.key, Window: at.Window, Count: int64(len(events)), Value: s.value(events)}
	}
	return all
}

// final folds results into what stands at the end. Revisions must be in order, and without gaps unless they may skip.
func final(results []window.Result, skip bool) (map[place]window.Result, error) {
	all, revisions := make(map[place]window.Result), make(map[place]int)
	for _, r := range results {
		at := place{r.Key, r.Window}
		if r.Revision <= revisions[at] || !skip && r.Revision != revisions[at]+1 {
			return nil, fmt.Errorf("%+v after revision %d", r, revisions[at])
		}
		revisions[at] = r.Revision
		if r.Timing == window.Retract {
			delete(all, at)
			continue
		}
		r.Revision, r.Timing = 0, ""
		all[at] = r
	}
	return all, nil
}
