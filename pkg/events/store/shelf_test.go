package store_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// account is a state with parts: what it adds up to, and the ids of its events.
type account struct {
	Total int64
	IDs   []string
}

// shelf is a ledger whose aggregates have snapshots, with everything that a test wants to look at.
type shelf struct {
	setup
	t       *testing.T
	log     *store.Store
	bucket  *store.SnapshotBucket
	entries jetstream.KeyValue
	metrics *sdkmetric.ManualReader
	folded  int // calls of Evolve
	*store.AggregateSnapshots[account]
}

func newShelf(t *testing.T, server func(testing.TB) *eventstest.Server) *shelf {
	t.Helper()
	s := &shelf{t: t, setup: start(t, server), metrics: sdkmetric.NewManualReader()}
	s.log = s.open(t)
	s.bucket = s.snapshots(t, bus.Telemetry{Meter: sdkmetric.NewMeterProvider(sdkmetric.WithReader(s.metrics))})
	var err error
	if s.entries, err = s.JetStream().KeyValue(testContext(t), snapshotBucket); err != nil {
		t.Fatal(err)
	}
	s.AggregateSnapshots = &store.AggregateSnapshots[account]{Bucket: s.bucket, Fold: "account/1", Every: 10, Slow: -1}
	return s
}

func (s *shelf) aggregate() store.Aggregate[account] {
	return store.Aggregate[account]{Store: s.log, Snapshots: s.AggregateSnapshots, Evolve: func(a account, r store.Recorded) (account, error) {
		s.folded++
		v, err := events.Payload[struct{ Amount int64 }](&r.Event)
		return account{Total: a.Total + v.Amount, IDs: append(a.IDs, r.ID)}, err
	}}
}

// add appends n amounts of 1.
func (s *shelf) add(subject string, n int) {
	s.t.Helper()
	last := uint64(0)
	if recorded := mustLoad(s.t, s.log, subject); len(recorded) > 0 {
		last = recorded[len(recorded)-1].Sequence
	}
	for range n {
		last = mustAppend(s.t, s.log, subject, last, amount(1))
	}
}

// load loads with the snapshot, compares with what the log says, and returns how many events it folded.
func (s *shelf) load(subject string) int {
	s.t.Helper()
	a := s.aggregate()
	s.folded = 0
	got, err := a.Load(testContext(s.t), subject)
	folded := s.folded
	a.Snapshots = nil
	want, err2 := a.Load(testContext(s.t), subject)
	if err != nil || err2 != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		s.t.Errorf("with the snapshot: %+v, %v\nwithout: %+v, %v", got, err, want, err2)
	}
	if err := s.bucket.Flush(testContext(s.t)); err != nil {
		s.t.Fatal(err)
	}
	return folded
}

func (s *shelf) mustFold(subject string, want int) {
	s.t.Helper()
	if got := s.load(subject); got != want {
		s.t.Errorf("the load folds %d events, want %d", got, want)
	}
}

// ended is how often reading and writing ended so.
func (s *shelf) ended(outcome string) int64 {
	s.t.Helper()
	return s.outcomes()[outcome]
}

func (s *shelf) outcomes() map[string]int64 {
	s.t.Helper()
	var all metricdata.ResourceMetrics
	if err := s.metrics.Collect(context.Background(), &all); err != nil {
		s.t.Fatal(err)
	}
	out := make(map[string]int64)
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != "tidemark.store.snapshots" {
				continue
			}
			for _, p := range m.Data.(metricdata.Sum[int64]).DataPoints {
				outcome, _ := p.Attributes.Value(attribute.Key("outcome"))
				out[outcome.AsString()] = p.Value
			}
		}
	}
	return out
}

func (s *shelf) entry(subject string) []byte {
	s.t.Helper()
	e, err := s.entries.Get(testContext(s.t), subject)
	if err != nil {
		s.t.Fatalf("snapshot of %s: %v", subject, err)
	}
	return e.Value()
}

func (s *shelf) put(subject string, entry []byte) {
	s.t.Helper()
	if _, err := s.entries.Put(testContext(s.t), subject, entry); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shelf) aggregateOf(subject string) (a account) {
	for _, r := range mustLoad(s.t, s.log, subject) {
		a = account{Total: a.Total + 1, IDs: append(a.IDs, r.ID)}
	}
	return a
}
