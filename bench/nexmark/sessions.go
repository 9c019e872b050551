package nexmark

import "slices"

// sessions are windows that each key has of its own: what belongs to one ends a gap after its last event.
type sessions struct {
	q     *Query
	known map[int64]*session // by event number
	keys  map[string][]*session
	end   map[string]int64 // of the last session of a key that is gone: none may overlap it any more
}

type session struct {
	start, end int64
	events     []*Event
	into       *session // it has become part of
}

func newSessions(q *Query) *sessions {
	return &sessions{q: q, known: make(map[int64]*session), keys: make(map[string][]*session), end: make(map[string]int64)}
}

// of is the session that has an event now.
func (s *session) of() *session {
	for s.into != nil {
		s = s.into
	}
	return s
}

func (s *sessions) take(a *Answer, t *timeline, d *Delivery, e *Event, at int64) {
	if in, known := s.known[d.Number]; known && !t.gone(in.of().end) {
		a.Duplicates = append(a.Duplicates, e.ID())
		t.accept(d, at, true)
		return
	}
	own := &session{start: at, end: at + s.q.gap}
	if at > t.clock+maxFuture {
		a.Miss(e.ID(), "future_skew", [][2]int64{{own.start, own.end}})
		return
	}
	key, _, _ := s.q.Read(e)
	var overlapping []*session
	for _, o := range s.keys[key] {
		switch {
		case t.gone(o.end):
			s.end[key] = max(s.end[key], o.end)
		case o.start < own.end && own.start < o.end:
			overlapping = append(overlapping, o)
		}
	}
	if at < s.end[key] || len(overlapping) == 0 && t.gone(own.end) {
		a.Miss(e.ID(), "too_late", [][2]int64{{own.start, own.end}})
		t.accept(d, at, true)
		return
	}
	s.known[d.Number] = s.put(key, own, e, overlapping)
	t.accept(d, at, false)
}

// put makes the sessions that an event touches one, and returns it.
func (s *sessions) put(key string, own *session, e *Event, overlapping []*session) *session {
	whole := own
	if len(overlapping) > 0 {
		whole = overlapping[0]
		whole.start, whole.end = min(whole.start, own.start), max(whole.end, own.end)
		for _, o := range overlapping[1:] {
			whole.start, whole.end = min(whole.start, o.start), max(whole.end, o.end)
			whole.events = append(whole.events, o.events...)
			o.into = whole
		}
		s.keys[key] = slices.DeleteFunc(s.keys[key], func(o *session) bool { return o.into != nil })
	} else {
		s.keys[key] = append(s.keys[key], own)
	}
	whole.events = append(whole.events, e)
	return whole
}

func (s *sessions) answer(a *Answer, q *Query, t *timeline) {
	for key, all := range s.keys {
		for _, o := range all {
			if t.ended(o.end) {
				a.add(q, cell{key, o.start, o.end}, o.events)
			}
		}
	}
}
