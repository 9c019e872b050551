//go:build keda

package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// answer is what KEDA makes of one ScaledObject; see deploy/keda/scaler.
type answer struct {
	Name     string
	Triggers map[string]float64
	Active   bool
	Lag      float64
	Replicas int
	Error    string
}

// kedaScaler is KEDA's own scaler in a process of its own, which .ci/tools builds.
type kedaScaler struct {
	t     *testing.T
	in    io.Writer
	lines *bufio.Scanner
}

// startKEDA starts it with the manifests that the program writes, for a broker's monitoring endpoint.
func startKEDA(t *testing.T, monitoring string) *kedaScaler {
	t.Helper()
	binary := os.Getenv("TIDEMARK_KEDA_SCALER")
	if binary == "" {
		t.Fatal("TIDEMARK_KEDA_SCALER is not set: .ci/tools keda-scaler builds it and prints its path")
	}
	out, status := verb(t, "topology", "keda")
	if status != 0 {
		t.Fatal("topology keda failed")
	}
	file := filepath.Join(t.TempDir(), "scaledobjects.yaml")
	if err := os.WriteFile(file, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, file, monitoring)
	var said strings.Builder
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	printed, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the scaler ended with %v: %s", err, said.String())
		}
	})
	return &kedaScaler{t: t, in: in, lines: bufio.NewScanner(printed)}
}

// look asks once. It is for one goroutine.
func (k *kedaScaler) look() (map[string]answer, error) {
	if _, err := io.WriteString(k.in, "\n"); err != nil {
		return nil, err
	}
	out := make(map[string]answer)
	for k.lines.Scan() {
		if k.lines.Text() == "" {
			return out, nil
		}
		var a answer
		if err := json.Unmarshal(k.lines.Bytes(), &a); err != nil {
			return nil, err
		}
		out[a.Name] = a
	}
	return nil, fmt.Errorf("the scaler ended: %w", k.lines.Err())
}

func (k *kedaScaler) must() map[string]answer {
	k.t.Helper()
	all, err := k.look()
	if err != nil {
		k.t.Fatal(err)
	}
	for _, a := range all {
		if a.Error != "" {
			k.t.Fatalf("%s: %s", a.Name, a.Error)
		}
	}
	return all
}

// TestKEDAFromZero is [TestFromZero] with KEDA's own scaler saying when a worker is called for.
func TestKEDAFromZero(t *testing.T) {
	t.Parallel()
	fromZero(t, func(_, monitoring string) need {
		k := startKEDA(t, monitoring)
		return func(context.Context) (map[string]int, error) {
			all, err := k.look()
			wanted := make(map[string]int)
			for name, a := range all {
				if a.Error != "" {
					return nil, fmt.Errorf("%s: %s", name, a.Error)
				}
				if a.Active {
					wanted[name] = a.Replicas
				}
			}
			return wanted, err
		}
	})
}

// shelf is a broker with the topology.
type shelf struct {
	t        *testing.T
	js       jetstream.JetStream
	topology events.Topology
}

func newShelf(t *testing.T, url string, replicas int) *shelf {
	t.Helper()
	if out, status := verb(t, "topology", "apply", "--nats", url, "--replicas", fmt.Sprint(replicas)); status != 0 {
		t.Fatalf("topology apply: %s", out)
	}
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return &shelf{t: t, js: js, topology: events.DefaultTopology(0)}
}

// store stores an order's cancellation, a message like any other for the lag, and returns its partition.
func (s *shelf) store(key string) int {
	s.t.Helper()
	ev, err := events.New("/test", events.TypeOrderCancelled, key, time.Now(), events.OrderCancelled{OrderID: key, CustomerID: "c"})
	if err != nil {
		s.t.Fatal(err)
	}
	ev.Version = 1
	header, data, err := events.Encode(&ev)
	if err != nil {
		s.t.Fatal(err)
	}
	subjects := s.topology.Subjects()
	if _, err := s.js.PublishMsg(s.t.Context(), &nats.Msg{Subject: subjects.Order(key), Header: nats.Header(header), Data: data}); err != nil {
		s.t.Fatal(err)
	}
	return subjects.PartitionOf(key)
}

// wants stores n events and expects of the scaler that it sees each, in its partition, summed for each group that reads them.
func (s *shelf) wants(k *kedaScaler, n int) {
	s.t.Helper()
	perPartition := make(map[int]float64)
	for i := range n {
		perPartition[s.store(fmt.Sprintf("order-%d", i))]++
	}
	if len(perPartition) < 6 {
		s.t.Fatalf("the events are in %d partitions: nothing to sum", len(perPartition))
	}
	all := k.must()
	for _, group := range []string{events.GroupInventory, events.GroupNotify} {
		a := all[group+"-worker"]
		if !a.Active || a.Lag != float64(n) {
			s.t.Errorf("%s with %d events waiting: %+v", group, n, a)
		}
		for p, want := range perPartition {
			if got := a.Triggers[fmt.Sprintf("%s_%d", group, p)]; got != want {
				s.t.Errorf("%s, partition %d: lag %v, want %v", group, p, got, want)
			}
		}
	}
	if a := all["order-worker"]; a.Active || a.Lag != 0 || a.Replicas != 0 {
		s.t.Errorf("nothing waits for order: %+v", a)
	}
}

func TestKEDAReadsOurGroups(t *testing.T) {
	t.Parallel()
	addr, monitoring := freeAddr(t), freeAddr(t)
	host, port, _ := net.SplitHostPort(addr)
	_, monitoringPort, _ := net.SplitHostPort(monitoring)
	start(t, "nats-server", "-a", host, "-p", port, "-m", monitoringPort, "-js", "-sd", t.TempDir())
	url := "nats://" + addr
	s, k := newShelf(t, url, 1), startKEDA(t, monitoring)
	for name, a := range k.must() {
		if name != "analytics" && (a.Active || a.Lag != 0 || a.Replicas != 0) {
			t.Errorf("nothing is stored: %+v", a)
		}
	}
	if a := k.must()["analytics"]; a.Replicas < 1 {
		t.Errorf("analytics is always there: %+v", a)
	}
	s.wants(k, 250)
	all := k.must()
	if got := all["notify-worker"].Replicas; got != 3 {
		t.Errorf("250 events, 100 a worker: %d workers, want 3", got)
	}
	if got := all["inventory-worker"].Replicas; got != 2 {
		t.Errorf("inventory has one active member and a standby: %d", got)
	}

	// A deadline counts when it is due, and not before.
	due := time.Now().Add(3 * time.Second).UTC()
	subjects := s.topology.Subjects()
	schedule := &nats.Msg{Subject: subjects.Timer("late"), Data: []byte("{}"), Header: nats.Header{
		"Nats-Schedule": {"@at " + due.Format(time.RFC3339)}, "Nats-Schedule-Target": {subjects.Timeout("late")},
	}}
	if _, err := s.js.PublishMsg(t.Context(), schedule); err != nil {
		t.Fatal(err)
	}
	if a := k.must()["order-worker"]; a.Active {
		t.Errorf("a deadline that is not due: %+v", a)
	}
	eventstest.Eventually(t, time.Minute, "the deadline calls for a worker", func() bool {
		a := k.must()["order-worker"]
		return a.Active && a.Lag == 1 && a.Replicas == 1
	})

	// What was handled does not count any more.
	notify := start(t, "notify", "--nats", url, "--http", freeAddr(t), "--role", "worker", "--max-idle", "1s")
	select {
	case <-notify.done:
		if notify.err != nil {
			t.Errorf("notify ended with %v", notify.err)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("notify does not leave")
	}
	if a := k.must()["notify-worker"]; a.Active || a.Lag != 0 {
		t.Errorf("notify has handled all: %+v", a)
	}
	if a := k.must()["inventory-worker"]; a.Lag != 250 {
		t.Errorf("inventory has handled nothing: %+v", a)
	}
}

// TestKEDAFindsTheLeader: on a cluster only the leader of a consumer knows what waits for it. KEDA finds it by the names that the servers advertise.
func TestKEDAFindsTheLeader(t *testing.T) {
	t.Parallel()
	_, monitoring, _ := net.SplitHostPort(freeAddr(t)) // the same port on three addresses of this machine, as on three pods
	_, client, _ := net.SplitHostPort(freeAddr(t))
	_, route, _ := net.SplitHostPort(freeAddr(t))
	hosts := []string{"127.0.0.2", "127.0.0.3", "127.0.0.4"}
	var routes []string
	for _, host := range hosts {
		routes = append(routes, "nats://"+net.JoinHostPort(host, route))
	}
	for i, host := range hosts {
		start(t, "nats-server", "-a", host, "-p", client, "-m", monitoring, "-js", "-sd", t.TempDir(), "--name", fmt.Sprintf("nats-%d", i), "--client_advertise", net.JoinHostPort(host, client),
			"--cluster_name", "test", "--cluster", "nats://"+net.JoinHostPort(host, route), "--routes", strings.Join(routes, ","))
	}
	eventstest.Eventually(t, time.Minute, "the cluster has a leader", func() bool {
		var health struct {
			Status string `json:"status"`
		}
		for _, host := range hosts {
			if get(t, "http://"+net.JoinHostPort(host, monitoring)+"/healthz", &health) != http.StatusOK {
				return false
			}
		}
		return true
	})
	s := newShelf(t, "nats://"+net.JoinHostPort(hosts[0], client), 3)
	leaders := make(map[string]bool)
	for _, name := range []string{events.GroupInventory, events.GroupNotify} {
		g, _ := s.topology.Group(name)
		for p := range g.Partitions {
			c, err := s.js.Consumer(t.Context(), g.Stream, g.Consumer(p))
			if err != nil {
				t.Fatal(err)
			}
			leaders[c.CachedInfo().Cluster.Leader] = true
		}
	}
	if len(leaders) < 2 {
		t.Fatalf("all consumers have the leader %v: nothing to find", leaders)
	}
	s.wants(startKEDA(t, net.JoinHostPort(hosts[0], monitoring)), 60)
	if a := startKEDA(t, net.JoinHostPort(hosts[2], monitoring)).must()["notify-worker"]; a.Lag != 60 {
		t.Errorf("asked at another server: %+v", a)
	}
}
