package store_test

import (
	"context"
	"encoding/json"
	"flag"
	"testing"
	"testing/fstest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

func TestMain(m *testing.M) {
	// Each check of the property test is a stream of its own: fewer than rapid's 100, unless told otherwise on the command line.
	if err := flag.Set("rapid.checks", modelChecks); err != nil {
		panic(err)
	}
	// nats.go 1.55: an object store's Put that ends before this goroutine has started leaves it waiting on a nil channel.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"))
}

const (
	ledger = "LEDGER" // the stream of these tests
	added  = "test.amount.added.v1"
)

const waitLimit = 20 * time.Second

var noTelemetry bus.Telemetry

// clusters are what every promise about concurrent writers is tested on: one server, and three that replicate. They answer differently.
var clusters = map[string]func(testing.TB) *eventstest.Server{"R1": eventstest.Start, "R3": eventstest.StartCluster}

// setup is a server with one event store on it.
type setup struct {
	*eventstest.Server
	registry *events.Registry
	encoder  *bus.Encoder
}

func start(tb testing.TB, server func(testing.TB) *eventstest.Server) setup {
	tb.Helper()
	s := setup{Server: server(tb), registry: testRegistry(tb)}
	s.encoder = bus.NewEncoder(s.registry, bus.Telemetry{})
	s.Apply(ledgerTopology())
	return s
}

func testRegistry(tb testing.TB) *events.Registry {
	tb.Helper()
	registry, err := events.NewRegistry(fstest.MapFS{added + ".json": {Data: []byte(
		`{"type":"object","required":["amount"],"properties":{"amount":{"type":"integer"}}}`)}})
	if err != nil {
		tb.Fatal(err)
	}
	return registry
}

func ledgerTopology() events.Topology {
	return events.Topology{Streams: []events.Stream{{
		Name: ledger, Subjects: []string{"ledger.*"}, DenyDelete: true, DenyPurge: true, AtomicBatches: true, DuplicateWindow: 2 * time.Minute,
	}}}
}

// open returns a store with a connection of its own.
func (s setup) open(tb testing.TB) *store.Store {
	tb.Helper()
	return store.New(s.JetStream(), ledger, s.encoder, bus.Telemetry{})
}

func (s setup) openOn(tb testing.TB, nc *nats.Conn) *store.Store {
	tb.Helper()
	return store.New(jetStream(tb, nc), ledger, s.encoder, bus.Telemetry{})
}

func jetStream(tb testing.TB, nc *nats.Conn) jetstream.JetStream {
	tb.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		tb.Fatal(err)
	}
	return js
}

// createStream makes one more event store, in memory, with the name as the first token of its subjects.
func createStream(tb rapid.TB, js jetstream.JetStream, name string) {
	tb.Helper()
	createLike(tb, js, name, 1, jetstream.MemoryStorage) // a batch on a file costs milliseconds
}

func createLike(tb rapid.TB, js jetstream.JetStream, name string, replicas int, storage jetstream.StorageType) {
	tb.Helper()
	config := bus.StreamConfig(events.Stream{Name: name, Subjects: []string{name + ".*"}, DenyDelete: true, DenyPurge: true, AtomicBatches: true}, replicas)
	config.Storage = storage
	// The test may just have restarted a broker: who was asked while another one is elected may never answer. The same stream asked for again is no error.
	var err error
	for range 20 {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		_, err = js.CreateStream(ctx, config)
		cancel()
		if err == nil {
			return
		}
	}
	tb.Fatalf("create stream: %v", err)
}

func amount(n int64) events.Event { return amountID(events.NewID(), n) }

func amountID(id string, n int64) events.Event {
	data, _ := json.Marshal(map[string]int64{"amount": n})
	return events.Event{ID: id, Source: "/test", Type: added, Time: time.Unix(1700000000, 0).UTC(), Data: data}
}

func amountOf(tb testing.TB, r store.Recorded) int64 {
	tb.Helper()
	v, err := events.Payload[struct {
		Amount int64 `json:"amount"`
	}](&r.Event)
	if err != nil {
		tb.Fatal(err)
	}
	return v.Amount
}

func testContext(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	tb.Cleanup(cancel)
	return ctx
}

func mustAppend(tb testing.TB, s *store.Store, subject string, expected uint64, evs ...events.Event) uint64 {
	tb.Helper()
	sequence, err := s.Append(testContext(tb), subject, expected, evs...)
	if err != nil {
		tb.Fatalf("append: %v", err)
	}
	return sequence
}

func mustLoad(tb testing.TB, s *store.Store, subject string) []store.Recorded {
	tb.Helper()
	recorded, err := s.Load(testContext(tb), subject)
	if err != nil {
		tb.Fatalf("load: %v", err)
	}
	return recorded
}

const snapshotBucket = "LEDGER_SNAPSHOTS"

// snapshots opens the bucket for the snapshots of aggregates, with a connection of its own.
func (s setup) snapshots(tb testing.TB, telemetry bus.Telemetry) *store.SnapshotBucket {
	tb.Helper()
	s.Apply(events.Topology{Buckets: []events.Bucket{{Name: snapshotBucket}}})
	bucket, err := store.NewSnapshotBucket(testContext(tb), s.JetStream(), snapshotBucket, telemetry)
	if err != nil {
		tb.Fatal(err)
	}
	return bucket
}
