package main

import (
	"context"
	"fmt"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

type groupsCmd struct {
	N          int           `default:"20000" help:"Events a round."`
	Rounds     int           `default:"5" help:"Rounds of each; they take turns."`
	Partitions int           `default:"8" help:"Partitions of the group."`
	Idle       time.Duration `default:"10s" help:"How long to watch a group that has nothing to do."`
}

// Run prints what a consumer group costs over one plain consumer of nats.go that reads and acknowledges the same messages of the same stream, with handlers that do
// nothing; and what a group costs that has nothing to read.
func (c *groupsCmd) Run(b *bench) error {
	dir, remove, err := workDir()
	if err != nil {
		return err
	}
	defer remove()
	server, err := startNATS(b.ctx, dir)
	if err != nil {
		return err
	}
	defer server.stop()
	e, err := newEventRig(b.ctx, server, c.Partitions)
	if err != nil {
		return err
	}
	defer e.close()
	var ours, plain []round
	for i := range c.Rounds + 1 {
		mine, theirs, err := c.round(b.ctx, e)
		if err != nil {
			return err
		}
		if i > 0 { // the first is a warm-up
			ours, plain = append(ours, mine), append(plain, theirs)
		}
	}
	b.say("| reader | events/s (median of %d) | CPU an event: client / nats-server | ratio to plain |", c.Rounds)
	b.say("|---|---|---|---|")
	b.say("| group, %d partitions | %s | %s | %.2f |", c.Partitions, spread(ours), perOrder(ours, c.N), median(ours)/median(plain))
	b.say("| one plain consumer | %s | %s | 1 |", spread(plain), perOrder(plain, c.N))
	return c.idle(b, e)
}

// round lets both read the same new events.
func (c *groupsCmd) round(ctx context.Context, e *eventRig) (ours, plain round, err error) {
	if err := e.fillOurs(ctx, c.N); err != nil {
		return ours, plain, err
	}
	m := newMeter(c.N, e.server)
	if err := e.consumeOurs(ctx, m); err != nil {
		return ours, plain, err
	}
	ours, m = m.result, newMeter(c.N, e.server)
	err = e.consumePlain(ctx, m, events.StreamOrders)
	return ours, m.result, err
}

// idle measures a member that has nothing to do, over a process without one.
func (c *groupsCmd) idle(b *bench, e *eventRig) error {
	use := func(run func(context.Context) error) (cpu, error) {
		ctx, cancel := context.WithTimeout(b.ctx, c.Idle)
		defer cancel()
		before := cpuNow(e.server.cmd.Process.Pid)
		err := run(ctx)
		return cpuNow(e.server.cmd.Process.Pid).since(before), err
	}
	without, err := use(func(ctx context.Context) error { <-ctx.Done(); return nil })
	if err != nil {
		return err
	}
	with, err := use(func(ctx context.Context) error {
		group, err := bus.NewGroup(bus.GroupConfig{Group: e.group, Handler: func(context.Context, bus.Delivery) error { return nil }}, e.deps)
		if err != nil {
			return fmt.Errorf("idle group: %w", err)
		}
		return group.Run(ctx)
	})
	if err != nil {
		return err
	}
	percent := func(d time.Duration) float64 { return 100 * d.Seconds() / c.Idle.Seconds() }
	b.say("\nA member of the group that has nothing to do uses %.2f %% of a core, and %.2f %% in nats-server.", percent(with.self-without.self), percent(with.other-without.other))
	return nil
}
