package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/tidemark/tidemark/internal/client"
)

type backfillCmd struct {
	api    `embed:""`
	Query  string `help:"Of this query only."`
	DryRun bool   `help:"Say what would be published, and publish nothing."`
	JSON   bool   `name:"json" help:"The job as one object on one line."`
}

// errNotGood: the backfill has ended, and some window is not as it should be.
var errNotGood = errors.New("not every window could be made good")

// Run computes windows again that late events have missed, and says what that came to.
func (c *backfillCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	started, err := cl.StartBackfill(a.ctx, c.Query, c.DryRun)
	if err != nil {
		return err
	}
	told := time.Now()
	job, err := cl.AwaitBackfill(a.ctx, started.ID, func(b client.Backfill) {
		if time.Since(told) >= progressEvery {
			told = time.Now()
			fmt.Fprintf(a.stderr, "backfill %s is %s\n", b.ID, b.State)
		}
	})
	if err != nil {
		return fmt.Errorf("the backfill goes on without being watched, as GET /v1/backfills/%s tells: %w", started.ID, err)
	}
	if c.JSON {
		if err := json.NewEncoder(a.stdout).Encode(job); err != nil {
			return err
		}
	} else if err := printBackfill(a, &job); err != nil {
		return err
	}
	if !job.Done() {
		return fmt.Errorf("backfill %s is %s: %s", job.ID, job.State, job.Error)
	}
	return complain(a, &job)
}

func printBackfill(a *app, job *client.Backfill) error {
	w := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "QUERY\tLATE EVENTS\tPUBLISHED\tRETRACTED\tUNCHANGED\tPENDING\tLOST")
	for _, r := range job.Reports {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\n", r.Query, r.Late, r.Published, r.Retracted, r.Unchanged, r.Pending, r.Lost)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if job.DryRun {
		fmt.Fprintln(a.stderr, "a dry run: nothing was published")
	}
	return nil
}

// complain says what no backfill can make good any more.
func complain(a *app, job *client.Backfill) error {
	bad := false
	for _, r := range job.Reports {
		if r.Lost > 0 {
			bad = true
			fmt.Fprintf(a.stderr, "%s: %d windows stay as they are: TIMELINE does not hold all their events any more\n", r.Query, r.Lost)
			for _, w := range r.Examples {
				fmt.Fprintf(a.stderr, "  %s to %s %s\n", w.Start.Format(time.RFC3339), w.End.Format(time.RFC3339), w.Key)
			}
		}
		if r.Expired > 0 {
			bad = true
			fmt.Fprintf(a.stderr, "%s: LATE has forgotten %d late events that no backfill had looked at: the windows that they missed stay as they are\n", r.Query, r.Expired)
		}
	}
	if bad {
		return errNotGood
	}
	return nil
}
