package window

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strings"
)

// Miss says that a window of a key does not have an event that it should have: what a late event says with [Outcome.Missed].
type Miss struct {
	Key string
	Window
}

// Recompute computes windows again from the log that late events have missed, with the code that counts live events. What live counting gave, replaced by what
// this gives, is what a batch over the whole log would give: each event once, in all its windows.
//
//	r, err := window.NewRecompute(cfg, gone)   // gone: Engine.Gone at some point of the log
//	r.Miss(...)                                // for each late event: key and missed windows
//	r.Apply(...)                               // for each event of the log up to that point, in its order
//	results, pending := r.Results(published)   // published: the newest result of each key and window
//
// It touches only windows that are gone, so it and the engine never write the same one. Doing it twice gives nothing the second time. It recomputes, and
// does not add up: so it does not matter which late events were seen before, and any aggregate will do.
//
// It needs all events of the windows. Whoever keeps the log for a time only says so with [Recompute.Since]: a window of which some events are no longer there is
// not touched, and comes out of [Recompute.Lost].
type Recompute struct {
	cfg      Config
	settings settings
	line     line // for the clock
	gone     int64
	since    int64
	lost     []Miss
	same     int // windows that were right
	misses   map[string]map[Window]bool
	expired  map[string]map[Window]bool // the missed events are not in the log
	cells    map[Miss]*recomputed       // of windows that are aligned
	events   map[string][]keptEvent     // of keys, for sessions
	known    map[string]map[id]bool     // ids of those
}

type recomputed struct {
	cell
	ids   map[id]struct{}
	fresh int64 // events that no published result has
}

type keptEvent struct {
	time  int64
	parts []Part
	fresh bool
}

// NewRecompute begins a recomputation of windows that end at gone or before.
func NewRecompute(cfg Config, gone int64) (*Recompute, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r := &Recompute{
		cfg: cfg, settings: cfg.settings(), gone: gone, since: never, misses: make(map[string]map[Window]bool),
		expired: make(map[string]map[Window]bool),
		cells:   make(map[Miss]*recomputed), events: make(map[string][]keptEvent), known: make(map[string]map[id]bool),
	}
	r.line = newLine(&r.settings)
	return r, nil
}

// Miss asks for a window. Only misses of [TooLate] and [PartiallyLate] events can be made good: an event that is dated ahead has no true time. All misses come
// before the first event.
func (r *Recompute) Miss(m Miss) { note(r.misses, m) }

// Expired says that a window has missed an event that the log does not have any more. It is lost.
func (r *Recompute) Expired(m Miss) {
	note(r.misses, m)
	note(r.expired, m)
}

func note(all map[string]map[Window]bool, m Miss) {
	windows := all[m.Key]
	if windows == nil {
		windows = make(map[Window]bool)
		all[strings.Clone(m.Key)] = windows
	}
	windows[m.Window] = true
}

// Misses is how many windows were asked for.
func (r *Recompute) Misses() int {
	n := 0
	for _, windows := range r.misses {
		n += len(windows)
	}
	return n
}

// Since says that the log may lack events with a time before t. Windows that begin before it are then recomputed only where the log is found to have all
// that the published results count. That takes knowing which events those do not count: Apply must be told of all windows that missed an event and have not been
// recomputed since.
//
// A log whose first message was stored at s has all that are dated later than s + [Config.MaxFuture]: none is counted that is dated further ahead of when it was
// stored.
func (r *Recompute) Since(t int64) { r.since = t }

// Lost are the windows with a miss that can't be recomputed, since the log lacks some of their events: by key, the earliest first. [Recompute.Results] finds them.
func (r *Recompute) Lost() []Miss { return r.lost }

// Unchanged is how many windows were recomputed and found to be as published. [Recompute.Results] counts them.
func (r *Recompute) Unchanged() int { return r.same }

// Apply takes an event of the log, and the windows that have missed it since they were computed last. Copies of an event count once, as the first one that is not
// dated ahead says.
func (r *Recompute) Apply(ev Event, missed ...Window) {
	r.line.see(ev.Stored)
	windows := r.misses[ev.Key]
	if windows == nil || ev.ID == "" || r.line.ahead(ev.Time) {
		return
	}
	if r.settings.cut.kind == session {
		r.keep(&ev, len(missed) > 0)
		return
	}
	s := r.settings.cut.slice(ev.Time)
	for end := s.first; ; end += r.settings.cut.slide {
		if w := s.window(end); windows[w] && w.End <= r.gone {
			r.add(w, &ev, slices.Contains(missed, w))
		}
		if end == s.last {
			return
		}
	}
}

// Tick takes a store time of the log without an event, as [Engine.Tick] does.
func (r *Recompute) Tick(stored int64) { r.line.see(stored) }

func (r *Recompute) add(w Window, ev *Event, fresh bool) {
	at := Miss{Key: ev.Key, Window: w}
	c := r.cells[at]
	if c == nil {
		c = &recomputed{cell: cell{value: r.settings.aggregate.New()}, ids: make(map[id]struct{})}
		at.Key = strings.Clone(ev.Key)
		r.cells[at] = c
	}
	hash := hashID(ev.ID)
	if _, seen := c.ids[hash]; !seen {
		c.ids[hash] = struct{}{}
		c.add(ev.parts(new([1]Part)))
		if fresh {
			c.fresh++
		}
	}
}

// keep keeps an event of a key. Which session it is in is known at the end only.
func (r *Recompute) keep(ev *Event, fresh bool) {
	known := r.known[ev.Key]
	if known == nil {
		known = make(map[id]bool)
		r.known[strings.Clone(ev.Key)] = known
	}
	if hash := hashID(ev.ID); !known[hash] {
		known[hash] = true
		parts := slices.Clone(ev.parts(new([1]Part)))
		for i := range parts {
			parts[i].Item = strings.Clone(parts[i].Item)
		}
		r.events[ev.Key] = append(r.events[ev.Key], keptEvent{ev.Time, parts, fresh})
	}
}

// Results are what is to be published, by key, of each key retractions first. published has the newest result of each key and window that
// live counting or an earlier recomputation gave; results of keys without a miss do not matter. pending are the misses that are to be asked for again later:
// their windows are not gone, or an event may still come that makes their session longer.
func (r *Recompute) Results(published iter.Seq[Result]) (results []Result, pending []Miss) {
	before := make(map[string]map[Window]Result)
	r.lost, r.same = nil, 0
	for p := range published {
		if !r.wants(p.Key, p.Window) {
			continue
		}
		if before[p.Key] == nil {
			before[p.Key] = make(map[Window]Result)
		}
		if p.Revision > before[p.Key][p.Window].Revision {
			before[p.Key][p.Window] = p
		}
	}
	for _, key := range slices.Sorted(maps.Keys(r.misses)) {
		windows := slices.SortedFunc(maps.Keys(r.misses[key]), compareWindows)
		var again []Window
		if r.settings.cut.kind == session {
			results, again = r.resultsOfSessions(key, windows, before[key], results)
		} else {
			results, again = r.resultsOfWindows(key, windows, before[key], results)
		}
		for _, w := range again {
			pending = append(pending, Miss{Key: key, Window: w})
		}
	}
	return results, pending
}

// Wants says whether [Recompute.Results] must know what was published for a window.
func (r *Recompute) Wants(m Miss) bool { return r.wants(m.Key, m.Window) }

func (r *Recompute) wants(key string, w Window) bool {
	windows := r.misses[key]
	return windows[w] || windows != nil && r.settings.cut.kind == session
}

func (w Window) overlaps(o Window) bool { return w.Start < o.End && o.Start < w.End }

func compareWindows(a, b Window) int {
	return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.End, b.End))
}

func (r *Recompute) resultsOfWindows(key string, windows []Window, before map[Window]Result, results []Result) (_ []Result, again []Window) {
	for _, w := range windows {
		if w.End > r.gone {
			again = append(again, w)
			continue
		}
		at := Miss{Key: key, Window: w}
		c := r.cells[at]
		if r.expired[key][w] || w.Start < r.since && !c.whole(before[w]) {
			r.lost = append(r.lost, at)
			continue
		}
		if c != nil {
			results = r.appendChange(results, key, w, &c.cell, before)
		}
	}
	return results, again
}

// whole says whether the log has what a published result counts.
func (c *recomputed) whole(was Result) bool { return c != nil && c.count-c.fresh == was.Count }

// appendChange appends what a window is now, if that is not what was published.
func (r *Recompute) appendChange(results []Result, key string, w Window, c *cell, before map[Window]Result) []Result {
	was := before[w]
	now := c.result(key, w, was.Revision+1, Backfill)
	if was.Revision > 0 && was.Timing != Retract && was.Count == now.Count && was.Value.Equal(now.Value) {
		r.same++
		return results
	}
	return append(results, now)
}

// resultsOfSessions makes the sessions of a key from all its events, and looks at those that have a miss.
func (r *Recompute) resultsOfSessions(key string, windows []Window, before map[Window]Result, results []Result) (_ []Result, again []Window) {
	var changed []Result
	all := r.sessionsOf(key)
	for _, w := range windows {
		if r.expired[key][w] && !slices.ContainsFunc(all, func(s recomputedSession) bool { return s.Start <= w.Start && w.Start < s.End }) {
			r.lost = append(r.lost, Miss{Key: key, Window: w}) // else it is among the missed of that session
		}
	}
	for i := range all {
		s := &all[i]
		missed := within(windows, s.Window)
		if len(missed) == 0 {
			continue
		}
		if s.End > r.gone {
			again = append(again, missed...)
			continue
		}
		if r.incomplete(key, s, before) {
			for _, w := range missed {
				r.lost = append(r.lost, Miss{Key: key, Window: w})
			}
			continue
		}
		settled := r.settled(s.End, all)
		for _, w := range slices.SortedFunc(maps.Keys(before), compareWindows) {
			if !w.overlaps(s.Window) {
				continue
			}
			was := before[w]
			settled = settled || w.End == s.End && (was.Timing == OnTime || was.Timing == Late) // it left a tombstone there
			if w != s.Window && was.Timing != Retract {
				results = append(results, Result{Key: key, Window: w, Revision: was.Revision + 1, Timing: Retract})
			}
		}
		changed = r.appendChange(changed, key, s.Window, &s.cell, before)
		if !settled {
			again = append(again, missed...)
		}
	}
	return append(results, changed...), again
}

// incomplete says whether the log lacks events of a session.
func (r *Recompute) incomplete(key string, s *recomputedSession, before map[Window]Result) bool {
	for w := range r.expired[key] {
		if w.overlaps(s.Window) {
			return true
		}
	}
	begun := subSaturating(s.Start, r.settings.cut.size) // an event after this would belong to it
	return begun < r.since && s.count-s.fresh != countIn(before, s.Window)
}

// countIn is how many events the published sessions count that overlap with w.
func countIn(before map[Window]Result, w Window) int64 {
	n := int64(0)
	for at, was := range before {
		if at.overlaps(w) {
			n += was.Count // 0 of a retraction
		}
	}
	return n
}

// settled says whether no event can come any more that counts for the key and lies before end. Such an event would have to fall into a live session, or begin one and be
// followed by others that make it longer to the past; and no session reaches further back than tombstones are kept.
func (r *Recompute) settled(end int64, all []recomputedSession) bool {
	if r.gone == endOfTime {
		return true
	}
	anyLive := all[len(all)-1].End > r.gone
	return !anyLive && end <= subSaturating(r.gone, r.settings.cut.size*patience)
}

// within are the windows that start in w; all are sorted.
func within(all []Window, w Window) []Window {
	from, _ := slices.BinarySearchFunc(all, w.Start, func(a Window, start int64) int { return cmp.Compare(a.Start, start) })
	to := from
	for to < len(all) && all[to].Start < w.End {
		to++
	}
	return all[from:to]
}

type recomputedSession struct {
	Window
	cell
	fresh int64
}

func (r *Recompute) sessionsOf(key string) []recomputedSession {
	events := r.events[key]
	slices.SortStableFunc(events, func(a, b keptEvent) int { return cmp.Compare(a.time, b.time) })
	var all []recomputedSession
	for _, ev := range events {
		own := r.settings.cut.session(ev.time)
		if n := len(all); n == 0 || all[n-1].End <= own.Start {
			all = append(all, recomputedSession{Window: own, cell: cell{value: r.settings.aggregate.New()}})
		}
		s := &all[len(all)-1]
		s.End = max(s.End, own.End)
		s.add(ev.parts)
		if ev.fresh {
			s.fresh++
		}
	}
	return all
}
