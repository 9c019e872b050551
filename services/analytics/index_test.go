package analytics

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func planOf(names ...string) *plan {
	p := &plan{}
	for _, name := range names {
		p.queries = append(p.queries, &asked{Query: Query{Name: name}})
	}
	return p
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func everything(limit int) *selection {
	return &selection{from: math.MinInt64, to: math.MaxInt64, limit: limit}
}

// The oracle is a map and a sort.
func TestIndexListsWhatWasPut(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		x := newIndex(planOf("q"))
		latest := map[position]result{}
		for range rapid.IntRange(0, 40).Draw(t, "n") {
			r := result{
				Key: rapid.SampledFrom([]string{"", "a", "b", "a/b"}).Draw(t, "key"), Start: rapid.Int64Range(-5, 5).Draw(t, "start") * 10,
				Value: rapid.Int64().Draw(t, "value"), Revision: rapid.IntRange(1, 3).Draw(t, "revision"), Timing: "on_time",
			}
			r.End, r.Sequence = r.Start+10, rapid.Uint64Range(1, 4).Draw(t, "sequence")
			if rapid.IntRange(0, 4).Draw(t, "retract") == 0 {
				r.Timing = "retract"
			}
			x.put("q", &r)
			at := position{r.Start, r.Key}
			rank := func(r *result) [3]int {
				return [3]int{int(r.Sequence), btoi(r.Timing != "retract"), r.Revision} //nolint:gosec // small
			}
			was, is := latest[at], r
			if a, b := rank(&was), rank(&is); was.Revision == 0 || slices.Compare(a[:], b[:]) < 0 {
				latest[at] = r
			}
		}
		from, to := rapid.Int64Range(-60, 60).Draw(t, "from"), rapid.Int64Range(-60, 60).Draw(t, "to")
		var key *string
		if rapid.Bool().Draw(t, "one key") {
			one := rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "which key")
			key = &one
		}
		var want []result
		for at, r := range latest {
			if at.start >= from && at.start < to && r.Timing != "retract" && (key == nil || *key == at.key) {
				want = append(want, r)
			}
		}
		slices.SortFunc(want, func(a, b result) int { return position{a.Start, a.Key}.compare(position{b.Start, b.Key}) })

		limit := rapid.IntRange(1, 7).Draw(t, "limit")
		var got []result
		var after *position
		for {
			page := x.list("q", &selection{from: from, to: to, key: key, after: after, limit: limit})
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
		if !slices.EqualFunc(got, want, func(a, b result) bool { return reflect.DeepEqual(a, b) }) {
			t.Fatalf("got %v\nwant %v", got, want)
		}
	})
}

func TestIndexForgetsItsOldestRows(t *testing.T) {
	t.Parallel()
	x := newIndex(planOf("q", "r"))
	x.maxRows = 100
	for i := range int64(1000) {
		x.put("q", &result{Start: i, End: i + 1, Revision: 1})
	}
	x.put("r", &result{Start: 1, Revision: 1})
	x.put("unknown", &result{Start: 1, Revision: 1})
	rows := x.list("q", everything(2000))
	if n := len(rows); n > 100 || n < 80 || rows[n-1].Start != 999 {
		t.Errorf("%d rows, the last %+v", n, rows[len(rows)-1])
	}
	if n := len(x.list("r", everything(10))); n != 1 {
		t.Errorf("another query lost its row: %d", n)
	}
	if x.list("unknown", everything(10)) != nil {
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
