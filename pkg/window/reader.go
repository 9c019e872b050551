package window

import (
	"encoding/binary"
	"fmt"
	"math"
)

const endOfTime = math.MaxInt64

// reader reads what was written with the append functions. The first failure stays, and what is read after it is zero.
type reader struct {
	rest       []byte
	err        error
	idsInSlice bool // the layout of version 2, which lists the ids of aligned windows with each slice
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%s, %d bytes before its end", what, len(r.rest))
	}
	r.rest = nil
}

// done is nil where all was read and nothing failed.
func (r *reader) done(kind error) error {
	if r.err == nil && len(r.rest) > 0 {
		r.fail("goes on where it should end")
	}
	if r.err != nil {
		return fmt.Errorf("%w: %w", kind, r.err)
	}
	return nil
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.rest)
	if n <= 0 {
		r.fail("ends too early")
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.fail("ends too early")
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.fail("ends too early")
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) text() string { return string(r.bytes(r.uvarint())) }

func (r *reader) flag() bool {
	b := r.bytes(1)
	return len(b) == 1 && b[0] != 0
}

func (r *reader) window() Window {
	start := r.varint()
	return Window{Start: start, End: start + int64(r.uvarint())} //nolint:gosec // two's complement is meant
}

// items calls read for as many items as are announced, as long as nothing fails.
func (r *reader) items(read func()) {
	for range r.uvarint() {
		if r.err != nil {
			return
		}
		read()
	}
}

func (r *reader) engine(e *Engine) {
	r.line(&e.line)
	for v := range verdicts {
		e.counts[v] = r.uvarint()
	}
	if e.sessions != nil {
		r.sessions(e.sessions)
	} else {
		r.aligned(e.aligned)
	}
	if uint64(e.State().IDs) > e.counts[Counted]+e.counts[PartiallyLate] { //nolint:gosec // not negative
		r.fail("more events are in live windows than were counted")
	}
}

func (r *reader) line(l *line) {
	l.started, l.clock = r.flag(), r.varint()
	l.partitions = l.partitions[:0]
	r.items(func() {
		p := partition{any: r.flag(), reached: r.varint(), lastLife: r.varint()}
		if p.reached > l.clock || p.lastLife > l.clock {
			r.fail("a partition is ahead of the clock")
		}
		l.partitions = append(l.partitions, p)
	})
	l.reached, l.watermark, l.gone = r.varint(), r.varint(), r.varint()
	if n := len(l.partitions); n == 0 || n > MaxPartitions {
		r.fail("no partitions, or too many")
	}
	if l.gone > l.watermark {
		r.fail("windows are gone that have not ended")
	}
}

func (r *reader) cell(aggregate Aggregate) *cell {
	c := &cell{count: r.varint(), value: aggregate.New()}
	content := r.bytes(r.uvarint())
	if r.err != nil {
		return c
	}
	if c.count <= 0 {
		r.fail("a value of no event")
	}
	if err := c.value.Restore(content); err != nil {
		r.fail(err.Error())
	}
	return c
}

// ids reads one id for each of so many events.
func (r *reader) ids(m *memory, events, until int64) []id {
	n := r.uvarint()
	if n != uint64(events) || n > uint64(len(r.rest)/len(id{})) { //nolint:gosec // more than 0
		r.fail("there is not one id for each event")
		return nil
	}
	ids := make([]id, n)
	for i := range ids {
		ids[i] = id(r.bytes(uint64(len(id{}))))
		slot, known := m.find(ids[i])
		if known {
			r.fail("an id stands twice")
			return nil
		}
		m.put(slot, ids[i], until)
	}
	return ids
}

func (r *reader) aligned(a *aligned) {
	untils := make(map[int64]int64) // how many events are remembered until when
	r.items(func() { r.slice(a, untils) })
	if !r.idsInSlice {
		r.remembered(a, untils)
	}
	r.items(func() {
		v := revised{Window: r.window(), keys: make(map[string]*revision)}
		if v.End <= a.line.gone || v.End > a.line.watermark || len(a.revised) > 0 && v.End <= a.revised[len(a.revised)-1].End {
			r.fail("revisions of a window that can't have any")
			return
		}
		r.items(func() {
			key := r.text()
			v.keys[key] = &revision{number: int(r.uvarint())} //nolint:gosec // what does not fit is not written alike
		})
		a.revised = append(a.revised, v)
	})
}

// remembered reads the ids of all slices.
func (r *reader) remembered(a *aligned, untils map[int64]int64) {
	last := int64(math.MinInt64)
	r.items(func() {
		until := r.varint()
		if untils[until] == 0 || until <= last {
			r.fail("ids are out of order, or have no events")
			return
		}
		r.ids(a.ids, untils[until], until)
		delete(untils, until)
		last = until
	})
	if len(untils) > 0 {
		r.fail("there are events without ids")
	}
}

func (r *reader) slice(a *aligned, untils map[int64]int64) {
	w := r.window()
	s := &slice{span: a.line.settings.cut.slice(w.Start), cells: make(map[string]*cell)}
	last := int64(math.MinInt64)
	if n := len(a.slices); n > 0 {
		last = a.slices[n-1].End
	}
	if s.Window != w || w.Start < last || s.last <= a.line.gone {
		r.fail("a window is not one of the query, out of order, or gone; were the rules of the time zone changed?")
		return
	}
	r.items(func() {
		key := r.text()
		c := r.cell(a.line.settings.aggregate)
		s.cells[key] = c
		s.events += c.count
		a.cells++
		a.keyBytes += len(key)
	})
	if s.events <= 0 {
		r.fail("a window without events")
		return
	}
	if r.idsInSlice {
		r.ids(a.ids, s.events, s.last)
	}
	untils[s.last] += s.events
	a.events += s.events
	a.slices = append(a.slices, s)
}

func (r *reader) sessions(s *sessions) {
	r.items(func() {
		k := s.open(r.text())
		k.tombstone = r.varint()
		r.items(func() { r.session(s, k) })
		if k.graveyard = len(k.live) == 0; k.graveyard {
			s.tombstones++
		}
	})
}

func (r *reader) session(s *sessions, k *sessionKey) {
	l := &live{Window: r.window(), key: k}
	revision := r.uvarint()
	l.revision = int(revision & math.MaxInt32) //nolint:gosec // what does not fit is not written alike
	l.cell = *r.cell(s.line.settings.aggregate)
	before := int64(math.MinInt64)
	if n := len(k.live); n > 0 {
		before = k.live[n-1].End
	}
	switch {
	case r.err != nil:
		return
	case l.Start < before || l.Start >= l.End || l.Start < k.tombstone:
		r.fail("sessions overlap")
		return
	case l.End <= s.line.gone || (l.End <= s.line.watermark) != (l.revision > 0):
		r.fail("a session is gone, or has come out too early or not in time")
		return
	}
	l.ids = r.ids(s.ids, l.count, endOfTime)
	s.events += l.count
	k.live = append(k.live, l)
	s.cells++
}
