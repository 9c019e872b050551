package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

// names keeps the streams of a level apart from those of the others, and from the services' own.
type names struct{ level level }

func (n names) stream(name string) string { return "STEP" + strconv.Itoa(int(n.level)) + "_" + name }

func (n names) subject(subject string) string {
	return "step" + strconv.Itoa(int(n.level)) + "." + subject
}

// streams are those that a level uses.
func (l level) streams() []string {
	all := []string{events.StreamOrders, events.StreamStock, events.StreamTimers}
	if l >= levelCopies {
		all = append(all, events.StreamTimeline)
	}
	if l >= levelRecords {
		all = append(all, events.StreamNotices)
	}
	return all
}

// groups are the consumer groups that a level has.
func (l level) groups() []string {
	all := []string{events.GroupInventory, events.GroupOrderStock, events.GroupNotify}
	if l >= levelCopies {
		all = append(all, events.GroupAnalytics, events.GroupOrderDeadlines)
	}
	return all
}

// makeStreams makes the level's streams as the topology has them, under their own names. They are new in each round: nats-server remembers each id of a stream
// for two minutes, and with those of all steps it would have more to hold than with one system's.
func (o *bareOrders) makeStreams(ctx context.Context, t events.Topology) error {
	for _, name := range o.level.streams() {
		s, _ := t.Stream(name)
		s.Name = o.names.stream(name)
		for i := range s.Subjects {
			s.Subjects[i] = o.names.subject(s.Subjects[i])
		}
		if len(s.Sources) > 0 {
			s.Sources = []events.Source{{Stream: o.names.stream(events.StreamOrders)}} // nobody clicks here
		}
		if _, err := o.js.CreateOrUpdateStream(ctx, bus.StreamConfig(s, 1)); err != nil {
			return fmt.Errorf("make stream %s: %w", s.Name, err)
		}
	}
	return nil
}

// open begins to read for a round.
func (o *bareOrders) open(ctx context.Context, n, open int) error {
	o.flow = newFlow(n, open, o.level.deliveries())
	t := events.DefaultTopology(0)
	if err := o.makeStreams(ctx, t); err != nil {
		return err
	}
	if o.level >= levelLocks {
		if err := o.startWarehouse(ctx); err != nil {
			return err
		}
	}
	for _, name := range o.level.groups() {
		group, _ := t.Group(name)
		if err := o.read(ctx, group); err != nil {
			return fmt.Errorf("read for group %s: %w", name, err)
		}
	}
	if o.level < levelRecords {
		return nil
	}
	// The listing of orders follows both logs, and the warehouse's state its own.
	for _, stream := range []string{events.StreamOrders, events.StreamStock, events.StreamStock} {
		if err := o.follow(ctx, stream); err != nil {
			return fmt.Errorf("follow %s: %w", stream, err)
		}
	}
	return nil
}

// read reads all partitions of a group as its one member does: pinned, with requests for as many messages and as long as bus has.
func (o *bareOrders) read(ctx context.Context, g events.Group) error {
	own := g
	own.Stream = o.names.stream(g.Stream)
	if g.Filter != "" {
		own.Filter = o.names.subject(g.Filter)
	}
	for p := range g.Partitions {
		config := bus.ConsumerConfig(own, p, 1)
		config.DeliverPolicy = jetstream.DeliverNewPolicy
		c, err := o.js.CreateOrUpdateConsumer(ctx, own.Stream, config)
		if err != nil {
			return err
		}
		const atOnce = 1024
		consuming, err := c.Consume(func(m jetstream.Msg) { o.on(ctx, g.Name, m) },
			jetstream.PullPriorityGroup(config.PriorityGroups[0]), jetstream.PullMaxMessages(atOnce), jetstream.PullExpiry(g.PinnedTTL/2))
		if err != nil {
			return err
		}
		o.onStop(ctx, consuming, own.Stream, config.Durable)
	}
	return nil
}

// follow reads a log from now on without acknowledgements, as read models do.
func (o *bareOrders) follow(ctx context.Context, stream string) error {
	name := o.names.stream(stream)
	c, err := o.js.CreateConsumer(ctx, name, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverNewPolicy, AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: 30 * time.Second,
	})
	if err != nil {
		return err
	}
	consuming, err := c.Consume(func(m jetstream.Msg) {
		if kindOf(m.Headers()) == kindConfirmed {
			o.tellCustomer(lastToken(m.Subject()))
		}
		o.flow.handled <- struct{}{}
	}, jetstream.PullMaxMessages(1000), jetstream.PullHeartbeat(time.Second), jetstream.PullExpiry(10*time.Second))
	if err != nil {
		return err
	}
	o.onStop(ctx, consuming, name, c.CachedInfo().Name)
	return nil
}

// tellCustomer wakes who waits for the order's end.
func (o *bareOrders) tellCustomer(order string) {
	if ended, ok := o.ended.LoadAndDelete(order); ok {
		close(ended.(chan struct{}))
	}
}

func (o *bareOrders) onStop(ctx context.Context, consuming jetstream.ConsumeContext, stream, consumer string) {
	o.stops = append(o.stops, func() {
		consuming.Stop()
		<-consuming.Closed()
		if err := o.js.DeleteConsumer(ctx, stream, consumer); err != nil {
			o.fail(err)
		}
	})
}

// stop ends a round, and makes sure that all was stored. The warehouse, which began first, ends last, when nobody hands it anything any more.
func (o *bareOrders) stop(ctx context.Context) error {
	for _, stop := range slices.Backward(o.stops) {
		stop()
	}
	o.stops = nil
	total, err := o.removeStreams(ctx)
	if err != nil {
		return err
	}
	if want := uint64(o.flow.n) * o.level.stored(); total != want {
		o.fail(fmt.Errorf("%d messages were stored, want %d", total, want))
	}
	return o.failure()
}

// removeStreams counts the messages that the level's streams have had.
func (o *bareOrders) removeStreams(ctx context.Context) (total uint64, err error) {
	for _, name := range o.level.streams() {
		name = o.names.stream(name)
		stream, err := o.js.Stream(ctx, name)
		if err != nil {
			return 0, err
		}
		total += stream.CachedInfo().State.LastSeq
		if err := o.js.DeleteStream(ctx, name); err != nil {
			return 0, err
		}
	}
	return total, nil
}

// work places the round's orders, and returns how long it took.
func (o *bareOrders) work(ctx context.Context) (time.Duration, error) {
	return o.flow.run(ctx, o.plainConn, func(int) { o.place(events.NewID()) })
}
