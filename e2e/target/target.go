// Package target is all that the end-to-end suite knows of the system that it is run against: where it answers, what to show there, and what may be done to its parts.
//
// A target is a running system: `tidemark up` in a process, a broker and the services as processes of their own, containers, or something that is known by its URLs only. Whoever
// makes a target says what it can do by filling in what it has; the suite asks [Target.Can] and runs the cases that the target has everything for. So no case of the suite has to
// know which shape it runs against.
package target

import (
	"cmp"
	"context"
	"fmt"
	"time"
)

// Target is a running system. What is empty can't be done.
type Target struct {
	Name string // for people

	API     string // base address of the HTTP API
	Token   string // is shown to API, gateway and outbox as a bearer token; empty: none
	Gateway string // base address of the payment gateway that takes faults
	Outbox  string // base address of what answers /v1/outbox: the mail sink; empty: API
	Jaeger  string // base address of Jaeger's query API

	Program string   // path of the program tidemark, whose verbs the suite runs
	Env     []string // variables with which its verbs reach the system: TIDEMARK_URL, TIDEMARK_NATS_URL and credentials
	Broker  bool     // they reach the broker, too

	// Deadline is after how long an open order is rejected, as the system is configured.
	Deadline time.Duration

	Parts []Part
	// Overlap: where a part is replaced, the old instance serves until the new one does.
	Overlap bool
}

// Part is something of the system that runs, ends and is replaced by itself.
type Part struct {
	Name string
	// Kill ends the part as a crash does (SIGKILL) and returns when it is gone. It stays away until Start, or until whoever looks after it (an orchestrator) starts another one.
	Kill func(context.Context) error
	// Stop ends the part as an operator does (SIGTERM).
	Stop func(context.Context) error
	// Start starts it again, with the same data and addresses. nil: it comes back by itself.
	Start func(context.Context) error
	// Roll replaces it by a new instance, as a new version is brought out, and returns when the old one has gone.
	Roll func(context.Context) error
}

// Capability is something that a case may need of its target.
type Capability string

// The capabilities.
const (
	Faults Capability = "faults"  // payment gateway and mail sink take faults, and show their books
	Verbs  Capability = "verbs"   // the verbs of tidemark reach the broker
	Kill   Capability = "kill"    // parts can be killed
	Roll   Capability = "rolling" // parts can be replaced while they work
	Traces Capability = "traces"  // traces can be read in a Jaeger
)

// Can reports whether the target has a capability.
func (t *Target) Can(c Capability) bool {
	switch c {
	case Faults:
		return t.Gateway != ""
	case Verbs:
		return t.Broker
	case Kill:
		return len(t.Killable()) > 0
	case Roll:
		return len(t.Rollable()) > 0
	case Traces:
		return t.Jaeger != ""
	}
	return false
}

// Killable are the parts that can be killed.
func (t *Target) Killable() []Part {
	return t.parts(func(p Part) bool { return p.Kill != nil })
}

// Rollable are the parts that can be replaced.
func (t *Target) Rollable() []Part {
	return t.parts(func(p Part) bool { return p.Roll != nil })
}

func (t *Target) parts(which func(Part) bool) (out []Part) {
	for _, p := range t.Parts {
		if which(p) {
			out = append(out, p)
		}
	}
	return out
}

// Mails is where the mail sink answers.
func (t *Target) Mails() string { return cmp.Or(t.Outbox, t.API) }

// Crash kills the part and, where nobody else does, starts it again.
func (p Part) Crash(ctx context.Context) error {
	if err := p.Kill(ctx); err != nil {
		return fmt.Errorf("kill %s: %w", p.Name, err)
	}
	if p.Start == nil {
		return nil
	}
	if err := p.Start(ctx); err != nil {
		return fmt.Errorf("start %s again: %w", p.Name, err)
	}
	return nil
}
