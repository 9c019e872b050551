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

// plainConn is a connection with nothing of ours on it, and what went wrong there.
type plainConn struct {
	nc *nats.Conn
	js jetstream.JetStream

	mu     sync.Mutex
	errs   []error
	broken chan struct{} // closed by the first error: what is waited for may never come then
}

func connectPlain(url, keys string, opts ...jetstream.JetStreamOpt) (*plainConn, error) {
	var connect []nats.Option
	if keys != "" {
		nkey, err := nats.NkeyOptionFromSeed(natskeys.File(keys, plainUser))
		if err != nil {
			return nil, err
		}
		connect = append(connect, nkey)
	}
	nc, err := nats.Connect(url, connect...)
	if err != nil {
		return nil, err
	}
	p := &plainConn{nc: nc, broken: make(chan struct{})}
	opts = append(opts, jetstream.WithPublishAsyncMaxPending(4096),
		jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, m *nats.Msg, err error) {
			p.fail(fmt.Errorf("publish to %s: %w", m.Subject, err))
		}))
	p.js, err = jetstream.New(nc, opts...)
	return p, err
}

func (p *plainConn) close() { p.nc.Close() }

func (p *plainConn) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.errs) == 0 {
		close(p.broken)
	}
	p.errs = append(p.errs, err)
}

// failure is what went wrong so far, or nil.
func (p *plainConn) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.errs) == 0 {
		return nil
	}
	return fmt.Errorf("plain run: %d errors, the first: %w", len(p.errs), p.errs[0])
}

// awaitAll waits for n of each.
func (p *plainConn) awaitAll(ctx context.Context, each <-chan struct{}, n int) error {
	for range n {
		select {
		case <-each:
		case <-p.broken:
			return p.failure()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// awaitQuiet waits until every consumer of every stream has delivered and settled what there is.
func (p *plainConn) awaitQuiet(ctx context.Context) error {
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

func (p *plainConn) quiet(ctx context.Context) (bool, error) {
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

// flow is one round of orders: how many are open at once, and what has become of them.
type flow struct {
	n, deliveries int // orders, and how often a message of each is delivered
	slots         chan struct{}
	committed     chan struct{}
	handled       chan struct{} // every delivery, those that nobody waits for too
}

func newFlow(n, open, deliveries int) *flow {
	return &flow{n: n, deliveries: deliveries, slots: make(chan struct{}, open), committed: make(chan struct{}, n), handled: make(chan struct{}, deliveries*n)}
}

// end is called when an order's last message has come.
func (f *flow) end() {
	<-f.slots
	f.committed <- struct{}{}
}

// run places n orders and returns how long it took until the last was confirmed and committed. What nobody waits for is over when it returns, and not in the time.
func (f *flow) run(ctx context.Context, p *plainConn, place func(i int)) (time.Duration, error) {
	began := time.Now()
	for i := range f.n {
		select {
		case f.slots <- struct{}{}:
		case <-p.broken:
			return 0, p.failure()
		}
		place(i)
	}
	if err := p.awaitAll(ctx, f.committed, f.n); err != nil {
		return 0, err
	}
	took := time.Since(began)
	return took, p.awaitAll(ctx, f.handled, f.deliveries*f.n)
}
