package window_test

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidemark/tidemark/pkg/window"
)

// clamp is n, or the end of int64 that it passes.
func clamp(n *big.Int) int64 {
	switch {
	case n.IsInt64():
		return n.Int64()
	case n.Sign() < 0:
		return math.MinInt64
	}
	return math.MaxInt64
}

// round is the nearest whole number, halves away from zero.
func round(total *big.Int, n int) int64 {
	twice := new(big.Int).Mul(new(big.Int).Abs(total), big.NewInt(2))
	q := new(big.Int).Div(twice.Add(twice, big.NewInt(int64(n))), big.NewInt(int64(2*n)))
	return clamp(q.Mul(q, big.NewInt(int64(total.Sign()))))
}

// expected is each aggregate in big numbers.
func expected(events [][]window.Part) map[string]window.Value {
	all := slices.Concat(events...)
	total := new(big.Int)
	least, most := all[0].Value, all[0].Value
	items := make(map[string]*big.Int)
	for _, a := range all {
		v := big.NewInt(a.Value)
		total.Add(total, v)
		least, most = min(least, a.Value), max(most, a.Value)
		if items[a.Item] == nil {
			items[a.Item] = new(big.Int)
		}
		items[a.Item].Add(items[a.Item], v)
	}
	names := slices.SortedFunc(maps.Keys(items), func(a, b string) int { return cmp.Or(items[b].Cmp(items[a]), cmp.Compare(a, b)) })
	top := window.Value{Number: clamp(total)}
	for _, item := range names[:min(2, len(names))] {
		top.Top = append(top.Top, window.Rank{Item: item, Sum: clamp(items[item])})
	}
	return map[string]window.Value{
		"count": {Number: int64(len(events))}, "sum": {Number: clamp(total)}, "min": {Number: least}, "max": {Number: most},
		"mean": {Number: round(total, len(all))}, "top(2)": top,
	}
}

// However events are split into parts, put together and written in between, the value is that of all; and the order does not show.
func TestAggregates(t *testing.T) {
	t.Parallel()
	aggregates := []window.Aggregate{window.Count(), window.Sum(), window.Min(), window.Max(), window.Mean(), window.Top(2)}
	extremes := rapid.SampledFrom([]int64{math.MaxInt64, math.MinInt64, math.MaxInt64 - 1, -1, 0, 1})
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.Custom(func(t *rapid.T) window.Part {
			return window.Part{
				Item:  rapid.SampledFrom([]string{"", "a", "b", "c", "d", "e", "f", "g", "h"}).Draw(t, "item"),
				Value: rapid.OneOf(extremes, rapid.Int64Range(-9, 9), rapid.Int64()).Draw(t, "value"),
			}
		})
		all := rapid.SliceOfN(rapid.SliceOfN(part, 1, 4), 1, 30).Draw(t, "events")
		want := expected(all)
		parts := make([][][]window.Part, rapid.IntRange(1, 4).Draw(t, "parts"))
		for _, a := range all {
			i := rapid.IntRange(0, len(parts)-1).Draw(t, "part")
			parts[i] = append(parts[i], a)
		}
		for _, aggregate := range aggregates {
			whole, straight := aggregate.New(), aggregate.New()
			for _, a := range rapid.Permutation(all).Draw(t, "order") {
				straight.Add(a)
			}
			for _, part := range parts {
				acc := aggregate.New()
				for _, a := range part {
					acc.Add(a)
				}
				if len(part) > 0 {
					again := aggregate.New()
					if err := again.Restore(acc.Append(nil)); err != nil {
						t.Fatalf("%s: %v", aggregate.Name(), err)
					}
					acc = again
				}
				whole.Merge(acc)
			}
			if got := whole.Value(); !got.Equal(want[aggregate.Name()]) {
				t.Fatalf("%s of %v in parts is %+v, want %+v", aggregate.Name(), all, got, want[aggregate.Name()])
			}
			if !bytes.Equal(whole.Append(nil), straight.Append(nil)) {
				t.Fatalf("%s: the order shows", aggregate.Name())
			}
		}
	})
}

// Not so with an empty part: it changes nothing.
func TestMergeOfNothing(t *testing.T) {
	t.Parallel()
	for _, aggregate := range []window.Aggregate{window.Min(), window.Max(), window.Mean(), window.Top(1)} {
		acc := aggregate.New()
		acc.Add([]window.Part{{Item: "x", Value: 5}})
		acc.Merge(aggregate.New())
		if got := acc.Value().Number; got != 5 {
			t.Errorf("%s is %d, want 5", aggregate.Name(), got)
		}
	}
}

func TestRestoreOfAccumulatorRefuses(t *testing.T) {
	t.Parallel()
	for _, aggregate := range []window.Aggregate{window.Count(), window.Sum(), window.Min(), window.Mean(), window.Top(1)} {
		acc := aggregate.New()
		acc.Add([]window.Part{{Item: "x", Value: 5}})
		good := acc.Append(nil)
		for _, bad := range [][]byte{nil, good[:len(good)-1], append(bytes.Clone(good), 0)} {
			if err := aggregate.New().Restore(bad); err == nil {
				t.Errorf("%s takes %x", aggregate.Name(), bad)
			}
		}
	}
}

// distinct is an aggregate of one's own.
type distinct struct{}

func (distinct) Name() string            { return "distinct" }
func (distinct) New() window.Accumulator { return &items{} }

type items struct{ window.Accumulator } // a ranking knows the items

func (d *items) ranking() window.Accumulator {
	if d.Accumulator == nil {
		d.Accumulator = window.Top(math.MaxInt32).New()
	}
	return d.Accumulator
}

func (d *items) Add(event []window.Part)        { d.ranking().Add(event) }
func (d *items) Merge(other window.Accumulator) { d.ranking().Merge(other.(*items).ranking()) }
func (d *items) Value() window.Value {
	return window.Value{Number: int64(len(d.ranking().Value().Top))}
}
func (d *items) Append(b []byte) []byte { return d.ranking().Append(b) }
func (d *items) Restore(b []byte) error { return d.ranking().Restore(b) }

// A program may bring an aggregate of its own: how many different pages a visitor has seen.
func ExampleAggregate() {
	pages := must(window.New(window.Config{Windows: window.Tumbling(60_000*ms, 0), Aggregate: distinct{}}))
	for i, page := range []string{"/", "/teapots", "/"} {
		pages.Apply(window.Event{ID: fmt.Sprint(i), Key: "ann", Item: page, Time: at("09:00:30"), Stored: at("09:00:30")})
	}
	show(pages.End())
	// Output:
	//   ann 09:00:00 to 09:01:00: 2, revision 1, on_time
}
