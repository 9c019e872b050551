package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tidemark/tidemark/internal/program"
)

type latencyCmd struct {
	Rate int           `default:"200" help:"Orders a second."`
	For  time.Duration `default:"30s" help:"How long."`
}

// Run places orders at a fixed pace, whatever the answers take, and prints the times from when each was due until it was confirmed. Counting from the due time
// keeps a stall from hiding the orders that it delayed.
func (c *latencyCmd) Run(b *bench) error {
	program.SpendMemory() // as the services' programs do
	r, err := newRig(b.ctx, false)
	if err != nil {
		return err
	}
	defer r.close()
	if _, err := r.driver.run(b.ctx, 500, 64); err != nil {
		return err
	}
	times, err := c.measure(b.ctx, r.driver)
	if err != nil {
		return err
	}
	b.say("placed to confirmed at %d orders/s for %s: p50 %.1f ms, p99 %.1f ms, highest %.1f ms (%d orders)", c.Rate, c.For,
		ms(times[len(times)/2]), ms(times[len(times)*99/100]), ms(times[len(times)-1]), len(times))
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (c *latencyCmd) measure(ctx context.Context, d *driver) ([]time.Duration, error) {
	n := int(c.For.Seconds()) * c.Rate
	type result struct {
		took time.Duration
		err  error
	}
	results := make(chan result, n)
	began := time.Now()
	for i := range n {
		due := began.Add(time.Duration(i) * time.Second / time.Duration(c.Rate))
		select {
		case <-time.After(time.Until(due)):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		go func() {
			err := d.place(ctx)
			results <- result{time.Since(due), err}
		}()
	}
	times := make([]time.Duration, 0, n)
	for range n {
		r := <-results
		if r.err != nil {
			return nil, fmt.Errorf("at %d orders/s: %w", c.Rate, r.err)
		}
		times = append(times, r.took)
	}
	slices.Sort(times)
	return times, nil
}
