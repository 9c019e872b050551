package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"github.com/tidemark/tidemark/internal/deadletters"
	"github.com/tidemark/tidemark/internal/program"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
)

// jobFlags are what a replay and a discard have in common.
type jobFlags struct {
	broker       `embed:""`
	letterFilter `embed:""`
	author       `embed:""`
	reason       `embed:""`
	IDs          []string `arg:"" name:"letter" optional:"" help:"Letters by id, instead of filters."`
	All          bool     `help:"Every letter: needed where neither an id nor a filter is given."`
	Rate         float64  `help:"Letters a second (default: as fast as it goes)."`
	DryRun       bool     `help:"Say what it would be about, and do nothing."`
	Yes          bool     `help:"Don't ask."`
	Detach       bool     `help:"Don't wait for the end; tidemark dlq job show tells how it goes."`
	JSON         bool     `name:"json" help:"One object a line."`
}

type dlqReplayCmd struct {
	jobFlags  `embed:""`
	Canary    bool    `default:"true" negatable:"" help:"Replay one letter, then ten, then the rest."`
	StopRatio float64 `help:"Stop when more than this part of the replays failed (default: 0.05 with a canary, else never)."`
	Force     bool    `help:"Also letters whose replays failed three times."`
}

// Run orders a replay and follows it to its end.
func (c *dlqReplayCmd) Run(a *app) error {
	return c.order(a, deadletter.JobReplay, deadletters.Order{Canary: c.Canary, StopRatio: c.StopRatio, Force: c.Force})
}

type dlqDiscardCmd struct {
	jobFlags `embed:""`
}

// Run orders a discard and follows it to its end.
func (c *dlqDiscardCmd) Run(a *app) error {
	return c.order(a, deadletter.JobDiscard, deadletters.Order{})
}

func (c *jobFlags) order(a *app, kind deadletter.JobKind, o deadletters.Order) error {
	o.By, o.Why, o.Rate = c.name(), c.why(), c.Rate
	filter, err := c.filter()
	if err := errors.Join(err, asked(deadletters.Accountable(o.By, o.Why)), asked(deadletters.Narrow(c.query(), c.IDs, c.All))); err != nil {
		return err
	}
	d, end, err := c.desk(a)
	if err != nil {
		return err
	}
	defer end()
	selection, err := d.Select(a.ctx, kind, filter, c.IDs)
	if err != nil {
		return err
	}
	if c.DryRun {
		return c.preview(a, selection)
	}
	if selection.Count() == 0 {
		fmt.Fprintln(a.stderr, "no letter fits")
		return nil
	}
	if err := c.confirm(a, selection); err != nil {
		return err
	}
	jobs, err := d.Start(a.ctx, selection, o)
	if err != nil {
		return err
	}
	return c.follow(a, d, jobs)
}

func (c *jobFlags) preview(a *app, s *deadletters.Selection) error {
	if c.JSON {
		return lines(a, s.Preview)
	}
	printPreview(a, s)
	fmt.Fprintf(a.stdout, "%d letters; nothing was done\n", s.Count())
	return nil
}

func printPreview(a *app, s *deadletters.Selection) {
	for _, p := range s.Preview {
		fmt.Fprintf(a.stdout, "%s of %d letters of %s, %d keys, parked %s to %s: %v\n", p.Kind, p.Count, p.Group, p.Keys,
			p.Oldest.Local().Format(time.DateTime), p.Newest.Local().Format(time.DateTime), p.Reasons) //nolint:gosmopolitan // for a person
		if p.TooDeep > 0 {
			fmt.Fprintf(a.stdout, "  %d of them failed in %d replays already and are skipped without --force\n", p.TooDeep, deadletter.MostDepth)
		}
	}
}

// confirm asks a person. A script says --yes.
func (c *jobFlags) confirm(a *app, s *deadletters.Selection) error {
	if c.Yes {
		return nil
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) { //nolint:gosec // a file descriptor fits
		return fmt.Errorf("%w: this is about %d letters; say --yes, or --dry-run to see which", program.ErrUsage, s.Count())
	}
	printPreview(a, s)
	fmt.Fprintf(a.stderr, "%s %d letters? [y/N] ", s.Kind, s.Count())
	answer, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil || !strings.EqualFold(strings.TrimSpace(answer), "y") {
		return errors.New("nothing was done")
	}
	return nil
}

// errUnfinished: the job ended, and not all of its letters are gone.
var errUnfinished = errors.New("not every letter is gone")

// follow waits for the jobs, one after the other: they run side by side.
func (c *jobFlags) follow(a *app, d *deadletters.Desk, jobs []deadletters.Job) error {
	if c.Detach {
		return printJobs(a, jobs, c.JSON)
	}
	var unfinished error
	for i, j := range jobs {
		p := newJobProgress(a, j)
		done, err := d.Await(a.ctx, j.Group, j.ID, p.tell)
		p.end()
		if err != nil {
			return fmt.Errorf("the job goes on without being watched; tidemark dlq job show %s tells how: %w", j.ID, err)
		}
		jobs[i] = done
		if done.Resolved+done.Discarded < done.Total {
			unfinished = errUnfinished
		}
		if done.Ended != "" {
			fmt.Fprintf(a.stderr, "job %s of group %s is %s: %s\n", done.ID, done.Group, done.State, done.Ended)
		}
	}
	return errors.Join(printJobs(a, jobs, c.JSON), unfinished)
}

func printJobs(a *app, jobs []deadletters.Job, asJSON bool) error {
	if asJSON {
		return lines(a, jobs)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "JOB\tKIND\tGROUP\tSTATE\tLETTERS\tRESOLVED\tDISCARDED\tFAILED\tSKIPPED\tBY\tWHY")
	for _, j := range jobs {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s\n", j.ID, j.Kind, j.Group, j.State, j.Total, j.Resolved, j.Discarded, j.Failed, j.Skipped, j.By, short(j.Why))
	}
	return w.Flush()
}

type dlqJobCmd struct {
	List   dlqJobListCmd   `cmd:"" help:"List jobs, oldest first."`
	Show   dlqJobShowCmd   `cmd:"" help:"Show one job with its list and what happened to it."`
	Cancel dlqJobCancelCmd `cmd:"" help:"End a job; what is being replayed at the moment is finished."`
}

type dlqJobListCmd struct {
	broker `embed:""`
	Group  string `help:"Only of this consumer group."`
	JSON   bool   `name:"json" help:"One object a line."`
}

// Run lists jobs.
func (c *dlqJobListCmd) Run(a *app) error {
	if _, err := (&letterFilter{Group: c.Group}).filter(); err != nil {
		return err
	}
	d, end, err := c.desk(a)
	if err != nil {
		return err
	}
	defer end()
	jobs, err := d.Jobs(a.ctx, c.Group)
	if err != nil {
		return err
	}
	return printJobs(a, jobs, c.JSON)
}

type dlqJobShowCmd struct {
	broker `embed:""`
	ID     string `arg:"" help:"The job's id."`
	JSON   bool   `name:"json" help:"One object on one line."`
}

// Run shows one job.
func (c *dlqJobShowCmd) Run(a *app) error {
	d, end, err := c.desk(a)
	if err != nil {
		return err
	}
	defer end()
	j, err := d.ShowJob(a.ctx, c.ID)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(a.stdout).Encode(j)
	}
	return j.Print(a.stdout)
}

type dlqJobCancelCmd struct {
	broker `embed:""`
	author `embed:""`
	reason `embed:""`
	ID     string `arg:"" help:"The job's id."`
	JSON   bool   `name:"json" help:"One object on one line."`
}

// Run cancels a job.
func (c *dlqJobCancelCmd) Run(a *app) error {
	if err := deadletters.Accountable(c.name(), c.why()); err != nil {
		return asked(err)
	}
	d, end, err := c.desk(a)
	if err != nil {
		return err
	}
	defer end()
	j, err := d.CancelJob(a.ctx, c.ID, c.name(), c.why())
	if err != nil {
		return err
	}
	return printJobs(a, []deadletters.Job{j}, c.JSON)
}
