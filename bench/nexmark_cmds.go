package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/tidemark/tidemark/services/analytics"
)

// modesOf reads modes; none: event by event, and micro-batches of two lengths.
func modesOf(texts []string) ([]analytics.Mode, error) {
	if len(texts) == 0 {
		texts = []string{"per-event", "100ms", "1s"}
	}
	var all []analytics.Mode
	for _, t := range texts {
		m, err := analytics.ParseMode(t)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

type latencyRun struct {
	Events  int       `default:"100000" help:"In the log; some are sent twice."`
	Rates   []float64 `default:"10000" help:"Messages a second."`
	Modes   []string  `help:"per-event, or how long results are gathered."`
	Queries []string  `help:"By name; none: all."`
	Plain   bool      `help:"Let a plain consumer of nats.go take its turn: it counts nothing, and publishes as many results for the same windows, without any guarantee."`
	Rounds  int       `default:"1" help:"Rounds; the modes take turns."`
	Out     string    `help:"Append the figures to this file, a JSON object a line."`
}

// Run prints a line for each run.
func (c *latencyRun) Run(b *bench) error {
	modes, err := modesOf(c.Modes)
	if err != nil {
		return err
	}
	counters := countersOf(modes)
	if c.Plain {
		counters = append(counters, counter{plain: true})
	}
	x, err := expect(c.Events, c.Queries)
	if err != nil {
		return err
	}
	b.say("| mode | messages/s | emission p50 | p99 | p99.9 | highest | CPU a message: analytics / nats-server / sender | memory: analytics / nats-server | slip p99 |")
	b.say("|---|---|---|---|---|---|---|---|---|")
	for range c.Rounds {
		for _, rate := range c.Rates {
			for _, by := range counters {
				f, err := b.nexmarkOnce(b.ctx, x, by, c.Queries, rate)
				if err != nil {
					return err
				}
				if err := f.report(b, c.Out); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (f *figures) report(b *bench, file string) error {
	b.say("| %s | %.0f | %.2f ms | %.2f ms | %.2f ms | %.2f ms | %.1f / %.1f / %.1f µs | %.0f / %.0f MiB | %.1f ms |", f.Mode, f.Rate, f.P50, f.P99, f.P999, f.Max,
		f.CPU, f.CPUBroker, f.CPUSender, f.Memory, f.Broker, f.SlipP99)
	if len(f.ByQuery) > 3 {
		b.say("%s", f.byQuery())
	}
	if f.Most > many {
		b.say("| without windows of more than %d results; the largest has %d | | %.2f ms | %.2f ms | %.2f ms | %.2f ms | | | |", many, f.Most, f.Few[0], f.Few[1], f.Few[2], f.Few[3])
	}
	return f.save(file)
}

// byQuery is a row with the p50 and p99 of each query.
func (f *figures) byQuery() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(f.ByQuery)) {
		if name != all && name != few {
			parts = append(parts, fmt.Sprintf("%s %.1f and %.1f ms", name, f.ByQuery[name][0], f.ByQuery[name][1]))
		}
	}
	return "| p50 and p99 | | " + strings.Join(parts, ", ") + " | | | | | | |"
}

func (f *figures) save(file string) error {
	if file == "" {
		return nil
	}
	out, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644) //nolint:gosec // figures, to be read by all
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(f); err != nil {
		return err
	}
	return out.Close()
}

type sustainCmd struct {
	Seconds int      `default:"12" help:"Of each run."`
	Least   float64  `default:"4000" help:"A rate that is sure to do."`
	Most    float64  `default:"40000" help:"A rate that is sure to be too much."`
	Steps   int      `default:"4" help:"Runs of the bisection."`
	Modes   []string `help:"per-event, or how long results are gathered."`
	Queries []string `help:"By name; none: all."`
	Out     string   `help:"Append the figures to this file, a JSON object a line."`
}

// Run prints the highest rate at which the backlog does not grow and results are in time.
func (c *sustainCmd) Run(b *bench) error {
	modes, err := modesOf(c.Modes)
	if err != nil {
		return err
	}
	for _, mode := range modes {
		least, most := c.Least, c.Most
		for range c.Steps {
			rate := (least + most) / 2
			x, err := expect(int(rate)*c.Seconds, c.Queries)
			if err != nil {
				return err
			}
			f, err := b.nexmarkOnce(b.ctx, x, counter{mode: mode}, c.Queries, rate)
			if err != nil {
				return err
			}
			if err := f.report(b, c.Out); err != nil {
				return err
			}
			if f.keepsUp(mode.Every) {
				least = rate
			} else {
				most = rate
			}
		}
		b.say("%s: sustainable are %.0f messages a second; %.0f are not", mode, least, most)
	}
	return nil
}

type drainCmd struct {
	Events  int      `default:"200000" help:"In the log; some are sent twice."`
	Modes   []string `help:"per-event, or how long results are gathered."`
	Queries []string `help:"Each by itself; none: all of them, and all at once."`
	Out     string   `help:"Append the figures to this file, a JSON object a line."`
}

// Run prints how fast a backlog is worked off.
func (c *drainCmd) Run(b *bench) error {
	modes, err := modesOf(c.Modes)
	if err != nil {
		return err
	}
	sets := [][]string{nil, {"q5"}, {"q7"}, {"q8"}, {"q11"}, {"q12"}}
	if len(c.Queries) > 0 {
		sets = nil
		for _, q := range c.Queries {
			sets = append(sets, []string{q})
		}
	}
	b.say("| queries | mode | messages/s | CPU a message: analytics / nats-server | results | memory of analytics |")
	b.say("|---|---|---|---|---|---|")
	for _, queries := range sets {
		x, err := expect(c.Events, queries)
		if err != nil {
			return err
		}
		for _, mode := range modes {
			f, err := b.nexmarkOnce(b.ctx, x, counter{mode: mode}, queries, 0)
			if err != nil {
				return err
			}
			name := f.Queries
			if name == "" {
				name = "all"
			}
			b.say("| %s | %s | %.0f | %.1f / %.1f µs | %d | %.0f MiB |", name, f.Mode, f.PerSecond, f.CPU, f.CPUBroker, f.Results, f.Memory)
			if err := f.save(c.Out); err != nil {
				return err
			}
		}
	}
	return nil
}
