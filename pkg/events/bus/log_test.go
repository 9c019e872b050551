package bus_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// ledger is what a log's handler stores: its position, and beside it what it has counted. Like a real one, it refuses a batch that does not
// start behind its position.
type ledger struct {
	mu       sync.Mutex
	position uint64
	counted  []uint64
	unread   []uint64
}

func (l *ledger) at(context.Context) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.position, nil
}

func (l *ledger) handle(_ context.Context, ds []bus.Delivery) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range ds {
		if d.Sequence <= l.position {
			return fmt.Errorf("sequence %d again, the position is %d", d.Sequence, l.position)
		}
		if d.Err != nil {
			l.unread = append(l.unread, d.Sequence)
		} else {
			l.counted = append(l.counted, d.Sequence)
		}
		l.position = d.Sequence
	}
	return nil
}

func (l *ledger) reached(seq uint64) func() bool {
	return func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.position == seq
	}
}

// complete checks that from … to were counted, each once, in order.
func (l *ledger) complete(t *testing.T, from, to uint64) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := uint64(len(l.counted)); n != to-from+1 {
		t.Errorf("%d counted, want %d", n, to-from+1)
		return
	}
	for i, seq := range l.counted {
		if seq != from+uint64(i) {
			t.Fatalf("counted %d at place %d, want %d", seq, i, from+uint64(i))
		}
	}
}

func (f *fixture) readLog(cfg bus.LogConfig, js jetstream.JetStream) (stop func()) {
	f.Helper()
	cfg.Group = f.log
	l, err := bus.NewLog(cfg, f.deps(js))
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			f.Errorf("Run: %v", err)
		}
	})
	f.Cleanup(stop)
	select {
	case <-l.Ready():
	case <-time.After(10 * time.Second):
		f.Fatal("the log's reader did not become ready")
	}
	return stop
}

func TestLogReadsAllInOrder(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2, single)
	f.publishMany(300, 20)
	l := &ledger{}
	f.readLog(bus.LogConfig{Handler: l.handle, Position: l.at, MaxBatch: 64}, f.js)
	f.publishMany(300, 20)
	eventstest.Eventually(t, 10*time.Second, "all are read", l.reached(600))
	l.complete(t, 1, 600)
}

// TestLogStartsAgainAfterAnError: what failed comes again, from the stored position on.
func TestLogStartsAgainAfterAnError(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	l := &ledger{}
	f.publishMany(60, 5)
	failures := 0
	stop := f.readLog(bus.LogConfig{Handler: func(ctx context.Context, ds []bus.Delivery) error {
		if len(ds) > 1 && ds[0].Sequence%20 == 1 { // a part is stored, then it fails
			if err := l.handle(ctx, ds[:1]); err != nil {
				return err
			}
			failures++
			return errors.New("the rest was not stored")
		}
		return l.handle(ctx, ds)
	}, Position: l.at, MaxBatch: 10}, f.js)
	eventstest.Eventually(t, 30*time.Second, "all are read", l.reached(60))
	stop()
	l.complete(t, 1, 60)
	if failures == 0 {
		t.Error("no batch failed: the test shows nothing")
	}
}

// TestLogHandOver: an owner that is cut off in the middle, and another that goes on behind the position that is stored.
func TestLogHandOver(t *testing.T) {
	t.Parallel()
	for _, clean := range []bool{true, false} {
		t.Run(fmt.Sprintf("clean %t", clean), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, 1, single)
			l := &ledger{}
			first := f.server.JetStream()
			stop := f.readLog(bus.LogConfig{Handler: l.handle, Position: l.at, MaxBatch: 16}, first)
			f.readLog(bus.LogConfig{Handler: l.handle, Position: l.at, MaxBatch: 16}, f.server.JetStream())
			for i := range 600 {
				f.publish("k")
				switch {
				case i != 300:
				case clean:
					stop()
				default:
					first.Conn().Close()
				}
			}
			eventstest.Eventually(t, 20*time.Second, "all are read", l.reached(600))
			l.complete(t, 1, 600)
		})
	}
}

// TestLogAfterLostAcknowledgements: the position is the truth, not the consumer's ack floor.
func TestLogAfterLostAcknowledgements(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	l := &ledger{}
	loss := &lossy{}
	loss.losing.Store(true)
	js := f.lossyJetStream(loss)
	stop := f.readLog(bus.LogConfig{Handler: l.handle, Position: l.at}, js)
	f.publishMany(100, 10)
	eventstest.Eventually(t, 10*time.Second, "all are read", l.reached(100))
	js.Conn().Close()
	stop()
	f.readLog(bus.LogConfig{Handler: l.handle, Position: l.at}, f.js)
	f.publish("k0")
	eventstest.Eventually(t, 10*time.Second, "the next is read", l.reached(101))
	l.complete(t, 1, 101)
}

// TestLogGoesBackWithItsPosition: results that were thrown away are computed again, also where nothing new comes.
func TestLogGoesBackWithItsPosition(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	l := &ledger{}
	stop := f.readLog(bus.LogConfig{Handler: l.handle, Position: l.at}, f.js)
	f.publishMany(50, 5)
	eventstest.Eventually(t, 10*time.Second, "all are read", l.reached(50))
	stop()
	again := &ledger{position: 20}
	f.readLog(bus.LogConfig{Handler: again.handle, Position: again.at}, f.js)
	eventstest.Eventually(t, 10*time.Second, "the last 30 are read again", again.reached(50))
	again.complete(t, 21, 50)
}

// TestLogPassesHoles: what has expired is not waited for.
func TestLogPassesHoles(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single, func(top *events.Topology) { top.Streams[0].DenyDelete, top.Streams[0].DenyPurge = false, false })
	f.publishMany(100, 10)
	stream, err := f.js.Stream(t.Context(), events.StreamOrders)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSequence(41)); err != nil { // keeps 41 and up
		t.Fatal(err)
	}
	for seq := uint64(60); seq < 70; seq++ {
		if err := stream.DeleteMsg(t.Context(), seq); err != nil {
			t.Fatal(err)
		}
	}
	l := &ledger{}
	f.readLog(bus.LogConfig{Handler: l.handle, Position: l.at, MaxBatch: 7}, f.js)
	eventstest.Eventually(t, 10*time.Second, "all are read", l.reached(100))
	if len(l.counted) != 50 || l.counted[0] != 41 {
		t.Errorf("%d counted from %d on, want 50 from 41 on", len(l.counted), l.counted[0])
	}
}

// TestLogPassesWhatCannotBeRead: it is parked, and the position passes it though nothing comes behind it.
func TestLogPassesWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	f.publish("k")
	f.store(&nats.Msg{Subject: "orders.0.k", Data: []byte("no event")})
	f.publish("k")
	f.store(&nats.Msg{Subject: "orders.0.k", Data: []byte("no event, and the last one")})
	l := &ledger{}
	f.readLog(bus.LogConfig{Handler: l.handle, Position: l.at}, f.js)
	eventstest.Eventually(t, 10*time.Second, "the position is behind the last one", l.reached(4))
	if fmt.Sprint(l.counted, l.unread) != "[1 3] [2 4]" {
		t.Errorf("counted %v, not read %v; want 1, 3 and 2, 4", l.counted, l.unread)
	}
	if letters := f.lettersStored(); len(letters) != 2 || letters[0].Header.Get(deadletter.HeaderID) != "log:ORDERS:2" {
		t.Errorf("%d dead letters, want 2", len(letters))
	}
}

// TestLogChecks: what Check refuses is parked with the reason that its error gives.
func TestLogChecks(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	f.publishMany(3, 1)
	l := &ledger{}
	f.readLog(bus.LogConfig{Handler: l.handle, Position: l.at, Check: func(ev *events.Event) (any, error) {
		if ev.Version == 2 {
			return nil, fmt.Errorf("%w: x", events.ErrSchema)
		}
		return ev.Version, nil
	}}, f.js)
	eventstest.Eventually(t, 10*time.Second, "all are read", l.reached(3))
	if letters := f.lettersStored(); len(letters) != 1 || letters[0].Header.Get(deadletter.HeaderReason) != string(deadletter.ReasonSchema) {
		t.Errorf("%d dead letters, want 1 because of its schema", len(letters))
	}
	if fmt.Sprint(l.unread) != "[2]" {
		t.Errorf("not read: %v, want 2", l.unread)
	}
}

// TestLogOwnerKeepsThePinInALongBatch: a commit that takes longer than the pin's time to live costs the owner nothing.
func TestLogOwnerKeepsThePinInALongBatch(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	l, release := &ledger{}, make(chan struct{})
	f.readLog(bus.LogConfig{Handler: func(ctx context.Context, ds []bus.Delivery) error {
		<-release
		return l.handle(ctx, ds)
	}, Position: l.at}, f.js)
	f.publish("k")
	var pin string
	eventstest.Eventually(t, 10*time.Second, "it owns the log", func() bool {
		pin = f.info(f.log, 0).PriorityGroups[0].PinnedClientID
		return pin != ""
	})
	other := &ledger{}
	f.readLog(bus.LogConfig{Handler: other.handle, Position: other.at}, f.server.JetStream())
	until := time.Now().Add(3 * f.log.PinnedTTL)
	eventstest.Eventually(t, 10*time.Second, "three times the pin's time to live is over", func() bool { return time.Now().After(until) })
	if now := f.info(f.log, 0).PriorityGroups[0].PinnedClientID; now != pin {
		t.Errorf("the pin was %s and is %q", pin, now)
	}
	close(release)
	eventstest.Eventually(t, 10*time.Second, "it is stored", l.reached(1))
}

// TestLogGathers: a batch waits for more, but not for ever, and not when it is full; the acknowledgements come after it.
func TestLogGathers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		gather   time.Duration
		max      int
		maxCalls int
	}{
		{"a time", 500 * time.Millisecond, 1000, 5},
		{"until it is full", 15 * time.Second, 10, 6},
		{"nothing", 0, 1000, 60},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, 1, single)
			l := &ledger{}
			var calls atomic.Int32
			stop := f.readLog(bus.LogConfig{Handler: func(ctx context.Context, ds []bus.Delivery) error {
				calls.Add(1)
				return l.handle(ctx, ds)
			}, Position: l.at, MaxBatch: c.max, Gather: c.gather}, f.js)
			f.publishMany(60, 5)
			eventstest.Eventually(t, 20*time.Second, "all are read", l.reached(60))
			eventstest.Eventually(t, 20*time.Second, "all are acknowledged", func() bool { return f.info(f.log, 0).AckFloor.Stream == 60 })
			if n := int(calls.Load()); n > c.maxCalls || n == 0 {
				t.Errorf("%d calls for 60 events, want at most %d", n, c.maxCalls)
			}
			stop()
			l.complete(t, 1, 60)
		})
	}
}

// TestLogDeliversWhatItHasGatheredBeforeItStops: a clean stop does not leave it to somebody else.
func TestLogDeliversWhatItHasGatheredBeforeItStops(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	l := &ledger{}
	stop := f.readLog(bus.LogConfig{Handler: l.handle, Position: l.at, Gather: 15 * time.Second}, f.js)
	f.publishMany(10, 5)
	eventstest.Eventually(t, 10*time.Second, "all have been sent to the reader", func() bool { return f.info(f.log, 0).NumPending == 0 })
	stop()
	if n := len(l.counted); n == 0 {
		t.Error("what was gathered was dropped")
	}
}

// TestLogCallsWhenItIsDue: a handler that wants to be called at a time is called then, though nothing comes, and not without a time.
func TestLogCallsWhenItIsDue(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	l := &ledger{}
	var at time.Time // of the reader's goroutine
	early := make(chan time.Duration, 100)
	f.readLog(bus.LogConfig{Handler: func(ctx context.Context, ds []bus.Delivery) error {
		if len(ds) == 0 {
			early <- time.Until(at)
			at = time.Time{}
			return nil
		}
		at = time.Now().Add(50 * time.Millisecond)
		return l.handle(ctx, ds)
	}, Position: l.at, Due: func() time.Time { return at }}, f.js)
	f.publish("k")
	select {
	case by := <-early:
		if by > 0 {
			t.Errorf("called %s before the time", by)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("not called")
	}
	f.publish("k")
	eventstest.Eventually(t, 10*time.Second, "the next event is read", l.reached(2))
	<-early
	if len(early) > 0 {
		t.Error("called again without a time")
	}
	l.complete(t, 1, 2)
}

// TestLogStartsAgainAfterAnErrorWithoutEvents: what a call without events fails at is begun again from the position too.
func TestLogStartsAgainAfterAnErrorWithoutEvents(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	l := &ledger{}
	var at time.Time // of the reader's goroutine
	failed := false
	f.readLog(bus.LogConfig{Handler: func(ctx context.Context, ds []bus.Delivery) error {
		at = time.Time{}
		if len(ds) == 0 {
			failed = true
			return errors.New("not stored")
		}
		if !failed {
			at = time.Now()
		}
		return l.handle(ctx, ds)
	}, Position: l.at, Due: func() time.Time { return at }}, f.js)
	for range 20 {
		f.publish("k")
	}
	eventstest.Eventually(t, 30*time.Second, "all are read", l.reached(20))
	l.complete(t, 1, 20)
}
