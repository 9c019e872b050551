// Package check verifies the invariants of the system from what is stored: the logs, the payment gateway's ledger, and the digests of the
// read models. It folds the logs itself and imports no service, since a checker that shares code with what it checks shares its mistakes.
//
// Two kinds of invariants:
//
//	safety      holds at every prefix of the logs, at any moment, under any load: 1, 4, 9, 10, 12 and a part of 5
//	quiescence  holds when everything that was begun has been finished: 2, 3, 6, 7, 8, 11, 16 and the rest of 5
//
// So the logs are judged for the first kind as they are, and for the second when they have come to rest. They are at rest when this was
// seen, in this order: where the logs end; that no consumer group has anything left to do; that the logs still end there. A group with nothing left has
// handled all of a log that did not grow. After the reading, the ends are looked at once more: what was read is then what there is.
//
// How the safety invariants stay sound while the logs grow: an event is stored before any event that it causes. So where the judged part of a log ends
// is fixed before the end to which the causes are known. See [reader.bounds].
//
// The memory is what a million orders allow: some 360 bytes for an order with its five events (BenchmarkRead tells), and the lines of open reservations
// only. A reservation's and an order's lines are compared by a hash that is linear in the quantities; where the hashes differ, the exact lines are
// read again.
package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/internal/client"
	"github.com/tidemark/tidemark/internal/natsconn"
	"github.com/tidemark/tidemark/pkg/events"
)

// ErrNoSystem is wrapped where there is no system to check: the API or NATS can't be reached.
var ErrNoSystem = errors.New("no system to check")

// Config says what to check and how long to wait. Addresses that are empty are asked from the API.
type Config struct {
	API     string          // base address of the API
	NATS    string          // URL of NATS
	Access  natsconn.Access // who the checker is at NATS; empty: what the API says, where it says where NATS is
	Gateway string          // base address of the payment gateway; empty: its books are read through the API
	Token   client.Token

	Wait   time.Duration // how long to wait until the system is at rest; default 30 s
	NoWait bool          // judge the safety invariants alone, at once

	// OrderDeadline is how long an order may be open whose deadline can't be found in TIMERS; default 2 minutes and a little.
	OrderDeadline time.Duration
	// StuckAfter is how long a letter may wait for an earlier one that is gone, until its owner goes on; default 10 s.
	StuckAfter time.Duration
	Topology   events.Topology // default [events.DefaultTopology]
	Progress   io.Writer       // is told what it waits for; nil: nobody
}

// Result is the judgement of one invariant.
type Result struct {
	Invariant int    `json:"invariant"`
	Name      string `json:"name"`
	Counted   int    `json:"counted"`             // how many things were looked at
	Waiting   int    `json:"waiting"`             // of these, not judged yet: inside their deadline, or with a parked letter
	Broken    int    `json:"broken"`              // of these, how many break the invariant
	First     string `json:"first,omitempty"`     // the first that does
	Unchecked string `json:"unchecked,omitempty"` // why the invariant could not be checked
}

// OK reports whether the invariant was checked and holds.
func (r Result) OK() bool { return r.Broken == 0 && r.Unchecked == "" }

// Broken reports whether an invariant is broken or could not be checked.
func Broken(results []Result) bool {
	for _, r := range results {
		if !r.OK() {
			return true
		}
	}
	return false
}

// Run checks. The error says why nothing could be judged; what could not be checked by itself stands in its result.
func Run(ctx context.Context, cfg Config) ([]Result, error) {
	ctx, denied, why := natsconn.EndWhenDenied(ctx)
	results, err := check(ctx, cfg.withDefaults(), denied)
	return results, why(err)
}

func check(ctx context.Context, cfg Config, denied func(error)) ([]Result, error) {
	sys, err := connect(ctx, cfg, denied)
	if err != nil {
		return nil, err
	}
	defer sys.close()
	registry, err := events.NewRegistry()
	if err != nil {
		return nil, fmt.Errorf("check: %w", err)
	}
	c := &checker{cfg: cfg, sys: sys, read: newReader(sys.js, registry)}
	if cfg.NoWait {
		return c.safety(ctx)
	}
	return c.all(ctx)
}

func (c Config) withDefaults() Config {
	if c.Wait <= 0 {
		c.Wait = 30 * time.Second
	}
	if c.OrderDeadline <= 0 {
		c.OrderDeadline = 2*time.Minute + grace
	}
	if c.StuckAfter <= 0 {
		c.StuckAfter = 10 * time.Second
	}
	if c.Topology.Partitions == 0 {
		c.Topology = events.DefaultTopology(0)
	}
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	return c
}

// system is where the running system is reached. api and gateway are nil where there is none.
type system struct {
	nc           *nats.Conn
	js           jetstream.JetStream
	api, gateway *client.Client
}

func connect(ctx context.Context, cfg Config, denied func(error)) (*system, error) {
	const patience = 2 * time.Second
	s := &system{}
	var where client.System
	if cfg.API != "" {
		api, err := client.New(client.Config{URL: cfg.API, Token: cfg.Token, Patience: patience})
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoSystem, err)
		}
		s.api = api
		if where, err = api.System(ctx); err != nil && cfg.NATS == "" {
			s.close()
			return nil, fmt.Errorf("%w: ask %s where it is: %w", ErrNoSystem, cfg.API, err)
		}
	}
	if cfg.NATS != "" {
		where.NATSURL = cfg.NATS
	}
	// The gateway's books are read through the API where it has them: the token is for that address only.
	if where.Gateway = cfg.Gateway; where.Gateway == "" {
		s.gateway = s.api
	}
	if err := s.connect(where, cfg.Access.Else(where.Access()), denied); err != nil {
		s.close()
		return nil, fmt.Errorf("%w: %w", ErrNoSystem, err)
	}
	return s, nil
}

func (s *system) connect(where client.System, access natsconn.Access, denied func(error)) (err error) {
	if where.Gateway != "" {
		gateway, err := client.New(client.Config{URL: where.Gateway})
		if err != nil {
			return err
		}
		s.gateway = gateway
	}
	if where.NATSURL == "" {
		return errors.New("the API does not say where NATS is")
	}
	s.nc, err = natsconn.Connect(natsconn.Config{URL: where.NATSURL, Name: "check", User: events.UserOperator, Access: access, Denied: denied})
	if err != nil {
		return err
	}
	s.js, err = jetstream.New(s.nc)
	return err
}

func (s *system) close() {
	for _, c := range []*client.Client{s.api, s.gateway} {
		if c != nil {
			c.Close()
		}
	}
	if s.nc != nil {
		s.nc.Close()
	}
}
