package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/internal/natskeys"
)

// plainOrders sends the messages that one order makes, 5 publishes and 6 deliveries, with nothing else: no lock, no schema, no
// trace, no partition, no order of keys. It is the ceiling that the broker and the client library set on this machine.
type plainOrders struct {
	nc   *nats.Conn
	js   jetstream.JetStream
	body []byte

	mu   sync.Mutex
	errs []error
}

func newPlainOrders(ctx context.Context, url, keys string, body []byte) (*plainOrders, error) {
	var opts []nats.Option
	if keys != "" {
		nkey, err := nats.NkeyOptionFromSeed(natskeys.File(keys, plainUser))
		if err != nil {
			return nil, err
		}
		opts = append(opts, nkey)
	}
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		return nil, err
	}
	p := &plainOrders{nc: nc, body: body}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(4096),
		jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, _ *nats.Msg, err error) { p.fail(err) }))
	if err != nil {
		return nil, err
	}
	p.js = js
	for _, s := range []jetstream.StreamConfig{
		{Name: "PLAIN_ORDERS", Subjects: []string{"plain.orders.*.*"}},
		{Name: "PLAIN_STOCK", Subjects: []string{"plain.stock.*.*"}},
		{Name: "PLAIN_TIMERS", Subjects: []string{"plain.timers.*"}},
	} {
		if _, err := js.CreateOrUpdateStream(ctx, s); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *plainOrders) close() { p.nc.Close() }

// awaitQuiet waits until every consumer of every stream has delivered and settled what there is.
func (p *plainOrders) awaitQuiet(ctx context.Context) error {
	for {
		quiet, err := p.quiet(ctx)
		if quiet || err != nil {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *plainOrders) quiet(ctx context.Context) (bool, error) {
	quiet := true
	names := p.js.StreamNames(ctx)
	for name := range names.Name() {
		stream, err := p.js.Stream(ctx, name)
		if err != nil {
			return false, err
		}
		consumers := stream.ListConsumers(ctx)
		for c := range consumers.Info() { // to the end: whoever lists them waits until they are taken
			quiet = quiet && c.NumPending == 0 && c.NumAckPending == 0
		}
		if err := consumers.Err(); err != nil {
			return false, err
		}
	}
	return quiet, names.Err()
}

func (p *plainOrders) publish(subject string) {
	if _, err := p.js.PublishAsync(subject, p.body); err != nil {
		p.fail(err)
	}
}

func (p *plainOrders) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.errs = append(p.errs, err)
}

// run sends n orders through, at most open at once, and returns how long it took until the last was confirmed and committed.
func (p *plainOrders) run(ctx context.Context, round string, n, open int) (time.Duration, error) {
	slots := make(chan struct{}, open)
	committed := make(chan struct{}, n)
	handled := make(chan struct{}, 6*n) // every delivery, those that nobody waits for too
	react := func(stream, filter, group string, then func(order string)) (func(), error) {
		c, err := p.js.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{
			Durable: group, FilterSubject: filter, AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 4096, DeliverPolicy: jetstream.DeliverNewPolicy,
		})
		if err != nil {
			return nil, err
		}
		consuming, err := c.Consume(func(m jetstream.Msg) {
			then(lastToken(m.Subject()))
			if err := m.Ack(); err != nil {
				p.fail(err)
			}
			handled <- struct{}{}
		}, jetstream.PullMaxMessages(1000))
		if err != nil {
			return nil, err
		}
		return func() {
			consuming.Stop()
			<-consuming.Closed()
			if err := p.js.DeleteConsumer(ctx, stream, group); err != nil {
				p.fail(err)
			}
		}, nil
	}
	placed, confirmed := "plain.orders.placed.*", "plain.orders.confirmed.*"
	var stops []func()
	for _, r := range []struct {
		stream, filter, group string
		then                  func(string)
	}{
		{"PLAIN_ORDERS", placed, "inventory-placed" + round, func(o string) { p.publish("plain.stock.reserved." + o) }},
		{"PLAIN_STOCK", "plain.stock.reserved.*", "order-stock" + round, func(o string) { p.publish("plain.orders.confirmed." + o) }},
		{"PLAIN_ORDERS", confirmed, "inventory-confirmed" + round, func(o string) { p.publish("plain.stock.committed." + o) }},
		{"PLAIN_STOCK", "plain.stock.committed.*", "order-committed" + round, func(string) { <-slots; committed <- struct{}{} }},
		{"PLAIN_ORDERS", placed, "notify-placed" + round, func(string) {}},
		{"PLAIN_ORDERS", confirmed, "notify-confirmed" + round, func(string) {}},
	} {
		stop, err := react(r.stream, r.filter, r.group, r.then)
		if err != nil {
			return 0, fmt.Errorf("plain consumer %s: %w", r.group, err)
		}
		stops = append(stops, stop)
	}
	began := time.Now()
	for i := range n {
		slots <- struct{}{}
		id := fmt.Sprintf("r%so%d", round, i)
		p.publish("plain.timers." + id)
		p.publish("plain.orders.placed." + id)
	}
	if err := awaitAll(ctx, committed, n); err != nil {
		return 0, err
	}
	took := time.Since(began)
	if err := awaitAll(ctx, handled, 6*n); err != nil {
		return 0, err
	}
	for _, stop := range stops {
		stop()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.errs) > 0 {
		return 0, fmt.Errorf("plain run: %d errors, the first: %w", len(p.errs), p.errs[0])
	}
	return took, nil
}

func awaitAll(ctx context.Context, each <-chan struct{}, n int) error {
	for range n {
		select {
		case <-each:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func lastToken(subject string) string {
	for i := len(subject) - 1; i >= 0; i-- {
		if subject[i] == '.' {
			return subject[i+1:]
		}
	}
	return subject
}
