package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/term"

	"github.com/tidemark/tidemark/internal/groups"
	"github.com/tidemark/tidemark/internal/program"
	"github.com/tidemark/tidemark/pkg/events"
)

type groupsCmd struct {
	broker `embed:""`
	Watch  bool          `help:"Keep it up to date until Ctrl-C."`
	Every  time.Duration `default:"1s" help:"With --watch: how often."`
	JSON   bool          `name:"json" help:"One object a line and group."`

	List groupsListCmd `cmd:"" default:"1" help:"Show every consumer group (the default)."`
	Show groupsShowCmd `cmd:"" help:"Show one consumer group, partition by partition."`
}

type groupsListCmd struct{}

// Run shows who reads which partition of which group, and how far it is.
func (*groupsListCmd) Run(a *app, f *groupsCmd) error {
	return f.run(a, func(ctx context.Context, js jetstream.JetStream, w io.Writer) error {
		all, err := groups.List(ctx, js, events.DefaultTopology(0))
		if err != nil {
			return err
		}
		if !f.JSON {
			return groups.Print(w, all, time.Now())
		}
		for _, g := range all {
			if err := json.NewEncoder(w).Encode(g); err != nil {
				return err
			}
		}
		return nil
	})
}

type groupsShowCmd struct {
	Group string `arg:"" help:"The group's name."`
}

// Run shows one group.
func (c *groupsShowCmd) Run(a *app, f *groupsCmd) error {
	return f.run(a, func(ctx context.Context, js jetstream.JetStream, w io.Writer) error {
		g, err := groups.Show(ctx, js, events.DefaultTopology(0), c.Group)
		if err != nil {
			return err
		}
		if f.JSON {
			return json.NewEncoder(w).Encode(g)
		}
		return groups.PrintOne(w, g, time.Now())
	})
}

const clearScreen = "\x1b[H\x1b[2J"

// run prints once, or again and again: on a terminal in place, elsewhere one below the other.
func (f *groupsCmd) run(a *app, show func(context.Context, jetstream.JetStream, io.Writer) error) error {
	if f.Every <= 0 {
		return fmt.Errorf("%w: --every: is %s, must be more than 0", program.ErrUsage, f.Every)
	}
	js, end, err := f.connect(a)
	if err != nil {
		return err
	}
	defer end()
	for {
		var page bytes.Buffer
		err := show(a.ctx, js, &page)
		switch {
		case f.Watch && a.ctx.Err() != nil: // Ctrl-C is how it ends
			return nil
		case err != nil && f.Watch && !errors.Is(err, groups.ErrNoGroup): // a broker that is away for a moment comes back
			fmt.Fprintln(a.stderr, err)
		case err != nil:
			return err
		case f.Watch && !f.JSON && terminal(a.stdout):
			fmt.Fprint(a.stdout, clearScreen)
		}
		if _, err := page.WriteTo(a.stdout); err != nil || !f.Watch {
			return err
		}
		select {
		case <-time.After(f.Every):
		case <-a.ctx.Done():
			return nil
		}
	}
}

func terminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) //nolint:gosec // a file descriptor is small
}
