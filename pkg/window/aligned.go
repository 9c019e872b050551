package window

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
)

// aligned holds the live windows where all keys have the same ones: tumbling, hopping and calendar windows. Events are kept by slice, the span over which
// the same windows lie, and a window is put together of its slices when it comes out. So an event of a hopping query costs the same as one
// of a tumbling query, however many windows hold it.
type aligned struct {
	line *line
	ids  *memory

	slices  []*slice // with events, by start, which is also by the ends of their windows
	last    *slice   // that took an event: the next event is likely to be in it
	revised []revised
	due     int64 // the watermark at which something is to be done

	cells, keyBytes int
	events          int64 // in live windows
}

// slice has the events of one span of event time.
type slice struct {
	span
	cells  map[string]*cell
	events int64
}

// revised is a window that has fired and is not gone, with the keys that came out again.
type revised struct {
	Window
	keys map[string]*revision
}

// revision is the last one of a key. Of the keys of a window that have none it is 1.
type revision struct {
	number int
	whole  *cell // what the key has in the window, where that is more than one slice; nil: to be put together
}

func newAligned(l *line, ids *memory) *aligned {
	return &aligned{line: l, ids: ids, due: math.MaxInt64}
}

// add puts an event into its slice, and says which of its windows are gone and don't have it. Windows that have fired come out again.
func (a *aligned) add(ev *Event, hash id, slot *remembered, out *Outcome) Verdict {
	s := a.find(ev.Time)
	if s == nil {
		at := a.line.settings.cut.slice(ev.Time)
		out.Sample = a.line.sample(ev.Time, at.last)
		if at.last <= a.line.gone {
			out.Missed = a.ended(&at, out.Missed)
			return TooLate
		}
		s = a.open(at)
	} else {
		out.Sample = a.line.sample(ev.Time, s.last)
	}
	c := s.cells[ev.Key]
	if c == nil {
		c = a.newCell(s, ev.Key)
	}
	c.add(ev.Parts)
	s.events++
	a.events++
	a.ids.put(slot, hash, s.last)
	if s.first > a.line.watermark {
		return Counted // and none of its windows has fired
	}
	a.revise(s, ev, out)
	if s.first > a.line.gone {
		return Counted
	}
	out.Missed = a.ended(&s.span, out.Missed)
	return PartiallyLate
}

// find is the slice that holds t, if there is one.
func (a *aligned) find(t int64) *slice {
	if s := a.last; s != nil && s.Start <= t && t < s.End {
		return s
	}
	i, found := slices.BinarySearchFunc(a.slices, t, func(s *slice, t int64) int {
		switch {
		case s.Start > t:
			return 1
		case s.End <= t && s.End != math.MaxInt64: // the last window of all ends with the end of time included
			return -1
		}
		return 0
	})
	if !found {
		return nil
	}
	a.last = a.slices[i]
	return a.last
}

func (a *aligned) open(at span) *slice {
	s := &slice{span: at, cells: make(map[string]*cell)}
	i, _ := slices.BinarySearchFunc(a.slices, at.Start, func(s *slice, start int64) int {
		if s.Start < start {
			return -1
		}
		return 1
	})
	a.slices = slices.Insert(a.slices, i, s)
	a.last = s
	a.due = min(a.due, a.dueOf(s))
	return s
}

func (a *aligned) newCell(s *slice, key string) *cell {
	key = strings.Clone(key) // the caller's may be a piece of something large
	c := &cell{value: a.line.settings.aggregate.New()}
	s.cells[key] = c
	a.cells++
	a.keyBytes += len(key)
	return c
}

// ended are the windows over a span that are gone.
func (a *aligned) ended(at *span, missed []Window) []Window {
	for end := at.first; end <= at.last && end <= a.line.gone; end += a.line.settings.cut.slide {
		missed = append(missed, at.window(end))
		if end == at.last {
			break
		}
	}
	return missed
}

// revise lets the windows of a slice come out that have fired before and are not gone.
func (a *aligned) revise(s *slice, ev *Event, out *Outcome) {
	for end := s.first; end <= a.line.watermark; end += a.line.settings.cut.slide {
		if end > a.line.gone {
			out.Results = append(out.Results, a.again(s.window(end), ev))
		}
		if end == s.last {
			break
		}
	}
}

// again is the next result of a window that has fired, of which a slice has just got an event. If it had events of the key before, it came out with revision 1 when it
// fired. What is put together of several slices is kept: late events seldom come alone.
func (a *aligned) again(w Window, ev *Event) Result {
	r := a.revisionOf(w, ev.Key)
	whole := r.whole
	if whole != nil {
		whole.add(ev.Parts)
	} else {
		of := a.within(w)
		whole = a.combine(of, ev.Key)
		if len(of) > 1 {
			r.whole = whole
		}
	}
	if r.number == 0 && whole.count > 1 {
		r.number = 1
	}
	r.number++
	return whole.result(ev.Key, w, r.number, Late)
}

func (a *aligned) revisionOf(w Window, key string) *revision {
	i, found := slices.BinarySearchFunc(a.revised, w.End, func(r revised, end int64) int { return cmp.Compare(r.End, end) })
	if !found {
		a.revised = slices.Insert(a.revised, i, revised{Window: w, keys: make(map[string]*revision)})
		a.due = min(a.due, addSaturating(w.End, a.line.settings.lateness))
	}
	r := a.revised[i].keys[key]
	if r == nil {
		r = new(revision)
		a.revised[i].keys[strings.Clone(key)] = r
	}
	return r
}

// within are the slices of a window.
func (a *aligned) within(w Window) []*slice {
	from, _ := slices.BinarySearchFunc(a.slices, w.Start, func(s *slice, start int64) int {
		if s.Start < start {
			return -1
		}
		return 1
	})
	to := from
	for to < len(a.slices) && a.slices[to].Start < w.End {
		to++
	}
	return a.slices[from:to]
}

// combine is what one key has in the slices of a window. Of one slice it is the slice's own cell: not to be changed.
func (a *aligned) combine(of []*slice, key string) *cell {
	if len(of) == 1 {
		return of[0].cells[key]
	}
	whole := &cell{value: a.line.settings.aggregate.New()}
	for _, s := range of {
		if c := s.cells[key]; c != nil {
			whole.merge(c)
		}
	}
	return whole
}

// advance lets the windows fire that have ended since the watermark stood at before, and forgets what is gone.
func (a *aligned) advance(before int64, results []Result) []Result {
	if a.line.watermark < a.due {
		return results
	}
	results = a.between(before, a.line.watermark, 1, OnTime, results)
	a.forget()
	a.due = a.nextDue()
	return results
}

// between gives the windows that end after the one time and not after the other, in order. Of the slices of a window, the first one gives it.
func (a *aligned) between(after, until int64, revision int, timing Timing, results []Result) []Result {
	slide := a.line.settings.cut.slide
	for _, s := range a.slices {
		if s.first > until {
			break
		}
		if s.last <= after {
			continue
		}
		end := s.first
		if end <= after {
			end += (after-end)/slide*slide + slide
		}
		for ; end <= until; end += slide {
			results = a.fire(s.window(end), revision, timing, results)
			after = end
			if end == s.last {
				break
			}
		}
	}
	return results
}

func (a *aligned) fire(w Window, revision int, timing Timing, results []Result) []Result {
	of := a.within(w)
	var keys []string
	for _, s := range of {
		keys = slices.AppendSeq(keys, maps.Keys(s.cells))
	}
	slices.Sort(keys)
	if len(of) > 1 {
		keys = slices.Compact(keys)
	}
	results = slices.Grow(results, len(keys))
	for _, key := range keys {
		results = append(results, a.combine(of, key).result(key, w, revision, timing))
	}
	return results
}

// forget drops what is gone.
func (a *aligned) forget() {
	n := 0
	for ; n < len(a.slices) && a.slices[n].last <= a.line.gone; n++ {
		s := a.slices[n]
		a.events -= s.events
		a.cells -= len(s.cells)
		for key := range s.cells {
			a.keyBytes -= len(key)
		}
	}
	if n > 0 {
		a.slices = slices.Delete(a.slices, 0, n)
		a.last = nil
	}
	n = 0
	for n < len(a.revised) && a.revised[n].End <= a.line.gone {
		n++
	}
	a.revised = slices.Delete(a.revised, 0, n)
}

// nextDue is the watermark at which the next window fires or is gone.
func (a *aligned) nextDue() int64 {
	due := int64(math.MaxInt64)
	if len(a.revised) > 0 {
		due = addSaturating(a.revised[0].End, a.line.settings.lateness)
	}
	for _, s := range a.slices {
		if s.first > due {
			break
		}
		due = min(due, a.dueOf(s))
	}
	return due
}

func (a *aligned) dueOf(s *slice) int64 {
	due := addSaturating(s.last, a.line.settings.lateness)
	w, slide := a.line.watermark, a.line.settings.cut.slide
	switch {
	case s.first > w:
		due = min(due, s.first)
	case s.last > w:
		due = min(due, s.first+(w-s.first)/slide*slide+slide)
	}
	return due
}

// openWindows are those that have not ended, in order.
func (a *aligned) openWindows() []Result {
	return a.between(a.line.watermark, math.MaxInt64, 0, Open, nil)
}
