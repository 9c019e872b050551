package events

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// Minor is an amount of money in the currency's minor unit (pence, cents): an integer, never a float.
type Minor int64

// ErrInvalidAmount is wrapped by every error of [ParseMinor].
var ErrInvalidAmount = errors.New("invalid amount")

// ParseMinor reads a decimal such as "2.55", 0 or more, with at most two decimals, into minor units. It never rounds: what has more
// decimals is refused.
func ParseMinor(s string) (Minor, error) {
	if strings.HasPrefix(s, "-") {
		return 0, fmt.Errorf("%w: %q: must be 0 or more", ErrInvalidAmount, s)
	}
	whole, fraction, point := strings.Cut(s, ".")
	if whole == "" || point && fraction == "" {
		return 0, fmt.Errorf("%w: %q: must be a decimal number such as 2.55", ErrInvalidAmount, s)
	}
	if len(fraction) > 2 && allDigits(fraction) && allDigits(whole) {
		return 0, fmt.Errorf("%w: %q: must have at most two decimals", ErrInvalidAmount, s)
	}
	if !allDigits(whole) || !allDigits(fraction) {
		return 0, fmt.Errorf("%w: %q: must be a decimal number such as 2.55", ErrInvalidAmount, s)
	}
	var v int64
	for _, c := range whole + (fraction + "00")[:2] {
		if v > (math.MaxInt64-int64(c-'0'))/10 {
			return 0, fmt.Errorf("%w: %q: is too large", ErrInvalidAmount, s)
		}
		v = v*10 + int64(c-'0')
	}
	return Minor(v), nil
}

func allDigits(s string) bool {
	return strings.IndexFunc(s, func(c rune) bool { return c < '0' || c > '9' }) < 0
}

// String is the amount as a decimal with two places.
func (m Minor) String() string {
	sign, u := "", uint64(m) //nolint:gosec // a negative amount wraps here and comes back below
	if m < 0 {
		sign, u = "-", -u // of the smallest amount, too, which has no positive of its own
	}
	return fmt.Sprintf("%s%d.%02d", sign, u/100, u%100)
}

// ErrOverflow is returned where a sum of money or units does not fit into 64 bits.
var ErrOverflow = errors.New("sum is too large")

// Total is the sum of quantity times price over the lines.
func Total(lines []Line) (Minor, error) {
	var sum int64
	for _, l := range lines {
		if l.UnitPrice != 0 && l.Quantity > math.MaxInt64/int64(l.UnitPrice) {
			return 0, ErrOverflow
		}
		amount := l.Quantity * int64(l.UnitPrice)
		if sum > math.MaxInt64-amount {
			return 0, ErrOverflow
		}
		sum += amount
	}
	return Minor(sum), nil
}
