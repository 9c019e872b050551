package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/tidemark/tidemark/internal/program"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

type eventCmd struct {
	Publish int    `default:"10000" help:"Events published a round, one at a time."`
	Consume int    `default:"100000" help:"Events consumed a round."`
	Rounds  int    `default:"5" help:"Rounds of each; they take turns."`
	Profile string `help:"Write CPU profiles of ours consuming to FILE.ours and FILE.nats, instead of comparing."`
}

// Run prints events a second of ours and of plain nats.go, and the ratio. Ours validates against the schema, writes and reads CloudEvents headers, carries trace context
// through a real SDK that does not sample, keeps keys in order, and reads by the rule that survives a crash. Plain reads through a durable pull consumer with
// explicit acknowledgements as well.
func (c *eventCmd) Run(b *bench) error {
	program.SpendMemory() // as the services' programs do; plain runs in the same process
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
	e, err := newEventRig(b.ctx, server, 1)
	if err != nil {
		return err
	}
	defer e.close()
	if c.Profile != "" {
		return c.profile(b, e)
	}
	if c.Consume < c.Publish {
		return fmt.Errorf("--consume: is %d, must be at least what --publish stores, %d", c.Consume, c.Publish)
	}
	var rows [6][]round
	for i := range c.Rounds + 1 {
		one, err := c.round(b.ctx, e)
		if err != nil {
			return err
		}
		for k := range one {
			if i > 0 { // the first is a warm-up
				rows[k] = append(rows[k], one[k])
			}
		}
	}
	c.report(b, rows)
	return nil
}

// round is one of each: publish ours, plain, and what ours look like in plain; consume ours, plain, and plain reading ours. What was published is consumed, and more.
func (c *eventCmd) round(ctx context.Context, e *eventRig) (all [6]round, err error) {
	if all[0], err = e.timed(c.Publish, func() error { return e.publishOurs(ctx, c.Publish) }); err != nil {
		return all, err
	}
	if all[1], err = e.timed(c.Publish, func() error { return e.publishPlain(ctx, c.Publish) }); err != nil {
		return all, err
	}
	same, err := e.encoded(ctx, c.Publish)
	if err != nil {
		return all, err
	}
	if all[2], err = e.timed(c.Publish, func() error { return e.publishMessages(ctx, same) }); err != nil {
		return all, err
	}
	if err := errors.Join(e.fillOurs(ctx, c.Consume-c.Publish), e.fillPlain(ctx, c.Consume-c.Publish)); err != nil {
		return all, err
	}
	for k, consume := range []func(*meter) error{
		func(m *meter) error { return e.consumeOurs(ctx, m) },
		func(m *meter) error { return e.consumePlain(ctx, m, "PLAIN") },
		func(m *meter) error { return e.consumePlain(ctx, m, e.group.Stream) },
	} {
		m := newMeter(c.Consume, e.server)
		if err := consume(m); err != nil {
			return all, err
		}
		all[3+k] = m.result
	}
	return all, nil
}

func (c *eventCmd) report(b *bench, rows [6][]round) {
	b.say("| what | events/s (median of %d, lowest to highest) | CPU an event: client / nats-server | ratio to plain |", c.Rounds)
	b.say("|---|---|---|---|")
	for k, row := range []struct {
		name  string
		n     int
		plain int // what it is compared with
	}{
		{"publish, one at a time", c.Publish, 1}, {"plain nats.go, without headers", c.Publish, 1}, {"plain nats.go, publishing the same messages as ours", c.Publish, 1},
		{"consume and acknowledge", c.Consume, 4}, {"plain nats.go, without headers", c.Consume, 4}, {"plain nats.go, reading the same messages as ours", c.Consume, 4},
	} {
		b.say("| %s | %s | %s | %.2f |", row.name, spread(rows[k]), perOrder(rows[k], row.n), median(rows[k])/median(rows[row.plain]))
	}
}

// profile looks at where the time of consuming goes, in our process and in nats-server.
func (c *eventCmd) profile(b *bench, e *eventRig) error {
	if err := e.fillOurs(b.ctx, c.Consume); err != nil {
		return err
	}
	return profileBoth(b.ctx, e.server, c.Profile, func() error {
		m := newMeter(c.Consume, e.server)
		err := e.consumeOurs(b.ctx, m)
		b.say("%.0f events/s, CPU %s an event", m.result.rate, perOrder([]round{m.result}, c.Consume))
		return err
	})
}

type eventRig struct {
	server    *natsProcess
	nc        *nats.Conn
	js        jetstream.JetStream
	topology  events.Topology
	group     events.Group
	deps      bus.Deps
	publisher *bus.Publisher
	body      []byte
	key       string // of the current order
	version   uint64
	plainKey  string
}

func newEventRig(ctx context.Context, server *natsProcess, partitions int) (*eventRig, error) {
	nc, err := nats.Connect(server.url)
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	e := &eventRig{server: server, nc: nc, js: js, topology: events.DefaultTopology(partitions)}
	e.topology.Streams = slices.DeleteFunc(e.topology.Streams, func(s events.Stream) bool { return s.Name == events.StreamTimeline || s.Name == events.StreamTicks })
	e.topology.Groups = slices.DeleteFunc(e.topology.Groups, func(g events.Group) bool { return g.Name != events.GroupNotify })
	if err := bus.Apply(ctx, js, e.topology, 1); err != nil {
		return nil, err
	}
	for name, subject := range map[string]string{"PLAIN": "plain.*", "SAME": "same.*"} {
		if _, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: name, Subjects: []string{subject}, AllowDirect: true}); err != nil {
			return nil, err
		}
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
	return e, err
}

func (e *eventRig) close() { e.nc.Close() }

const (
	eventsAnOrder = 3
	notSampled    = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
)

// event is the next one of the current order, or the first of a new one.
func (e *eventRig) event(i int) (subject string, ev events.Event) {
	if i%eventsAnOrder == 0 || e.key == "" {
		e.key, e.version = events.NewID(), 0
	}
	e.version++
	return e.topology.Subjects().Order(e.key), events.Event{
		ID: events.NewID(), Source: "/bench", Type: events.TypeOrderPlaced, Subject: e.key, Time: time.Now(), DataSchema: events.SchemaURI(events.TypeOrderPlaced),
		CorrelationID: e.key, PartitionKey: e.key, Version: e.version, TraceParent: notSampled, Data: e.body,
	}
}

func (e *eventRig) publishOurs(ctx context.Context, n int) error {
	for i := range n {
		subject, ev := e.event(i)
		if _, err := e.publisher.Publish(ctx, subject, ev); err != nil {
			return err
		}
	}
	return nil
}

func (e *eventRig) plain(i int) *nats.Msg {
	if i%eventsAnOrder == 0 || e.plainKey == "" {
		e.plainKey = events.NewID()
	}
	return &nats.Msg{Subject: "plain." + e.plainKey, Data: e.body}
}

func (e *eventRig) publishPlain(ctx context.Context, n int) error {
	for i := range n {
		if _, err := e.js.PublishMsg(ctx, e.plain(i)); err != nil {
			return err
		}
	}
	return nil
}

// encoded are messages as ours are on the wire, for a stream that nobody reads.
func (e *eventRig) encoded(ctx context.Context, n int) ([]*nats.Msg, error) {
	out := make([]*nats.Msg, n)
	for i := range out {
		_, ev := e.event(i)
		m, err := e.deps.Encoder.Encode(ctx, "same."+ev.Subject, ev)
		if err != nil {
			return nil, err
		}
		out[i] = m
	}
	return out, nil
}

func (e *eventRig) publishMessages(ctx context.Context, msgs []*nats.Msg) error {
	for _, m := range msgs {
		if _, err := e.js.PublishMsg(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// fillOurs and fillPlain store n events as fast as it goes: they are there to be consumed.
func (e *eventRig) fillOurs(ctx context.Context, n int) error {
	const most = 1000
	for n > 0 {
		batch := make([]bus.Message, min(n, most))
		for i := range batch {
			batch[i].Subject, batch[i].Event = e.event(i)
		}
		if _, err := e.publisher.PublishBatch(ctx, batch); err != nil {
			return err
		}
		n -= len(batch)
	}
	return nil
}

func (e *eventRig) fillPlain(ctx context.Context, n int) error {
	const most = 1000
	for n > 0 {
		futures := make([]jetstream.PubAckFuture, min(n, most))
		for i := range futures {
			var err error
			if futures[i], err = e.js.PublishMsgAsync(e.plain(i)); err != nil {
				return err
			}
		}
		for _, f := range futures {
			select {
			case <-f.Ok():
			case err := <-f.Err():
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		n -= len(futures)
	}
	return nil
}

func (e *eventRig) consumeOurs(ctx context.Context, m *meter) error {
	group, err := bus.NewGroup(bus.GroupConfig{Group: e.group, Handler: func(context.Context, bus.Delivery) error {
		m.one()
		return nil
	}}, e.deps)
	if err != nil {
		return err
	}
	work, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- group.Run(work) }()
	select {
	case <-m.done:
		stop()
		return <-done
	case err := <-done:
		return err
	}
}

func (e *eventRig) consumePlain(ctx context.Context, m *meter, stream string) error {
	c, err := e.js.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{Durable: "plain", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 2048})
	if err != nil {
		return err
	}
	consuming, err := c.Consume(func(msg jetstream.Msg) {
		if err := msg.Ack(); err == nil {
			m.one()
		}
	})
	if err != nil {
		return err
	}
	defer func() {
		consuming.Drain()
		<-consuming.Closed()
	}()
	select {
	case <-m.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// meter measures from the first of n events to the last, so that what starting and stopping a reader takes is not in the rate.
type meter struct {
	n      int64
	server *natsProcess
	done   chan struct{}
	result round

	seen   atomic.Int64
	before cpu
	began  time.Time
}

func (m *meter) one() {
	switch m.seen.Add(1) {
	case 1:
		m.before, m.began = cpuNow(m.server.cmd.Process.Pid), time.Now()
	case m.n:
		took := time.Since(m.began)
		m.result = round{rate: float64(m.n) / took.Seconds(), cpu: cpuNow(m.server.cmd.Process.Pid).since(m.before)}
		close(m.done)
	}
}

func newMeter(n int, server *natsProcess) *meter {
	return &meter{n: int64(n), server: server, done: make(chan struct{})}
}

func (e *eventRig) timed(n int, do func() error) (round, error) {
	before, began := cpuNow(e.server.cmd.Process.Pid), time.Now()
	if err := do(); err != nil {
		return round{}, err
	}
	took := time.Since(began)
	return round{rate: float64(n) / took.Seconds(), cpu: cpuNow(e.server.cmd.Process.Pid).since(before)}, nil
}
