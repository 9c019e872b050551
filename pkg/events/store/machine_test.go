package store_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"pgregory.net/rapid"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// machine does the same to a store and to the model, and breaks what it can.
type machine struct {
	model
	setup
	outer        testing.TB
	name         string
	store, plain *store.Store // through the proxy, and not
	proxy        *eventstest.Proxy
	bucket       *store.SnapshotBucket
	entries      jetstream.KeyValue
	seen         map[string][][]byte // snapshots by subject
	every        int
	subjects     []string
	chaos        func(*machine)
	troubled     bool // the broker went away since the last append that was answered
}

// replicated: reads may be answered by a server that is behind, which appends are not.
func (m *machine) replicated() bool { return m.Replicas() > 1 }

func (m *machine) aggregate(s *store.Store) store.Aggregate[history] {
	return store.Aggregate[history]{
		Store: s, Evolve: evolveHistory, Snapshots: &store.AggregateSnapshots[history]{Bucket: m.bucket, Fold: "history/1", Every: m.every, Slow: -1},
	}
}

// perform asks again where nobody leads the stream for longer than the store has patience, as on a busy machine that has just lost a broker: that must be harmless, too.
func (m *machine) perform(ctx context.Context, s *store.Store, a try) (last uint64, err error) {
	for range 5 {
		if last, err = m.performOnce(ctx, s, a); !errors.Is(err, nats.ErrNoResponders) {
			break
		}
	}
	return last, err
}

func (m *machine) performOnce(ctx context.Context, s *store.Store, a try) (uint64, error) {
	if a.subject == "" {
		return s.AppendAt(ctx, a.lock, a.writes...)
	}
	evs := make([]events.Event, len(a.writes))
	for i, w := range a.writes {
		evs[i] = w.Event
	}
	return s.Append(ctx, a.subject, a.lock, evs...)
}

func (m *machine) run(t *rapid.T, attempt try) {
	// A lock from the future is a caller's mistake. Refused without an answer it stays unknown: the future may come.
	future := attempt.lock > m.tail(attempt.subject)
	if !future && rapid.IntRange(0, 5).Draw(t, "lose the answer") == 0 {
		m.proxy.LoseAnswer(attempt.lastID(), true)
	}
	want := m.apply(attempt)
	got, err := m.perform(context.Background(), m.store, attempt)
	if future && m.troubled && errors.Is(err, store.ErrUnknownOutcome) {
		return // the broker that went away took the answer with it
	}
	if m.troubled = false; !want.allows(got, err) {
		t.Fatalf("append of %d to %q behind %d: %d, %v; want %+v", len(attempt.writes), attempt.subject, attempt.lock, got, err, want)
	}
}

func (a try) lastID() string { return a.writes[len(a.writes)-1].Event.ID }

// lockFor draws mostly the right lock, sometimes one from the past or the future.
func (m *machine) lockFor(t *rapid.T, subject string) uint64 {
	if rapid.IntRange(0, 3).Draw(t, "wrong lock") > 0 {
		return m.tail(subject)
	}
	return rapid.Uint64Range(0, uint64(len(m.log))+2).Draw(t, "lock")
}

// attempt draws an append under a subject's lock, or the stream's.
func (m *machine) attempt(t *rapid.T, subject string, lock uint64) try {
	a := try{subject: subject, lock: lock}
	for range rapid.IntRange(1, 3).Draw(t, "events") {
		w := store.Write{Subject: subject, Event: amount(1)}
		if subject == "" {
			w.Subject = m.anySubject(t)
		}
		a.writes = append(a.writes, w)
	}
	return a
}

func (m *machine) anySubject(t *rapid.T) string {
	return rapid.SampledFrom(m.subjects).Draw(t, "subject")
}

// anyLock draws the subject of a lock, or the stream.
func (m *machine) anyLock(t *rapid.T) string {
	return rapid.SampledFrom(append([]string{"", ""}, m.subjects...)).Draw(t, "lock of")
}

func (m *machine) append(t *rapid.T) {
	subject := m.anyLock(t)
	m.run(t, m.attempt(t, subject, m.lockFor(t, subject)))
}

func (m *machine) again(t *rapid.T) {
	if len(m.tried) == 0 {
		t.Skip("nothing was tried")
	}
	a := rapid.SampledFrom(m.tried).Draw(t, "earlier append")
	if rapid.Bool().Draw(t, "on what is known now") {
		a.lock = m.tail(a.subject)
	}
	m.run(t, a)
}

// silence: the broker stores an append, or not, and says nothing, until the writer gives up. The connection stays open.
func (m *machine) silence(t *rapid.T) {
	subject := m.anyLock(t)
	a := m.attempt(t, subject, m.tail(subject))
	m.proxy.LoseAnswer(a.lastID(), false)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := m.perform(ctx, m.store, a); !errors.Is(err, store.ErrUnknownOutcome) && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("append to a silent broker: %v", err)
	}
	m.proxy.LoseAnswer("", false) // or a message that the client sends late would make the next connection silent, too
	m.proxy.Cut()
	m.resolve(t, a)
}

// crash: a writer dies somewhere in the middle of an append, and nobody knows how far it came.
func (m *machine) crash(t *rapid.T) {
	subject := m.anyLock(t)
	a := m.attempt(t, subject, m.tail(subject))
	nc, err := nats.Connect(m.URL())
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = m.perform(ctx, store.New(js, m.name, m.encoder, noTelemetry), a) // nobody hears what it comes to
	}()
	select {
	case <-ended:
	case <-time.After(time.Duration(rapid.IntRange(0, 1500).Draw(t, "µs before the crash")) * time.Microsecond):
	}
	nc.Close()
	cancel()
	<-ended
	m.resolve(t, a)
}

// resolve finds out what became of an append whose writer does not know, in one of the two ways there are. Until then it may still be on its way.
func (m *machine) resolve(t *rapid.T, a try) {
	m.tried = append(m.tried, a)
	if rapid.Bool().Draw(t, "by trying again") {
		m.model.store(a)
		if got, err := m.perform(context.Background(), m.plain, a); err != nil || got != uint64(len(m.log)) {
			t.Fatalf("the append again: %d, %v; want %d", got, err, len(m.log))
		}
		return
	}
	other := m.attempt(t, a.subject, a.lock)
	got, err := m.perform(context.Background(), m.plain, other)
	switch {
	case err == nil:
		m.model.store(other) // so the first one will never be stored
		if got != uint64(len(m.log)) {
			t.Fatalf("the append that overtook: %d, want %d", got, len(m.log))
		}
	case errors.Is(err, store.ErrConflict):
		m.model.store(a) // it was stored, and whole
	default:
		t.Fatalf("an append with the same lock: %v", err)
	}
}

// same compares a state with the model's. A server that is behind may know less.
func (m *machine) same(subject string, got store.State[history]) bool {
	want := m.state(subject, -1)
	if m.replicated() && got.Version < want.Version {
		want = m.state(subject, int(got.Version))
	}
	return got.Version == want.Version && got.Sequence == want.Sequence && (len(got.Value) == 0 && len(want.Value) == 0 || reflect.DeepEqual(got.Value, want.Value))
}

// load folds a subject, from its snapshot where there is one that can be used.
func (m *machine) load(t *rapid.T) {
	subject := m.anySubject(t)
	state, err := m.aggregate(m.plain).Load(context.Background(), subject)
	if err != nil || !m.same(subject, state) {
		t.Fatalf("load: %+v, %v; want %+v", state, err, m.state(subject, -1))
	}
	if rapid.Bool().Draw(t, "wait for the snapshot") {
		if err := m.bucket.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if entry, err := m.entries.Get(context.Background(), subject); err == nil && len(entry.Value()) > 0 {
		m.seen[subject] = append(m.seen[subject], entry.Value())
	}
}

// insist does it again where the broker, which is being broken, did not answer.
func (m *machine) insist(t *rapid.T, what string, do func(context.Context) error) {
	var err error
	for range 10 {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		err = do(ctx)
		cancel()
		if err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

// tamper deletes a snapshot, or puts something else in its place: an older one, another subject's, half of one, one with a wrong bit, or no snapshot at all.
func (m *machine) tamper(t *rapid.T) {
	subject := m.anySubject(t)
	entries := m.seen[m.anySubject(t)]
	if rapid.IntRange(0, 3).Draw(t, "delete") == 0 || len(entries) == 0 {
		m.insist(t, "delete the snapshot", func(ctx context.Context) error { return m.entries.Delete(ctx, subject) })
		return
	}
	entry := append([]byte(nil), rapid.SampledFrom(entries).Draw(t, "entry")...)
	switch at := rapid.IntRange(0, len(entry)-1).Draw(t, "at"); rapid.IntRange(0, 3).Draw(t, "how") {
	case 0:
		entry[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
	case 1:
		entry = entry[:at]
	}
	m.insist(t, "put another snapshot", func(ctx context.Context) error {
		_, err := m.entries.Put(ctx, subject, entry)
		return err
	})
}

// execute runs a command while another writer gets in first, a few times.
func (m *machine) execute(t *rapid.T) {
	subject := m.anySubject(t)
	others, n := rapid.IntRange(0, 6).Draw(t, "writers that are faster"), rapid.IntRange(0, 2).Draw(t, "events")
	var decided try
	state, err := m.aggregate(m.store).Execute(context.Background(), subject, func(state store.State[history]) ([]events.Event, error) {
		if !m.same(subject, state) {
			t.Fatalf("decides on %+v, want %+v", state, m.state(subject, -1))
		}
		if others > 0 {
			others--
			faster := try{subject: subject, lock: m.tail(subject), writes: []store.Write{{Subject: subject, Event: amount(1)}}}
			if _, err := m.perform(context.Background(), m.plain, faster); err != nil {
				t.Fatalf("faster writer: %v", err)
			}
			m.model.store(faster)
		}
		decided = try{}
		evs := make([]events.Event, n)
		for i := range evs {
			evs[i] = amount(1)
			decided.writes = append(decided.writes, store.Write{Subject: subject, Event: evs[i]})
		}
		return evs, nil
	})
	if others > 0 || errors.Is(err, store.ErrConflict) {
		return // gave up after 6 decisions: nothing of them may be stored, which the last check sees
	}
	if err != nil {
		t.Fatalf("execute: %v", err)
	}
	m.model.store(decided)
	if n > 0 && (!m.same(subject, state) || state.Version != m.state(subject, -1).Version) {
		t.Fatalf("state after the command: %+v", state)
	}
}

// trouble is what happens to the broker itself, now and then.
func (m *machine) trouble(t *rapid.T) {
	if rapid.IntRange(0, 4).Draw(t, "not now") > 0 {
		t.Skip("not now")
	}
	m.chaos(m)
	m.troubled = true
}

// check compares the whole stream, and every subject of it, with the model.
func (m *machine) check(t *rapid.T) {
	last, err := m.readAll()
	if m.replicated() { // a leader that has just been elected may not have taken in all that the one before acknowledged
		eventstest.Eventually(m.outer, waitLimit, "the leader has all", func() bool {
			last, err = m.readAll()
			return err != nil || last >= uint64(len(m.log))
		})
	}
	if err != nil || last != uint64(len(m.log)) {
		t.Fatalf("read %d of %d: %v", last, len(m.log), err)
	}
	for _, subject := range m.subjects {
		whole := m.aggregate(m.plain)
		whole.Snapshots = nil
		for what, a := range map[string]store.Aggregate[history]{"with snapshots": m.aggregate(m.plain), "without": whole} {
			state, err := a.Load(context.Background(), subject)
			if err != nil || !m.same(subject, state) {
				t.Fatalf("load %s %s: %+v, %v; want %+v", subject, what, state, err, m.state(subject, -1))
			}
		}
	}
}

// readAll compares the stream with the model, as far as it is read.
func (m *machine) readAll() (last uint64, err error) {
	return m.plain.Read(context.Background(), 1, func(r store.Recorded) error {
		if r.Sequence > uint64(len(m.log)) || m.log[r.Sequence-1] != (modelEvent{r.Subject, r.ID}) {
			return fmt.Errorf("sequence %d holds %s of %s", r.Sequence, r.ID, r.Subject)
		}
		return nil
	})
}

// Whatever is appended, in whatever order, again, with lost answers and by writers that die, while the broker changes its leader or restarts and snapshots are damaged: the
// stream is what a list would be, and every state is the fold of it.
func storeIsAList(t *testing.T, server func(testing.TB) *eventstest.Server, chaos func(*machine)) {
	t.Helper()
	outer := t
	set := start(t, server)
	proxy := set.NewProxy()
	near, far := set.JetStream(), jetStream(t, proxy.Connect())
	bucket := set.snapshots(t, noTelemetry)
	entries, err := near.KeyValue(testContext(t), snapshotBucket)
	if err != nil {
		t.Fatal(err)
	}
	var runs atomic.Int64
	rapid.Check(t, func(t *rapid.T) {
		m := &machine{setup: set, outer: outer, proxy: proxy, bucket: bucket, entries: entries, chaos: chaos, seen: make(map[string][][]byte)}
		m.name, m.every = fmt.Sprintf("MODEL%d", runs.Add(1)), rapid.IntRange(1, 4).Draw(t, "snapshots every")
		m.plain, m.store = store.New(near, m.name, set.encoder, noTelemetry), store.New(far, m.name, set.encoder, noTelemetry)
		if !m.replicated() {
			m.store.Hurry()
		}
		for _, token := range []string{"a", "b", "c"} {
			m.subjects = append(m.subjects, m.name+"."+token)
		}
		createLike(t, near, m.name, set.Replicas(), jetstream.FileStorage)
		t.Repeat(map[string]func(*rapid.T){
			"append": m.append, "again": m.again, "silence": m.silence, "crash": m.crash,
			"execute": m.execute, "load": m.load, "tamper": m.tamper, "trouble": m.trouble,
		})
		m.check(t)
	})
}

func TestStoreIsAList(t *testing.T) {
	t.Parallel()
	storeIsAList(t, eventstest.Start, func(m *machine) { m.Restart(0) })
}
