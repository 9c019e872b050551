package order

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/tidemark/tidemark/internal/gateway"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// nats.go 1.55 leaves a goroutine behind when a Put into an object store ends before its status listener has begun to listen: it then waits on a nil channel.
		goleak.IgnoreAnyFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"))
}

// world is what stays when an instance of the service goes: the broker and the gateway.
type world struct {
	t        *testing.T
	nats     *eventstest.Server
	topology events.Topology
	registry *events.Registry
	gateway  *gateway.Gateway
	url      string // of the gateway
	conn     *nats.Conn
	orders   *store.Store
	stock    *store.Store
	bus      *bus.Publisher
}

const patience = 20 * time.Second

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, nats: eventstest.Start(t)}
	w.topology = w.nats.Apply(needed(events.DefaultTopology(2)))
	var err error
	if w.registry, err = events.NewRegistry(); err != nil {
		t.Fatal(err)
	}
	if w.gateway, err = gateway.New(gateway.Config{Dir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(w.gateway.Handler())
	t.Cleanup(func() {
		server.Close()
		_ = w.gateway.Close()
	})
	w.url = server.URL
	w.conn = w.nats.Connect()
	js := w.nats.JetStream()
	encoder := bus.NewEncoder(w.registry, bus.Telemetry{})
	w.orders = store.New(js, events.StreamOrders, encoder, bus.Telemetry{})
	w.stock = store.New(js, events.StreamStock, encoder, bus.Telemetry{})
	w.bus = bus.NewPublisher(bus.Deps{JS: js, Encoder: encoder})
	return w
}

// needed is the part of the topology that the service uses. The server's readers of sourced streams outlive it by some seconds, which would look like a leak.
func needed(t events.Topology) events.Topology {
	t.Streams = slices.DeleteFunc(t.Streams, func(s events.Stream) bool { return len(s.Sources) > 0 })
	t.Groups = slices.DeleteFunc(t.Groups, func(g events.Group) bool { return g.Service != events.ServiceOrder })
	return t
}

// instance is one running order service.
type instance struct {
	*world
	*Service
	api    *httptest.Server
	stop   context.CancelFunc
	ended  chan error
	halted bool
}

func (w *world) make(cfg Config) *Service {
	w.t.Helper()
	cfg.GatewayURL = w.url
	s, err := New(cfg, Deps{NATS: w.conn, Topology: w.topology, Registry: w.registry})
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// start runs an instance and waits until it is ready.
func (w *world) start(cfg Config) *instance {
	w.t.Helper()
	i := w.begin(cfg)
	select {
	case <-i.Ready():
	case err := <-i.ended:
		w.t.Fatalf("ended before it was ready: %v", err)
	case <-time.After(patience):
		w.t.Fatal("not ready")
	}
	return i
}

func (w *world) begin(cfg Config) *instance {
	w.t.Helper()
	i := &instance{world: w, Service: w.make(cfg), ended: make(chan error, 1)}
	mux := http.NewServeMux()
	i.Routes(humago.New(mux, huma.DefaultConfig("test", "1")))
	i.api = httptest.NewServer(mux)
	var ctx context.Context
	ctx, i.stop = context.WithCancel(context.Background())
	go func() { i.ended <- i.Run(ctx) }()
	w.t.Cleanup(i.halt)
	return i
}

// halt stops the instance cleanly.
func (i *instance) halt() {
	if i.halted {
		return
	}
	i.halted = true
	i.stop()
	select {
	case err := <-i.ended:
		if err != nil {
			i.t.Errorf("run: %v", err)
		}
	case <-time.After(patience):
		i.t.Error("does not stop")
	}
	i.api.Close()
	http.DefaultClient.CloseIdleConnections()
}

// reply is an HTTP answer.
type reply struct {
	code   int
	header http.Header
	raw    []byte
}

func (r reply) order(t *testing.T) OrderBody {
	t.Helper()
	var b OrderBody
	if err := json.Unmarshal(r.raw, &b); err != nil {
		t.Fatalf("%d %s: %v", r.code, r.raw, err)
	}
	return b
}

// locations are the places that a problem names.
func (r reply) locations(t *testing.T) []string {
	t.Helper()
	var p struct {
		Errors []struct {
			Location string `json:"location"`
		} `json:"errors"`
	}
	if err := json.Unmarshal(r.raw, &p); err != nil {
		t.Fatalf("%d %s: %v", r.code, r.raw, err)
	}
	var out []string
	for _, e := range p.Errors {
		out = append(out, e.Location)
	}
	return out
}

func (i *instance) do(method, path, body string, headers ...string) reply {
	i.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, i.api.URL+path, strings.NewReader(body))
	if err != nil {
		i.t.Fatal(err)
	}
	for n := 0; n < len(headers); n += 2 {
		req.Header.Add(headers[n], headers[n+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		i.t.Errorf("%s %s: %v", method, path, err)
		return reply{}
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		i.t.Errorf("%s %s: %v", method, path, err)
	}
	return reply{resp.StatusCode, resp.Header, bytes.TrimSpace(raw)}
}

const oneLine = `{"customer":"17850","email":"17850@customers.example","currency":"GBP","lines":[{"sku":"85123A","quantity":6,"unit_price":"2.55"}]}`

// place posts an order and returns its id.
func (i *instance) placeOne(key, body string) string {
	i.t.Helper()
	r := i.do(http.MethodPost, "/v1/orders", body, "Idempotency-Key", key)
	if r.code != http.StatusAccepted {
		i.t.Fatalf("place: %d %s", r.code, r.raw)
	}
	return r.order(i.t).ID
}

func (i *instance) status(id string) string {
	i.t.Helper()
	return i.do(http.MethodGet, "/v1/orders/"+id, "").order(i.t).Status
}

func (i *instance) await(id, status string) {
	i.t.Helper()
	last := ""
	eventstest.Eventually(i.t, patience, fmt.Sprintf("order %s is %s", id, status), func() bool {
		last = i.status(id)
		return last == status
	})
}

// history are the types of the events of an order.
func (w *world) history(id string) []string {
	w.t.Helper()
	s := w.topology.Subjects()
	recorded, err := w.orders.Load(context.Background(), s.Order(id))
	if err != nil {
		w.t.Fatal(err)
	}
	var types []string
	for n, r := range recorded {
		if r.Version != uint64(n)+1 || r.CorrelationID != id {
			w.t.Errorf("%s: version %d, correlation %q, want %d, %q", r.Type, r.Version, r.CorrelationID, n+1, id)
		}
		types = append(types, r.Type)
	}
	return types
}

// answer says for the warehouse what it decided about an order.
func (w *world) answer(id, eventType string) {
	w.t.Helper()
	s := w.topology.Subjects()
	placed, err := w.orders.Load(context.Background(), s.Order(id))
	if err != nil || len(placed) == 0 {
		w.t.Fatalf("order %s is not placed: %v", id, err)
	}
	d := events.StockDecision{OrderID: id, OrderSeq: placed[0].Sequence}
	if eventType == events.TypeStockRejected {
		d.Shortages = []events.Shortage{{SKU: "85123A", Requested: 6, Available: 1}}
	} else {
		d.Lines = []events.Line{{SKU: "85123A", Quantity: 6}}
	}
	ev, err := events.New("/tidemark/inventory", eventType, id, time.Now(), d)
	if err != nil {
		w.t.Fatal(err)
	}
	ev.ID = events.DeriveID(eventType, placed[0].ID)
	ev.CausationID = placed[0].ID
	if _, err := w.bus.Publish(context.Background(), s.StockOrder(id), ev); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) paid(id string) gateway.Kind {
	p, ok := w.gateway.Payment(id)
	if !ok {
		return ""
	}
	return p.Status
}

var busTelemetry bus.Telemetry

// ledger is the gateway's ledger as it can be read over HTTP.
func (w *world) ledger() []gateway.Entry {
	w.t.Helper()
	resp, err := http.Get(w.url + "/v1/ledger") //nolint:noctx // a test
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var entries []gateway.Entry
	for d := json.NewDecoder(resp.Body); d.More(); {
		var e gateway.Entry
		if err := d.Decode(&e); err != nil {
			w.t.Fatal(err)
		}
		entries = append(entries, e)
	}
	return entries
}

// publishRaw stores an event past the library, as a producer of another version would.
func (w *world) publishRaw(subject string, ev events.Event) {
	w.t.Helper()
	h, data, err := events.Encode(&ev)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.nats.JetStream().PublishMsg(context.Background(), &nats.Msg{Subject: subject, Header: nats.Header(h), Data: data}); err != nil {
		w.t.Fatal(err)
	}
}
