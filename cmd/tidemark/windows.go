package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tidemark/tidemark/internal/client"
	"github.com/tidemark/tidemark/internal/program"
	"github.com/tidemark/tidemark/pkg/events"
)

type windowsCmd struct {
	api   `embed:""`
	Query string    `default:"orders-per-minute" help:"Name of the query: orders-per-minute, revenue-per-minute, units-per-sku, customer-sessions, clicks-per-page, order-velocity or revenue-per-day."`
	Key   *string   `help:"Windows of this key only, such as a currency, a customer or a page."`
	From  time.Time `help:"Windows that start then or later (RFC 3339)."`
	Until time.Time `help:"Windows that start before then (RFC 3339)."`
	Watch bool      `help:"Show results as they come out, until it is interrupted."`
	JSON  bool      `name:"json" help:"One object a line."`
}

// Run lists the windows of a query and, on stderr, how many events came too late for theirs.
func (c *windowsCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	if c.Watch {
		return c.watch(a, cl)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	if !c.JSON {
		fmt.Fprintln(w, "START\tEND\tKEY\tVALUE\tEVENTS\tREVISION\tTIMING\tTOP")
	}
	for v, err := range cl.Windows(a.ctx, client.WindowFilter{Query: c.Query, Key: c.Key, From: c.From, To: c.Until}) {
		if err != nil {
			return err
		}
		if c.JSON {
			if err := json.NewEncoder(a.stdout).Encode(v); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\n", v.Start.Format(time.DateTime), v.End.Format(time.DateTime), v.Key, v.Value, v.Count, v.Revision, v.Timing, ranks(v.Top))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	projection, err := cl.Projection(a.ctx, "windows")
	if err != nil {
		return err
	}
	for _, q := range projection.Queries {
		if q.Query == c.Query {
			fmt.Fprintf(a.stderr, "%d events read: %d counted, %d late, %d duplicates, %d unreadable\n", q.Read, q.Counted, q.Late, q.Duplicates, q.Unreadable)
		}
	}
	return nil
}

// watch shows results as they come out. A stream that breaks off is taken up again behind the last one.
func (c *windowsCmd) watch(a *app, cl *client.Client) error {
	if !c.From.IsZero() || !c.Until.IsZero() {
		return fmt.Errorf("%w: --from and --until are of a listing, --watch shows what comes", program.ErrUsage)
	}
	const row = "%-19s  %-19s  %-20s  %10v  %8v  %8v  %-8s  %s\n"
	if !c.JSON {
		fmt.Fprintf(a.stdout, row, "START", "END", "KEY", "VALUE", "EVENTS", "REVISION", "TIMING", "TOP")
	}
	err := cl.WatchWindows(a.ctx, client.WindowFilter{Query: c.Query, Key: c.Key}, func(v client.Window) error {
		if c.JSON {
			return json.NewEncoder(a.stdout).Encode(v)
		}
		_, err := fmt.Fprintf(a.stdout, row, v.Start.Format(time.DateTime), v.End.Format(time.DateTime), v.Key, v.Value, v.Count, v.Revision, v.Timing, ranks(v.Top))
		return err
	}, func(err error) { fmt.Fprintf(a.stderr, "%v: going on behind the last result\n", err) })
	if errors.Is(err, context.Canceled) {
		return nil // interrupted, as it is meant to be
	}
	return err
}

// ranks are the first of a ranking, short.
func ranks(top []events.Rank) string {
	const most = 3
	var b strings.Builder
	for i, r := range top {
		if i == most {
			b.WriteString(" …")
			break
		}
		if i > 0 {
			b.WriteString(" ")
		}
		fmt.Fprintf(&b, "%s=%d", r.Item, r.Value)
	}
	return b.String()
}
