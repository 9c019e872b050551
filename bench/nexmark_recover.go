package main

import (
	"fmt"
	"syscall"
	"time"

	"github.com/tidemark/tidemark/services/analytics"
)

type recoverCmd struct {
	Events int            `default:"2000000" help:"In the log; some are sent twice."`
	Rate   float64        `default:"10000" help:"Messages a second."`
	Mode   analytics.Mode `default:"per-event" help:"per-event, or how long results are gathered."`
}

// Run kills analytics when half of the log is due, starts it again at once, and prints how long it took until something new came out, and until nothing was left to catch up with.
// At the end everything must be as if nothing had happened.
func (c *recoverCmd) Run(b *bench) error {
	x, err := expect(c.Events, nil)
	if err != nil {
		return err
	}
	r := &nexmarkRun{b: b, x: x, by: counter{mode: c.Mode}, rate: c.Rate}
	defer r.close()
	if err := r.open(); err != nil {
		return err
	}
	failed := make(chan error, 1)
	r.during = func() { failed <- c.kill(b, r) }
	f, err := r.measure()
	if err != nil {
		return err
	}
	if err := <-failed; err != nil {
		return err
	}
	b.say("%d events, %s: results, late events and duplicates are as the digest says; %d results, backlog at most %d", c.Events, f.Mode, f.Results, highestOf(f.Backlog))
	return nil
}

// kill does it, and watches.
func (c *recoverCmd) kill(b *bench, r *nexmarkRun) error {
	if err := until(b.ctx, r.due(len(r.x.log)/2)); err != nil {
		return err
	}
	if err := r.analytics.Process.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	killed := time.Now()
	_ = r.analytics.Wait() // it was killed
	if err := r.serve(); err != nil {
		return err
	}
	ready := time.Since(killed)
	caughtUp := int(c.Rate / 50) // messages of 20 ms: what is on its way at any time
	for {
		n, err := r.to.backlog(b.ctx, r.by)
		if err != nil {
			return err
		}
		if n <= caughtUp {
			break
		}
		if time.Since(killed) > 5*time.Minute {
			return fmt.Errorf("still %d messages behind after %s", n, time.Since(killed))
		}
		if err := until(b.ctx, time.Now().Add(50*time.Millisecond)); err != nil {
			return err
		}
	}
	zero := time.Since(killed)
	first, ok := r.results.firstAfter(killed)
	b.say("killed at half of the run, %.0f messages a second, started again at once: ready after %.1f s, the first new result after %.1f s (%t), no lag after %.1f s",
		c.Rate, ready.Seconds(), first.Sub(killed).Seconds(), ok, zero.Seconds())
	return nil
}

func highestOf(all []int) int {
	highest := 0
	for _, n := range all {
		highest = max(highest, n)
	}
	return highest
}
