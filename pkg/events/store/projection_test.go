package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"pgregory.net/rapid"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// tally is a read model: the sum of each subject. Subjects whose names begin with the same letter are one part.
type tally struct {
	mu        sync.RWMutex
	sums      map[string]int64
	revisions map[string]uint64
	factor    int64 // what a changed fold changes
	refuse    func(r store.Recorded) error
	promoted  int
}

func newTally() *tally {
	return &tally{sums: map[string]int64{}, revisions: map[string]uint64{}, factor: 1}
}

func (m *tally) Fold(r store.Recorded) error {
	if m.refuse != nil {
		if err := m.refuse(r); err != nil {
			return err
		}
	}
	if r.Type != added {
		return fmt.Errorf("%w: %s", events.ErrUnknownType, r.Type)
	}
	var payload struct{ Amount *int64 }
	if err := json.Unmarshal(r.Data, &payload); err != nil || payload.Amount == nil {
		return errors.New("no amount")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sums[r.Subject] += *payload.Amount * m.factor
	m.revisions[shard(r.Subject)]++
	return nil
}

func shard(subject string) string {
	_, name, _ := strings.Cut(subject, ".")
	return "s/" + name[:1]
}

func (m *tally) Parts() []store.Part {
	var parts []store.Part
	for _, name := range slices.Sorted(maps.Keys(m.revisions)) {
		parts = append(parts, store.Part{Name: name, Revision: m.revisions[name], Encode: func() []byte {
			var b strings.Builder
			for key, row := range m.Rows() {
				if shard(key) == name {
					b.WriteString(key + " " + row + "\n")
				}
			}
			return []byte(b.String())
		}})
	}
	return parts
}

func (m *tally) Restore(name string, data []byte) error {
	for line := range strings.Lines(string(data)) {
		var key string
		var sum int64
		if _, err := fmt.Sscan(line, &key, &sum); err != nil {
			return err
		}
		m.sums[key] = sum
	}
	m.revisions[name]++
	return nil
}

func (m *tally) Rows() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, key := range slices.Sorted(maps.Keys(m.sums)) {
			if !yield(key, fmt.Sprint(m.sums[key])) {
				return
			}
		}
	}
}

func (m *tally) Count() int { return len(m.sums) }

func (m *tally) total() (sum int64) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, n := range m.sums {
		sum += n
	}
	return sum
}

const (
	snapshots = "CACHE"
	versions  = "VERSIONS"
)

// shop is a server with two event stores and what projections need.
type shop struct {
	setup
	js   jetstream.JetStream
	logs []*store.Store
}

func newShop(tb testing.TB, server func(testing.TB) *eventstest.Server) *shop {
	tb.Helper()
	s := &shop{setup: start(tb, server)}
	s.Apply(events.Topology{
		Streams: []events.Stream{{Name: "OTHER", Subjects: []string{"other.*"}, DenyDelete: true, DenyPurge: true, AtomicBatches: true}},
		Buckets: []events.Bucket{{Name: snapshots, Objects: true}, {Name: versions}},
	})
	s.js = s.JetStream()
	s.logs = []*store.Store{store.New(s.js, ledger, s.encoder, noTelemetry), store.New(s.js, "OTHER", s.encoder, noTelemetry)}
	return s
}

// running is a projection that runs.
type running struct {
	*store.Projection[*tally]
	tb    testing.TB
	stop  context.CancelFunc
	ended chan error
	done  bool
}

type tallyConfig = store.ProjectionConfig[*tally]

func (s *shop) run(tb testing.TB, change func(*tallyConfig)) *running {
	tb.Helper()
	cfg := tallyConfig{Name: "sums", Fold: 1, Layout: 1, Logs: s.logs, New: newTally, Promote: func(m *tally) { m.promoted++ }, SaveEvery: 3}
	if change != nil {
		change(&cfg)
	}
	p, err := store.NewProjection(cfg, store.ProjectionDeps{JS: s.js, Snapshots: snapshots, Versions: versions})
	if err != nil {
		tb.Fatal(err)
	}
	r := &running{Projection: p, tb: tb, ended: make(chan error, 1)}
	var ctx context.Context
	ctx, r.stop = context.WithCancel(context.Background())
	go func() { r.ended <- p.Run(ctx) }()
	tb.Cleanup(r.halt)
	return r
}

func (r *running) halt() {
	if r.done {
		return
	}
	r.done = true
	r.stop()
	if err := <-r.ended; err != nil {
		r.tb.Errorf("run: %v", err)
	}
}

func (r *running) caughtUp() *running {
	r.tb.Helper()
	select {
	case <-r.CaughtUp():
	case <-testContext(r.tb).Done():
		r.tb.Fatal("did not catch up")
	}
	return r
}

func (r *running) status() store.ProjectionStatus {
	r.tb.Helper()
	s, err := r.Status(testContext(r.tb))
	if err != nil {
		r.tb.Fatal(err)
	}
	return s
}

// in finds the version with a role.
func in(s store.ProjectionStatus, role store.Role) store.VersionStatus {
	for _, v := range s.Versions {
		if v.Role == role {
			return v
		}
	}
	return store.VersionStatus{}
}

// settle waits until every version that is read has read everything.
func (r *running) settle() store.ProjectionStatus {
	r.tb.Helper()
	var s store.ProjectionStatus
	eventstest.Eventually(r.tb, waitLimit, "everything is folded", func() bool {
		s = r.status()
		return !slices.ContainsFunc(s.Versions, func(v store.VersionStatus) bool {
			return v.State == store.StateBuilding || v.State == store.StateReady && v.Lag > 0
		})
	})
	return s
}

func (r *running) rebuilt(park bool) uint64 {
	r.tb.Helper()
	number, err := r.Rebuild(testContext(r.tb), park)
	if err != nil {
		r.tb.Fatal(err)
	}
	r.settle()
	return number
}

// picture is what the model that answers holds, byte for byte.
func (r *running) picture() string {
	var b strings.Builder
	r.View(func(m *tally, at map[string]uint64) {
		fmt.Fprintln(&b, at)
		for _, part := range m.Parts() {
			fmt.Fprintf(&b, "%s: %s", part.Name, part.Encode())
		}
	})
	return b.String()
}

func unknown() events.Event {
	ev := amount(1)
	ev.Type = "test.something.else.v1"
	return ev
}

// raw publishes past the library, as a producer with a mistake would.
func (s *shop) raw(tb rapid.TB, subject string, ev events.Event) {
	tb.Helper()
	h, data, err := events.Encode(&ev)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := s.js.PublishMsg(context.Background(), &nats.Msg{Subject: subject, Header: nats.Header(h), Data: data}); err != nil {
		tb.Fatal(err)
	}
}

// Whatever is stored, wherever it is stopped and restored, and whatever of its cache is lost: a projection comes to the state that folding everything in one go comes to, byte for byte, and so does
// a rebuild beside it.
func TestAProjectionIsTheFoldOfItsLogs(t *testing.T) {
	t.Parallel()
	s := newShop(t, eventstest.Start)
	blobs, err := s.js.ObjectStore(testContext(t), snapshots)
	if err != nil {
		t.Fatal(err)
	}
	round := 0
	rapid.Check(t, func(d *rapid.T) {
		round++
		want := newTally()
		ends := map[string]uint64{}
		skipped := uint64(0)
		var logs []*store.Store
		for i := range rapid.IntRange(1, 2).Draw(d, "logs") {
			name := fmt.Sprintf("P%d-%d", round, i)
			createStream(d, s.js, name)
			logs = append(logs, store.New(s.js, name, s.encoder, noTelemetry))
			ends[name] = 0
		}
		change := func(c *tallyConfig) {
			c.Name, c.Logs = fmt.Sprint("round-", round), logs
			c.SaveEvery = rapid.SampledFrom([]int{1, 2, 7, -1}).Draw(d, "save every")
		}
		p := s.run(t, change).caughtUp()
		for range rapid.IntRange(0, 25).Draw(d, "steps") {
			switch rapid.IntRange(0, 9).Draw(d, "step") {
			case 0:
				p.halt()
				p = s.run(t, change)
				if rapid.Bool().Draw(d, "let it catch up") {
					p.caughtUp()
				}
			case 1:
				p.halt()
				infos, err := blobs.List(testContext(t))
				if err == nil && len(infos) > 0 {
					err = blobs.Delete(testContext(t), rapid.SampledFrom(infos).Draw(d, "lost").Name)
				}
				if err != nil && !errors.Is(err, jetstream.ErrNoObjectsFound) {
					d.Fatal(err)
				}
				p = s.run(t, change).caughtUp()
			case 2:
				p.caughtUp().rebuilt(rapid.Bool().Draw(d, "park"))
				c, err := p.Swap(testContext(t), store.SwapOptions{})
				if err != nil || !c.Equal || c.Digest != c.LiveDigest {
					d.Fatalf("rebuilt: %+v, %v", c, err)
				}
			default:
				name := rapid.SampledFrom(slices.Sorted(maps.Keys(ends))).Draw(d, "log")
				for range rapid.IntRange(1, 5).Draw(d, "events") {
					subject := name + "." + rapid.SampledFrom([]string{"a1", "a2", "b", "c"}).Draw(d, "subject")
					ev := amount(rapid.Int64Range(-9, 9).Draw(d, "amount"))
					if rapid.IntRange(0, 9).Draw(d, "of an unknown type") == 0 {
						ev.Type = "test.something.else.v1"
						skipped++
					}
					ends[name]++
					s.raw(d, subject, ev)
					if err := want.Fold(store.Recorded{Event: ev, Stream: name, Subject: subject, Sequence: ends[name]}); err != nil && !errors.Is(err, events.ErrUnknownType) {
						d.Fatal(err)
					}
				}
			}
		}
		live := in(p.caughtUp().settle(), store.RoleLive)
		var b strings.Builder
		fmt.Fprintln(&b, ends)
		for _, part := range want.Parts() {
			fmt.Fprintf(&b, "%s: %s", part.Name, part.Encode())
		}
		if got := p.picture(); got != b.String() {
			d.Fatalf("got\n%s\nwant\n%s", got, b.String())
		}
		counted := uint64(0)
		for _, n := range live.Skipped {
			counted += n
		}
		if counted != skipped || len(live.Parked) > 0 || live.Count != want.Count() {
			d.Fatalf("%d skipped, want %d; %+v", counted, skipped, live)
		}
		p.rebuilt(false)
		if c, err := p.Compare(testContext(t), 0); err != nil || !c.Equal {
			d.Fatalf("rebuilt at the end: %+v, %v", c, err)
		}
		p.halt()
	})
}
