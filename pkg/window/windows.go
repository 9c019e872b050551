package window

import (
	"fmt"
	"math"
	"time"
)

// Window is the span [Start, End) of event time: epoch milliseconds, End exclusive.
type Window struct{ Start, End int64 }

type kind uint8

const (
	unset kind = iota
	tumbling
	hopping
	session
	calendar
)

// Windows is how event time is cut into windows. Make one with [Tumbling], [Hopping], [Session] or [Calendar]; [Config.Validate] checks it.
type Windows struct {
	kind                kind
	size, slide, offset time.Duration // the size of a session is its gap
	unit                Unit
	zone                string
	location            *time.Location
	err                 error // of the zone
}

// Tumbling cuts event time into windows of one size that touch and don't overlap: each time is in exactly one. They are aligned to
// 1970-01-01T00:00Z plus offset, so a day in UTC+08:00 is Tumbling(24*time.Hour, -8*time.Hour). The offset is nearer to 0 than the
// size, so that one way of cutting has few spellings.
func Tumbling(size, offset time.Duration) Windows {
	return Windows{kind: tumbling, size: size, slide: size, offset: offset}
}

// Hopping has a window of one size at every slide, so windows overlap: "the last five minutes, each minute" is
// Hopping(5*time.Minute, time.Minute, 0), and each time is in five of them. They start at 1970-01-01T00:00Z plus offset plus each multiple of the
// slide. The slide is not larger than the size, or times would be in no window; the offset is nearer to 0 than the slide.
//
// Flink, Spark and others call these sliding windows too. Kafka's sliding windows are another thing.
func Hopping(size, slide, offset time.Duration) Windows {
	return Windows{kind: hopping, size: size, slide: slide, offset: offset}
}

// Session has for each key windows that the events themselves make: an event at t opens [t, t+gap), and sessions that overlap are one. So a session
// ends a gap after its last event. An event exactly a gap after the last one starts a session of its own: it is not in [start, end).
func Session(gap time.Duration) Windows {
	return Windows{kind: session, size: gap}
}

// String says the windows in full, such as "hopping(size 5m0s, slide 1m0s, offset 0s)": equal texts are equal windows.
func (w Windows) String() string {
	switch w.kind {
	case unset:
		return "no windows"
	case tumbling:
		return fmt.Sprintf("tumbling(size %s, offset %s)", w.size, w.offset)
	case hopping:
		return fmt.Sprintf("hopping(size %s, slide %s, offset %s)", w.size, w.slide, w.offset)
	case session:
		return fmt.Sprintf("session(gap %s)", w.size)
	case calendar:
		return fmt.Sprintf("calendar(%s, %s)", w.unit, w.zone)
	}
	return fmt.Sprintf("Windows(%d)", w.kind)
}

// Lengths are how long a window is and how far apart windows start: the same, except for hopping windows. Of sessions both are the gap, of calendar windows
// 24 hours, 7 and 31 times that.
func (w Windows) Lengths() (size, slide time.Duration) {
	const day = 24 * time.Hour
	switch w.kind {
	case unset:
	case hopping:
		return w.size, w.slide
	case tumbling, session:
		return w.size, w.size
	case calendar:
		long := map[Unit]time.Duration{Day: day, Week: 7 * day, Month: 31 * day}[w.unit]
		return long, long
	}
	return 0, 0
}

// Of are the windows that hold the time t, in epoch milliseconds, ascending. For sessions it is the one that an event at t opens. The windows
// must be valid ([Config.Validate]). At the far ends of int64, 292 million years from here, windows are cut off.
func (w Windows) Of(t int64) []Window {
	c := w.cut()
	if c.kind == session {
		return []Window{c.session(t)}
	}
	s := c.slice(t)
	var all []Window
	for end := s.first; ; end += c.slide {
		all = append(all, s.window(end))
		if end == s.last {
			return all
		}
	}
}

// cut is [Windows] in milliseconds, as the engine uses it.
type cut struct {
	kind                kind
	size, slide, offset int64
	calendar            func(t int64) Window
}

func (w Windows) cut() cut {
	c := cut{kind: w.kind, size: w.size.Milliseconds(), slide: w.slide.Milliseconds(), offset: w.offset.Milliseconds()}
	if w.kind == calendar {
		c.calendar = w.calendarWindow
	}
	return c
}

// span is the piece of event time over which the same windows lie: all events in it are in the same windows, so one partial result serves them
// all. For tumbling and calendar windows it is the window itself.
type span struct {
	Window
	first, last int64 // the ends of the first and the last window that hold it
	size        int64 // of hopping windows; 0: the only window is the span itself
}

// window is the one with that end.
func (s *span) window(end int64) Window {
	if s.size == 0 {
		return s.Window
	}
	return Window{Start: end - s.size, End: end}
}

// slice finds the span that holds t. Windows that are aligned have one; sessions don't.
func (c *cut) slice(t int64) span {
	switch c.kind {
	case hopping:
		return c.hop(t)
	case calendar:
		w := c.calendar(t)
		return span{Window: w, first: w.End, last: w.End}
	}
	// t - offset may not fit into int64, the difference of the remainders always does.
	past := floorMod(floorMod(t, c.size)-floorMod(c.offset, c.size), c.size)
	w := Window{Start: subSaturating(t, past), End: addSaturating(t, c.size-past)}
	return span{Window: w, first: w.End, last: w.End}
}

// hop finds the span between the starts and ends of hopping windows. Where the slide divides the size, ends fall on starts, and a span is a slide long. Else
// an end cuts each slide in two.
func (c *cut) hop(t int64) span {
	t = min(max(t, math.MinInt64+c.size+c.slide), math.MaxInt64-c.size-c.slide) // so that no bound leaves int64
	past := floorMod(floorMod(t, c.slide)-floorMod(c.offset, c.slide), c.slide)
	base := t - past // the start of the last window that holds t
	s := span{Window: Window{Start: base, End: base + c.slide}, last: base + c.size, size: c.size}
	switch rest := c.size % c.slide; {
	case rest == 0:
	case past < rest:
		s.End = base + rest
	default:
		s.Start = base + rest
	}
	s.first = s.last - (c.size-1-(s.Start-base))/c.slide*c.slide
	return s
}

// session is the window that an event at t opens.
func (c *cut) session(t int64) Window {
	t = min(t, math.MaxInt64-1) // the last millisecond of all would have no end
	return Window{Start: t, End: addSaturating(t, c.size)}
}
