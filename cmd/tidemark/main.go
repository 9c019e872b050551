// Command tidemark runs the whole order system in one process, and holds the operator's verbs.
package main

import (
	"context"
	"io"
	"os"

	"github.com/tidemark/tidemark/internal/program"
)

// cli are the verbs. Every verb prints its result to stdout and everything else to stderr; --json makes the result one object on one line, a listing one
// line an item.
type cli struct {
	Up       upCmd       `cmd:"" help:"Run the whole system in this process."`
	Load     loadCmd     `cmd:"" help:"Feed orders to the API: a shop's invoices from a CSV file, or made-up ones."`
	Check    checkCmd    `cmd:"" help:"Verify the invariants of the system from its logs."`
	Orders   ordersCmd   `cmd:"" help:"List, show and cancel orders."`
	Groups   groupsCmd   `cmd:"" help:"Show the consumer groups: who reads which partition, and how far it is."`
	Replay   replayCmd   `cmd:"" help:"Move one consumer group to another offset."`
	Windows  windowsCmd  `cmd:"" help:"Show results by minute of event time."`
	Lateness latenessCmd `cmd:"" help:"Show how late events are, and what wait that calls for."`
	Backfill backfillCmd `cmd:"" help:"Compute windows again that late events have missed."`
	DLQ      dlqCmd      `cmd:"" name:"dlq" help:"Show dead letters, correct them, replay or discard them."`
	Backup   backupCmd   `cmd:"" help:"Back up all streams of the running system."`
	Restore  restoreCmd  `cmd:"" help:"Make the streams of a backup anew, on a broker that has none."`
	Payments paymentsCmd `cmd:"" help:"List payments that no order stands for, and give the money back."`
	Topology topologyCmd `cmd:"" help:"Show the streams and groups, or make them on a broker."`
	Token    tokenCmd    `cmd:"" help:"Make keys and tokens for demonstrations and tests."`

	Healthcheck healthcheckCmd `cmd:"" help:"Ask the tidemark up of this machine whether it is ready: status 0 if it is."`
	Projections projectionsCmd `cmd:"" help:"Show the versions of read models, rebuild one beside the live one, and let it answer."`
}

// app is what a verb works with.
type app struct {
	ctx    context.Context
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	why    func(error) error // the reason of a verb's error
}

func main() {
	var c cli
	parsed := program.Parse("tidemark", "An event-driven order system on NATS JetStream: run it, feed it, look into it.", &c)
	ctx, cancel := program.SignalContext()
	defer cancel()
	a := &app{ctx: ctx, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, why: func(err error) error { return err }}
	err := parsed.Run(a)
	os.Exit(program.Exit("tidemark", a.why(err))) //nolint:gocritic // the process ends here; cancel has nothing left to free
}
