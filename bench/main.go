// Command bench measures Tidemark next to plain nats.go doing the same work in the same run, and prints the table of bench/README.md.
//
// Absolute numbers say little: they change with the machine and by 20 % between runs on the same one. What counts is the ratio, from rounds of both that take turns,
// and CPU time a message.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/tidemark/tidemark/internal/program"
)

type cli struct {
	Orders     ordersCmd     `cmd:"" help:"Orders a second from placed to confirmed, through the real services, and the same messages in plain nats.go."`
	Guarantees guaranteesCmd `cmd:"" help:"The same in plain nats.go with one guarantee more in each step: what each costs at the least."`
	Latency    latencyCmd    `cmd:"" help:"Time from placed to confirmed at a fixed rate."`
	Event      eventCmd      `cmd:"" help:"Publish and consume one event with everything on, and in plain nats.go."`
	Groups     groupsCmd     `cmd:"" help:"A consumer group beside one plain consumer of the same stream."`
	Telemetry  telemetryCmd  `cmd:"" help:"Orders a second with nothing recorded, with metrics, and with 1 % and all of the traces exported."`
	Durability durabilityCmd `cmd:"" help:"What an acknowledgement costs with one and three copies, with nats-server's sync and before each acknowledgement."`
	Memory     memoryCmd     `cmd:"" help:"Resident memory of tidemark up: idle, and after a load."`
	Coldstart  coldstartCmd  `cmd:"" help:"From the start of a worker to its first event handled, and of a bare nats.go consumer."`
	Workers    workersCmd    `cmd:"" help:"Resident memory of each of the four services: idle, and under a load."`
	System     systemCmd     `cmd:"" hidden:"" help:"A whole system that runs a round for each line on stdin."`
	Nexmark    nexmarkCmd    `cmd:"" help:"The event-time queries of Nexmark."`
}

// bench is what a measurement works with.
type bench struct {
	ctx context.Context
	out io.Writer
}

func main() {
	var c cli
	parsed := program.Parse("bench", "Measures Tidemark next to plain nats.go.", &c)
	ctx, cancel := program.SignalContext()
	defer cancel()
	os.Exit(program.Exit("bench", parsed.Run(&bench{ctx: ctx, out: os.Stdout}))) //nolint:gocritic // the process ends here
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.out, format+"\n", args...) }

// workDir is a directory for one measurement, and its removal.
func workDir() (string, func(), error) {
	dir, err := os.MkdirTemp("", "tidemark-bench-")
	if err != nil {
		return "", nil, err
	}
	return dir, func() { _ = os.RemoveAll(dir) }, nil
}

// moduleRoot finds go.mod from the working directory upwards: programs are built from there.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("run it inside of the project: no go.mod above")
		}
		dir = parent
	}
}
