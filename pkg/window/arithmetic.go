package window

import (
	"math"
	"math/bits"
)

// floorMod is the remainder of the division that rounds down: 0 or more for a positive m.
func floorMod(a, m int64) int64 {
	r := a % m
	if r < 0 {
		r += m
	}
	return r
}

// addSaturating stays at the end of int64 that the sum would pass.
func addSaturating(a, b int64) int64 {
	if c := a + b; (c > a) == (b > 0) {
		return c
	}
	if b > 0 {
		return math.MaxInt64
	}
	return math.MinInt64
}

// subSaturating stays at the end of int64 that the difference would pass.
func subSaturating(a, b int64) int64 {
	if c := a - b; (c < a) == (b > 0) {
		return c
	}
	if b > 0 {
		return math.MinInt64
	}
	return math.MaxInt64
}

// wide is a sum of int64 that can't overflow: 128 bits, two's complement. With it a sum does not depend on the order of its parts, which a sum
// that stops at the end of int64 would.
type wide struct {
	hi int64
	lo uint64
}

func (s *wide) add(v int64) { s.merge(wide{hi: v >> 63, lo: uint64(v)}) } //nolint:gosec // two's complement is meant

func (s *wide) merge(o wide) {
	var carry uint64
	s.lo, carry = bits.Add64(s.lo, o.lo, 0)
	s.hi += o.hi + int64(carry) //nolint:gosec // 0 or 1
}

// int64 is the sum, or the end of int64 that it passes.
func (s *wide) int64() int64 {
	v := int64(s.lo) //nolint:gosec // two's complement is meant
	switch {
	case s.hi == v>>63:
		return v
	case s.hi < 0:
		return math.MinInt64
	}
	return math.MaxInt64
}

// mean is the sum through n, rounded to the nearest whole number, halves away from zero. It lies between two int64 where all parts were int64.
func (s *wide) mean(n int64) int64 {
	negative := s.hi < 0
	hi, lo := uint64(s.hi), s.lo //nolint:gosec // two's complement is meant
	if negative {
		var borrow uint64
		lo, borrow = bits.Sub64(0, lo, 0)
		hi, _ = bits.Sub64(0, hi, borrow)
	}
	d := uint64(n)                  //nolint:gosec // a count
	q, r := bits.Div64(hi%d, lo, d) // a mean of int64 fits, so hi is less than d
	if r >= d-r {
		q++
	}
	if negative {
		return int64(-q) //nolint:gosec // two's complement is meant
	}
	return int64(q) //nolint:gosec // at most MaxInt64
}

// less orders two sums.
func (s *wide) less(o *wide) bool { return s.hi < o.hi || s.hi == o.hi && s.lo < o.lo }
