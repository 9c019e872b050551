package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/nats-io/nats.go"

	"github.com/tidemark/tidemark/bench/nexmark"
	"github.com/tidemark/tidemark/internal/program"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/services/analytics"
)

type serveCmd struct {
	NATS    string         `name:"nats" required:""`
	Queries []string       `help:"By name; none: all."`
	Mode    analytics.Mode `default:"per-event"`
}

// Run is the analytics service with the queries of Nexmark, as its own program runs it.
func (c *serveCmd) Run(b *bench) error {
	program.SpendMemory()
	nc, err := nats.Connect(c.NATS, nats.MaxReconnects(-1))
	if err != nil {
		return err
	}
	defer nc.Close()
	registry, err := events.NewRegistry(nexmark.Schemas())
	if err != nil {
		return err
	}
	workload := nexmark.Default(1000)
	settings := nexmarkSettings(workload, c.Mode)
	service, err := analytics.New(analytics.Config{Queries: nexmarkQueries(c.Queries), Default: &settings}, analytics.Deps{
		NATS: nc, Topology: nexmarkTopology(workload.Partitions), Registry: registry,
		Telemetry: bus.Telemetry{Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))},
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	go func() {
		select {
		case <-service.Ready():
			fmt.Fprintln(os.Stdout, "ready")
		case <-ctx.Done():
		}
	}()
	return service.Run(ctx)
}
