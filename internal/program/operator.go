package program

import (
	"context"
	"fmt"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/internal/deadletters"
	"github.com/tidemark/tidemark/internal/groups"
	"github.com/tidemark/tidemark/internal/run"
)

// Operator registers /v1/deadletters and makes the part that measures dead letters, groups and streams, which is for the operator's user of the broker: it sees all of them.
func Operator(env Env, api huma.API) (run.Part, error) {
	desk, js, err := desk(env, api, "")
	if err != nil {
		return run.Part{}, err
	}
	observer, err := deadletters.NewObserver(desk, deadletters.ObserverConfig{}, env.Telemetry)
	if err != nil {
		return run.Part{}, err
	}
	measure, err := groups.NewObserver(js, env.Topology, 0, env.Telemetry)
	if err != nil {
		return run.Part{}, err
	}
	return run.Part{Name: "dead letters", Component: operated{
		Component: observer, budget: time.Second, with: run.Part{Name: "groups", Component: measure},
	}}, nil
}

// desk registers /v1/deadletters. Every process can serve it, since it works on the streams alone; a service's acts on the letters of its own groups.
func desk(env Env, api huma.API, service string) (*deadletters.Desk, jetstream.JetStream, error) {
	js, err := jetstream.New(env.NATS)
	if err != nil {
		return nil, nil, fmt.Errorf("jetstream: %w", err)
	}
	d, err := deadletters.New(deadletters.Deps{JS: js, Topology: env.Topology, Registry: env.Registry, Service: service})
	if err != nil {
		return nil, nil, fmt.Errorf("dead letters: %w", err)
	}
	d.Routes(api)
	return d, js, nil
}

// operated is a service and what runs beside it.
type operated struct {
	run.Component

	budget time.Duration
	with   run.Part
}

// Healthy is what the service says.
func (o operated) Healthy() error { return run.Unwell([]run.Part{{Component: o.Component}}) }

func (o operated) Run(ctx context.Context) error {
	return run.All(ctx, o.budget, run.Part{Name: "service", Component: o.Component}, o.with)
}
