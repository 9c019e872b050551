package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/tidemark/tidemark/internal/check"
	"github.com/tidemark/tidemark/internal/natsconn"
)

type checkCmd struct {
	api             `embed:""`
	natsconn.Access `embed:""`

	NATS    string        `name:"nats" env:"TIDEMARK_NATS_URL" help:"NATS server (default: what the API says)."`
	Gateway string        `env:"TIDEMARK_GATEWAY_URL" help:"Payment gateway (default: the one of the API)."`
	Wait    time.Duration `default:"30s" help:"How long to wait until every group has read everything."`
	NoWait  bool          `help:"Judge at once, and only what must hold at every moment."`
	JSON    bool          `name:"json" help:"One object a line."`
}

// errBroken: the verb did its work, and what it was asked about is not so.
var errBroken = errors.New("an invariant is broken, or could not be checked")

// Run verifies the invariants and prints a line for each.
func (c *checkCmd) Run(a *app) error {
	token, err := c.token()
	if err != nil {
		return err
	}
	results, err := check.Run(a.ctx, check.Config{API: c.To, Token: token, NATS: c.NATS, Access: c.Access, Gateway: c.Gateway, Wait: c.Wait, NoWait: c.NoWait, Progress: a.stderr})
	if err != nil {
		return err
	}
	if c.JSON {
		for _, r := range results {
			if err := json.NewEncoder(a.stdout).Encode(r); err != nil {
				return err
			}
		}
	} else if err := printResults(a, results); err != nil {
		return err
	}
	if check.Broken(results) {
		return errBroken
	}
	return nil
}

func printResults(a *app, results []check.Result) error {
	w := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "INVARIANT\tHOLDS\tCOUNTED\tWAITING\tBROKEN\tWHAT")
	for _, r := range results {
		holds := "yes"
		if !r.OK() {
			holds = "NO"
		}
		fmt.Fprintf(w, "%d\t%s\t%d\t%d\t%d\t%s\n", r.Invariant, holds, r.Counted, r.Waiting, r.Broken, r.Name)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, r := range results {
		if r.First != "" {
			fmt.Fprintf(a.stdout, "  %d: %s\n", r.Invariant, r.First)
		}
		if r.Unchecked != "" {
			fmt.Fprintf(a.stdout, "  %d could not be checked: %s\n", r.Invariant, r.Unchecked)
		}
	}
	return nil
}
