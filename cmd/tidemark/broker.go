package main

import (
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/internal/client"
	"github.com/tidemark/tidemark/internal/natsconn"
	"github.com/tidemark/tidemark/pkg/events"
)

// broker is the flags of verbs that look into the streams themselves.
type broker struct {
	api             `embed:""`
	natsconn.Access `embed:""`
	NATS            string `name:"nats" env:"TIDEMARK_NATS_URL" help:"NATS server (default: what the API says)."`
}

// connect reaches the broker, whose address, and the operator's key, the API knows on its own machine.
func (b *broker) connect(a *app) (jetstream.JetStream, func(), error) {
	where := client.System{NATSURL: b.NATS}
	if b.NATS == "" {
		cl, err := b.client()
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
	nc, err := a.broker(natsconn.Config{URL: where.NATSURL, Name: events.UserOperator, Access: b.Access.Else(where.Access())})
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	return js, nc.Close, nil
}

// broker connects to NATS. What the broker does not allow ends the verb.
func (a *app) broker(cfg natsconn.Config) (*nats.Conn, error) {
	a.ctx, cfg.Denied, a.why = natsconn.EndWhenDenied(a.ctx)
	return natsconn.Connect(cfg)
}
