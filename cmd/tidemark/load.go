package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/tidemark/tidemark/internal/load"
	"github.com/tidemark/tidemark/internal/natsconn"
	"github.com/tidemark/tidemark/internal/program"
)

type loadCmd struct {
	api             `embed:""`
	natsconn.Access `embed:""`

	CSV      string        `name:"csv" help:"Invoices, as .csv or .csv.gz; without it, orders and clicks are made up."`
	Stock    int64         `help:"Receive this many units of every SKU first; a second run adds none."`
	Speed    string        `default:"max" help:"How many times faster than the file, event times moved along; max keeps the file's times and sends as fast as it is answered."`
	Start    string        `help:"Repeat the run that started at this time (RFC 3339), with --speed X or made-up input."`
	Limit    int           `help:"End after this many invoices."`
	Wait     bool          `help:"End when every order has ended."`
	Rate     float64       `help:"Made-up input: events a second, one order to nine clicks."`
	For      time.Duration `help:"Made-up input: how long."`
	Seed     uint64        `default:"1" help:"Of made-up input and of delays: the same seed makes the same."`
	Poison   float64       `help:"Made-up input: share of the events that can't be processed, half of them orders whose mail is refused, half malformed clicks."`
	NATS     string        `name:"nats" env:"TIDEMARK_NATS_URL" help:"NATS server, which --poison and --twice go to past the API (default: what the API says)."`
	Twice    float64       `help:"Made-up input: share of the clicks that are stored twice under one id."`
	Late     bool          `help:"Send late: invoices in the order of their time and a random delay, made-up events dated earlier by it."`
	Stretch  float64       `name:"late-stretch" help:"How many times longer the delays of --late are; default 3600 for a file, 1 for made-up input."`
	InFlight int           `help:"Requests at once; default 64, but 1 for a file with --late at full speed."`
	JSON     bool          `name:"json" help:"One object on one line instead of a table."`
}

// Run feeds the API. Orders that are refused or rejected are results, not failures.
func (c *loadCmd) Run(a *app) error {
	token, err := c.token()
	if err != nil {
		return err
	}
	cfg := load.Config{
		API: c.To, Token: token, Access: c.Access, CSV: c.CSV, Stock: c.Stock, Speed: c.Speed, Limit: c.Limit, Wait: c.Wait,
		Rate: c.Rate, For: c.For, Seed: c.Seed, Poison: c.Poison, NATS: c.NATS, Twice: c.Twice, Late: c.Late, LateStretch: c.Stretch, InFlight: c.InFlight, JSON: c.JSON,
	}
	if c.Start != "" {
		start, err := time.Parse(time.RFC3339Nano, c.Start)
		if err != nil {
			return fmt.Errorf("%w: --start: %q is no RFC 3339 time", program.ErrUsage, c.Start)
		}
		cfg.Start = start
	}
	_, err = load.Run(a.ctx, cfg, a.stdout, a.stderr)
	if errors.Is(err, load.ErrUsage) {
		return fmt.Errorf("%w: %w", program.ErrUsage, err)
	}
	return err
}
