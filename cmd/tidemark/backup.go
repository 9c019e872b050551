package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/internal/backup"
	"github.com/tidemark/tidemark/internal/natsconn"
	"github.com/tidemark/tidemark/internal/natsd"
	"github.com/tidemark/tidemark/internal/program"
	"github.com/tidemark/tidemark/pkg/events"
)

type backupCmd struct {
	broker `embed:""`
	Dir    string        `arg:"" help:"Directory to write to; it is made, or must be empty."`
	Settle time.Duration `default:"5s" help:"How long to wait until the groups have done what they have in hand."`
	JSON   bool          `name:"json" help:"The manifest on one line."`
}

// Run takes a backup of the running system.
func (c *backupCmd) Run(a *app) error {
	js, closeNATS, err := c.connect(a)
	if err != nil {
		return err
	}
	defer closeNATS()
	m, err := backup.Take(a.ctx, backup.Config{JS: js, Topology: events.DefaultTopology(0), Version: program.Version(), Settle: c.Settle, Progress: a.stderr}, c.Dir)
	if err != nil {
		return refused(err)
	}
	if c.JSON {
		return json.NewEncoder(a.stdout).Encode(m)
	}
	fmt.Fprintf(a.stdout, "backup %s of %s: %d streams, %d messages, %.1f MB in %s; the groups stood still for %d ms\n",
		m.ID, m.At.Format(time.RFC3339), len(m.Streams), m.Messages(), float64(m.Bytes())/1e6, m.Ended.Sub(m.Began).Round(time.Millisecond), m.HeldMS)
	return nil
}

type restoreCmd struct {
	natsconn.Access `embed:""`

	Dir      string `arg:"" help:"Directory of the backup."`
	NATS     string `name:"nats" env:"TIDEMARK_NATS_URL" help:"NATS server to restore to. No service may run on it."`
	Data     string `help:"Restore into the data directory of tidemark up, which must not run, instead of a NATS server."`
	Replicas int    `env:"TIDEMARK_REPLICAS" default:"1" help:"Copies of each stream: 1, or 3 on a cluster."`
	Replace  bool   `help:"Remove the streams that are there first."`
	DryRun   bool   `help:"Look whether the backup is whole and fits, and change nothing."`
	JSON     bool   `name:"json" help:"One object on one line."`
}

// Run makes the streams of a backup anew.
func (c *restoreCmd) Run(a *app) error {
	cfg := backup.RestoreConfig{Topology: events.DefaultTopology(0), Replicas: c.Replicas, Replace: c.Replace, Progress: a.stderr}
	if c.DryRun && c.Data == "" && c.NATS == "" {
		return c.check(a, cfg)
	}
	nc, closeNATS, err := c.connect(a, slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelError})))
	if err != nil {
		return err
	}
	defer closeNATS()
	if cfg.JS, err = jetstream.New(nc); err != nil {
		return err
	}
	if c.DryRun {
		return c.check(a, cfg)
	}
	out, err := backup.Restore(a.ctx, cfg, c.Dir)
	if err != nil {
		return refused(err)
	}
	if c.JSON {
		return json.NewEncoder(a.stdout).Encode(out)
	}
	fmt.Fprintf(a.stdout, "restored backup %s in %s: the system is back at %s, with %d messages in %d streams\n",
		out.Backup, time.Duration(out.TookMS)*time.Millisecond, out.At.Format(time.RFC3339), out.Messages, out.Streams)
	fmt.Fprintf(a.stdout, "%d orders are open; those whose deadline has passed are rejected when the services start\n", out.Open)
	return nil
}

func (c *restoreCmd) check(a *app, cfg backup.RestoreConfig) error {
	m, err := backup.Check(a.ctx, cfg, c.Dir)
	if err != nil {
		return refused(err)
	}
	if c.JSON {
		return json.NewEncoder(a.stdout).Encode(m)
	}
	fmt.Fprintf(a.stdout, "backup %s of %s is whole: %d streams, %d messages, %.1f MB\n", m.ID, m.At.Format(time.RFC3339), len(m.Streams), m.Messages(), float64(m.Bytes())/1e6)
	return nil
}

// connect reaches the server, or starts one on a data directory. That one asks nobody who he is: who may write to the directory may do everything.
func (c *restoreCmd) connect(a *app, log *slog.Logger) (*nats.Conn, func(), error) {
	if c.Data == "" && c.NATS == "" {
		return nil, nil, fmt.Errorf("%w: say where to: --data DIR for tidemark up, or --nats URL", program.ErrUsage)
	}
	if c.Data == "" {
		nc, err := a.broker(natsconn.Config{URL: c.NATS, Name: events.UserOperator, Access: c.Access})
		if err != nil {
			return nil, nil, err
		}
		return nc, nc.Close, nil
	}
	server, err := natsd.Start(a.ctx, natsd.Config{Dir: c.Data, Addr: "127.0.0.1:0", Logger: log})
	if err != nil {
		return nil, nil, err
	}
	nc, err := a.broker(natsconn.Config{Name: events.UserOperator, Through: server})
	if err != nil {
		return nil, nil, errors.Join(err, server.Stop())
	}
	return nc, func() {
		nc.Close()
		if err := server.Stop(); err != nil {
			log.Error("the data directory was not closed", "error", err)
		}
	}, nil
}

// refused tells wrong use from failure.
func refused(err error) error {
	for _, use := range []error{backup.ErrNotEmpty, backup.ErrNotFree, backup.ErrRunning} {
		if errors.Is(err, use) {
			return fmt.Errorf("%w: %w", program.ErrUsage, err)
		}
	}
	return err
}
