package bus_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// topology is small: one stream of orders, one group on it, the dead letters, and a log of all orders.
func topology(partitions int) events.Topology {
	full := events.DefaultTopology(partitions)
	t := events.Topology{Partitions: partitions}
	for _, name := range []string{events.StreamOrders, events.StreamDLQ, events.StreamDLQCtl} {
		s, _ := full.Stream(name)
		t.Streams = append(t.Streams, s)
	}
	for _, b := range full.Buckets {
		if b.Name == events.BucketMembers {
			t.Buckets = append(t.Buckets, b)
		}
	}
	t.Groups = []events.Group{
		{
			Name: "readers", Stream: events.StreamOrders, Service: "test", Filter: "orders.{p}.*", Partitions: partitions,
			AckWait: time.Minute, MaxPending: 2048, PinnedTTL: time.Second,
		},
		{
			Name: "log", Stream: events.StreamOrders, Service: "test", Partitions: 1, Single: true,
			AckWait: time.Minute, MaxPending: 2048, PinnedTTL: time.Second,
		},
	}
	return t
}

// fixture is a server with the topology and a publisher.
type fixture struct {
	*testing.T
	server   *eventstest.Server
	topology events.Topology
	js       jetstream.JetStream
	subjects events.Subjects
	group    events.Group
	log      events.Group
	sent     map[string]uint64 // versions by key
	stored   map[int]uint64    // last stream sequence by partition
}

func newFixture(t *testing.T, partitions int, start func(testing.TB) *eventstest.Server, change ...func(*events.Topology)) *fixture {
	t.Helper()
	top := topology(partitions)
	for _, c := range change {
		c(&top)
	}
	s := start(t)
	s.Apply(top)
	f := &fixture{T: t, server: s, topology: top, js: s.JetStream(), subjects: top.Subjects(), sent: make(map[string]uint64), stored: make(map[int]uint64)}
	f.group, _ = top.Group("readers")
	f.log, _ = top.Group("log")
	return f
}

// withoutMembers takes the bucket of the members away: all stand by on every partition.
func withoutMembers(t *events.Topology) { t.Buckets = nil }

func single(tb testing.TB) *eventstest.Server  { return eventstest.Start(tb) }
func cluster(tb testing.TB) *eventstest.Server { return eventstest.StartCluster(tb) }

func (f *fixture) deps(js jetstream.JetStream) bus.Deps {
	deps := bus.Deps{JS: js, Subjects: f.subjects}
	if testing.Verbose() {
		deps.Telemetry.Logger = slog.New(slog.NewTextHandler(f.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return deps
}

// event makes the next event of a key.
func (f *fixture) event(key string) events.Event {
	f.Helper()
	ev, err := events.New("/test", events.TypeOrderCancelled, key, time.Now(), events.OrderCancelled{OrderID: key, CustomerID: "c"})
	if err != nil {
		f.Fatal(err)
	}
	f.sent[key]++
	ev.Version = f.sent[key]
	return ev
}

// publish stores the next event of a key.
func (f *fixture) publish(key string) { f.publishWith(key, func(*events.Event) {}) }

// publishWith shows the event before it stores it.
func (f *fixture) publishWith(key string, see func(*events.Event)) {
	f.Helper()
	ev := f.event(key)
	see(&ev)
	header, data, err := events.Encode(&ev)
	if err != nil {
		f.Fatal(err)
	}
	header[nats.MsgIdHdr] = []string{ev.ID} // so that it can be tried again, where the broker restarts or changes its leader
	f.store(&nats.Msg{Subject: f.subjects.Order(key), Header: nats.Header(header), Data: data})
}

func (f *fixture) store(m *nats.Msg) {
	f.Helper()
	var ack *jetstream.PubAck
	eventstest.Eventually(f, 20*time.Second, "the message is stored", func() bool {
		ctx, cancel := context.WithTimeout(f.Context(), time.Second)
		defer cancel()
		var err error
		ack, err = f.js.PublishMsg(ctx, m)
		return err == nil
	})
	p, err := strconv.Atoi(strings.Split(m.Subject, ".")[1])
	if err != nil {
		f.Fatal(err)
	}
	f.stored[p] = ack.Sequence
}

// publishMany stores n events over the keys k0…, in turn.
func (f *fixture) publishMany(n, keys int) {
	f.Helper()
	for i := range n {
		f.publish("k" + strconv.Itoa(i%keys))
	}
}

// member is one running member of a group.
type member struct {
	group *bus.Group
	stop  func()
	ended chan error
}

// join runs a member on a connection of its own.
func (f *fixture) join(cfg bus.GroupConfig) *member {
	f.Helper()
	return f.joinOn(cfg, f.deps(f.server.JetStream()))
}

func (f *fixture) joinOn(cfg bus.GroupConfig, deps bus.Deps) *member {
	f.Helper()
	if cfg.Group.Name == "" {
		cfg.Group = f.group
	}
	g, err := bus.NewGroup(cfg, deps)
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &member{group: g, ended: make(chan error, 1)}
	go func() { m.ended <- g.Run(ctx) }()
	var once sync.Once
	m.stop = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-m.ended:
				if err != nil {
					f.Errorf("Run: %v", err)
				}
			case <-time.After(20 * time.Second):
				f.Errorf("the member did not stop")
			}
		})
	}
	f.Cleanup(m.stop)
	select {
	case <-g.Ready():
	case <-time.After(10 * time.Second):
		f.Fatal("the member did not become ready")
	}
	return m
}

// record is what handlers were called with, over all members.
type record struct {
	mu    sync.Mutex
	calls []bus.Delivery
	done  map[uint64]int
	last  map[string]uint64
	bad   []string
}

func newRecord() *record {
	return &record{done: make(map[uint64]int), last: make(map[string]uint64)}
}

// handle counts the call and notes every step of a key's version that is neither the next one nor a repeat.
func (r *record) handle(_ context.Context, d bus.Delivery) error {
	r.add(d)
	return nil
}

func (r *record) add(d bus.Delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, d)
	r.done[d.Sequence]++
	key, last := d.Event.Key(), r.last[d.Event.Key()]
	if d.Event.Version > last+1 {
		r.bad = append(r.bad, fmt.Sprintf("%s: applied v%d while last applied was v%d", key, d.Event.Version, last))
	}
	r.last[key] = max(last, d.Event.Version)
}

// distinct is how many different events were handled, calls how many calls there were.
func (r *record) distinct() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.done)
}

// repeated are the sequences that were handled more than once.
func (r *record) repeated() (out []uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for seq, calls := range r.done {
		if calls > 1 {
			out = append(out, seq)
		}
	}
	return out
}

func (r *record) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.calls)
}

func (r *record) disorder() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.bad...)
}

func (r *record) snapshot() []bus.Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]bus.Delivery(nil), r.calls...)
}

// settled waits until the group has acknowledged everything.
func (f *fixture) settled(g events.Group) {
	f.Helper()
	eventstest.Eventually(f, 20*time.Second, "everything is acknowledged", func() bool {
		for p := range g.Partitions {
			// Not by the lag: the broker counts what is pending a moment after it has stored it.
			if f.info(g, p).AckFloor.Stream < f.stored[p] {
				return false
			}
		}
		return true
	})
}

func (f *fixture) info(g events.Group, p int) *jetstream.ConsumerInfo {
	f.Helper()
	for try := 1; ; try++ { // between two leaders nobody answers
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		c, err := f.js.Consumer(ctx, g.Stream, g.Consumer(p))
		cancel()
		if err == nil {
			return c.CachedInfo()
		}
		if try == 20 {
			f.Fatal(err)
		}
	}
}

// lettersStored is what DLQ holds.
func (f *fixture) lettersStored() []*jetstream.RawStreamMsg {
	f.Helper()
	stream, err := f.js.Stream(context.Background(), events.StreamDLQ)
	if err != nil {
		f.Fatal(err)
	}
	state := stream.CachedInfo().State
	var out []*jetstream.RawStreamMsg
	for seq := state.FirstSeq; state.Msgs > 0 && seq <= state.LastSeq; seq++ {
		m, err := stream.GetMsg(context.Background(), seq)
		if err != nil {
			f.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

// letters are all letters with their states.
func (f *fixture) letters() []deadletter.Letter {
	f.Helper()
	var out []deadletter.Letter
	for l, err := range f.desk().Letters(context.Background(), deadletter.Filter{}) {
		if err != nil {
			f.Fatal(err)
		}
		out = append(out, l)
	}
	return out
}

func (f *fixture) desk() *deadletter.Store { return deadletter.New(f.js, f.subjects) }

// wantLetters compares the letters with "<key> <version> <state> <reason>" each, in the order in which they were parked.
func (f *fixture) wantLetters(want ...string) {
	f.Helper()
	if got := describe(f.letters()); !slices.Equal(got, want) {
		f.Errorf("dead letters %q, want %q", got, want)
	}
}

func describe(letters []deadletter.Letter) []string {
	var out []string
	for _, l := range letters {
		out = append(out, fmt.Sprintf("%s %d %s %s", l.Key, l.KeyVersion, l.Current.State, l.Current.Failure.Reason))
	}
	return out
}

// job makes a job of all letters that fit.
func (f *fixture) job(kind deadletter.JobKind, change ...func(*deadletter.Job)) deadletter.Job {
	f.Helper()
	job := deadletter.Job{Group: f.group.Name, Kind: kind, By: "ann", Why: "test"}
	for _, l := range f.letters() {
		job.Letters = append(job.Letters, deadletter.RefTo(&l))
	}
	for _, c := range change {
		c(&job)
	}
	job, err := f.desk().CreateJob(context.Background(), job)
	if err != nil {
		f.Fatal(err)
	}
	return job
}

// done waits for the end of a job.
func (f *fixture) done(job deadletter.Job) (status deadletter.JobStatus) {
	f.Helper()
	eventstest.Eventually(f, 60*time.Second, "the job ends", func() bool {
		var err error
		status, err = f.desk().JobStatus(context.Background(), job.Group, job.ID)
		return err == nil && status.State.Ended()
	})
	return status
}

// versions are the versions of a key that were handled, in that order.
func (r *record) versions(key string) []uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []uint64
	for _, d := range r.calls {
		if d.Event.Key() == key {
			out = append(out, d.Event.Version)
		}
	}
	return out
}
