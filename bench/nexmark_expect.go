package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/tidemark/tidemark/bench/nexmark"
)

// expectation is what has to come out of a workload, and when each window may come out at the earliest.
type expectation struct {
	cfg     nexmark.Config
	log     []nexmark.Delivery
	queries []nexmark.Query
	digests map[string]nexmark.Digest
	first   map[string]map[nexmark.Place]int // the delivery that makes a window come out
}

// expect uses the stored digests. Where a size has none, the same oracle computes them now.
func expect(events int, names []string) (*expectation, error) {
	x := &expectation{cfg: nexmark.Default(events), first: make(map[string]map[nexmark.Place]int)}
	if err := x.cfg.Validate(); err != nil {
		return nil, err
	}
	x.log = x.cfg.Log()
	all, err := nexmark.StoredDigests()
	if err != nil {
		return nil, err
	}
	if x.digests = all[events]; x.digests == nil {
		x.digests = x.cfg.ComputeDigests()
	}
	stored := x.cfg.Stored(x.log)
	for _, q := range nexmark.Queries() {
		if len(names) > 0 && !slices.Contains(names, q.Name) {
			continue
		}
		x.queries = append(x.queries, q)
		if q.StoreTime {
			continue
		}
		s, err := x.cfg.Stream(&q, x.log, stored, 0)
		if err != nil {
			return nil, err
		}
		x.first[q.Name] = s.First
	}
	return x, nil
}

// check compares everything that came out with what is right.
func (x *expectation) check(ctx context.Context, c *client, o *outcome, stamps []stampOf) error {
	duplicates, err := c.duplicates(ctx)
	if err != nil {
		return err
	}
	for _, q := range x.queries {
		want, ended := x.digests[q.Name], int64(math.MaxInt64)
		if q.StoreTime {
			a := x.cfg.Batch(&q, x.log, storedOf(stamps))
			want, ended = a.Digest(), a.Ended
		}
		got := o.digest(q.Name, ended)
		if got.Results != want.Results || got.Late != want.Late || duplicates[q.Name] != want.Duplicates.N {
			return fmt.Errorf("%w: %s: results %+v, late %+v, %d duplicates; right are %+v, %+v and %d", errRunVoid, q.Name,
				got.Results, got.Late, duplicates[q.Name], want.Results, want.Late, want.Duplicates.N)
		}
	}
	return nil
}

// emission is how long after the message that made it so each window came out first, by query.
func (x *expectation) emission(o *outcome, stamps []stampOf, due func(place int) time.Time) emissions {
	e := emissions{by: map[string]latencies{all: newLatencies(), few: newLatencies()}}
	for _, q := range x.queries {
		e.by[q.Name] = newLatencies()
		together := make(map[int][]time.Duration) // by the message that made them come out
		for at, s := range o.first[q.Name] {
			place, known := x.first[q.Name][at]
			if q.StoreTime {
				place, known = placeOf(stamps, s.sequence)
			}
			if known && place >= len(x.log)*warmUp/100 && place < x.cfg.Closing(x.log) {
				together[place] = append(together[place], s.at.Sub(due(place)))
			}
		}
		for _, results := range together {
			e.note(q.Name, results)
		}
	}
	return e
}

// emissions are the latencies by query, and of all together.
type emissions struct {
	by   map[string]latencies
	most int // results of one query that came out at one message
}

// all are the results of all queries together; few are those of them that did not come out together with many.
const (
	all  = "all"
	few  = "few"
	many = 100 // results of a query at one message: publishing them is what takes the time
)

func (e *emissions) note(query string, together []time.Duration) {
	e.most = max(e.most, len(together))
	for _, took := range together {
		e.by[all].note(took)
		e.by[query].note(took)
		if len(together) <= many {
			e.by[few].note(took)
		}
	}
}

// warmUp is the share of a run, in percent, whose results are not measured. In it the silent partition is found out to be silent, which takes the time that it takes. What
// the last messages of the log make come out is not measured either: they end all windows at once.
const warmUp = 15

// stamps are the deliveries as TIMELINE has them. All must be there, in their order.
func (x *expectation) stamps(ctx context.Context, c *client) ([]stampOf, error) {
	stamps, err := c.timeline(ctx)
	if err != nil {
		return nil, err
	}
	if len(stamps) != len(x.log) {
		return nil, fmt.Errorf("%w: TIMELINE has %d events, %d were sent", errRunVoid, len(stamps), len(x.log))
	}
	for i := range stamps {
		if stamps[i].place != i {
			return nil, fmt.Errorf("%w: TIMELINE has event %d of the log in place %d", errRunVoid, stamps[i].place, i)
		}
	}
	return stamps, nil
}

func storedOf(stamps []stampOf) []int64 {
	all := make([]int64, len(stamps))
	for i := range stamps {
		all[i] = stamps[i].stored
	}
	return all
}

func placeOf(stamps []stampOf, sequence uint64) (int, bool) {
	return slices.BinarySearchFunc(stamps, sequence, func(s stampOf, sequence uint64) int { return cmp.Compare(s.sequence, sequence) })
}
