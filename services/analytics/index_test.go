package analytics

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The oracle is a map and a sort.
func TestIndexListsWhatWasPut(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		x := newIndex([]query{{name: "q"}})
		latest := map[position]result{}
		for range rapid.IntRange(0, 40).Draw(t, "n") {
			r := result{
				Key: rapid.SampledFrom([]string{"", "a", "b", "a/b"}).Draw(t, "key"), Start: rapid.Int64Range(-5, 5).Draw(t, "start") * 10,
				Value: rapid.Int64().Draw(t, "value"), Revision: rapid.IntRange(1, 3).Draw(t, "revision"), Timing: "on_time",
			}
			r.End = r.Start + 10
			x.put("q", &r)
			if at := (position{r.Start, r.Key}); latest[at].Revision < r.Revision {
				latest[at] = r
			}
		}
		from, to := rapid.Int64Range(-60, 60).Draw(t, "from"), rapid.Int64Range(-60, 60).Draw(t, "to")
		var want []result
		for at, r := range latest {
			if at.start >= from && at.start < to {
				want = append(want, r)
			}
		}
		slices.SortFunc(want, func(a, b result) int { return position{a.Start, a.Key}.compare(position{b.Start, b.Key}) })

		limit := rapid.IntRange(1, 7).Draw(t, "limit")
		var got []result
		var after *position
		for {
			page := x.list("q", from, to, after, limit)
			got = append(got, page...)
			if len(page) < limit {
				break
			}
			cursor, err := readCursor(writeCursor(position{page[limit-1].Start, page[limit-1].Key}))
			if err != nil {
				t.Fatal(err)
			}
			after = cursor
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %v\nwant %v", got, want)
		}
	})
}

func TestIndexForgetsItsOldestRows(t *testing.T) {
	t.Parallel()
	x := newIndex([]query{{name: "q"}, {name: "r"}})
	x.maxRows = 100
	for i := range int64(1000) {
		x.put("q", &result{Start: i, End: i + 1, Revision: 1})
	}
	x.put("r", &result{Start: 1, Revision: 1})
	x.put("unknown", &result{Start: 1, Revision: 1})
	rows := x.list("q", math.MinInt64, math.MaxInt64, nil, 2000)
	if n := len(rows); n > 100 || n < 80 || rows[n-1].Start != 999 {
		t.Errorf("%d rows, the last %+v", n, rows[len(rows)-1])
	}
	if n := len(x.list("r", math.MinInt64, math.MaxInt64, nil, 10)); n != 1 {
		t.Errorf("another query lost its row: %d", n)
	}
	if x.list("unknown", 0, 10, nil, 10) != nil {
		t.Error("rows of a query that is not there")
	}
}

func TestCursorOfAnotherListingIsRefused(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"!", "eA", fmt.Sprintf("%0100d", 0)} {
		if _, err := readCursor(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}
