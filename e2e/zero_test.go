package e2e_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/keda"
)

// need is how many workers of each name are called for.
type need func(ctx context.Context) (map[string]int, error)

// byLag is the autoscaler's rule without the autoscaler: what is not delivered and what is not acknowledged, summed over all partitions of all groups of a worker.
func byLag(js jetstream.JetStream, t *events.Topology) need {
	return func(ctx context.Context) (map[string]int, error) {
		out := make(map[string]int)
		for _, w := range keda.Workers(t) {
			lag := 0
			for _, g := range w.Groups {
				for p := range g.Partitions {
					c, err := js.Consumer(ctx, g.Stream, g.Consumer(p))
					if err != nil {
						return nil, err
					}
					info := c.CachedInfo()
					lag += int(info.NumPending) + info.NumAckPending //nolint:gosec // small
				}
			}
			if lag > 0 {
				out[w.Name] = min((lag+keda.DefaultPerWorker-1)/keda.DefaultPerWorker, w.Max)
			}
		}
		return out, nil
	}
}

// scaler plays the autoscaler and the cluster for workers that leave by themselves: it starts what is called for and is not there. Programs are the arguments by a worker's name.
type scaler struct {
	t        *testing.T
	programs map[string][]string

	mu      sync.Mutex
	off     map[string]bool // workers that are not started
	running map[string][]*process
	started map[string]int
}

func startScaler(t *testing.T, needs need, programs map[string][]string) *scaler {
	t.Helper()
	s := &scaler{t: t, programs: programs, off: make(map[string]bool), running: make(map[string][]*process), started: make(map[string]int)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			wanted, err := needs(ctx)
			if err != nil {
				if ctx.Err() == nil {
					t.Errorf("the autoscaler: %v", err)
				}
				return
			}
			s.bring(wanted)
		}
	}()
	return s
}

// bring starts what lacks.
func (s *scaler) bring(wanted map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, args := range s.programs {
		s.running[name] = slices.DeleteFunc(s.running[name], func(p *process) bool {
			select {
			case <-p.done:
				if p.err != nil {
					s.t.Errorf("%s ended with %v\n%s", name, p.err, p.printed())
				}
				return true
			default:
				return false
			}
		})
		for len(s.running[name]) < min(wanted[name], 2) && !s.off[name] {
			s.running[name] = append(s.running[name], start(s.t, args[0], append(slices.Clone(args[1:]), "--http", freeAddr(s.t))...))
			s.started[name]++
		}
	}
}

// counts are how many workers run, and how many were ever started, of all names or of one.
func (s *scaler) counts(names ...string) (running, started int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.programs {
		if len(names) > 0 && !slices.Contains(names, name) {
			continue
		}
		started += s.started[name]
		for _, p := range s.running[name] {
			select {
			case <-p.done:
			default:
				running++
			}
		}
	}
	return running, started
}

func (s *scaler) turn(off bool, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off[name] = off
}

// TestFromZero: no worker runs until orders are there, each leaves when it has nothing to do, and an order's deadline wakes the one that must end it.
func TestFromZero(t *testing.T) {
	t.Parallel()
	fromZero(t, func(natsURL, _ string) need {
		nc, err := nats.Connect(natsURL)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		topology := events.DefaultTopology(0)
		return byLag(js, &topology)
	})
}

func fromZero(t *testing.T, rule func(natsURL, monitoring string) need) {
	t.Helper()
	addr, monitoring := freeAddr(t), freeAddr(t)
	host, port, _ := net.SplitHostPort(addr)
	_, monitoringPort, _ := net.SplitHostPort(monitoring)
	start(t, "nats-server", "-a", host, "-p", port, "-m", monitoringPort, "-js", "-sd", t.TempDir())
	natsURL := "nats://" + addr
	services := []string{"order", "inventory", "notify", "analytics"}
	args := []string{"--nats", natsURL, "--without", strings.Join(services, ",")}
	at := map[string]string{}
	for _, name := range services {
		at[name] = freeAddr(t)
		args = append(args, "--at", name+"="+at[name])
	}
	u := startUp(t, args...)
	lines := map[string][]string{} // as up prints them
	for line := range strings.Lines(u.printed()) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "go run ./cmd/"); ok {
			fields := strings.Fields(rest)
			lines[fields[0]] = fields[1:]
		}
	}
	const idle = "2s"
	programs := make(map[string][]string)
	for _, name := range []string{"order", "inventory", "notify"} {
		programs[name+"-worker"] = append(append([]string{name}, lines[name]...), "--role", "worker", "--max-idle", idle)
	}
	api := start(t, "order", append(lines["order"], "--role", "api")...)
	start(t, "inventory", append(lines["inventory"], "--role", "api")...)
	start(t, "analytics", lines["analytics"]...)
	for _, name := range []string{"order", "inventory", "analytics"} {
		eventstest.Eventually(t, time.Minute, name+" is ready", func() bool { return get(t, "http://"+at[name]+"/readyz", nil) == http.StatusOK })
	}
	s := startScaler(t, rule(natsURL, monitoring), programs)

	file, good, _ := invoices(t, 60)
	out, status := verb(t, "load", "--csv", file, "--stock", "500", "--speed", "max", "--wait", "--json", "--to", u.url)
	if status != 0 {
		t.Fatalf("load: %d %s", status, out)
	}
	if n := count(t, u.url); n != good {
		t.Errorf("%d orders, want %d", n, good)
	}
	eventstest.Eventually(t, time.Minute, "the workers have left", func() bool { running, _ := s.counts(); return running == 0 })
	mustHold(t, u.url)
	for name := range programs {
		if _, started := s.counts(name); started == 0 {
			t.Errorf("%s was never called for", name)
		}
	}

	// An order that nobody reserves for: nothing waits in the order worker's groups until its deadline.
	api.stop()
	api = start(t, "order", append(lines["order"], "--role", "api", "--order-deadline", "3s")...)
	eventstest.Eventually(t, time.Minute, "the API is ready", func() bool { return get(t, "http://"+at["order"]+"/readyz", nil) == http.StatusOK })
	s.turn(true, "inventory-worker")
	eventstest.Eventually(t, time.Minute, "no order worker runs", func() bool { running, _ := s.counts("order-worker"); return running == 0 })
	_, before := s.counts("order-worker")
	id := placeOne(t, u.url)
	var order struct{ Status, Reason string }
	eventstest.Eventually(t, time.Minute, "its deadline ends the order", func() bool {
		get(t, u.url+"/v1/orders/"+id, &order)
		return order.Status == "rejected"
	})
	if _, started := s.counts("order-worker"); started == before {
		t.Error("the order ended, and no order worker was started")
	}
	s.turn(false, "inventory-worker")
	eventstest.Eventually(t, time.Minute, "all is done, and the workers have left again", func() bool {
		running, _ := s.counts()
		return running == 0
	})
	mustHold(t, u.url)
	api.stop()
}

// placeOne places an order and returns its id.
func placeOne(t *testing.T, url string) string {
	t.Helper()
	body := `{"customer": "zoe", "email": "zoe@example.com", "currency": "GBP", "lines": [{"sku": "20000A", "quantity": 1, "unit_price": "1.00"}]}`
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/orders", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", "from-zero")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusAccepted {
		var problem any
		_ = json.NewDecoder(response.Body).Decode(&problem) // for the message alone
		t.Fatalf("POST /v1/orders: %d %v", response.StatusCode, problem)
	}
	return filepath.Base(response.Header.Get("Location"))
}
