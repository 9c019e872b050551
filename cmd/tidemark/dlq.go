package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tidemark/tidemark/internal/deadletters"
	"github.com/tidemark/tidemark/internal/program"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
)

type dlqCmd struct {
	List    dlqListCmd    `cmd:"" help:"List dead letters in the order of parking."`
	Groups  dlqGroupsCmd  `cmd:"" help:"Show what is wrong: one line a cause."`
	Show    dlqShowCmd    `cmd:"" help:"Show one letter in full, also one that is gone."`
	Note    dlqNoteCmd    `cmd:"" help:"Write a note into a letter's history."`
	Edit    dlqEditCmd    `cmd:"" help:"Correct the payload that a replay uses."`
	Replay  dlqReplayCmd  `cmd:"" help:"Give letters to their group again."`
	Discard dlqDiscardCmd `cmd:"" help:"Give letters up."`
	Job     dlqJobCmd     `cmd:"" help:"List, show and cancel replays and discards."`
}

// desk opens the operator's desk on the broker.
func (b *broker) desk(a *app) (*deadletters.Desk, func(), error) {
	js, end, err := b.connect(a)
	if err != nil {
		return nil, nil, err
	}
	registry, err := events.NewRegistry()
	if err != nil {
		end()
		return nil, nil, err
	}
	d, err := deadletters.New(deadletters.Deps{JS: js, Topology: events.DefaultTopology(0), Registry: registry})
	if err != nil {
		end()
		return nil, nil, err
	}
	return d, end, nil
}

// letterFilter are the flags that select letters.
type letterFilter struct {
	Group       string `help:"Only of this consumer group."`
	Reason      string `help:"Only of this reason, such as permanent, exhausted, schema, undecodable, crash_loop."`
	Fingerprint string `help:"Only of this cause, as dlq groups shows it."`
	Type        string `help:"Only events of this type."`
	Key         string `help:"Only of this key: an order, a user."`
	State       string `help:"Only in this state: retrying, blocked, dead or replaying."`
	Since       string `placeholder:"TIME|AGO" help:"Only parked at or after: 2026-01-02T15:04:05Z, or how long ago, such as 15m."`
	Until       string `placeholder:"TIME|AGO" help:"Only parked before."`
}

func (f *letterFilter) query() deadletters.Query {
	return deadletters.Query{
		Group: f.Group, Key: f.Key, State: f.State, Reason: f.Reason, Fingerprint: f.Fingerprint, EventType: f.Type, Since: f.Since, Until: f.Until,
	}
}

func (f *letterFilter) filter() (deadletter.Filter, error) {
	filter, err := f.query().Filter(events.DefaultTopology(0), time.Now())
	return filter, asked(err)
}

// author is who does it, for the audit record.
type author struct {
	By string `env:"USER" help:"Who does it, for the audit record (default: $$USER)."`
}

// reason is why it is done, for the audit record.
type reason struct {
	Why string `help:"Why, for the audit record (default: the command as it was typed)."`
}

func (r *reason) why() string {
	if r.Why != "" {
		return r.Why
	}
	return "tidemark " + strings.Join(os.Args[1:], " ")
}

func (f *author) name() string {
	if f.By != "" {
		return f.By
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}

// asked tells the caller's mistakes from everything else.
func asked(err error) error {
	for _, wrong := range []error{deadletters.ErrQuery, deadletters.ErrUnaccountable} {
		if errors.Is(err, wrong) {
			return fmt.Errorf("%w: %w", program.ErrUsage, err)
		}
	}
	return err
}

type dlqListCmd struct {
	broker       `embed:""`
	letterFilter `embed:""`
	JSON         bool `name:"json" help:"One object a line."`
}

// Run lists all letters that fit.
func (c *dlqListCmd) Run(a *app) error {
	f, err := c.filter()
	if err != nil {
		return err
	}
	d, end, err := c.desk(a)
	if err != nil {
		return err
	}
	defer end()
	w := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	if !c.JSON {
		fmt.Fprintln(w, "LETTER\tSTATE\tREASON\tKEY\tTYPE\tATTEMPTS\tPARKED\tERROR")
	}
	for l, err := range d.Letters(a.ctx, f) {
		if err != nil {
			return err
		}
		if c.JSON {
			if err := json.NewEncoder(a.stdout).Encode(l); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", l.ID, l.State, l.Reason, l.Key, l.EventType, l.Attempts, l.ParkedAt.Local().Format(time.DateTime), short(l.Error)) //nolint:gosmopolitan // for a person
	}
	return w.Flush()
}

// short keeps a table's line on a line. An error says at its beginning what was tried, and at its end what went wrong.
func short(text string) string {
	const head, tail = 30, 60
	if runes := []rune(text); len(runes) > head+tail {
		return string(runes[:head-1]) + "…" + string(runes[len(runes)-tail:])
	}
	return text
}

type dlqGroupsCmd struct {
	broker       `embed:""`
	letterFilter `embed:""`
	JSON         bool `name:"json" help:"One object a line."`
}

// Run prints a line for each cause, most letters first.
func (c *dlqGroupsCmd) Run(a *app) error {
	f, err := c.filter()
	if err != nil {
		return err
	}
	d, end, err := c.desk(a)
	if err != nil {
		return err
	}
	defer end()
	causes, err := d.Causes(a.ctx, f)
	if err != nil {
		return err
	}
	if c.JSON {
		return lines(a, causes)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "GROUP\tREASON\tFINGERPRINT\tCOUNT\tBLOCKED KEYS\tWAITING\tOLDEST\tNEWEST\tERROR")
	for _, s := range causes {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\t%s\n", s.Group, s.Reason, s.Fingerprint, s.Count, s.BlockedKeys, s.Waiting,
			s.Oldest.Local().Format(time.DateTime), s.Newest.Local().Format(time.DateTime), s.Error) //nolint:gosmopolitan // for a person
	}
	return w.Flush()
}

func lines[T any](a *app, all []T) error {
	out := json.NewEncoder(a.stdout)
	for _, v := range all {
		if err := out.Encode(v); err != nil {
			return err
		}
	}
	return nil
}

type dlqShowCmd struct {
	broker `embed:""`
	ID     string `arg:"" help:"The letter's id."`
	JSON   bool   `name:"json" help:"One object on one line."`
}

// Run shows one letter.
func (c *dlqShowCmd) Run(a *app) error {
	d, end, err := c.desk(a)
	if err != nil {
		return err
	}
	defer end()
	l, err := d.Show(a.ctx, c.ID)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(a.stdout).Encode(l)
	}
	return l.Print(a.stdout)
}

type dlqNoteCmd struct {
	broker `embed:""`
	author `embed:""`
	ID     string `arg:"" help:"The letter's id."`
	Text   string `arg:"" help:"The note."`
	JSON   bool   `name:"json" help:"One object on one line."`
}

// Run writes a note.
func (c *dlqNoteCmd) Run(a *app) error {
	if err := deadletters.Accountable(c.name(), c.Text); err != nil {
		return asked(err)
	}
	d, end, err := c.desk(a)
	if err != nil {
		return err
	}
	defer end()
	l, err := d.Note(a.ctx, c.ID, c.name(), c.Text)
	if err != nil {
		return err
	}
	return c.print(a, l)
}

func (c *dlqNoteCmd) print(a *app, l deadletters.Letter) error {
	if c.JSON {
		return json.NewEncoder(a.stdout).Encode(l)
	}
	fmt.Fprintf(a.stdout, "noted: %s\n", l.ID)
	return nil
}

type dlqEditCmd struct {
	broker `embed:""`
	author `embed:""`
	reason `embed:""`
	ID     string `arg:"" help:"The letter's id."`
	File   string `arg:"" default:"-" help:"File with the whole payload, or with the patch; - is stdin."`
	Patch  bool   `help:"The file is a JSON Patch (RFC 6902): what to change in the payload that is there."`
	JSON   bool   `name:"json" help:"One object on one line."`
}

// Run corrects a payload. Everything else of the event stays as it is.
func (c *dlqEditCmd) Run(a *app) error {
	if err := deadletters.Accountable(c.name(), c.why()); err != nil {
		return asked(err)
	}
	text, err := c.read()
	if err != nil {
		return fmt.Errorf("%w: %w", program.ErrUsage, err)
	}
	correction := deadletters.Correction{Data: text}
	if c.Patch {
		correction = deadletters.Correction{Patch: text}
	}
	d, end, err := c.desk(a)
	if err != nil {
		return err
	}
	defer end()
	l, err := d.Edit(a.ctx, c.ID, correction, c.name(), c.why())
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(a.stdout).Encode(l)
	}
	fmt.Fprintf(a.stdout, "corrected: %s; replay it with: tidemark dlq replay %s\n", l.ID, l.ID)
	return nil
}

func (c *dlqEditCmd) read() ([]byte, error) {
	if c.File == "-" {
		return io.ReadAll(os.Stdin)
	}
	return os.ReadFile(c.File)
}
