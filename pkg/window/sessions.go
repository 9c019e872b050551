package window

import (
	"maps"
	"slices"
	"strings"
)

// sessions holds the live sessions of all keys. An event opens a session or falls into one, and may make several one.
//
// A session that was dropped leaves a tombstone, its end: an event before that is late even where its own window would not be gone, or it would open or lengthen a
// session so that it overlaps what has come out.
//
// How long is a tombstone needed? A late event may make a live session longer to the past, and so the next one could reach further back: in theory there is no
// end to that. So a key that has no live session is forgotten when its tombstone is as far behind as patience says, and a key that is new, or was forgotten,
// begins with a tombstone that far behind. So nothing overlaps, whatever comes. The price: a chain of late events of one key, all while one
// session is live, that reaches further back than that becomes late.
type sessions struct {
	line *line
	ids  *memory

	keys   map[string]*sessionKey
	timers queue

	cells, keyBytes, tombstones int
	events                      int64 // in live sessions
}

// patience is how many gaps behind what is gone a tombstone is kept.
const patience = 64

type sessionKey struct {
	name      string
	live      []*live // by start; they don't overlap
	tombstone int64   // no session of the key that has been dropped ends later
	graveyard bool    // nothing but a tombstone is left of it
}

// live is one live session.
type live struct {
	Window
	cell
	key      *sessionKey
	revision int // of the last result with these bounds; 0: it has not come out
	ids      []id
	due      int64 // of its timer; timers with another time are void
	timed    bool  // it has one
	dead     bool  // it is gone, or part of another one
}

func newSessions(l *line, ids *memory) *sessions {
	return &sessions{line: l, ids: ids, keys: make(map[string]*sessionKey)}
}

// add puts an event into its session.
func (s *sessions) add(ev *Event, hash id, slot *remembered, out *Outcome) Verdict {
	own := s.line.settings.cut.session(ev.Time)
	out.Sample = s.line.sample(ev.Time, own.End)
	k := s.keys[ev.Key]
	from, to := 0, 0
	if k != nil {
		from, to = k.overlapping(own)
	}
	if k != nil && ev.Time < k.tombstone || from == to && own.End <= s.line.gone {
		out.Missed = append(out.Missed, own)
		return TooLate
	}
	if k == nil {
		k = s.open(ev.Key)
	}
	var l *live
	if from == to {
		l = &live{Window: own, cell: cell{value: s.line.settings.aggregate.New()}, key: k}
		if len(k.live) == 0 && k.graveyard {
			k.graveyard = false
			s.tombstones--
		}
		k.live = slices.Insert(k.live, from, l)
		s.cells++
	} else {
		l = s.merge(k, from, to, own, out)
	}
	l.add(ev.Parts)
	l.ids = append(l.ids, hash)
	s.events++
	s.ids.put(slot, hash, endOfTime)
	if l.End <= s.line.watermark {
		l.revision++
		out.Results = append(out.Results, l.result(k.name, l.Window, l.revision, Late))
	}
	s.schedule(l)
	return Counted
}

func (s *sessions) open(key string) *sessionKey {
	k := &sessionKey{name: strings.Clone(key), tombstone: s.oldest()} // the caller's may be a piece of something large
	s.keys[k.name] = k
	s.keyBytes += len(key)
	return k
}

// oldest is where the tombstones end that are kept.
func (s *sessions) oldest() int64 {
	return subSaturating(s.line.gone, s.line.settings.cut.size*patience)
}

// overlapping are the sessions that share a time with w: live[from:to].
func (k *sessionKey) overlapping(w Window) (from, to int) {
	from = len(k.live)
	for from > 0 && k.live[from-1].End > w.Start { // the last one is the likeliest
		from--
	}
	to = from
	for to < len(k.live) && k.live[to].Start < w.End {
		to++
	}
	return from, to
}

// merge makes sessions that overlap one, and takes those back that have come out with other bounds.
func (s *sessions) merge(k *sessionKey, from, to int, own Window, out *Outcome) *live {
	l := k.live[from]
	whole := Window{Start: min(l.Start, own.Start), End: max(k.live[to-1].End, own.End)}
	if l.Window == whole {
		return l
	}
	for _, o := range k.live[from:to] {
		if o.revision > 0 {
			out.Results = append(out.Results, Result{Key: k.name, Window: o.Window, Revision: o.revision + 1, Timing: Retract})
		}
		if o != l {
			l.merge(&o.cell)
			l.ids = append(l.ids, o.ids...)
			o.dead = true
		}
	}
	s.cells -= to - from - 1
	k.live = slices.Delete(k.live, from+1, to)
	l.Window, l.revision = whole, 0
	return l
}

// next is the watermark at which something is to be done with a session.
func (s *sessions) next(l *live) int64 {
	if l.revision == 0 {
		return l.End
	}
	return addSaturating(l.End, s.line.settings.lateness)
}

// schedule sees to it that a timer goes off in time. One that goes off too early is put off then: so an event that makes a session longer costs nothing here.
func (s *sessions) schedule(l *live) {
	if next := s.next(l); !l.timed || next < l.due {
		s.set(l, next)
	}
}

func (s *sessions) set(l *live, due int64) {
	s.timers.push(timer{due: due, session: l})
	l.due, l.timed = due, true
}

// advance lets the sessions fire that have ended, and forgets what is gone.
func (s *sessions) advance(results []Result) []Result {
	fired := len(results)
	for len(s.timers) > 0 && s.timers[0].due <= s.line.watermark {
		t := s.timers.pop()
		l := t.session
		switch {
		case l == nil:
			s.unearth(t.key)
		case l.dead || l.due != t.due:
		default:
			results = s.ring(l, results)
		}
	}
	sortResults(results[fired:])
	return results
}

// ring does what is to be done with a session now.
func (s *sessions) ring(l *live, results []Result) []Result {
	if l.revision == 0 && l.End <= s.line.watermark {
		l.revision = 1
		results = append(results, l.result(l.key.name, l.Window, 1, OnTime))
	}
	if l.revision > 0 && l.End <= s.line.gone {
		s.bury(l)
		return results
	}
	s.set(l, s.next(l))
	return results
}

// bury drops a session.
func (s *sessions) bury(l *live) {
	k := l.key
	k.live = slices.DeleteFunc(k.live, func(o *live) bool { return o == l })
	l.dead = true
	s.cells--
	s.ids.forget(l.ids)
	s.events -= l.count
	k.tombstone = max(k.tombstone, l.End)
	if len(k.live) == 0 {
		k.graveyard = true
		s.tombstones++
		s.watch(k)
	}
}

// watch sets the timer of a tombstone.
func (s *sessions) watch(k *sessionKey) {
	due := addSaturating(addSaturating(k.tombstone, s.line.settings.cut.size*patience), s.line.settings.lateness)
	s.timers.push(timer{due: due, key: k.name})
}

// unearth forgets a key of which only a tombstone is left, if that has become as old as those that every key has.
func (s *sessions) unearth(key string) {
	k := s.keys[key]
	if k == nil || !k.graveyard || k.tombstone > s.oldest() && s.line.gone != endOfTime {
		return
	}
	delete(s.keys, key)
	s.tombstones--
	s.keyBytes -= len(key)
}

// openWindows are the sessions that have not ended, in order.
func (s *sessions) openWindows() []Result {
	var results []Result
	for k := range maps.Values(s.keys) {
		for _, l := range k.live {
			if l.End > s.line.watermark {
				results = append(results, l.result(k.name, l.Window, 0, Open))
			}
		}
	}
	sortResults(results)
	return results
}

// rewind sets all timers anew, after a restore.
func (s *sessions) rewind() {
	s.timers = nil
	for _, key := range slices.Sorted(maps.Keys(s.keys)) {
		k := s.keys[key]
		for _, l := range k.live {
			s.set(l, s.next(l))
		}
		if k.graveyard {
			s.watch(k)
		}
	}
}
