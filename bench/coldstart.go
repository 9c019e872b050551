package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

type coldstartCmd struct {
	Rounds int           `default:"15" help:"Starts of each program, in turns."`
	Most   time.Duration `default:"0s" help:"Fail where the median of a worker is above it; 0: never."`
}

const (
	bareStream = "PLAIN"
	bareName   = "bare"
	ackLimit   = 15 * time.Second
)

// Run starts workers that find one event, again and again, beside a bare nats.go consumer that does, and prints the time from exec to the acknowledgement.
func (c *coldstartCmd) Run(b *bench) error {
	dir, remove, err := workDir()
	if err != nil {
		return err
	}
	defer remove()
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	if out, err := command(b.ctx, root, "go", "build", "-o", dir+"/", "./cmd/notify", "./cmd/inventory", "./bench/bare").CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w: %s", err, out)
	}
	server, err := startNATS(b.ctx, dir)
	if err != nil {
		return err
	}
	defer server.stop()
	f, err := newColdField(b.ctx, server.url)
	if err != nil {
		return err
	}
	defer f.nc.Close()
	took, err := c.measure(b.ctx, f, dir, server.url)
	if err != nil {
		return err
	}
	bare := middle(took["bare"])
	for _, name := range []string{"bare", "notify", "inventory"} {
		sorted := slices.Sorted(slices.Values(took[name]))
		b.say("%-9s exec to the first event's acknowledgement: median %.1f ms (%.1f to %.1f), %.2f of bare nats.go", name,
			ms(middle(sorted)), ms(sorted[0]), ms(sorted[len(sorted)-1]), float64(middle(sorted))/float64(bare))
		if c.Most > 0 && name != "bare" && middle(sorted) > c.Most {
			err = errors.Join(err, fmt.Errorf("%s takes %s from exec to its first event, more than %s", name, middle(sorted), c.Most))
		}
	}
	return err
}

func (c *coldstartCmd) measure(ctx context.Context, f *coldField, dir, url string) (map[string][]time.Duration, error) {
	ports, err := freePorts(ctx, 1)
	if err != nil {
		return nil, err
	}
	http := fmt.Sprintf("127.0.0.1:%d", ports[0])
	took := make(map[string][]time.Duration)
	for round := range c.Rounds + 1 {
		for name, args := range map[string][]string{
			"bare":      {url, bareStream, bareName},
			"notify":    {"--nats", url, "--http", http, "--role", "worker", "--log-level", "error"},
			"inventory": {"--nats", url, "--http", http, "--role", "worker", "--log-level", "error"},
		} {
			d, err := f.start(ctx, name, filepath.Join(dir, name), args)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if round > 0 { // the first one reads the program from the disk
				took[name] = append(took[name], d)
			}
		}
	}
	return took, nil
}

// coldField is a broker with events, and an ear for acknowledgements.
type coldField struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	topology events.Topology
	acks     map[string]chan time.Time // by program
	orders   int
}

func newColdField(ctx context.Context, url string) (*coldField, error) {
	nc, err := nats.Connect(url)
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	f := &coldField{nc: nc, js: js, topology: events.DefaultTopology(0), acks: make(map[string]chan time.Time)}
	if err := bus.Apply(ctx, js, f.topology, 1); err != nil {
		return nil, err
	}
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: bareStream, Subjects: []string{"plain"}}); err != nil {
		return nil, err
	}
	if _, err := js.CreateConsumer(ctx, bareStream, jetstream.ConsumerConfig{Durable: bareName, AckPolicy: jetstream.AckExplicitPolicy}); err != nil {
		return nil, err
	}
	// An acknowledgement is a message like any other, to a subject that names stream and consumer.
	for name, subject := range map[string]string{"bare": "$JS.ACK." + bareStream + "." + bareName + ".>", "notify": "$JS.ACK.ORDERS.>", "inventory": "$JS.ACK.ORDERS.>"} {
		heard := make(chan time.Time, 64)
		f.acks[name] = heard
		_, err := nc.Subscribe(subject, func(m *nats.Msg) {
			if name == "bare" || strings.HasPrefix(m.Subject, "$JS.ACK.ORDERS."+name+"-") {
				heard <- time.Now()
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return f, nc.Flush()
}

// start stores one event for a program, starts it, waits for the acknowledgement, and stops it cleanly.
func (f *coldField) start(ctx context.Context, name, binary string, args []string) (time.Duration, error) {
	if err := f.store(ctx, name); err != nil {
		return 0, err
	}
	heard := f.acks[name]
	for len(heard) > 0 {
		<-heard
	}
	cmd := exec.Command(binary, args...) //nolint:noctx // stopped below
	cmd.Stderr = os.Stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // bare may end by the signal
	}()
	select {
	case at := <-heard:
		return at.Sub(began), nil
	case <-time.After(ackLimit):
		return 0, fmt.Errorf("no acknowledgement within %s", ackLimit)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// store stores an event for a program. The group of the other one passes it first, so that it waits for one and no more.
func (f *coldField) store(ctx context.Context, name string) error {
	if name == "bare" {
		_, err := f.js.Publish(ctx, "plain", []byte("one"))
		return err
	}
	f.orders++
	id := fmt.Sprintf("cold-%06d", f.orders)
	ev, err := events.New("/bench", events.TypeOrderPlaced, id, time.Now(), events.OrderPlaced{
		OrderID: id, CustomerID: "c-1", Currency: "GBP", PlacedAt: time.Now(), RequestDigest: strings.Repeat("0", 64),
		Lines: []events.Line{{SKU: "bench-001", Quantity: 1, UnitPrice: 100}}, Total: 100,
	})
	if err != nil {
		return err
	}
	ev.Version = 1
	header, data, err := events.Encode(&ev)
	if err != nil {
		return err
	}
	subjects := f.topology.Subjects()
	if err := f.forgotten(ctx, name, subjects.PartitionOf(id)); err != nil {
		return err
	}
	ack, err := f.js.PublishMsg(ctx, &nats.Msg{Subject: subjects.Order(id), Header: nats.Header(header), Data: data})
	if err != nil {
		return err
	}
	return f.skip(ctx, map[string]string{"notify": events.GroupInventory, "inventory": events.GroupNotify}[name], subjects.PartitionOf(id), ack.Sequence)
}

// forgotten waits until the broker has no request of the worker before any more. An event that comes while it has is given to who has left, and comes again only when the pin has expired.
func (f *coldField) forgotten(ctx context.Context, group string, partition int) error {
	g, _ := f.topology.Group(group)
	for began := time.Now(); time.Since(began) < ackLimit; {
		consumer, err := f.js.Consumer(ctx, g.Stream, g.Consumer(partition))
		if err != nil {
			return err
		}
		if consumer.CachedInfo().NumWaiting == 0 {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fmt.Errorf("%s still has requests of who has left", g.Consumer(partition))
}

// skip moves a group beyond an event.
func (f *coldField) skip(ctx context.Context, group string, partition int, sequence uint64) error {
	g, _ := f.topology.Group(group)
	if _, err := f.js.ResetConsumerToSequence(ctx, g.Stream, g.Consumer(partition), sequence+1); err != nil {
		return fmt.Errorf("skip the event in %s: %w", group, err)
	}
	return nil
}

func middle(ds []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(ds))
	return sorted[len(sorted)/2]
}
