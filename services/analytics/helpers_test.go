package analytics

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(childEnv); role != "" {
		if err := runChild(role); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// The test's server waits for an answer about a source for some seconds after its end. That is its goroutine, not ours.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*stream).trySetupSourceConsumer.func3"))
}

const patience = 20 * time.Second

// shop is a server with the whole topology, and a way to put events into it.
type shop struct {
	tb        testing.TB
	server    *eventstest.Server
	js        jetstream.JetStream
	topology  events.Topology
	subjects  events.Subjects
	registry  *events.Registry
	encoder   *bus.Encoder
	publisher *bus.Publisher
}

// plain are settings with which only event times matter: of one partition, or of several that all get events.
func plain() Config { return Config{Default: &Settings{Bound: time.Minute}} }

// minutes has the first two queries only.
func minutes() Config {
	cfg := plain()
	cfg.Queries = DefaultQueries()[:2]
	return cfg
}

// newShop has one partition, so that each event moves the watermark.
func newShop(tb testing.TB, start func(testing.TB) *eventstest.Server, change ...func(*events.Topology)) *shop {
	tb.Helper()
	return newShopOf(tb, start, 1, change...)
}

func newShopOf(tb testing.TB, start func(testing.TB) *eventstest.Server, partitions int, change ...func(*events.Topology)) *shop {
	tb.Helper()
	topology := events.DefaultTopology(partitions)
	for _, c := range change {
		c(&topology)
	}
	s := &shop{tb: tb, server: start(tb)}
	s.topology = s.server.Apply(topology)
	s.subjects = s.topology.Subjects()
	s.js = s.server.JetStream()
	registry, err := events.NewRegistry()
	if err != nil {
		tb.Fatal(err)
	}
	s.registry, s.encoder = registry, bus.NewEncoder(registry, bus.Telemetry{})
	s.publisher = bus.NewPublisher(bus.Deps{JS: s.js, Encoder: s.encoder, Subjects: s.subjects})
	return s
}

// shortMemory lets the streams of results forget message ids at once, so that nothing hangs on the server's window for duplicates.
func shortMemory(t *events.Topology) {
	for i := range t.Streams {
		if name := t.Streams[i].Name; name == events.StreamWindows || name == events.StreamLate {
			t.Streams[i].DuplicateWindow = 100 * time.Millisecond
		}
	}
}

// withoutHeartbeats makes what TIMELINE holds the test's alone.
func withoutHeartbeats(t *events.Topology) {
	for i := range t.Streams {
		if t.Streams[i].Name == events.StreamTimeline {
			t.Streams[i].Sources = t.Streams[i].Sources[:2]
		}
	}
}

func order(tb testing.TB, id, at, currency string, total events.Minor) events.Event {
	tb.Helper()
	when, err := time.Parse(time.RFC3339, at)
	if err != nil {
		tb.Fatal(err)
	}
	ev, err := events.New("/test", events.TypeOrderPlaced, id, when, events.OrderPlaced{
		OrderID: id, CustomerID: "guest", Currency: currency, PlacedAt: when, Total: total, RequestDigest: "d", Lines: []events.Line{{SKU: "A", Quantity: 1, UnitPrice: total}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return ev
}

// plan is what an instance of the shop with this configuration computes.
func (s *shop) plan(cfg Config) *plan {
	s.tb.Helper()
	if err := cfg.Validate(); err != nil {
		s.tb.Fatal(err)
	}
	return newPlan(cfg.withDefaults(), &s.topology, s.registry)
}

// place stores an order.
func (s *shop) place(id, at, currency string, total events.Minor) {
	s.tb.Helper()
	if _, err := s.publisher.Publish(s.tb.Context(), s.subjects.Order(id), order(s.tb, id, at, currency, total)); err != nil {
		s.tb.Fatal(err)
	}
}

// raw stores bytes that need not be an event.
func (s *shop) raw(subject string, header nats.Header, data []byte) {
	s.tb.Helper()
	if _, err := s.js.PublishMsg(s.tb.Context(), &nats.Msg{Subject: subject, Header: header, Data: data}); err != nil {
		s.tb.Fatal(err)
	}
}

// instance is one running service with its API.
type instance struct {
	tb   testing.TB
	svc  *Service
	url  string
	stop func()
}

// start runs an instance; stop, or the end of the test, ends it.
func (s *shop) start(cfg Config, change ...func(*Service)) *instance {
	s.tb.Helper()
	svc, err := New(cfg, Deps{NATS: s.server.Connect(), Topology: s.topology, Registry: s.registry, Telemetry: bus.Telemetry{Logger: testLog(s.tb)}})
	if err != nil {
		s.tb.Fatal(err)
	}
	for _, c := range change {
		c(svc)
	}
	mux := http.NewServeMux()
	svc.Routes(humago.New(mux, huma.DefaultConfig("test", "0")))
	server := httptest.NewServer(mux)
	end := s.run(svc)
	in := &instance{tb: s.tb, svc: svc, url: server.URL, stop: sync.OnceFunc(func() {
		server.CloseClientConnections()
		server.Close()
		end()
	})}
	s.tb.Cleanup(in.stop)
	select {
	case <-svc.Ready():
	case <-time.After(patience):
		s.tb.Fatal("the service does not become ready")
	}
	return in
}

// run runs a service until the returned function is called.
func (s *shop) run(svc *Service) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- svc.Run(ctx) }()
	return func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				s.tb.Errorf("run: %v", err)
			}
		case <-time.After(patience):
			s.tb.Error("the service does not stop")
		}
	}
}

func testLog(tb testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// client has no idle connections that would outlive the test.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}

func (in *instance) do(method, path string, header http.Header, body string) (int, string) {
	in.tb.Helper()
	req, err := http.NewRequestWithContext(in.tb.Context(), method, in.url+path, strings.NewReader(body))
	if err != nil {
		in.tb.Fatal(err)
	}
	maps.Copy(req.Header, header)
	resp, err := client.Do(req)
	if err != nil {
		in.tb.Fatal(err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		in.tb.Fatal(err)
	}
	return resp.StatusCode, string(bytes.TrimSpace(out))
}

func (in *instance) get(path string, into any) {
	in.tb.Helper()
	status, body := in.do(http.MethodGet, path, nil, "")
	if status != http.StatusOK {
		in.tb.Fatalf("GET %s: %d %s", path, status, body)
	}
	if err := json.Unmarshal([]byte(body), into); err != nil {
		in.tb.Fatal(err)
	}
}

func (in *instance) windows(query string) windowsPage {
	in.tb.Helper()
	var page windowsPage
	in.get("/v1/windows?limit=1000&query="+query, &page)
	return page
}

// lines are windows as short texts.
func lines(page windowsPage) []string {
	var out []string
	for _, w := range page.Items {
		text := w.Start.Format("15:04") + " " + w.Timing
		if w.Key != "" {
			text = w.Key + " " + text
		}
		value, _ := json.Marshal([]int64{w.Count, w.Value})
		out = append(out, text+" "+string(value))
	}
	return out
}

func (in *instance) standing(query string) queryStanding {
	in.tb.Helper()
	var p projection
	in.get("/v1/projections/windows", &p)
	for _, q := range p.Queries {
		if q.Query == query {
			return q
		}
	}
	in.tb.Fatalf("no query %s in %+v", query, p)
	return queryStanding{}
}

// awaitRead waits until a query has read n events.
func (in *instance) awaitRead(query string, n uint64) {
	in.tb.Helper()
	eventstest.Eventually(in.tb, patience, query+" has read its events", func() bool { return in.standing(query).Read >= n })
}

// stored reads all of a stream.
func (s *shop) stored(stream, filter string) []jetstream.RawStreamMsg {
	s.tb.Helper()
	var out []jetstream.RawStreamMsg
	_, err := readAll(s.tb.Context(), s.js, stream, 1, func(m *jetstream.RawStreamMsg) error {
		if strings.HasPrefix(m.Subject, filter) {
			out = append(out, *m)
		}
		return nil
	})
	if err != nil {
		s.tb.Fatal(err)
	}
	return out
}
