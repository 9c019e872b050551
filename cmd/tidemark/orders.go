package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tidemark/tidemark/internal/client"
	"github.com/tidemark/tidemark/internal/journey"
	"github.com/tidemark/tidemark/internal/program"
)

// api is the flag of verbs that talk to the API.
type api struct {
	To        string `name:"to" env:"TIDEMARK_URL" default:"http://127.0.0.1:8080" help:"Address of the API."`
	TokenFile string `env:"TIDEMARK_TOKEN_FILE" help:"File with the token that the API asks for; TIDEMARK_TOKEN can hold the token itself."`
}

func (f api) client() (*client.Client, error) {
	token, err := f.token()
	if err != nil {
		return nil, err
	}
	return client.New(client.Config{URL: f.To, Token: token})
}

// token is what the API asks for. The token itself comes by a variable, not by a flag: everybody on the machine sees a command line.
func (f api) token() (client.Token, error) {
	token := os.Getenv("TIDEMARK_TOKEN")
	switch {
	case token != "" && f.TokenFile != "":
		return nil, fmt.Errorf("%w: TIDEMARK_TOKEN and TIDEMARK_TOKEN_FILE (--token-file): give one", program.ErrUsage)
	case f.TokenFile != "":
		return client.FileToken(f.TokenFile), nil
	}
	return client.FixedToken(token), nil
}

type ordersCmd struct {
	List   ordersListCmd   `cmd:"" help:"List orders, oldest first."`
	Show   ordersShowCmd   `cmd:"" help:"Show one order."`
	Trace  ordersTraceCmd  `cmd:"" help:"Show an order's journey from the logs: every event, dead letter and wait."`
	Events ordersEventsCmd `cmd:"" help:"Show what happened to one order."`
	Cancel ordersCancelCmd `cmd:"" help:"Cancel an order that has not ended."`
}

type ordersListCmd struct {
	api      `embed:""`
	Customer string `help:"Only this customer's."`
	Status   string `help:"Only these: placed, reserved, confirmed, rejected or cancelled."`
	JSON     bool   `name:"json" help:"One object a line."`
}

// Run lists all orders that match.
func (c *ordersListCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	w := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	if !c.JSON {
		fmt.Fprintln(w, "ORDER\tSTATUS\tREASON\tCUSTOMER\tTOTAL\tPLACED")
	}
	for o, err := range cl.Orders(a.ctx, client.OrderFilter{Customer: c.Customer, Status: c.Status}) {
		if err != nil {
			return err
		}
		if c.JSON {
			if err := json.NewEncoder(a.stdout).Encode(o); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s %s\t%s\n", o.ID, o.Status, o.Reason, o.Customer, o.Total, o.Currency, o.PlacedAt.Format(time.DateTime))
	}
	return w.Flush()
}

type ordersShowCmd struct {
	api        `embed:""`
	jaegerLink `embed:""`
	ID         string `arg:"" help:"The order's id."`
	AsOf       string `placeholder:"TIME|VERSION" help:"The order as it was: at a version, or at a time such as 2026-01-02T15:04:05Z."`
	JSON       bool   `name:"json" help:"One object on one line."`
}

// Run shows one order with its lines, as it is or as it was.
func (c *ordersShowCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	show := cl.Order
	if c.AsOf != "" {
		show = func(ctx context.Context, id string) (client.Order, error) { return cl.OrderAsOf(ctx, id, c.AsOf) }
	}
	o, err := show(a.ctx, c.ID)
	if err != nil {
		return err
	}
	evs, err := cl.OrderEvents(a.ctx, c.ID)
	if err != nil {
		return err
	}
	trace := journey.TraceID(evs[0].Trace)
	if c.JSON {
		return json.NewEncoder(a.stdout).Encode(struct {
			client.Order
			Trace  string `json:"trace_id,omitempty"`
			Jaeger string `json:"jaeger,omitempty"`
		}{o, trace, c.link(trace)})
	}
	if err := printOrder(a, o, false); err != nil || trace == "" {
		return err
	}
	_, err = fmt.Fprintln(a.stdout, strings.TrimSpace("trace     "+trace+"  "+c.link(trace)))
	return err
}

// jaegerLink is the flag of verbs that name a trace.
type jaegerLink struct {
	JaegerURL string `name:"jaeger" env:"TIDEMARK_JAEGER_URL" placeholder:"URL" help:"Address of Jaeger, to make links of traces."`
}

func (j jaegerLink) link(trace string) string { return journey.Link(j.JaegerURL, trace) }

func printOrder(a *app, o client.Order, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(a.stdout).Encode(o)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	for _, row := range [][2]string{
		{"order", o.ID}, {"status", o.Status}, {"reason", o.Reason}, {"customer", o.Customer}, {"total", o.Total + " " + o.Currency},
		{"placed", o.PlacedAt.Format(time.DateTime)}, {"updated", o.UpdatedAt.Format(time.DateTime)}, {"version", strconv.FormatUint(o.Version, 10)},
	} {
		if row[1] != "" {
			fmt.Fprintf(w, "%s\t%s\n", row[0], row[1])
		}
	}
	if o.AsOf != nil {
		fmt.Fprintf(w, "as of\t%s %d, %s, stored %s\n", o.AsOf.Stream, o.AsOf.Sequence, o.AsOf.Type, o.AsOf.StoredAt.Format(time.RFC3339Nano))
	}
	for _, l := range o.Lines {
		fmt.Fprintf(w, "  %d x %s\tat %s\n", l.Quantity, l.SKU, l.UnitPrice)
	}
	return w.Flush()
}

type ordersEventsCmd struct {
	api  `embed:""`
	ID   string `arg:"" help:"The order's id."`
	JSON bool   `name:"json" help:"One object a line."`
}

// Run shows the events as they are stored.
func (c *ordersEventsCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	evs, err := cl.OrderEvents(a.ctx, c.ID)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	if !c.JSON {
		fmt.Fprintln(w, "STREAM\tSEQUENCE\tVERSION\tTYPE\tEVENT TIME\tSTORED\tDATA")
	}
	for _, e := range evs {
		if c.JSON {
			if err := json.NewEncoder(a.stdout).Encode(e); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\t%s\n", e.Stream, e.Sequence, e.Version, e.Type, e.Time.Format(time.RFC3339), e.StoredAt.Format(time.RFC3339Nano), e.Data)
	}
	return w.Flush()
}

type ordersCancelCmd struct {
	api    `embed:""`
	ID     string `arg:"" help:"The order's id."`
	Reason string `help:"Why, in the customer's words."`
	JSON   bool   `name:"json" help:"One object on one line."`
}

// Run cancels the order; one that has ended otherwise can't be cancelled any more.
func (c *ordersCancelCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	o, err := cl.CancelOrder(a.ctx, c.ID, c.Reason)
	if err != nil {
		return err
	}
	return printOrder(a, o, c.JSON)
}
