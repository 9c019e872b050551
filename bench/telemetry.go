package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/tidemark/tidemark/internal/program"
)

// telemetryCmd compares what telemetry costs an order. Each kind is a whole system in a process of its own; they take turns, round by round, so that all see the same machine.
type telemetryCmd struct {
	N      int `default:"1500" help:"Orders a round."`
	Rounds int `default:"9" help:"Rounds of each; they take turns."`
	Open   int `default:"256" help:"Orders that are open at once."`

	Child bool `hidden:"" help:"One of the systems: a round for each line on stdin."`
}

// report is one round of a child.
type report struct {
	Rate  float64       `json:"rate"`
	Self  time.Duration `json:"self"`
	Other time.Duration `json:"other"`
}

// Run prints orders a second with telemetry disabled, off, and with 1 % and all traces exported.
func (c *telemetryCmd) Run(b *bench) error {
	if c.Child {
		return c.child(b)
	}
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer collector.Close()
	export := []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + collector.URL, "OTEL_TRACES_SAMPLER=parentbased_traceidratio"}
	kinds := []struct {
		name string
		env  []string
	}{
		{"nothing recorded (`OTEL_SDK_DISABLED=true`)", []string{"OTEL_SDK_DISABLED=true"}},
		{"off: metrics, no traces", nil},
		{"1 % of the traces exported", slices.Concat(export, []string{"OTEL_TRACES_SAMPLER_ARG=0.01"})},
		{"all traces exported", slices.Concat(export, []string{"OTEL_TRACES_SAMPLER_ARG=1"})},
	}
	var children []*child
	defer func() {
		for _, ch := range children {
			ch.stop()
		}
	}()
	for _, k := range kinds {
		ch, err := c.start(b.ctx, k.env)
		if err != nil {
			return err
		}
		children = append(children, ch)
	}
	rounds := make([][]round, len(kinds))
	for range c.Rounds {
		for i, ch := range children {
			r, err := ch.round()
			if err != nil {
				return err
			}
			rounds[i] = append(rounds[i], r)
		}
	}
	b.say("| telemetry | orders/s (median of %d, lowest to highest) | CPU an order: ours / nats-server | ratio to nothing recorded: median of the turns |", c.Rounds)
	b.say("|---|---|---|---|")
	for i, k := range kinds {
		b.say("| %s | %s | %s | %.2f |", k.name, spread(rounds[i]), perOrder(rounds[i], c.N), turns(rounds[i], rounds[0]))
	}
	return nil
}

// turns is the median of the ratios of two that ran one after the other: the machine's speed moves from minute to minute.
func turns(a, b []round) float64 {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = a[i].rate / b[i].rate
	}
	slices.Sort(ratios)
	return ratios[len(ratios)/2]
}

// child is one of the systems.
type child struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
}

func (c *telemetryCmd) start(ctx context.Context, env []string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "telemetry", "--child", fmt.Sprint("--n=", c.N), fmt.Sprint("--open=", c.Open))
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
	ch := &child{cmd: cmd, in: in, lines: bufio.NewScanner(out)}
	_, err = ch.round() // warm-up
	return ch, err
}

func (ch *child) round() (round, error) {
	if _, err := fmt.Fprintln(ch.in); err != nil {
		return round{}, err
	}
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
	_ = ch.cmd.Wait()
}

// child runs a system and measures a round for each line that it is sent, until there are no more.
func (c *telemetryCmd) child(b *bench) error {
	program.SpendMemory()
	r, err := newRig(b.ctx, false)
	if err != nil {
		return err
	}
	defer r.close()
	for asked := bufio.NewScanner(os.Stdin); asked.Scan(); {
		one, err := r.timed(b.ctx, c.N, func() (time.Duration, error) { return r.driver.run(b.ctx, c.N, c.Open) })
		if err != nil {
			return err
		}
		if err := json.NewEncoder(b.out).Encode(report{Rate: one.rate, Self: one.cpu.self, Other: one.cpu.other}); err != nil {
			return err
		}
	}
	return nil
}
