//go:build long

package system

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/tidemark/tidemark/internal/check"
	"github.com/tidemark/tidemark/internal/client"
	"github.com/tidemark/tidemark/internal/natsconn"
	"github.com/tidemark/tidemark/internal/telemetry"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// broker is a nats-server whose store has a size, and can get another one.
type broker struct {
	t    *testing.T
	dir  string
	port int
	srv  *server.Server
}

func (b *broker) start(maxStore int64) {
	b.t.Helper()
	srv, err := server.NewServer(&server.Options{
		ServerName: "small", Host: "127.0.0.1", Port: b.port, JetStream: true, StoreDir: b.dir, JetStreamMaxStore: maxStore, NoSigs: true, NoLog: true,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	go srv.Start()
	if !srv.ReadyForConnections(20 * time.Second) {
		b.t.Fatal("the broker does not start")
	}
	b.srv, b.port = srv, srv.Addr().(*net.TCPAddr).Port
}

func (b *broker) stop() {
	b.srv.Shutdown()
	b.srv.WaitForShutdown()
}

// logged is what the system logs.
type logged struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *logged) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Contains(l.all.Bytes(), []byte(text))
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// TestTheStoreIsFull fills the broker's store to the last byte while all four services work, gives it room again, and expects that whatever was answered 202 came to its end:
// what stops is told, and nothing is dropped.
func TestTheStoreIsFull(t *testing.T) {
	t.Parallel()
	const small, large = 3 << 20, 256 << 20
	b := &broker{t: t, dir: t.TempDir(), port: server.RANDOM_PORT}
	b.start(small)
	defer func() { b.stop() }()
	log := &logged{}
	provider, err := telemetry.New(telemetry.Config{LogLevel: "warn", Output: log})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{
		HTTP: "127.0.0.1:0", Dir: t.TempDir(), NATSURL: "nats://127.0.0.1:" + strconv.Itoa(b.port), GatewayAddr: "127.0.0.1:0", MailAddr: "127.0.0.1:0",
		OrderDeadline: 2 * time.Minute, Version: "test", Out: io.Discard, Provider: provider,
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range s.topology.Streams { // a broker promises this much to the stream before anything is stored
		s.topology.Streams[i].MaxBytes = min(s.topology.Streams[i].MaxBytes, 1<<20)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("%s", log)
		}
	}()
	select {
	case <-s.Ready():
	case err := <-done:
		t.Fatal(err)
	}
	api, err := client.New(client.Config{URL: s.URL(), Patience: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	for i := range 20 {
		sku := "MUG " + strconv.Itoa(i)
		if _, err := api.Receive(ctx, sku, "stock-"+sku, 1_000_000); err != nil {
			t.Fatal(err)
		}
	}

	accepted, refusal := fill(ctx, api)
	full := time.Now()
	t.Logf("%d orders were accepted before: %v", len(accepted), refusal)
	if len(accepted) < 50 || client.StatusOf(refusal) != http.StatusServiceUnavailable {
		t.Fatalf("after %d orders: %v, want 503", len(accepted), refusal)
	}
	if !log.has("insufficient resources") {
		t.Error("nothing says that the store is full")
	}
	if _, err := api.Order(ctx, accepted[0]); err != nil {
		t.Errorf("reading stops too: %v", err)
	}
	eventstest.Eventually(t, time.Minute, "every retry of a failure has been used up", func() bool { return time.Since(full) > 10*time.Second })
	for l, err := range letters(ctx, t, s) {
		t.Errorf("an event is blamed for the full store: %+v %v", l, err)
	}

	b.stop()
	b.start(large)
	eventstest.Eventually(t, 2*time.Minute, "all orders that were accepted have ended", func() bool {
		for _, id := range accepted {
			o, err := api.Order(ctx, id)
			if err != nil || !o.Ended() {
				return false
			}
		}
		return true
	})
	results, err := check.Run(ctx, check.Config{API: s.URL(), Topology: s.topology})
	if err != nil || check.Broken(results) {
		t.Errorf("%+v, %v", results, err)
	}
	for l, err := range letters(ctx, t, s) {
		t.Errorf("a letter is left: %+v %v", l, err)
	}
}

func letters(ctx context.Context, t *testing.T, s *System) iter.Seq2[deadletter.Letter, error] {
	t.Helper()
	nc, err := natsconn.Connect(natsconn.Config{URL: s.NATSURL(), Name: "test", User: events.UserOperator, Access: s.access(events.UserOperator)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return deadletter.New(js, s.topology.Subjects()).Letters(ctx, deadletter.Filter{})
}

// fill places orders, several at once so that the groups fall behind, until one is not accepted.
func fill(ctx context.Context, api *client.Client) (accepted []string, refusal error) {
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	for worker := range 8 {
		group.Go(func() error {
			for n := 0; ctx.Err() == nil; n++ {
				o := client.NewOrder{Customer: "c", Email: "c@customers.example", Currency: "GBP", PlacedAt: time.Now()}
				for i := range 20 {
					o.Lines = append(o.Lines, client.Line{SKU: "MUG " + strconv.Itoa(i), Quantity: 1, UnitPrice: "1.00"})
				}
				placed, err := api.PlaceOrder(ctx, fmt.Sprintf("order-%d-%d", worker, n), o)
				if err != nil {
					return err
				}
				mu.Lock()
				accepted = append(accepted, placed.ID)
				mu.Unlock()
			}
			return nil
		})
	}
	refusal = group.Wait()
	return accepted, refusal
}
