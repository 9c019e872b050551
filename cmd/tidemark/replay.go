package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/internal/groups"
	"github.com/tidemark/tidemark/internal/program"
	"github.com/tidemark/tidemark/pkg/events"
)

type replayCmd struct {
	broker   `embed:""`
	Group    string        `required:"" help:"The consumer group to move; no other group notices."`
	FromSeq  uint64        `xor:"from" required:"" help:"Read from this sequence of the group's stream on; 1 is the beginning."`
	FromTime string        `xor:"from" required:"" help:"Read from the first event on that was stored at this time (RFC 3339) or later."`
	DryRun   bool          `help:"Say how many events that would be, and change nothing."`
	Yes      bool          `help:"Don't ask."`
	Wait     bool          `help:"Return when the group has read everything, not when it begins to."`
	Timeout  time.Duration `default:"10m" help:"How long to wait for that."`
	JSON     bool          `name:"json" help:"One object on one line."`
}

var errDeclined = errors.New("nothing was changed")

// Run moves one group's offset.
func (c *replayCmd) Run(a *app) error {
	to, err := c.target()
	if err != nil {
		return err
	}
	js, end, err := c.connect(a)
	if err != nil {
		return err
	}
	defer end()
	t := events.DefaultTopology(0)
	move, err := groups.Plan(a.ctx, js, t, c.Group, to)
	if errors.Is(err, groups.ErrTarget) || errors.Is(err, groups.ErrNoGroup) {
		return fmt.Errorf("%w: %w", program.ErrUsage, err)
	}
	if err != nil {
		return err
	}
	if c.DryRun {
		move.DryRun = true
		return c.print(a, move)
	}
	if err := c.confirm(a, move); err != nil {
		return err
	}
	if err := move.Do(a.ctx, js); err != nil {
		return err
	}
	err = c.await(a, js, t, move)
	return errors.Join(err, c.print(a, move))
}

func (c *replayCmd) target() (groups.Target, error) {
	if c.FromTime == "" {
		if c.FromSeq == 0 {
			return groups.Target{}, fmt.Errorf("%w: --from-seq: is 0, must be at least 1", program.ErrUsage)
		}
		return groups.Target{Seq: c.FromSeq}, nil
	}
	at, err := time.Parse(time.RFC3339Nano, c.FromTime)
	if err != nil {
		return groups.Target{}, fmt.Errorf("%w: --from-time: %q is no RFC 3339 time", program.ErrUsage, c.FromTime)
	}
	return groups.Target{Time: at}, nil
}

// confirm asks, where there is somebody to ask.
func (c *replayCmd) confirm(a *app, m *groups.Move) error {
	if c.Yes {
		return nil
	}
	if !terminal(a.stdin) {
		return fmt.Errorf("%w: nobody can be asked here; say --yes, or --dry-run to see what it would do", program.ErrUsage)
	}
	fmt.Fprintf(a.stderr, "%s\nMove it? [y/N] ", say(m))
	answer, err := bufio.NewReader(a.stdin).ReadString('\n')
	if answer = strings.ToLower(strings.TrimSpace(answer)); err != nil || answer != "y" && answer != "yes" {
		return errDeclined
	}
	return nil
}

func (c *replayCmd) await(a *app, js jetstream.JetStream, t events.Topology, m *groups.Move) error {
	ctx, cancel := context.WithTimeout(a.ctx, c.Timeout)
	defer cancel()
	said := time.Now()
	return m.Await(ctx, js, t, c.Wait, func(lag uint64) {
		if time.Since(said) > time.Second {
			said = time.Now()
			fmt.Fprintf(a.stderr, "%s: %d events left\n", m.Group, lag)
		}
	})
}

func (c *replayCmd) print(a *app, m *groups.Move) error {
	if c.JSON {
		return json.NewEncoder(a.stdout).Encode(m)
	}
	if _, err := fmt.Fprintln(a.stdout, say(m)); err != nil {
		return err
	}
	state := ""
	switch {
	case m.DryRun:
		state = "dry run: nothing was changed"
	case m.Reading && m.Lag == 0:
		state = "it has read everything"
	case m.Reading:
		state = fmt.Sprintf("it reads from there; %d events are left", m.Lag)
	case m.Moved:
		state = "it is moved, and does not read from there yet"
	}
	_, err := fmt.Fprintln(a.stdout, state)
	return err
}

// say is what a move does, in one sentence or two.
func say(m *groups.Move) string {
	s := fmt.Sprintf("group %s, from sequence %d of %s on: %d events, %d of them again", m.Group, m.FromSeq, m.Stream, m.Events, m.Again)
	if m.Skipped > 0 {
		s += fmt.Sprintf("; %d events that it has not handled are SKIPPED", m.Skipped)
	}
	if m.Note != "" {
		s += "\nnote: " + m.Note
	}
	return s
}
