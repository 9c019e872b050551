package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/internal/program"
	"github.com/tidemark/tidemark/internal/system"
	"github.com/tidemark/tidemark/internal/telemetry"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/store"
)

type durabilityCmd struct {
	Brokers []string      `default:"R1-default,R1-always,R3-default,R3-always" help:"Copies and sync of the brokers that are measured, one after the other."`
	For     time.Duration `default:"2s" help:"How long each writes."`
	Writers int           `default:"32" help:"Writers at once, where there are many."`
	Orders  int           `default:"1000" help:"Orders through the whole system, 256 open at once."`
}

// Run prints a line for each broker: what acknowledging costs there.
func (c *durabilityCmd) Run(b *bench) error {
	program.SpendMemory()
	b.say("| broker | 1 writer, a second: ours / plain nats.go (ratio) | %d writers | p50 of one writer: ours / plain | orders/s |", c.Writers)
	b.say("|---|---|---|---|---|")
	for _, name := range c.Brokers {
		if err := c.measure(b, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (c *durabilityCmd) measure(b *bench, name string) error {
	copies, sync, ok := strings.Cut(strings.TrimPrefix(name, "R"), "-")
	replicas, err := strconv.Atoi(copies)
	if err != nil || !ok || sync != "default" && sync != "always" {
		return fmt.Errorf("%w: no such broker: R1-default, R1-always, R3-default, R3-always", program.ErrUsage)
	}
	dir, remove, err := workDir()
	if err != nil {
		return err
	}
	defer remove()
	urls, stop, err := startBrokers(b.ctx, dir, replicas, sync == "always")
	if err != nil {
		return err
	}
	defer stop()
	orders, err := c.orders(b.ctx, urls, filepath.Join(dir, "data"), replicas) // first: what the writers write is no order that the services could make sense of
	if err != nil {
		return err
	}
	w, err := newWriters(b.ctx, urls, replicas)
	if err != nil {
		return err
	}
	defer w.nc.Close()
	if _, _, err := w.run(b.ctx, c.Writers, c.For/4, w.ours); err != nil { // warm-up
		return err
	}
	one, many := [2]float64{}, [2]float64{}
	half := [2]time.Duration{}
	for i, write := range []func(context.Context) error{w.ours, w.plain} {
		if one[i], half[i], err = w.run(b.ctx, 1, c.For, write); err != nil {
			return err
		}
		if many[i], _, err = w.run(b.ctx, c.Writers, c.For, write); err != nil {
			return err
		}
	}
	b.say("| %s | %.0f / %.0f (%.2f) | %.0f / %.0f (%.2f) | %.2f / %.2f ms | %.0f |", name, one[0], one[1], one[0]/one[1], many[0], many[1], many[0]/many[1],
		half[0].Seconds()*1e3, half[1].Seconds()*1e3, orders)
	return nil
}

// orders runs the whole system on the broker and orders.
func (c *durabilityCmd) orders(ctx context.Context, urls, dir string, replicas int) (float64, error) {
	provider, err := telemetry.New(telemetry.Config{LogLevel: "error", Output: os.Stderr, Getenv: os.Getenv})
	if err != nil {
		return 0, err
	}
	s, err := system.New(system.Config{
		HTTP: "127.0.0.1:0", GatewayAddr: "127.0.0.1:0", MailAddr: "127.0.0.1:0", Dir: dir, NATSURL: urls, Replicas: replicas, Out: io.Discard, Provider: provider, OrderDeadline: time.Hour,
	})
	if err != nil {
		return 0, err
	}
	work, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- s.Run(work) }()
	defer func() { cancel(); <-done }()
	select {
	case <-s.Ready():
	case err := <-done:
		done <- nil
		return 0, fmt.Errorf("start the system: %w", err)
	}
	d, err := newDriver(ctx, s.Handler())
	if err != nil {
		return 0, err
	}
	if _, err := d.run(ctx, c.Orders/4, 256); err != nil { // warm-up
		return 0, err
	}
	took, err := d.run(ctx, c.Orders, 256)
	return float64(c.Orders) / took.Seconds(), err
}

// writers append to ORDERS through our store, or publish the same bytes with plain nats.go to a stream of the same kind.
type writers struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	log      *store.Store
	subjects events.Subjects
	body     []byte
}

func newWriters(ctx context.Context, urls string, replicas int) (*writers, error) {
	nc, err := nats.Connect(urls)
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	t := events.DefaultTopology(0)
	if err := program.Apply(ctx, nc, t, replicas, func(error) {}); err != nil {
		return nil, err
	}
	if _, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: "PLAIN", Subjects: []string{"plain.*"}, Replicas: replicas, AllowDirect: true}); err != nil {
		return nil, err
	}
	registry, err := events.NewRegistry()
	if err != nil {
		return nil, err
	}
	w := &writers{nc: nc, js: js, log: store.New(js, events.StreamOrders, bus.NewEncoder(registry, bus.Telemetry{}), bus.Telemetry{}), subjects: t.Subjects()}
	w.body, err = examplePayload()
	return w, err
}

func (w *writers) ours(ctx context.Context) error {
	id := events.NewID()
	_, err := w.log.Append(ctx, w.subjects.Order(id), 0, events.Event{
		ID: events.NewID(), Source: "/bench", Type: events.TypeOrderPlaced, Subject: id, Time: time.Now(), DataSchema: events.SchemaURI(events.TypeOrderPlaced),
		CorrelationID: id, PartitionKey: id, Version: 1, Data: w.body,
	})
	return err
}

func (w *writers) plain(ctx context.Context) error {
	_, err := w.js.PublishMsg(ctx, &nats.Msg{Subject: "plain." + events.NewID(), Data: w.body})
	return err
}

// run lets n writers write for a while, and returns how many writes a second were acknowledged, and the median time of one.
func (w *writers) run(ctx context.Context, n int, long time.Duration, write func(context.Context) error) (rate float64, half time.Duration, err error) {
	var (
		mu   sync.Mutex
		took []time.Duration
		errs []error
		wg   sync.WaitGroup
	)
	began := time.Now()
	for range n {
		wg.Go(func() {
			var mine []time.Duration
			var err error
			for before := time.Now(); err == nil && before.Sub(began) < long; {
				err = write(ctx)
				now := time.Now()
				mine = append(mine, now.Sub(before))
				before = now
			}
			mu.Lock()
			defer mu.Unlock()
			took, errs = append(took, mine...), append(errs, err)
		})
	}
	wg.Wait()
	elapsed := time.Since(began)
	slices.Sort(took)
	return float64(len(took)) / elapsed.Seconds(), took[len(took)/2], errors.Join(errs...)
}

// startBrokers runs nats-server processes that form a cluster, where there are more than one.
func startBrokers(ctx context.Context, dir string, n int, always bool) (urls string, stop func(), err error) {
	root, err := moduleRoot()
	if err != nil {
		return "", nil, err
	}
	binary := filepath.Join(dir, "nats-server")
	if out, err := command(ctx, root, "go", "build", "-o", binary, "github.com/nats-io/nats-server/v2").CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("build nats-server: %w: %s", err, out)
	}
	ports, err := freePorts(ctx, 3*n)
	if err != nil {
		return "", nil, err
	}
	var routes, clients []string
	for i := range n {
		clients = append(clients, fmt.Sprintf("nats://127.0.0.1:%d", ports[3*i]))
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", ports[3*i+1]))
	}
	var running []*natsProcess
	stop = func() {
		for _, p := range running {
			p.stop()
		}
	}
	for i := range n {
		conf := filepath.Join(dir, fmt.Sprintf("n%d.conf", i))
		text := fmt.Sprintf("server_name: n%d\nlisten: \"127.0.0.1:%d\"\nhttp: \"127.0.0.1:%d\"\njetstream { store_dir: %q", i, ports[3*i], ports[3*i+2], filepath.Join(dir, fmt.Sprintf("n%d", i)))
		if always {
			text += ", sync_interval: always"
		}
		text += " }\n"
		if n > 1 {
			text += fmt.Sprintf("cluster { name: bench, listen: \"127.0.0.1:%d\", routes: [%s] }\n", ports[3*i+1], strings.Join(routes, ", "))
		}
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			stop()
			return "", nil, err
		}
		cmd := exec.Command(binary, "-c", conf) //nolint:noctx // stopped by stop
		if err := cmd.Start(); err != nil {
			stop()
			return "", nil, fmt.Errorf("start nats-server: %w", err)
		}
		running = append(running, &natsProcess{cmd: cmd})
	}
	for i := range n {
		if err := awaitHealthy(ctx, fmt.Sprintf("http://127.0.0.1:%d/healthz", ports[3*i+2])); err != nil {
			stop()
			return "", nil, err
		}
	}
	return strings.Join(clients, ","), stop, nil
}

func awaitHealthy(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		if res, err := http.DefaultClient.Do(req); err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("nats-server is not healthy: %w", ctx.Err())
		}
	}
}
