package main

import (
	"context"
	"fmt"
	"time"

	"github.com/tidemark/tidemark/internal/program"
)

type guaranteesCmd struct {
	N      int `default:"3000" help:"Orders a round."`
	Rounds int `default:"5" help:"Rounds of each step; they take turns."`
	Open   int `default:"256" help:"Orders that are open at once."`
}

// contender is one line of the table: what is done before a round, the round itself, and what is done behind it. Only the second is measured.
type contender struct {
	name  string
	open  func(ctx context.Context, round string) error
	work  func(ctx context.Context, round string) (time.Duration, error)
	stop  func(ctx context.Context) error
	close func()
}

// Run prints what each guarantee costs at the least: rounds of plain nats.go programs, each with one thing more than the one before, and of the services, which take turns on one nats-server.
func (c *guaranteesCmd) Run(b *bench) error {
	program.SpendMemory() // as the services' programs do
	r, err := newRig(b.ctx, false)
	if err != nil {
		return err
	}
	defer r.close()
	if _, err := r.driver.run(b.ctx, max(c.N/3, 1), c.Open); err != nil { // a warm-up, and events to take headers from
		return err
	}
	if err := r.plain.awaitQuiet(b.ctx); err != nil {
		return err
	}
	all, err := c.contenders(b.ctx, r)
	for i := range all {
		defer all[i].close()
	}
	if err != nil {
		return err
	}
	rows := make([][]round, len(all))
	for i := range c.Rounds + 1 {
		for k := range all {
			one, err := c.round(b.ctx, r, &all[k], fmt.Sprintf("%d%d", i, time.Now().Unix()))
			if err != nil {
				return fmt.Errorf("%s: %w", all[k].name, err)
			}
			if i > 0 { // the first is a warm-up
				rows[k] = append(rows[k], one)
			}
		}
	}
	c.report(b, all, rows)
	return nil
}

func (c *guaranteesCmd) round(ctx context.Context, r *rig, one *contender, name string) (round, error) {
	if err := one.open(ctx, name); err != nil {
		return round{}, err
	}
	result, err := r.timed(ctx, c.N, func() (time.Duration, error) { return one.work(ctx, name) })
	if err != nil {
		return round{}, err
	}
	return result, one.stop(ctx)
}

// contenders are the steps in their order, and Tidemark. Those that are there are to be closed, also with an error.
func (c *guaranteesCmd) contenders(ctx context.Context, r *rig) (all []contender, err error) {
	body, err := examplePayload()
	if err != nil {
		return nil, err
	}
	h, err := readHeaders(ctx, r.plain.js)
	if err != nil {
		return nil, err
	}
	for l := range levels {
		one, err := c.step(ctx, r, l, body, h)
		if err != nil {
			return all, fmt.Errorf("%s: %w", l, err)
		}
		all = append(all, one)
	}
	return append(all, contender{
		name: "Tidemark", open: func(context.Context, string) error { return nil }, stop: func(context.Context) error { return nil }, close: func() {},
		work: func(ctx context.Context, _ string) (time.Duration, error) { return r.driver.run(ctx, c.N, c.Open) },
	}), nil
}

func (c *guaranteesCmd) step(ctx context.Context, r *rig, l level, body []byte, h headers) (contender, error) {
	if l < levelPartitions {
		p, err := newPlainOrders(ctx, r.nats.url, "", body)
		if err != nil {
			return contender{}, err
		}
		if l >= levelHeaders {
			p.headers = h
		}
		open := func(ctx context.Context, round string) error { return p.open(ctx, round, c.N, c.Open) }
		return contender{name: l.String(), open: open, work: p.work, stop: func(context.Context) error { return p.stop() }, close: p.close}, nil
	}
	o, err := newBareOrders(ctx, r.nats.url, l, body, h)
	if err != nil {
		return contender{}, err
	}
	open := func(ctx context.Context, _ string) error { return o.open(ctx, c.N, c.Open) }
	if l < levelHTTP {
		work := func(ctx context.Context, _ string) (time.Duration, error) { return o.work(ctx) }
		return contender{name: l.String(), open: open, work: work, stop: o.stop, close: o.close}, nil
	}
	s, err := newBareShop(ctx, o)
	if err != nil {
		return contender{}, err
	}
	work := func(ctx context.Context, _ string) (time.Duration, error) { return s.work(ctx) }
	return contender{name: l.String(), open: open, work: work, stop: s.stop, close: s.close}, nil
}

// report prints the table, and how Tidemark compares with the last step.
func (c *guaranteesCmd) report(b *bench, all []contender, rows [][]round) {
	b.say("| step | orders/s (median of %d, lowest to highest) | CPU an order: client / nats-server | ratio to plain | what it adds |", c.Rounds)
	b.say("|---|---|---|---|---|")
	for k, one := range all {
		adds := ""
		if k > 0 {
			client, server := cost(rows[k], c.N)
			clientBefore, serverBefore := cost(rows[k-1], c.N)
			adds = fmt.Sprintf("%+.0f / %+.0f µs", client-clientBefore, server-serverBefore)
		}
		b.say("| %s | %s | %s | %.2f | %s |", one.name, spread(rows[k]), perOrder(rows[k], c.N), median(rows[k])/median(rows[0]), adds)
	}
	ours, floor := rows[len(rows)-1], rows[len(rows)-2]
	client, server := cost(ours, c.N)
	floorClient, floorServer := cost(floor, c.N)
	b.say("\nTidemark makes %.2f of the last step's rate, for %.2f times its CPU time: %.2f in the client, %.2f in nats-server.",
		median(ours)/median(floor), (client+server)/(floorClient+floorServer), client/floorClient, server/floorServer)
}
