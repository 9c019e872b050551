package program

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/internal/natsconn"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

// applyPatience is how long the servers of a cluster may take to find each other and agree on a leader.
const applyPatience = time.Minute

// Apply makes the topology real. A broker that is not there yet is waited for until ctx ends; one whose servers are still forming their cluster, for a minute. waiting is told of both.
func Apply(ctx context.Context, nc *nats.Conn, t events.Topology, replicas int, waiting func(error)) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("jetstream: %w", err)
	}
	var since time.Time // connected, but refused
	for {
		err := bus.Apply(ctx, js, t, replicas)
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case !nc.IsConnected():
			since = time.Time{}
		case !natsconn.Forming(err):
			return err
		case since.IsZero():
			since = time.Now()
		case time.Since(since) > applyPatience:
			return err
		}
		waiting(err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}
