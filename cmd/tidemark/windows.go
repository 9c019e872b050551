package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/tidemark/tidemark/internal/client"
)

type windowsCmd struct {
	api   `embed:""`
	Query string `default:"orders-per-minute" help:"orders-per-minute, revenue-per-minute or clicks-per-minute."`
	JSON  bool   `name:"json" help:"One object a line."`
}

// Run lists the windows of a query and, on stderr, how many events came too late for theirs.
func (c *windowsCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	w := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	if !c.JSON {
		fmt.Fprintln(w, "START\tEND\tKEY\tVALUE\tEVENTS\tTIMING")
	}
	for v, err := range cl.Windows(a.ctx, client.WindowFilter{Query: c.Query}) {
		if err != nil {
			return err
		}
		if c.JSON {
			if err := json.NewEncoder(a.stdout).Encode(v); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\n", v.Start.Format(time.DateTime), v.End.Format(time.DateTime), v.Key, v.Value, v.Count, v.Timing)
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
			fmt.Fprintf(a.stderr, "%d events read: %d counted, %d late, %d duplicates\n", q.Read, q.Counted, q.Late, q.Duplicates)
		}
	}
	return nil
}
