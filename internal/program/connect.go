package program

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

// AwaitTopology waits until the streams and consumer groups of the service exist: whoever deploys makes them (tidemark topology apply, or tidemark up), services never do.
func AwaitTopology(ctx context.Context, nc *nats.Conn, t events.Topology, service string, log *slog.Logger) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("jetstream: %w", err)
	}
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	said := time.Time{}
	for {
		missing := missingOf(ctx, js, t, service)
		if missing == nil {
			return nil
		}
		if time.Since(said) > 5*time.Second {
			said = time.Now()
			log.Warn("waiting for the topology; `tidemark topology apply` makes it", "missing", missing)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func missingOf(ctx context.Context, js jetstream.JetStream, t events.Topology, service string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, s := range t.Streams {
		if !slices.Contains(s.Publishers, service) && !slices.Contains(s.Readers, service) {
			continue
		}
		stream, err := js.Stream(ctx, s.Name)
		if err != nil {
			return fmt.Errorf("stream %s: %w", s.Name, err)
		}
		if err := bus.Restoring(stream.CachedInfo().Config); err != nil {
			return err
		}
	}
	var errs []error
	for _, g := range t.Groups {
		if g.Service != service {
			continue
		}
		if _, err := js.Consumer(ctx, g.Stream, g.Consumer(g.Partitions-1)); err != nil {
			errs = append(errs, fmt.Errorf("group %s: %w", g.Name, err))
		}
	}
	return errors.Join(errs...)
}

// AwaitConnected waits until the server has answered.
func AwaitConnected(ctx context.Context, nc *nats.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	changed := nc.StatusChanged(nats.CONNECTED)
	defer nc.RemoveStatusListener(changed)
	if nc.IsConnected() {
		return nil
	}
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("no NATS server answers at %v", nc.Servers())
	}
}
