package nexmark_test

import (
	"encoding/json"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/tidemark/tidemark/bench/nexmark"
	"github.com/tidemark/tidemark/pkg/events"
)

// The proportions and ranges of Nexmark, by counting.
func TestEventsAreAsNexmarkSays(t *testing.T) {
	t.Parallel()
	c := nexmark.Default(small)
	kinds := make(map[nexmark.Kind]int)
	var hotAuction, hotBidder, hotSeller int
	var lastPerson, lastAuction int64 = 999, 999
	for n := range int64(small) {
		e := c.Event(n)
		if e != c.Event(n) {
			t.Fatalf("event %d is not the same twice", n)
		}
		kinds[e.Kind]++
		hotPerson, hotItem := max(lastPerson-1000, 0)/100*100+1000, max(lastAuction-1000, 0)/100*100+1000
		switch e.Kind {
		case nexmark.Person:
			if lastPerson++; e.Person != lastPerson {
				t.Fatalf("event %d signs up person %d, want %d", n, e.Person, lastPerson)
			}
			continue
		case nexmark.Auction:
			if lastAuction++; e.Auction != lastAuction {
				t.Fatalf("event %d opens auction %d, want %d", n, e.Auction, lastAuction)
			}
			if e.Person == hotPerson {
				hotSeller++
			}
			if e.Expires <= e.Time || e.Reserve <= e.Price {
				t.Fatalf("event %d: %+v", n, e)
			}
		case nexmark.Bid:
			if e.Auction == hotItem {
				hotAuction++
			}
			if e.Person == hotPerson+1 {
				hotBidder++
			}
			if e.Auction < lastAuction-100 || e.Auction > lastAuction+10 {
				if e.Auction != hotItem {
					t.Fatalf("event %d bids for %d when %d is the last", n, e.Auction, lastAuction)
				}
			}
		}
		if e.Person < lastPerson-1000 || e.Person > lastPerson+10 {
			t.Fatalf("event %d is of person %d when %d is the last", n, e.Person, lastPerson)
		}
	}
	if kinds[nexmark.Person] != small/50 || kinds[nexmark.Auction] != 3*small/50 || kinds[nexmark.Bid] != 46*small/50 {
		t.Errorf("of 50 events 1, 3 and 46 are expected: %v", kinds)
	}
	near := func(what string, got int, of nexmark.Kind, want float64) {
		if share := float64(got) / float64(kinds[of]); math.Abs(share-want) > 0.02 {
			t.Errorf("%s: %.3f, want %.3f and a few by chance", what, share, want)
		}
	}
	near("hot auctions", hotAuction, nexmark.Bid, 0.5)
	near("hot bidders", hotBidder, nexmark.Bid, 0.75)
	near("hot sellers", hotSeller, nexmark.Auction, 0.75)
}

// Payloads have the mean sizes of Nexmark, keep to their schemas, and are read back.
func TestPayloads(t *testing.T) {
	t.Parallel()
	registry, err := events.NewRegistry(nexmark.Schemas())
	if err != nil {
		t.Fatal(err)
	}
	c := nexmark.Default(small)
	sum, n := make(map[nexmark.Kind]int), make(map[nexmark.Kind]int)
	for i := range int64(5000) {
		e := c.Event(i)
		data := c.AppendPayload(nil, &e)
		if err := registry.Validate(&events.Event{Type: e.Kind.Type(), DataContentType: "application/json", Data: data}); err != nil {
			t.Fatal(err)
		}
		var p nexmark.Payload
		if err := json.Unmarshal(data, &p); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		got, err := p.Event(e.Kind.Type())
		if err != nil || got.Kind != e.Kind || got.Person != e.Person || got.Auction != e.Auction || got.Price != e.Price {
			t.Fatalf("%+v, %v; want %+v", got, err, e)
		}
		sum[e.Kind] += len(data)
		n[e.Kind]++
	}
	for kind, want := range map[nexmark.Kind]int{nexmark.Person: 200, nexmark.Auction: 500, nexmark.Bid: 100} {
		if mean := sum[kind] / n[kind]; mean < want*9/10 || mean > want*11/10 {
			t.Errorf("%s: %d bytes, want about %d", kind.Type(), mean, want)
		}
	}
}

// Every event is sent, some twice, a few misdated; the delays have the quantiles of the mixture; the last partition falls silent.
func TestLog(t *testing.T) {
	t.Parallel()
	c := nexmark.Default(500_000)
	log := c.Log()
	if !slices.Equal(log, c.Log()) {
		t.Fatal("not the same twice")
	}
	times := make(map[int64]int)
	copies, misdated, silentSince := 0, 0, 0
	reached := int64(math.MinInt64)
	var disorder []int64
	for i, d := range log {
		times[d.Number]++
		if d.Copy {
			copies++
		}
		if d.Partition == c.Partitions-1 {
			silentSince = i
		}
		if e := c.Event(d.Number); d.Time > e.Time && d.Number < int64(c.Events) {
			misdated++
			continue
		}
		reached = max(reached, d.Time)
		if !d.Copy {
			disorder = append(disorder, reached-d.Time)
		}
	}
	for n := range int64(c.Events) {
		if times[n] < 1 || times[n] > 2 {
			t.Fatalf("event %d is sent %d times", n, times[n])
		}
	}
	slices.Sort(disorder)
	quantile := func(q float64) time.Duration {
		return time.Duration(disorder[int(q*float64(len(disorder)))]) * time.Millisecond
	}
	for _, c := range []struct {
		what        string
		got         float64
		least, most float64
	}{
		{"copies, %", 100 * float64(copies) / 500_000, 0.95, 1.05},
		{"misdated", float64(misdated), 1, 15},
		{"place of the last event of the silent partition, %", 100 * float64(silentSince) / 500_000, 0.9, 1.1},
		{"disorder, 90 %, s", quantile(0.9).Seconds(), 0.3, 1.2},
		{"disorder, 99 %, s", quantile(0.99).Seconds(), 9, 14},
		{"disorder, 99.9 %, s", quantile(0.999).Seconds(), 50, 90},
	} {
		if c.got < c.least || c.got > c.most {
			t.Errorf("%s: %.2f, want %.2f to %.2f", c.what, c.got, c.least, c.most)
		}
	}
}
