package batch_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/e2e/batch"
)

// The batch is what everything else is compared with, so it is compared with what a person counted.
func TestBatchByHand(t *testing.T) {
	t.Parallel()
	at := func(clock string) time.Time {
		v, err := time.ParseInLocation("2006-01-02 15:04:05", clock, batch.London())
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	ms := func(clock string) int64 { return at(clock).UnixMilli() }
	order := func(clock, who string, total int64, units map[string]int64) batch.Fact {
		return batch.Fact{At: at(clock), Who: who, Total: total, Units: units}
	}
	got := batch.Of([]batch.Fact{
		order("2011-03-26 23:59:30", "ann", 300, map[string]int64{"MUG": 1, "CUP": 2}),
		order("2011-03-27 03:00:00", "ann", 500, map[string]int64{"MUG": 5}), // the clock went from 1 to 2 am
		order("2011-03-27 03:29:59", batch.Guest+"1", 7, map[string]int64{"MUG": 1}),
		order("2011-03-27 03:29:59", batch.Guest+"2", 9, map[string]int64{"MUG": 1}),
		{At: at("2011-03-27 00:29:29"), Who: "ann", Page: "/"}, // just in her first visit
		{At: at("2011-03-27 00:59:29"), Who: "ann", Page: "/"}, // half an hour after that: another visit
		order("2011-03-27 12:00:00", "bob", 1, map[string]int64{"A": 1}), order("2011-03-27 12:00:00", "bob", 1, map[string]int64{"A": 1}),
		order("2011-03-27 12:00:00", "bob", 1, map[string]int64{"A": 1}), order("2011-03-27 12:00:00", "bob", 1, map[string]int64{"A": 1}),
		order("2011-03-27 12:00:09", "bob", 1, map[string]int64{"A": 1}),
	})
	for c, want := range map[batch.Cell]batch.Answer{
		{Query: "revenue-per-day", Key: "GBP", Start: ms("2011-03-26 00:00:00"), End: ms("2011-03-27 00:00:00")}:                {Windows: 1, Count: 1, Value: 300, Top: ""},
		{Query: "revenue-per-day", Key: "GBP", Start: ms("2011-03-27 00:00:00"), End: ms("2011-03-27 00:00:00") + 23*3_600_000}: {Windows: 1, Count: 8, Value: 521, Top: ""},
		{Query: "orders-per-minute", Key: "", Start: ms("2011-03-27 03:29:00"), End: ms("2011-03-27 03:30:00")}:                 {Windows: 1, Count: 2, Value: 2, Top: ""},
		{Query: "revenue-per-minute", Key: "GBP", Start: ms("2011-03-27 03:29:00"), End: ms("2011-03-27 03:30:00")}:             {Windows: 1, Count: 2, Value: 16, Top: ""},
		{Query: "units-per-sku", Key: "", Start: ms("2011-03-26 23:55:00"), End: ms("2011-03-27 00:00:00")}:                     {Windows: 1, Count: 1, Value: 3, Top: "CUP=2;MUG=1;"},
		{Query: "units-per-sku", Key: "", Start: ms("2011-03-27 03:29:00"), End: ms("2011-03-27 03:34:00")}:                     {Windows: 1, Count: 2, Value: 2, Top: "MUG=2;"},
		{Query: "customer-sessions", Key: "ann", Start: ms("2011-03-26 23:59:30"), End: ms("2011-03-27 00:59:29")}:              {Windows: 1, Count: 2, Value: 2, Top: ""},
		{Query: "customer-sessions", Key: "ann", Start: ms("2011-03-27 00:59:29"), End: ms("2011-03-27 00:59:29") + 30*60_000}:  {Windows: 1, Count: 1, Value: 1, Top: ""},
		{Query: "customer-sessions", Key: batch.Guest, Start: ms("2011-03-27 03:29:59"), End: ms("2011-03-27 03:59:59")}:        {Windows: 2, Count: 2, Value: 2, Top: ""},
		{Query: "clicks-per-page", Key: "/", Start: ms("2011-03-27 00:00:00"), End: ms("2011-03-27 02:00:00")}:                  {Windows: 1, Count: 2, Value: 2, Top: ""},
		{Query: "order-velocity", Key: "bob", Start: ms("2011-03-27 12:00:00"), End: ms("2011-03-27 12:00:10")}:                 {Windows: 1, Count: 5, Value: 5, Top: ""},
		{Query: "order-velocity", Key: "bob", Start: ms("2011-03-27 11:59:59"), End: ms("2011-03-27 12:00:09")}:                 {}, // four
		{Query: "customer-sessions", Key: "ann", Start: ms("2011-03-27 03:00:00"), End: ms("2011-03-27 03:30:00")}:              {Windows: 1, Count: 1, Value: 1, Top: ""},
		{Query: "units-per-sku", Key: "", Start: ms("2011-03-27 12:01:00"), End: ms("2011-03-27 12:06:00")}:                     {},
		{Query: "units-per-sku", Key: "", Start: ms("2011-03-27 11:56:00"), End: ms("2011-03-27 12:01:00")}:                     {Windows: 1, Count: 5, Value: 5, Top: "A=5;"},
		{Query: "clicks-per-page", Key: "/", Start: ms("2011-03-26 23:00:00"), End: ms("2011-03-27 00:00:00")}:                  {},
		{Query: "revenue-per-day", Key: "GBP", Start: ms("2011-03-27 00:00:00"), End: ms("2011-03-27 00:00:00") + 24*3_600_000}: {},
		{Query: "customer-sessions", Key: "bob", Start: ms("2011-03-27 12:00:00"), End: ms("2011-03-27 12:30:09")}:              {Windows: 1, Count: 5, Value: 5, Top: ""},
		{Query: "order-velocity", Key: "ann", Start: ms("2011-03-27 03:00:00"), End: ms("2011-03-27 03:00:10")}:                 {},
		{Query: "orders-per-minute", Key: "", Start: ms("2011-03-26 23:59:00"), End: ms("2011-03-27 00:00:00")}:                 {Windows: 1, Count: 1, Value: 1, Top: ""},
	} {
		if got[c] != want {
			t.Errorf("%+v: got %+v, want %+v", c, got[c], want)
		}
	}
	if n, text := batch.Differences(got, got); n != 0 {
		t.Errorf("differs from itself: %s", text)
	}
	other := maps.Clone(got)
	other[batch.Cell{Query: "x"}] = batch.Answer{Count: 1}
	delete(other, batch.Cell{Query: "customer-sessions", Key: "bob", Start: ms("2011-03-27 12:00:00"), End: ms("2011-03-27 12:30:09")})
	if n, text := batch.Differences(other, got); n != 2 || !strings.Contains(text, "bob") {
		t.Errorf("%d differences: %s", n, text)
	}
}
