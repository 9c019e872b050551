package events_test

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidemark/tidemark/pkg/events"
)

func TestParseMinor(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]events.Minor{
		"2.55": 255, "0": 0, "0.00": 0, "0.5": 50, "0.05": 5, "7": 700, "007.10": 710, "92233720368547758.07": math.MaxInt64,
	} {
		if got, err := events.ParseMinor(s); err != nil || got != want {
			t.Errorf("ParseMinor(%q) = %d, %v, want %d", s, got, err, want)
		}
	}
	for s, rule := range map[string]string{
		"-1": "0 or more", "-0.00": "0 or more", "1.234": "at most two decimals", "1.230": "at most two decimals", "": "decimal number", ".5": "decimal number",
		"5.": "decimal number", "1e3": "decimal number", "1,50": "decimal number", "+1": "decimal number", " 1": "decimal number", "1.2.3": "decimal number",
		"NaN": "decimal number", "0x10": "decimal number", "1_000": "decimal number", "٣": "decimal number", "1.٣": "decimal number",
		"92233720368547758.08": "too large", "99999999999999999999": "too large",
	} {
		_, err := events.ParseMinor(s)
		if !errors.Is(err, events.ErrInvalidAmount) {
			t.Errorf("ParseMinor(%q): error %v, want ErrInvalidAmount", s, err)
			continue
		}
		if !strings.Contains(err.Error(), rule) || !strings.Contains(err.Error(), fmt.Sprintf("%q", s)) {
			t.Errorf("ParseMinor(%q): error %q does not name the value and the rule %q", s, err, rule)
		}
	}
}

func TestMinorComesBackFromItsText(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := events.Minor(rapid.Int64Range(0, math.MaxInt64).Draw(t, "amount"))
		back, err := events.ParseMinor(m.String())
		if err != nil || back != m {
			t.Fatalf("%d is %s, which is %d (%v)", m, m, back, err)
		}
	})
}

func TestMinorText(t *testing.T) {
	t.Parallel()
	for m, want := range map[events.Minor]string{0: "0.00", 5: "0.05", 255: "2.55", -5: "-0.05", -1234: "-12.34", math.MaxInt64: "92233720368547758.07", math.MinInt64: "-92233720368547758.08"} {
		if got := m.String(); got != want {
			t.Errorf("%d is %q, want %q", int64(m), got, want)
		}
	}
}

// Total against whole numbers of any size: it is right or it says that it does not fit.
func TestTotal(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		exact := new(big.Int)
		var lines []events.Line
		for range rapid.IntRange(0, 5).Draw(t, "lines") {
			l := events.Line{
				SKU:       "a",
				Quantity:  rapid.OneOf(rapid.Int64Range(1, 1_000_000), rapid.Int64Range(1, math.MaxInt64)).Draw(t, "quantity"),
				UnitPrice: events.Minor(rapid.OneOf(rapid.Int64Range(0, 10_000), rapid.Int64Range(0, math.MaxInt64)).Draw(t, "price")),
			}
			lines = append(lines, l)
			exact.Add(exact, new(big.Int).Mul(big.NewInt(l.Quantity), big.NewInt(int64(l.UnitPrice))))
		}
		got, err := events.Total(lines)
		switch {
		case exact.IsInt64() && (err != nil || int64(got) != exact.Int64()):
			t.Fatalf("total %d, %v, want %s", got, err, exact)
		case !exact.IsInt64() && !errors.Is(err, events.ErrOverflow):
			t.Fatalf("total %d, %v, want ErrOverflow: the sum is %s", got, err, exact)
		}
	})
}
