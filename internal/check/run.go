package check

import (
	"context"
	"fmt"
	"time"
)

const (
	firstPause = 50 * time.Millisecond
	lastPause  = time.Second
)

// checker is one run.
type checker struct {
	cfg  Config
	sys  *system
	read *reader

	timelineTarget uint64 // in TIMELINE: what analytics must have read
	progress       string // what was told last
}

// safety judges what holds at any moment.
func (c *checker) safety(ctx context.Context) ([]Result, error) {
	if err := c.read.read(ctx); err != nil {
		return nil, err
	}
	return c.judgeSafety(ctx)
}

// all waits until the system is at rest, reads, and judges everything. What was read before the system moved again is kept: the next try reads what is new.
func (c *checker) all(ctx context.Context) ([]Result, error) {
	until := time.Now().Add(c.cfg.Wait)
	pause := firstPause
	for {
		results, why, err := c.try(ctx)
		if err != nil {
			return nil, err
		}
		if why == "" {
			return results, nil
		}
		if time.Now().Add(pause).After(until) {
			return c.restless(ctx, why)
		}
		c.tell(why)
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
		pause = min(pause*2, lastPause)
	}
}

// try judges everything, or says why it can't yet.
func (c *checker) try(ctx context.Context) (results []Result, why string, err error) {
	ends, why, err := c.atRest(ctx)
	if err != nil || why != "" {
		return nil, why, err
	}
	if err := c.read.read(ctx); err != nil {
		return nil, "", err
	}
	rest, why, err := c.observe(ctx, ends)
	if err != nil || why != "" {
		return nil, why, err
	}
	after, err := c.heads(ctx)
	if err != nil {
		return nil, "", err
	}
	if why := ends.moved(after); why != "" {
		return nil, why, nil
	}
	safe, err := c.judgeSafety(ctx)
	if err != nil {
		return nil, "", err
	}
	quiet, err := c.judgeRest(ctx, rest)
	if err != nil {
		return nil, "", err
	}
	return merge(safe, quiet), "", nil
}

// restless judges the safety invariants of a system that does not come to rest, and says of the others why not.
func (c *checker) restless(ctx context.Context, why string) ([]Result, error) {
	safe, err := c.safety(ctx)
	if err != nil {
		return nil, err
	}
	why = fmt.Sprintf("not at rest within %s: %s", c.cfg.Wait, why)
	var quiet []Result
	for _, n := range []int{2, 3, 5, 6, 7, 8, 11, 16} {
		quiet = append(quiet, Result{Invariant: n, Name: names[n], Unchecked: why})
	}
	return merge(safe, quiet), nil
}

// merge puts the results in order. Invariant 5 has a part of each kind: orders are counted once, what breaks is added.
func merge(safe, quiet []Result) []Result {
	by := map[int]Result{}
	for _, r := range append(safe, quiet...) {
		before, both := by[r.Invariant]
		if both {
			r.Counted = max(r.Counted, before.Counted)
			r.Waiting += before.Waiting
			r.Broken += before.Broken
			if before.First != "" {
				r.First = before.First
			}
		}
		by[r.Invariant] = r
	}
	var out []Result
	for n := 1; n < len(names); n++ {
		if r, ok := by[n]; ok {
			out = append(out, r)
		}
	}
	return out
}

func (c *checker) tell(why string) {
	if why == c.progress {
		return
	}
	c.progress = why
	_, _ = fmt.Fprintf(c.cfg.Progress, "waiting: %s\n", why) // only telling
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
