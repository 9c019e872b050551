package main

// nexmarkCmd measures event time through the real analytics service. Each part runs in a process of its own: this one starts them and reads what comes out.
type nexmarkCmd struct {
	Digests  digestsCmd  `cmd:"" help:"Compute what is right, and store its digests."`
	Latency  latencyRun  `cmd:"" help:"Send at one rate and print emission latency, CPU time and memory, for each mode."`
	Sustain  sustainCmd  `cmd:"" help:"Find the highest rate that each mode keeps up with."`
	Drain    drainCmd    `cmd:"" help:"How fast a backlog is worked off, by query and mode."`
	Recover  recoverCmd  `cmd:"" help:"Kill analytics with SIGKILL at half of a run."`
	Chart    chartCmd    `cmd:"" help:"Draw the figures that a measurement has written."`
	Generate generateCmd `cmd:"" hidden:"" help:"The process that sends."`
	Serve    serveCmd    `cmd:"" hidden:"" help:"The process that counts."`
	Plain    plainCmd    `cmd:"" hidden:"" help:"The process that does not count, but publishes as much."`
}
