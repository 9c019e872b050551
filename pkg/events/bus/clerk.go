package bus

import (
	"context"
	"errors"
	"time"

	"github.com/tidemark/tidemark/pkg/events/fail"
)

var errNoReplay = errors.New("the group reads a log in its order and has passed this event: it can't be replayed, only discarded")

// newClerk makes the part that works on the log's letters. It is a partition that reads nothing.
func newClerk(l *Log, deps Deps, m *metrics) *partition {
	cfg := GroupConfig{Group: l.cfg.Group, Handler: l.cfg.Replay, Retries: []time.Duration{}}.withDefaults()
	var handler any = l.cfg.Handler
	if cfg.Handler == nil {
		cfg.Handler = func(context.Context, Delivery) error { return fail.Permanent(errNoReplay, "no_replay") }
	} else {
		handler = l.cfg.Replay
	}
	group := l.cfg.Group
	group.Independent = true
	p := &partition{
		group: group, template: l.template, log: l.log, metrics: m, tracing: l.tracing, registry: l.registry,
		who: newIdentity(handler, l.members.name), breaker: newBreaker(cfg.Breaker, m.paused), jobs: l.jobs, quarantine: NewQuarantine(),
		handler: cfg.Handler, timeout: cfg.Timeout, retries: cfg.Retries, inPlace: cfg.InPlace, drainTime: l.cfg.Drain,
		window: newWindow(1), gate: newGate(),
	}
	p.letters = newLetters(deps.JS, deps.Subjects, group, 0, p.who, m)
	p.letters.forEver = true
	p.lanes = newLanes(cfg.Lanes, p.run)
	return p
}
