package e2e_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"
)

// fact is an order or a click as it was sent.
type fact struct {
	at    time.Time
	who   string           // customer or user; a guest: guest and something that is the guest's own
	page  string           // of a click
	total int64            // of an order, pence
	units map[string]int64 // of an order, by article
}

func (f fact) isOrder() bool { return f.units != nil }

// cell is a window of a query with one key. Guests have sessions of their own under names that the shop gives them, so they are counted together.
type cell struct {
	query, key string
	start, end int64 // epoch milliseconds
}

// answer is what a query says about a cell.
type answer struct {
	windows, count, value int64
	top                   string
}

const guest = "guest-"

// batch answers every query of analytics about all facts at once, each of which is there once. It knows nothing of streams, watermarks or pkg/window.
func batch(facts []fact) map[cell]answer {
	const second, minute, hour = int64(1000), int64(60_000), int64(3_600_000)
	all := make(map[cell]answer)
	units := make(map[cell]map[string]int64)
	add := func(query, key string, start, end, value int64) {
		c := cell{query, key, start, end}
		all[c] = answer{windows: 1, count: all[c].count + 1, value: all[c].value + value}
	}
	for _, f := range facts {
		t := f.at.UnixMilli()
		if !f.isOrder() {
			add("clicks-per-page", f.page, t-t%hour, t-t%hour+hour, 1)
			continue
		}
		add("orders-per-minute", "", t-t%minute, t-t%minute+minute, 1)
		add("revenue-per-minute", "GBP", t-t%minute, t-t%minute+minute, f.total)
		day, next := londonDay(f.at)
		add("revenue-per-day", "GBP", day, next, f.total)
		for i := range int64(10) {
			start := t - t%second - i*second
			add("order-velocity", f.who, start, start+10*second, 1)
		}
		for i := range int64(5) {
			start := t - t%minute - i*minute
			c := cell{"units-per-sku", "", start, start + 5*minute}
			if units[c] == nil {
				units[c] = make(map[string]int64)
			}
			sum := int64(0)
			for sku, n := range f.units {
				units[c][sku] += n
				sum += n
			}
			add(c.query, c.key, c.start, c.end, sum)
		}
	}
	for c, bySKU := range units {
		a := all[c]
		a.top = best(bySKU)
		all[c] = a
	}
	maps.DeleteFunc(all, func(c cell, a answer) bool { return c.query == "order-velocity" && a.count < 5 })
	sessions(facts, all)
	return all
}

// londonDay is the first moment of the day in London, and that of the next one.
func londonDay(t time.Time) (start, end int64) {
	y, m, d := t.In(london).Date()
	return time.Date(y, m, d, 0, 0, 0, 0, london).UnixMilli(), time.Date(y, m, d+1, 0, 0, 0, 0, london).UnixMilli()
}

var london = func() *time.Location {
	l, err := time.LoadLocation("Europe/London")
	if err != nil {
		panic(err)
	}
	return l
}()

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
func sessions(facts []fact, all map[cell]answer) {
	const gap = 30 * 60_000
	times := make(map[string][]int64)
	for _, f := range facts {
		times[f.who] = append(times[f.who], f.at.UnixMilli())
	}
	for who, ts := range times {
		slices.Sort(ts)
		for from, i := 0, 1; i <= len(ts); i++ {
			if i < len(ts) && ts[i]-ts[i-1] < gap {
				continue
			}
			c := cell{"customer-sessions", who, ts[from], ts[i-1] + gap}
			if strings.HasPrefix(who, guest) {
				c.key = guest
			}
			n := int64(i - from)
			all[c] = answer{windows: all[c].windows + 1, count: all[c].count + n, value: all[c].value + n}
			from = i
		}
	}
}

// differences tells at most ten cells in which two sets of answers differ, and how many there are.
func differences(got, want map[cell]answer) (n int, text string) {
	keys := make(map[cell]bool)
	for c := range got {
		keys[c] = true
	}
	for c := range want {
		keys[c] = true
	}
	var b strings.Builder
	for _, c := range slices.SortedFunc(maps.Keys(keys), func(a, b cell) int {
		return cmp.Or(cmp.Compare(a.query, b.query), cmp.Compare(a.start, b.start), cmp.Compare(a.key, b.key), cmp.Compare(a.end, b.end))
	}) {
		if got[c] == want[c] {
			continue
		}
		if n++; n <= 10 {
			fmt.Fprintf(&b, "%s %q [%s, %s): got %+v, want %+v\n", c.query, c.key,
				time.UnixMilli(c.start).UTC().Format(time.DateTime), time.UnixMilli(c.end).UTC().Format(time.DateTime), got[c], want[c])
		}
	}
	return n, b.String()
}

// The batch is what everything else is compared with, so it is compared with what a person counted.
func TestBatchByHand(t *testing.T) {
	t.Parallel()
	at := func(clock string) time.Time {
		v, err := time.ParseInLocation("2006-01-02 15:04:05", clock, london)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	ms := func(clock string) int64 { return at(clock).UnixMilli() }
	order := func(clock, who string, total int64, units map[string]int64) fact {
		return fact{at: at(clock), who: who, total: total, units: units}
	}
	got := batch([]fact{
		order("2011-03-26 23:59:30", "ann", 300, map[string]int64{"MUG": 1, "CUP": 2}),
		order("2011-03-27 03:00:00", "ann", 500, map[string]int64{"MUG": 5}), // the clock went from 1 to 2 am
		order("2011-03-27 03:29:59", guest+"1", 7, map[string]int64{"MUG": 1}),
		order("2011-03-27 03:29:59", guest+"2", 9, map[string]int64{"MUG": 1}),
		{at: at("2011-03-27 00:29:29"), who: "ann", page: "/"}, // just in her first visit
		{at: at("2011-03-27 00:59:29"), who: "ann", page: "/"}, // half an hour after that: another visit
		order("2011-03-27 12:00:00", "bob", 1, map[string]int64{"A": 1}), order("2011-03-27 12:00:00", "bob", 1, map[string]int64{"A": 1}),
		order("2011-03-27 12:00:00", "bob", 1, map[string]int64{"A": 1}), order("2011-03-27 12:00:00", "bob", 1, map[string]int64{"A": 1}),
		order("2011-03-27 12:00:09", "bob", 1, map[string]int64{"A": 1}),
	})
	for c, want := range map[cell]answer{
		{"revenue-per-day", "GBP", ms("2011-03-26 00:00:00"), ms("2011-03-27 00:00:00")}:                {1, 1, 300, ""},
		{"revenue-per-day", "GBP", ms("2011-03-27 00:00:00"), ms("2011-03-27 00:00:00") + 23*3_600_000}: {1, 8, 521, ""},
		{"orders-per-minute", "", ms("2011-03-27 03:29:00"), ms("2011-03-27 03:30:00")}:                 {1, 2, 2, ""},
		{"revenue-per-minute", "GBP", ms("2011-03-27 03:29:00"), ms("2011-03-27 03:30:00")}:             {1, 2, 16, ""},
		{"units-per-sku", "", ms("2011-03-26 23:55:00"), ms("2011-03-27 00:00:00")}:                     {1, 1, 3, "CUP=2;MUG=1;"},
		{"units-per-sku", "", ms("2011-03-27 03:29:00"), ms("2011-03-27 03:34:00")}:                     {1, 2, 2, "MUG=2;"},
		{"customer-sessions", "ann", ms("2011-03-26 23:59:30"), ms("2011-03-27 00:59:29")}:              {1, 2, 2, ""},
		{"customer-sessions", "ann", ms("2011-03-27 00:59:29"), ms("2011-03-27 00:59:29") + 30*60_000}:  {1, 1, 1, ""},
		{"customer-sessions", guest, ms("2011-03-27 03:29:59"), ms("2011-03-27 03:59:59")}:              {2, 2, 2, ""},
		{"clicks-per-page", "/", ms("2011-03-27 00:00:00"), ms("2011-03-27 02:00:00")}:                  {1, 2, 2, ""},
		{"order-velocity", "bob", ms("2011-03-27 12:00:00"), ms("2011-03-27 12:00:10")}:                 {1, 5, 5, ""},
		{"order-velocity", "bob", ms("2011-03-27 11:59:59"), ms("2011-03-27 12:00:09")}:                 {}, // four
		{"customer-sessions", "ann", ms("2011-03-27 03:00:00"), ms("2011-03-27 03:30:00")}:              {1, 1, 1, ""},
		{"units-per-sku", "", ms("2011-03-27 12:01:00"), ms("2011-03-27 12:06:00")}:                     {},
		{"units-per-sku", "", ms("2011-03-27 11:56:00"), ms("2011-03-27 12:01:00")}:                     {1, 5, 5, "A=5;"},
		{"clicks-per-page", "/", ms("2011-03-26 23:00:00"), ms("2011-03-27 00:00:00")}:                  {},
		{"revenue-per-day", "GBP", ms("2011-03-27 00:00:00"), ms("2011-03-27 00:00:00") + 24*3_600_000}: {},
		{"customer-sessions", "bob", ms("2011-03-27 12:00:00"), ms("2011-03-27 12:30:09")}:              {1, 5, 5, ""},
		{"order-velocity", "ann", ms("2011-03-27 03:00:00"), ms("2011-03-27 03:00:10")}:                 {},
		{"orders-per-minute", "", ms("2011-03-26 23:59:00"), ms("2011-03-27 00:00:00")}:                 {1, 1, 1, ""},
	} {
		if got[c] != want {
			t.Errorf("%+v: got %+v, want %+v", c, got[c], want)
		}
	}
	if n, text := differences(got, got); n != 0 {
		t.Errorf("differs from itself: %s", text)
	}
	other := maps.Clone(got)
	other[cell{query: "x"}] = answer{count: 1}
	delete(other, cell{"customer-sessions", "bob", ms("2011-03-27 12:00:00"), ms("2011-03-27 12:30:09")})
	if n, text := differences(other, got); n != 2 || !strings.Contains(text, "bob") {
		t.Errorf("%d differences: %s", n, text)
	}
}
