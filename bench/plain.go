package main

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

// plainOrders sends the messages that one order makes, 5 publishes and 6 deliveries, with nothing else: no lock, no schema, no
// trace, no partition, no order of keys. It is the ceiling that the broker and the client library set on this machine.
type plainOrders struct {
	*plainConn
	body    []byte
	headers headers // nil: messages have none
	flow    *flow   // of the round
	stops   []func()
}

func newPlainOrders(ctx context.Context, url, keys string, body []byte) (*plainOrders, error) {
	conn, err := connectPlain(url, keys)
	if err != nil {
		return nil, err
	}
	p := &plainOrders{plainConn: conn, body: body}
	for _, s := range []jetstream.StreamConfig{
		{Name: "PLAIN_ORDERS", Subjects: []string{"plain.orders.*.*"}},
		{Name: "PLAIN_STOCK", Subjects: []string{"plain.stock.*.*"}},
		{Name: "PLAIN_TIMERS", Subjects: []string{"plain.timers.*"}},
	} {
		if _, err := p.js.CreateOrUpdateStream(ctx, s); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// The messages of an order.
const (
	kindTimer     = "timer"
	kindPlaced    = "placed"
	kindReserved  = "reserved"
	kindConfirmed = "confirmed"
	kindCommitted = "committed"
	kindNotice    = "notice"
)

func (p *plainOrders) publish(subject, kind, order string) {
	m := &nats.Msg{Subject: subject + order, Data: p.body}
	if p.headers != nil {
		m.Header = p.headers.of(kind, order)
	}
	if _, err := p.js.PublishMsgAsync(m); err != nil {
		p.fail(err)
	}
}

// run sends n orders through, at most open at once, and returns how long it took until the last was confirmed and committed.
func (p *plainOrders) run(ctx context.Context, round string, n, open int) (time.Duration, error) {
	if err := p.open(ctx, round, n, open); err != nil {
		return 0, err
	}
	took, err := p.work(ctx, round)
	if err != nil {
		return 0, err
	}
	return took, p.stop()
}

// open makes the consumers of a round, and begins to read.
func (p *plainOrders) open(ctx context.Context, round string, n, open int) error {
	p.flow = newFlow(n, open, 6)
	placed, confirmed := "plain.orders.placed.", "plain.orders.confirmed."
	reserved, committed := "plain.stock.reserved.", "plain.stock.committed."
	for _, r := range []struct {
		stream, filter, group string
		then                  func(string)
	}{
		{"PLAIN_ORDERS", placed, "inventory-placed", func(o string) { p.publish(reserved, kindReserved, o) }},
		{"PLAIN_STOCK", reserved, "order-stock", func(o string) { p.publish(confirmed, kindConfirmed, o) }},
		{"PLAIN_ORDERS", confirmed, "inventory-confirmed", func(o string) { p.publish(committed, kindCommitted, o) }},
		{"PLAIN_STOCK", committed, "order-committed", func(string) { p.flow.end() }},
		{"PLAIN_ORDERS", placed, "notify-placed", func(string) {}},
		{"PLAIN_ORDERS", confirmed, "notify-confirmed", func(string) {}},
	} {
		if err := p.react(ctx, r.stream, r.filter+"*", r.group+round, r.then); err != nil {
			return fmt.Errorf("plain consumer %s: %w", r.group, err)
		}
	}
	return nil
}

// react does something on each message that comes from now on, and acknowledges it.
func (p *plainOrders) react(ctx context.Context, stream, filter, group string, then func(order string)) error {
	c, err := p.js.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{
		Durable: group, FilterSubject: filter, AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 4096, DeliverPolicy: jetstream.DeliverNewPolicy,
	})
	if err != nil {
		return err
	}
	consuming, err := c.Consume(func(m jetstream.Msg) {
		then(lastToken(m.Subject()))
		if err := m.Ack(); err != nil {
			p.fail(err)
		}
		p.flow.handled <- struct{}{}
	}, jetstream.PullMaxMessages(1000))
	if err != nil {
		return err
	}
	p.stops = append(p.stops, func() {
		consuming.Stop()
		<-consuming.Closed()
		if err := p.js.DeleteConsumer(ctx, stream, group); err != nil {
			p.fail(err)
		}
	})
	return nil
}

func (p *plainOrders) work(ctx context.Context, round string) (time.Duration, error) {
	return p.flow.run(ctx, p.plainConn, func(i int) {
		id := fmt.Sprintf("r%so%d", round, i)
		if p.headers != nil {
			id = events.NewID() // as long as ours, where it stands in headers
		}
		p.publish("plain.timers.", kindTimer, id)
		p.publish("plain.orders.placed.", kindPlaced, id)
	})
}

// stop ends a round.
func (p *plainOrders) stop() error {
	for _, stop := range p.stops {
		stop()
	}
	p.stops = nil
	return p.failure()
}

func lastToken(subject string) string {
	for i := len(subject) - 1; i >= 0; i-- {
		if subject[i] == '.' {
			return subject[i+1:]
		}
	}
	return subject
}
