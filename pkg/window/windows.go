package window

import (
	"fmt"
	"math"
	"time"
)

type kind uint8

const (
	unset kind = iota
	tumbling
)

// Windows is how event time is cut into windows. Make one with [Tumbling].
type Windows struct {
	kind         kind
	size, offset time.Duration
}

// Tumbling cuts event time into windows of one size that touch and don't overlap: each time is in exactly one. They are aligned to
// 1970-01-01T00:00Z plus offset, so a day in UTC+08:00 is Tumbling(24*time.Hour, -8*time.Hour). The offset is nearer to 0 than the
// size, so that one way of cutting has few spellings. [Config.Validate] checks both.
func Tumbling(size, offset time.Duration) Windows {
	return Windows{kind: tumbling, size: size, offset: offset}
}

func (w Windows) String() string { return fmt.Sprintf("tumbling(%s, %s)", w.size, w.offset) }

// Window is the span [Start, End) of event time: epoch milliseconds, End exclusive.
type Window struct{ Start, End int64 }

// Of is the window that holds the time t, in epoch milliseconds: start = floor((t - offset) / size) * size + offset. The division rounds
// down for times before 1970 too. At the far ends of int64 a bound that does not fit stays at the end.
// The windows must be valid ([Config.Validate]).
func (w Windows) Of(t int64) Window {
	size, offset := w.size.Milliseconds(), w.offset.Milliseconds()
	// t - offset may not fit into int64, the difference of the remainders always does.
	past := floorMod(floorMod(t, size)-floorMod(offset, size), size)
	return Window{Start: subSaturating(t, past), End: addSaturating(t, size-past)}
}

// floorMod is the remainder of the division that rounds down: 0 or more for a positive m.
func floorMod(a, m int64) int64 {
	r := a % m
	if r < 0 {
		r += m
	}
	return r
}

func addSaturating(a, b int64) int64 {
	if c := a + b; (c > a) == (b > 0) {
		return c
	}
	if b > 0 {
		return math.MaxInt64
	}
	return math.MinInt64
}

// subSaturating needs b >= 0.
func subSaturating(a, b int64) int64 {
	if a < math.MinInt64+b {
		return math.MinInt64
	}
	return a - b
}
