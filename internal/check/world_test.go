package check

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/tidemark/tidemark/internal/client"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

func TestMain(m *testing.M) {
	// The test's server waits for an answer about a source for some seconds after its end. That is its goroutine, not ours.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*stream).trySetupSourceConsumer.func3"))
}

// world is a system that is written by hand: logs by plain publishing, with no lock and no schema, so that they can hold what no service would write; a
// gateway that is a list; and read models that are kept beside the logs, event by event.
type world struct {
	t        *testing.T
	server   *eventstest.Server
	js       jetstream.JetStream
	topology events.Topology
	subjects events.Subjects
	url      string

	mu       sync.Mutex
	orders   map[string]*shown
	stock    map[string]*client.Stock
	minutes  map[time.Time]int64 // orders, by minute
	ledger   []client.LedgerEntry
	versions map[string]uint64 // by subject
	last     map[string]string // id of an order's last event
	answers  map[string]uint64 // sequence of an order's last event in ORDERS
	mails    []client.MailEntry
	asleep   struct{ warehouse, post bool } // nobody answers, nobody tells
	broken   struct {                       // what the API says wrongly
		ordersDigest, stockDigest string
		lost                      int64 // orders that no query counts
		late, minute, value       int64
		uncounted                 int64  // of the late ones, those that are in windows all the same
		timing                    string // of the windows
		down, gatewayDown         bool
	}
}

// shown is an order as the read model has it.
type shown struct {
	status, customer string
	version          int
	total            events.Minor
}

var placedAt = time.Date(2010, 12, 1, 8, 26, 30, 0, time.UTC)

// newWorld starts a broker with all streams. Nobody reads, so there are no groups, unless the test adds them.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		t: t, server: eventstest.Start(t), orders: map[string]*shown{}, stock: map[string]*client.Stock{}, minutes: map[time.Time]int64{},
		versions: map[string]uint64{}, last: map[string]string{}, answers: map[string]uint64{},
	}
	w.topology = events.DefaultTopology(2)
	w.topology.Groups = nil
	w.server.Apply(w.topology)
	w.js = w.server.JetStream()
	w.subjects = w.topology.Subjects()
	api := httptest.NewServer(http.HandlerFunc(w.serve))
	t.Cleanup(api.Close)
	w.url = api.URL
	return w
}

func (w *world) config() Config {
	return Config{API: w.url, NATS: w.server.URL(), Gateway: w.url, Topology: w.topology, Wait: 20 * time.Second}
}

func (w *world) check() map[int]Result {
	w.t.Helper()
	return w.checkWith(w.config())
}

func (w *world) checkWith(cfg Config) map[int]Result {
	w.t.Helper()
	var told bytes.Buffer
	cfg.Progress = &told
	results, err := Run(w.t.Context(), cfg)
	if err != nil {
		w.t.Fatalf("check: %v\n%s", err, told.String())
	}
	by := map[int]Result{}
	for _, r := range results {
		by[r.Invariant] = r
	}
	return by
}

// event is one event of a log, all of which a test may change before it is stored.
type event = events.Event

// put stores an event as the next one of its subject, caused by the order's last one.
func (w *world) put(subject, eventType, key string, payload any, change ...func(*event)) (event, uint64) {
	w.t.Helper()
	ev, err := events.New("/tidemark/test", eventType, key, placedAt, payload)
	if err != nil {
		w.t.Fatal(err)
	}
	w.versions[subject]++
	ev.Version = w.versions[subject]
	ev.CausationID = w.last[key]
	for _, c := range change {
		c(&ev)
	}
	w.last[key] = ev.ID
	header, data, err := events.Encode(&ev)
	if err != nil {
		w.t.Fatal(err)
	}
	ack, err := w.js.PublishMsg(w.t.Context(), &nats.Msg{Subject: subject, Header: nats.Header(header), Data: data})
	if err != nil {
		w.t.Fatal(err)
	}
	return ev, ack.Sequence
}

func (w *world) receive(sku string, units int64) {
	w.put(w.subjects.StockSKU(sku), events.TypeStockReceived, sku, events.StockReceived{SKU: sku, Quantity: units, ReceiptID: "r-" + sku})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.item(sku).OnHand += units
}

func (w *world) item(sku string) *client.Stock {
	if w.stock[sku] == nil {
		w.stock[sku] = &client.Stock{SKU: sku}
	}
	return w.stock[sku]
}

const price = events.Minor(100)

// of makes lines of "A", 2, "B", 1.
func of(parts ...any) []events.Line {
	var lines []events.Line
	for i := 0; i < len(parts); i += 2 {
		lines = append(lines, events.Line{SKU: parts[i].(string), Quantity: int64(parts[i+1].(int)), UnitPrice: price})
	}
	return lines
}

func (w *world) place(id string, lines []events.Line, change ...func(*event)) {
	total, err := events.Total(lines)
	if err != nil {
		w.t.Fatal(err)
	}
	w.tell(w.put(w.subjects.Order(id), events.TypeOrderPlaced, id, events.OrderPlaced{
		OrderID: id, CustomerID: "customer-" + id, Currency: "GBP", PlacedAt: placedAt, Lines: lines, Total: total, RequestDigest: "x",
	}, change...))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.orders[id] = &shown{status: "placed", customer: "customer-" + id, version: 1, total: total}
	w.minutes[placedAt.Truncate(time.Minute)]++
}

// tell notes the place of an order's event, and tells the customer.
func (w *world) tell(ev event, sequence uint64) {
	id := ev.Subject
	w.answers[id] = sequence
	if w.asleep.post {
		return
	}
	before := w.last[id]
	notice := events.Notice{OrderID: id, OrderVersion: ev.Version, Channel: "email", MessageID: fmt.Sprintf("%s.%d.email@test", events.Token(id), ev.Version)}
	w.put(w.subjects.Notice(id, ev.Version, "email"), events.TypeNoticeSent, id, notice, func(e *event) {
		if ev.CausationID == "nowhere" || ev.CorrelationID == "" || ev.CorrelationID == "other" { // one broken event is enough
			e.CausationID = ""
		}
	})
	w.last[id] = before
	w.change(func() {
		w.mails = append(w.mails, client.MailEntry{Kind: client.MailAccepted, MessageID: notice.MessageID})
	})
}

// end stores how an order ends, after the warehouse has answered its beginning. The read model keeps the first end and counts no other.
func (w *world) end(id, eventType string, change ...func(*event)) {
	o := w.orders[id]
	if w.versions[w.subjects.StockOrder(id)] == 0 && !w.asleep.warehouse {
		w.decide(id, events.TypeStockRejected, nil)
	}
	var payload any
	status := client.StatusRejected
	switch eventType {
	case events.TypeOrderConfirmed:
		payload, status = events.OrderConfirmed{OrderID: id, Currency: "GBP", Total: o.total, PaymentID: "p-" + id}, client.StatusConfirmed
	case events.TypeOrderCancelled:
		payload, status = events.OrderCancelled{OrderID: id}, client.StatusCancelled
	default:
		payload = events.OrderRejected{OrderID: id, Reason: events.ReasonOutOfStock}
	}
	w.tell(w.put(w.subjects.Order(id), eventType, id, payload, change...))
	w.mu.Lock()
	defer w.mu.Unlock()
	o.version++
	if o.status == "placed" || o.status == "reserved" {
		o.status = status
	}
}

// decide stores what the warehouse decided.
func (w *world) decide(id, eventType string, lines []events.Line, change ...func(*event)) {
	w.put(w.subjects.StockOrder(id), eventType, id, events.StockDecision{OrderID: id, OrderSeq: w.answers[id], Lines: lines}, change...)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range lines {
		switch eventType {
		case events.TypeStockReserved:
			w.item(l.SKU).Reserved += l.Quantity
		case events.TypeStockCommitted:
			w.item(l.SKU).Reserved -= l.Quantity
			w.item(l.SKU).OnHand -= l.Quantity
		case events.TypeStockReleased:
			w.item(l.SKU).Reserved -= l.Quantity
		}
	}
	if o := w.orders[id]; o != nil && eventType == events.TypeStockReserved && o.status == "placed" {
		o.status = "reserved"
	}
}

func (w *world) notify(id string, change ...func(*event)) {
	before := w.last[id]
	defer func() { w.last[id] = before }() // nothing answers a notice
	w.put(w.subjects.Notice(id, 2, "webhook"), events.TypeNoticeSent, id, events.Notice{OrderID: id, OrderVersion: 2, Channel: "webhook"}, change...)
}

func (w *world) pay(id, kind string, amount events.Minor) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ledger = append(w.ledger, client.LedgerEntry{At: placedAt, Kind: kind, Key: id, PaymentID: "p-" + id, Amount: amount, Currency: "GBP"})
}

// timer stores an order's deadline.
func (w *world) timer(id string, due time.Time) {
	before := w.last[id]
	w.put(w.subjects.Timer(id), events.TypeOrderDeadline, id, events.OrderDeadline{OrderID: id, DueAt: due})
	w.last[id] = before
}

// change changes what the world serves.
func (w *world) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// letter parks an event of an order.
func (w *world) letter(group, key string, version uint64, change ...func(*deadletter.Letter)) deadletter.Letter {
	w.t.Helper()
	l := deadletter.Letter{
		ID: deadletter.ID(group, events.StreamOrders, w.answers[key]), Group: group, Partition: w.subjects.PartitionOf(key), Key: key, KeyVersion: version,
		FirstState: deadletter.StateDead, Failure: deadletter.Failure{Reason: deadletter.ReasonPermanent, Error: "no", Fingerprint: "f"},
		Stream: events.StreamOrders, Subject: w.subjects.Order(key), StreamSeq: w.answers[key], EventType: events.TypeOrderPlaced,
		Header: events.Header{"ce-type": {events.TypeOrderPlaced}}, Data: []byte("{}"),
	}
	for _, c := range change {
		c(&l)
	}
	ack, err := w.js.PublishMsg(w.t.Context(), l.Message(w.subjects))
	if err != nil {
		w.t.Fatal(err)
	}
	l, err = deadletter.New(w.js, w.subjects).At(w.t.Context(), ack.Sequence)
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}

// discard gives a letter up, as the owner of its partition does when an operator says so.
func (w *world) discard(l deadletter.Letter) {
	w.t.Helper()
	store := deadletter.New(w.js, w.subjects)
	e, err := store.Write(w.t.Context(), l.Current.Next(deadletter.StateDiscarded, deadletter.ActionDiscard, "ann", time.Now()))
	if err != nil {
		w.t.Fatal(err)
	}
	l.Current = e
	if err := store.Remove(w.t.Context(), &l); err != nil {
		w.t.Fatal(err)
	}
}

// sell is a whole order that ends well.
func (w *world) sell(id string, lines []events.Line) {
	w.place(id, lines)
	w.decide(id, events.TypeStockReserved, lines)
	w.pay(id, client.LedgerCaptured, w.orders[id].total)
	w.end(id, events.TypeOrderConfirmed)
	w.decide(id, events.TypeStockCommitted, lines)
}

// story is a log in which everything that can happen to an order happens, and all is well.
func (w *world) story() {
	w.receive("A", 10)
	w.receive("BANK CHARGES", 10)
	w.receive("A", 10)

	w.sell("sold", of("A", 2, "BANK CHARGES", 1, "A", 1))
	w.notify("sold")

	w.place("short", of("A", 100))
	w.decide("short", events.TypeStockRejected, nil)
	w.end("short", events.TypeOrderRejected)
	w.decide("short", events.TypeStockReleased, nil)

	w.place("declined", of("A", 4))
	w.decide("declined", events.TypeStockReserved, of("A", 4))
	w.pay("declined", client.LedgerDeclined, 400)
	w.end("declined", events.TypeOrderRejected)
	w.decide("declined", events.TypeStockReleased, of("A", 4))

	w.place("voided", of("A", 4))
	w.decide("voided", events.TypeStockReserved, of("A", 4))
	w.pay("voided", client.LedgerCaptured, 400)
	w.end("voided", events.TypeOrderCancelled)
	w.pay("voided", client.LedgerVoided, 400)
	w.decide("voided", events.TypeStockReleased, of("A", 4))

	w.place("cancelled", of("A", 1))
	w.asleep.warehouse = true
	w.discard(w.letter(events.GroupInventory, "cancelled", 1)) // an operator let the warehouse pass over the order's beginning
	w.end("cancelled", events.TypeOrderCancelled)
	w.decide("cancelled", events.TypeStockReleased, nil) // a tombstone
	w.asleep.warehouse = false
	w.pay("never charged", client.LedgerVoided, 0)

	w.place("open", of("A", 5))
	w.timer("open", time.Now().Add(time.Hour))
	w.decide("open", events.TypeStockReserved, of("A", 5))
}

func (w *world) serve(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch path := r.URL.Path; {
	case path == "/v1/ledger" && !w.broken.gatewayDown:
		for _, e := range w.ledger {
			_ = json.NewEncoder(rw).Encode(e)
		}
	case path == "/v1/outbox/ledger" && !w.broken.down:
		for _, e := range w.mails {
			_ = json.NewEncoder(rw).Encode(e)
		}
	case path == "/v1/ledger" || w.broken.down:
		http.Error(rw, `{"detail":"down"}`, http.StatusNotFound)
	case path == "/v1/projections/orders":
		w.project(rw, "orders", cmp.Or(w.broken.ordersDigest, w.ordersDigest()), events.StreamOrders, events.StreamStock)
	case path == "/v1/projections/stock":
		w.project(rw, "stock", cmp.Or(w.broken.stockDigest, w.stockDigest()), events.StreamStock)
	case path == "/v1/projections/windows":
		w.queries(rw)
	case path == "/v1/windows":
		w.windows(rw, r.URL.Query().Get("query"))
	case path == "/v1/stock":
		items := []client.Stock{}
		for _, k := range w.stock {
			items = append(items, *k)
		}
		_ = json.NewEncoder(rw).Encode(map[string]any{"items": items})
	default:
		http.NotFound(rw, r)
	}
}

func (w *world) position(streams ...string) map[string]uint64 {
	position := map[string]uint64{}
	for _, name := range streams {
		s, err := w.js.Stream(w.t.Context(), name)
		if err == nil {
			position[name] = s.CachedInfo().State.LastSeq
		}
	}
	return position
}

func (w *world) project(rw http.ResponseWriter, name, digest string, streams ...string) {
	_ = json.NewEncoder(rw).Encode(client.Projection{Name: name, Position: w.position(streams...), Digest: digest})
}

func (w *world) queries(rw http.ResponseWriter) {
	n := int64(len(w.orders)) - w.broken.lost
	p := client.Projection{Name: "windows", Position: w.position(events.StreamTimeline)}
	for _, q := range []string{queryOrders, queryRevenue} {
		p.Queries = append(p.Queries, client.QueryCounts{Query: q, Read: n, Counted: n - w.broken.uncounted, Late: w.broken.late})
	}
	p.Queries = append(p.Queries, client.QueryCounts{Query: "clicks-per-minute", Read: 3, Counted: 1, Late: 1, Duplicates: 1})
	_ = json.NewEncoder(rw).Encode(p)
}

func (w *world) windows(rw http.ResponseWriter, query string) {
	items := []client.Window{}
	for minute, n := range w.minutes {
		item := client.Window{Query: query, Timing: w.broken.timing, Start: minute.Add(time.Duration(w.broken.minute) * time.Minute), Value: n - w.broken.lost, Count: n - w.broken.lost}
		if query == queryRevenue {
			item.Key, item.Value = "GBP", w.broken.value
			for _, o := range w.orders {
				item.Value += int64(o.total)
			}
		}
		items = append(items, item)
	}
	_ = json.NewEncoder(rw).Encode(map[string]any{"items": items})
}

func (w *world) ordersDigest() string {
	var lines []string
	for id, o := range w.orders {
		lines = append(lines, fmt.Sprintf("%s|%s|%d|%d|%s\n", id, o.status, o.version, o.total, o.customer))
	}
	return digest(lines)
}

func (w *world) stockDigest() string {
	var lines []string
	for sku, k := range w.stock {
		lines = append(lines, fmt.Sprintf("%s|%d|%d\n", sku, k.OnHand, k.Reserved))
	}
	return digest(lines)
}

func digest(lines []string) string {
	slices.Sort(lines) // no name in these tests is the beginning of another one
	sum := sha256.Sum256([]byte(strings.Join(lines, "")))
	return hex.EncodeToString(sum[:])
}
