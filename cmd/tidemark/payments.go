package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/tidemark/tidemark/internal/client"
	"github.com/tidemark/tidemark/internal/payments"
)

type paymentsCmd struct {
	api     `embed:""`
	Gateway string `env:"TIDEMARK_GATEWAY_URL" help:"Payment gateway (default: what the API says)."`
	Void    bool   `help:"Give the money back. An order that is sent again under such a key is rejected then."`
	JSON    bool   `name:"json" help:"One object a payment."`
}

// errOrphans: the verb did its work, and what it was asked about is not so.
var errOrphans = errors.New("there are payments that no order stands for; --void gives the money back")

// Run lists the payments that no order stands for.
func (c *paymentsCmd) Run(a *app) error {
	api, err := client.New(client.Config{URL: c.To, Patience: 2 * time.Second})
	if err != nil {
		return err
	}
	defer api.Close()
	if c.Gateway == "" {
		where, err := api.System(a.ctx)
		if err != nil {
			return fmt.Errorf("ask %s where the payment gateway is (or say it with --gateway): %w", c.To, err)
		}
		c.Gateway = where.Gateway
	}
	gateway, err := client.New(client.Config{URL: c.Gateway, Patience: 2 * time.Second})
	if err != nil {
		return err
	}
	defer gateway.Close()
	orphans, err := payments.Orphans(a.ctx, api, gateway)
	if err != nil {
		return err
	}
	for i := range orphans {
		if !c.Void {
			continue
		}
		if err := gateway.VoidPayment(a.ctx, orphans[i].Key); err != nil {
			return err
		}
		orphans[i].Voided = true
	}
	if err := c.print(a, orphans); err != nil {
		return err
	}
	if len(orphans) > 0 && !c.Void {
		return errOrphans
	}
	return nil
}

func (c *paymentsCmd) print(a *app, orphans []payments.Orphan) error {
	if c.JSON {
		for _, o := range orphans {
			if err := json.NewEncoder(a.stdout).Encode(o); err != nil {
				return err
			}
		}
		return nil
	}
	if len(orphans) == 0 {
		fmt.Fprintln(a.stdout, "every payment that is captured belongs to an order that is confirmed or open")
		return nil
	}
	w := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "ORDER\tIS\tPAYMENT\tAMOUNT\tCAPTURED\tVOIDED")
	for _, o := range orphans {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s %s\t%s\t%t\n", o.Key, o.Order, o.PaymentID, o.Amount, o.Currency, o.At.Format(time.RFC3339), o.Voided)
	}
	return w.Flush()
}
