package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/internal/client"
)

// broker is the flags of verbs that look into the streams themselves.
type broker struct {
	api  `embed:""`
	NATS string `name:"nats" env:"TIDEMARK_NATS_URL" help:"NATS server (default: what the API says)."`
}

// connect reaches the broker, whose address the API knows on its own machine.
func (b *broker) connect(a *app) (jetstream.JetStream, func(), error) {
	where := client.System{NATSURL: b.NATS}
	if b.NATS == "" {
		cl, err := client.New(client.Config{URL: b.To, Patience: 2 * time.Second})
		if err != nil {
			return nil, nil, err
		}
		defer cl.Close()
		if where, err = cl.System(a.ctx); err != nil {
			return nil, nil, fmt.Errorf("ask %s where NATS is (or say it with --nats): %w", b.To, err)
		}
		if where.NATSURL == "" {
			return nil, nil, errors.New("the API does not say where NATS is: say it with --nats")
		}
	}
	opts := []nats.Option{nats.Name("tidemark-operator"), nats.CustomInboxPrefix("_INBOX_operator")}
	if where.CredsFile != "" {
		opts = append(opts, nats.UserCredentials(where.CredsFile))
	}
	nc, err := nats.Connect(where.NATSURL, opts...)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to NATS at %s: %w", where.NATSURL, err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	return js, nc.Close, nil
}
