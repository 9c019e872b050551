package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

type eventCmd struct {
	N      int `default:"20000" help:"Events a round."`
	Rounds int `default:"5" help:"Rounds of each; they take turns."`
}

// Run prints events a second of ours and of plain nats.go, and the ratio. Ours validates against the schema, writes and reads CloudEvents headers, carries trace context
// through a real SDK that does not sample, keeps keys in order, and reads by the rule that survives a crash.
func (c *eventCmd) Run(b *bench) error {
	dir, remove, err := workDir()
	if err != nil {
		return err
	}
	defer remove()
	server, err := startNATS(b.ctx, dir)
	if err != nil {
		return err
	}
	defer server.stop()
	e, err := newEventRig(b.ctx, server)
	if err != nil {
		return err
	}
	defer e.close()

	b.say("| what | events/s (median of %d) | CPU an event: client / nats-server | ratio to plain |", c.Rounds)
	b.say("|---|---|---|---|")
	var rows [4][]round // publish ours, plain; consume ours, plain
	for i := range c.Rounds + 1 {
		for k, step := range []func() error{
			func() error { return e.publishOurs(b.ctx, c.N) }, func() error { return e.publishPlain(b.ctx, c.N) },
			func() error { return e.consumeOurs(b.ctx, c.N) }, func() error { return e.consumePlain(b.ctx, c.N) },
		} {
			one, err := timedRound(server, c.N, step)
			if err != nil {
				return err
			}
			if i > 0 { // the first is a warm-up
				rows[k] = append(rows[k], one)
			}
		}
	}
	for k, name := range []string{"publish, one at a time", "plain", "consume and acknowledge", "plain"} {
		ratio := median(rows[k]) / median(rows[k|1])
		b.say("| %s | %s | %s | %.2f |", name, spread(rows[k]), perOrder(rows[k], c.N), ratio)
	}
	both := func(publish, consume []round) float64 { return 1/median(publish) + 1/median(consume) }
	b.say("\nPublish and consume of one event together: %.2f of plain.", both(rows[1], rows[3])/both(rows[0], rows[2]))
	return nil
}

func timedRound(server *natsProcess, n int, do func() error) (round, error) {
	before, began := cpuNow(server.cmd.Process.Pid), time.Now()
	if err := do(); err != nil {
		return round{}, err
	}
	took := time.Since(began)
	return round{rate: float64(n) / took.Seconds(), cpu: cpuNow(server.cmd.Process.Pid).since(before)}, nil
}

type eventRig struct {
	nc        *nats.Conn
	js        jetstream.JetStream
	topology  events.Topology
	group     events.Group
	deps      bus.Deps
	publisher *bus.Publisher
	body      []byte
	keys      []string
	began     time.Time
}

func newEventRig(ctx context.Context, server *natsProcess) (*eventRig, error) {
	nc, err := nats.Connect(server.url)
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	e := &eventRig{nc: nc, js: js, topology: events.DefaultTopology(1), began: time.Now()}
	e.topology.Streams = slices.DeleteFunc(e.topology.Streams, func(s events.Stream) bool { return s.Name == events.StreamTimeline || s.Name == events.StreamTicks })
	e.topology.Groups = slices.DeleteFunc(e.topology.Groups, func(g events.Group) bool { return g.Name != events.GroupNotify })
	if err := bus.Apply(ctx, js, e.topology, 1); err != nil {
		return nil, err
	}
	if _, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: "PLAIN", Subjects: []string{"plain.*"}, AllowDirect: true}); err != nil {
		return nil, err
	}
	registry, err := events.NewRegistry()
	if err != nil {
		return nil, err
	}
	telemetry := bus.Telemetry{Tracer: trace.NewTracerProvider(trace.WithSampler(trace.NeverSample())), Propagator: propagation.TraceContext{}}
	e.deps = bus.Deps{JS: js, Encoder: bus.NewEncoder(registry, telemetry), Subjects: e.topology.Subjects(), Telemetry: telemetry}
	e.publisher = bus.NewPublisher(e.deps)
	e.group, _ = e.topology.Group(events.GroupNotify)
	e.body, err = examplePayload()
	for range 1000 {
		e.keys = append(e.keys, events.NewID())
	}
	return e, err
}

func (e *eventRig) close() { e.nc.Close() }

func (e *eventRig) publishOurs(ctx context.Context, n int) error {
	subjects := e.topology.Subjects()
	for i := range n {
		key := e.keys[i%len(e.keys)]
		ev := events.Event{
			ID: events.NewID(), Source: "/bench", Type: events.TypeOrderPlaced, Subject: key, Time: time.Now(), DataSchema: events.SchemaURI(events.TypeOrderPlaced),
			CorrelationID: key, PartitionKey: key, Data: e.body,
		}
		if _, err := e.publisher.Publish(ctx, subjects.Order(key), ev); err != nil {
			return err
		}
	}
	return nil
}

func (e *eventRig) publishPlain(ctx context.Context, n int) error {
	for i := range n {
		if _, err := e.js.PublishMsg(ctx, &nats.Msg{Subject: "plain." + e.keys[i%len(e.keys)], Data: e.body}); err != nil {
			return err
		}
	}
	return nil
}

func (e *eventRig) consumeOurs(ctx context.Context, n int) error {
	handled := make(chan struct{}, n)
	group, err := bus.NewGroup(bus.GroupConfig{Group: e.group, Handler: func(context.Context, bus.Delivery) error {
		handled <- struct{}{}
		return nil
	}}, e.deps)
	if err != nil {
		return err
	}
	work, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- group.Run(work) }()
	for range n {
		<-handled
	}
	stop()
	return <-done
}

func (e *eventRig) consumePlain(ctx context.Context, n int) error {
	c, err := e.js.CreateOrUpdateConsumer(ctx, "PLAIN", jetstream.ConsumerConfig{Durable: "plain", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 2048})
	if err != nil {
		return err
	}
	handled := make(chan error, n)
	consuming, err := c.Consume(func(m jetstream.Msg) { handled <- m.Ack() })
	if err != nil {
		return err
	}
	for range n {
		if err := <-handled; err != nil {
			return fmt.Errorf("plain ack: %w", err)
		}
	}
	consuming.Drain()
	<-consuming.Closed()
	return nil
}
