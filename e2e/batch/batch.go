// Package batch answers the questions of analytics about everything at once. It is what streaming and backfill are compared with, so it knows nothing of streams, watermarks or pkg/window.
package batch

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	_ "time/tzdata"
)

// Fact is an order or a click as it was sent.
type Fact struct {
	At    time.Time
	Who   string           // customer or user; a guest: Guest and something that is the guest's own
	Page  string           // of a click
	Total int64            // of an order, pence
	Units map[string]int64 // of an order, by article
}

// IsOrder tells an order from a click.
func (f Fact) IsOrder() bool { return f.Units != nil }

// Cell is a window of a query with one key. Guests have sessions of their own under names that the shop gives them, so they are counted together.
type Cell struct {
	Query, Key string
	Start, End int64 // epoch milliseconds
}

// Answer is what a query says about a cell.
type Answer struct {
	Windows, Count, Value int64
	Top                   string
}

// Guest is what the names of guests begin with.
const Guest = "guest-"

// Queries are those that are answered here: all that analytics has.
func Queries() []string {
	return []string{"orders-per-minute", "revenue-per-minute", "units-per-sku", "customer-sessions", "clicks-per-page", "order-velocity", "revenue-per-day"}
}

// Of answers every query about all facts, each of which is there once.
func Of(facts []Fact) map[Cell]Answer {
	const second, minute, hour = int64(1000), int64(60_000), int64(3_600_000)
	all := make(map[Cell]Answer)
	units := make(map[Cell]map[string]int64)
	add := func(query, key string, start, end, value int64) {
		c := Cell{query, key, start, end}
		all[c] = Answer{Windows: 1, Count: all[c].Count + 1, Value: all[c].Value + value}
	}
	for _, f := range facts {
		t := f.At.UnixMilli()
		if !f.IsOrder() {
			add("clicks-per-page", f.Page, t-t%hour, t-t%hour+hour, 1)
			continue
		}
		add("orders-per-minute", "", t-t%minute, t-t%minute+minute, 1)
		add("revenue-per-minute", "GBP", t-t%minute, t-t%minute+minute, f.Total)
		day, next := londonDay(f.At)
		add("revenue-per-day", "GBP", day, next, f.Total)
		for i := range int64(10) {
			start := t - t%second - i*second
			add("order-velocity", f.Who, start, start+10*second, 1)
		}
		for i := range int64(5) {
			start := t - t%minute - i*minute
			c := Cell{"units-per-sku", "", start, start + 5*minute}
			if units[c] == nil {
				units[c] = make(map[string]int64)
			}
			sum := int64(0)
			for sku, n := range f.Units {
				units[c][sku] += n
				sum += n
			}
			add(c.Query, c.Key, c.Start, c.End, sum)
		}
	}
	for c, bySKU := range units {
		a := all[c]
		a.Top = best(bySKU)
		all[c] = a
	}
	maps.DeleteFunc(all, func(c Cell, a Answer) bool { return c.Query == "order-velocity" && a.Count < 5 })
	sessions(facts, all)
	return all
}

// londonDay is the first moment of the day in London, and that of the next one.
func londonDay(t time.Time) (start, end int64) {
	london := London()
	y, m, d := t.In(london).Date()
	return time.Date(y, m, d, 0, 0, 0, 0, london).UnixMilli(), time.Date(y, m, d+1, 0, 0, 0, 0, london).UnixMilli()
}

// London is where the shop is. The program carries the zone's rules.
func London() *time.Location {
	l, err := time.LoadLocation("Europe/London")
	if err != nil {
		panic(err)
	}
	return l
}

// best are the ten articles with the most units; of equal ones the first by name.
func best(units map[string]int64) string {
	skus := slices.SortedFunc(maps.Keys(units), func(a, b string) int { return cmp.Or(cmp.Compare(units[b], units[a]), cmp.Compare(a, b)) })
	var b strings.Builder
	for _, sku := range skus[:min(10, len(skus))] {
		fmt.Fprintf(&b, "%s=%d;", sku, units[sku])
	}
	return b.String()
}

// sessions adds everyone's visits: facts with less than half an hour from one to the next.
func sessions(facts []Fact, all map[Cell]Answer) {
	const gap = 30 * 60_000
	times := make(map[string][]int64)
	for _, f := range facts {
		times[f.Who] = append(times[f.Who], f.At.UnixMilli())
	}
	for who, ts := range times {
		slices.Sort(ts)
		for from, i := 0, 1; i <= len(ts); i++ {
			if i < len(ts) && ts[i]-ts[i-1] < gap {
				continue
			}
			c := Cell{"customer-sessions", who, ts[from], ts[i-1] + gap}
			if strings.HasPrefix(who, Guest) {
				c.Key = Guest
			}
			n := int64(i - from)
			all[c] = Answer{Windows: all[c].Windows + 1, Count: all[c].Count + n, Value: all[c].Value + n}
			from = i
		}
	}
}

// Differences tells at most ten cells in which two sets of answers differ, and how many there are.
func Differences(got, want map[Cell]Answer) (n int, text string) {
	keys := make(map[Cell]bool)
	for c := range got {
		keys[c] = true
	}
	for c := range want {
		keys[c] = true
	}
	var b strings.Builder
	for _, c := range slices.SortedFunc(maps.Keys(keys), func(a, b Cell) int {
		return cmp.Or(cmp.Compare(a.Query, b.Query), cmp.Compare(a.Start, b.Start), cmp.Compare(a.Key, b.Key), cmp.Compare(a.End, b.End))
	}) {
		if got[c] == want[c] {
			continue
		}
		if n++; n <= 10 {
			fmt.Fprintf(&b, "%s %q [%s, %s): got %+v, want %+v\n", c.Query, c.Key,
				time.UnixMilli(c.Start).UTC().Format(time.DateTime), time.UnixMilli(c.End).UTC().Format(time.DateTime), got[c], want[c])
		}
	}
	return n, b.String()
}
