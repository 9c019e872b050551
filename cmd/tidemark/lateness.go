package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/tidemark/tidemark/internal/client"
	"github.com/tidemark/tidemark/internal/program"
)

type latenessCmd struct {
	api    `embed:""`
	Query  string    `help:"Of this query only."`
	Target []float64 `default:"0.99,0.9999" help:"Wanted shares of events: in a result when it comes out first, and before its window is gone."`
	JSON   bool      `name:"json" help:"One object a line, a query each."`
}

// Run shows how late events are, and what bound and allowed lateness that calls for. It changes nothing.
func (c *latenessCmd) Run(a *app) error {
	if len(c.Target) != 2 {
		return fmt.Errorf("%w: --target: must be two shares such as 0.99,0.9999, are %d", program.ErrUsage, len(c.Target))
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	all, err := cl.Lateness(a.ctx, c.Query, client.LatenessTarget{OnTime: c.Target[0], Final: c.Target[1]})
	if err != nil {
		return err
	}
	for i := range all {
		if c.JSON {
			if err := json.NewEncoder(a.stdout).Encode(&all[i]); err != nil {
				return err
			}
			continue
		}
		if i > 0 {
			fmt.Fprintln(a.stdout)
		}
		if err := printLateness(a, &all[i]); err != nil {
			return err
		}
	}
	return nil
}

func printLateness(a *app, l *client.Lateness) error {
	if l.Events == 0 {
		fmt.Fprintf(a.stdout, "%s: no event in the last 24 hours of which it can be told how late it was\n", l.Query)
		return nil
	}
	fmt.Fprintf(a.stdout, "%s, %s: %d events stored from %s to %s\n", l.Query, l.Windows, l.Events, l.From.Format(time.RFC3339), l.Until.Format(time.RFC3339))
	w := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "WAIT\tEVENTS IN TIME\tMISSED\t")
	for i, p := range l.Curve {
		if i > 0 && p.Share == l.Curve[i-1].Share {
			continue // a longer wait that catches no more
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t\n", wait(p.WaitMS), percent(p.Share), percent(1-p.Share))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(a.stdout)
	fmt.Fprintln(w, "\tBOUND\tLATENESS\tON TIME\tBEFORE BACKFILL\tREFINED\tRESULT AFTER\tVALUES\tIDS\tSTATE\t")
	for _, row := range []struct {
		name string
		cost client.WaitCost
	}{{"now", l.Now}, {"advised", l.Proposed}} {
		v := row.cost
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t\n", row.name, wait(v.BoundMS), wait(v.LatenessMS), percent(v.OnTime), percent(v.Final), percent(v.Refinements),
			wait(v.LatencyMS), v.Cells, v.IDs, size(v.StateBytes))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	target := fmt.Sprintf("%s on time and %s before a backfill", percent(l.Target.OnTime), percent(l.Target.Final))
	if l.Target.Final < 1 && float64(l.Events)*(1-l.Target.Final) < 1 {
		fmt.Fprintf(a.stdout, "%d events are few for that: %s leaves out one in %.0f\n", l.Events, percent(l.Target.Final), 1/(1-l.Target.Final))
	}
	if l.Reached {
		fmt.Fprintf(a.stdout, "advised is the least wait that gives %s; nothing changes by it\n", target)
		return nil
	}
	fmt.Fprintf(a.stdout, "no wait of up to a day gives %s: %d events were later than that. Those are what tidemark backfill is for\n", target, l.Longer)
	return nil
}

func wait(ms int64) string { return (time.Duration(ms) * time.Millisecond).String() }

func percent(share float64) string { return fmt.Sprintf("%.4g %%", 100*share) }

func size(bytes int) string {
	if bytes < 10_000 {
		return fmt.Sprintf("%d B", bytes)
	}
	return fmt.Sprintf("%d kB", bytes/1000)
}
