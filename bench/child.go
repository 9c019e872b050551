package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/tidemark/tidemark/internal/program"
)

// systemCmd is a whole system in a process of its own, with a nats-server of its own, for measurements that compare several. It runs a round for each line that it is
// sent, until there are no more, so that the systems can take turns and all see the same machine.
type systemCmd struct {
	N      int           `default:"1500" help:"Orders a round."`
	Open   int           `default:"256" help:"Orders that are open at once."`
	Users  bool          `help:"Let each service be a user of the broker with its own key and rights."`
	Stored int           `default:"0" help:"Store this many orders first."`
	Settle time.Duration `default:"0s" help:"How long to wait then."`
}

// What a child is asked for: a round of orders, or of the same messages in plain nats.go.
const (
	roundOurs  = "ours"
	roundPlain = "plain"
)

// report is one round of a child.
type report struct {
	Rate  float64       `json:"rate"`
	Self  time.Duration `json:"self"`
	Other time.Duration `json:"other"`
}

// Run answers each line with a report. A first one says that the system is up.
func (c *systemCmd) Run(b *bench) error {
	program.SpendMemory() // as the services' programs do
	r, err := newRig(b.ctx, c.Users)
	if err != nil {
		return err
	}
	defer r.close()
	if err := c.prepare(b.ctx, r); err != nil {
		return err
	}
	answers := json.NewEncoder(b.out)
	if err := answers.Encode(report{}); err != nil {
		return err
	}
	asked := bufio.NewScanner(os.Stdin)
	for i := 0; asked.Scan(); i++ {
		one, err := c.round(b.ctx, r, asked.Text(), strconv.Itoa(i))
		if err != nil {
			return err
		}
		if err := answers.Encode(report{Rate: one.rate, Self: one.cpu.self, Other: one.cpu.other}); err != nil {
			return err
		}
	}
	return asked.Err()
}

// prepare warms up, and stores what is to be stored.
func (c *systemCmd) prepare(ctx context.Context, r *rig) error {
	if _, err := r.driver.run(ctx, c.N+c.Stored, c.Open); err != nil {
		return err
	}
	return settle(ctx, c.Settle)
}

func (c *systemCmd) round(ctx context.Context, r *rig, kind, name string) (round, error) {
	if kind == roundPlain {
		return r.timed(ctx, c.N, func() (time.Duration, error) { return r.plain.run(ctx, name, c.N, c.Open) })
	}
	return r.timed(ctx, c.N, func() (time.Duration, error) { return r.driver.run(ctx, c.N, c.Open) })
}

func settle(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// child is a system in a process of its own.
type child struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
}

// startChild starts a system; [child.ready] waits for it.
func startChild(ctx context.Context, c systemCmd, env []string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "system", fmt.Sprint("--n=", c.N), fmt.Sprint("--open=", c.Open), fmt.Sprint("--users=", c.Users),
		fmt.Sprint("--stored=", c.Stored), fmt.Sprint("--settle=", c.Settle))
	cmd.Env, cmd.Stderr = append(os.Environ(), env...), os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &child{cmd: cmd, in: in, lines: bufio.NewScanner(out)}, nil
}

// ready waits until the system is up, and has stored what it was to store.
func (ch *child) ready() error {
	_, err := ch.answer()
	return err
}

func (ch *child) round(kind string) (round, error) {
	if _, err := fmt.Fprintln(ch.in, kind); err != nil {
		return round{}, err
	}
	return ch.answer()
}

func (ch *child) answer() (round, error) {
	if !ch.lines.Scan() {
		return round{}, fmt.Errorf("a system has ended: %w", ch.lines.Err())
	}
	var r report
	if err := json.Unmarshal(ch.lines.Bytes(), &r); err != nil {
		return round{}, err
	}
	return round{rate: r.Rate, cpu: cpu{self: r.Self, other: r.Other}}, nil
}

func (ch *child) stop() {
	_ = ch.in.Close()
	_ = ch.cmd.Wait() // what went wrong stands on stderr
}
