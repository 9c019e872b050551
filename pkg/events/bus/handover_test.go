package bus_test

import (
	"bytes"
	"context"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// TestCleanHandOver stops the owner while events come in: no event is handled twice.
func TestCleanHandOver(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2, single)
	const total, keys = 1500, 40
	r := newRecord()
	work := func(ctx context.Context, d bus.Delivery) error {
		time.Sleep(time.Duration(d.Sequence%3) * time.Millisecond) // work, not waiting
		return r.handle(ctx, d)
	}
	first := f.join(bus.GroupConfig{Handler: work})
	f.join(bus.GroupConfig{Handler: work})
	for i := range total {
		f.publish("k" + strconv.Itoa(i%keys))
		if i == total/2 {
			go first.stop()
		}
	}
	eventstest.Eventually(t, 20*time.Second, "all are handled", func() bool { return r.distinct() == total })
	if r.count() != total {
		t.Errorf("%d calls for %d events, want no duplicates", r.count(), total)
	}
	if bad := r.disorder(); len(bad) > 0 {
		t.Errorf("%d out of order: %s", len(bad), bad[0])
	}
}

// TestHandOverDoesNotWaitForThePin: the next owner starts at once, not after the pin's time to live.
func TestHandOverDoesNotWaitForThePin(t *testing.T) {
	t.Parallel()
	const ttl = 30 * time.Second
	f := newFixture(t, 1, single, func(top *events.Topology) { top.Groups[0].PinnedTTL = ttl })
	r := newRecord()
	first := f.join(bus.GroupConfig{Handler: r.handle})
	f.publish("k")
	eventstest.Eventually(t, 5*time.Second, "the first is handled", func() bool { return r.count() == 1 })
	f.join(bus.GroupConfig{Handler: r.handle})
	first.stop()
	started := time.Now()
	f.publish("k")
	eventstest.Eventually(t, ttl/2, "the second is handled", func() bool { return r.count() == 2 })
	t.Logf("handed over in %s", time.Since(started))
	if r.snapshot()[1].Repeated {
		t.Error("after a clean hand-over nothing is repeated")
	}
}

// TestStopGivesBack: a handler that has no more time is not acknowledged, and the next owner gets the event.
func TestStopGivesBack(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	called := make(chan struct{})
	m := f.join(bus.GroupConfig{Drain: 50 * time.Millisecond, Handler: func(ctx context.Context, _ bus.Delivery) error {
		close(called)
		<-ctx.Done()
		return ctx.Err()
	}})
	f.publish("k")
	f.publish("k")
	<-called
	m.stop()
	if info := f.info(f.group, 0); info.AckFloor.Stream != 0 || info.NumAckPending != 0 || info.NumPending != 2 {
		t.Errorf("ack floor %d, %d unacknowledged, %d waiting; want 0, 0, 2", info.AckFloor.Stream, info.NumAckPending, info.NumPending)
	}
	if letters := f.lettersStored(); len(letters) > 0 {
		t.Errorf("%d dead letters, want none", len(letters))
	}
	r := newRecord()
	f.join(bus.GroupConfig{Handler: r.handle})
	f.settled(f.group)
	if bad := r.disorder(); len(bad) > 0 || r.count() != 2 {
		t.Errorf("%d calls, %v; want 2 in order", r.count(), bad)
	}
}

// lossy is a connection to the broker whose acknowledgements get lost while it is told so.
type lossy struct {
	losing atomic.Bool
	lost   atomic.Int64
}

type lossyConn struct {
	net.Conn
	l *lossy
}

func (l *lossy) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	return lossyConn{c, l}, err
}

// Write turns acknowledgements into messages that nobody listens to.
func (c lossyConn) Write(b []byte) (int, error) {
	if ack := []byte("PUB $JS.ACK."); c.l.losing.Load() && bytes.Contains(b, ack) {
		c.l.lost.Add(int64(bytes.Count(b, ack)))
		b = bytes.ReplaceAll(b, ack, []byte("PUB $JS.LOST"))
	}
	return c.Conn.Write(b)
}

func (f *fixture) lossyJetStream(l *lossy) jetstream.JetStream {
	f.Helper()
	nc, err := nats.Connect(f.server.URL(), nats.SetCustomDialer(l))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		f.Fatal(err)
	}
	return js
}

// TestLostAcknowledgements: what comes again after AckWait is acknowledged again and not handled again.
func TestLostAcknowledgements(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single, func(top *events.Topology) { top.Groups[0].AckWait = time.Second })
	l := &lossy{}
	l.losing.Store(true)
	r := newRecord()
	f.joinOn(bus.GroupConfig{Handler: r.handle}, f.deps(f.lossyJetStream(l)))
	f.publishMany(100, 10)
	eventstest.Eventually(t, 10*time.Second, "all are handled, no acknowledgement came in", func() bool { return r.count() == 100 && l.lost.Load() > 90 })
	l.losing.Store(false)
	f.settled(f.group)
	if r.count() != 100 {
		t.Errorf("%d calls, want 100", r.count())
	}
}

// TestLostAcknowledgementsAndReset: the same where the owner has to start over before AckWait.
func TestLostAcknowledgementsAndReset(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	l := &lossy{}
	r := newRecord()
	f.joinOn(bus.GroupConfig{Handler: r.handle}, f.deps(f.lossyJetStream(l)))
	f.publishMany(50, 10)
	f.settled(f.group)
	l.losing.Store(true)
	f.publishMany(50, 10)
	eventstest.Eventually(t, 10*time.Second, "all are handled", func() bool { return r.count() == 100 && l.lost.Load() > 40 })
	l.losing.Store(false)
	if _, err := f.js.ResetConsumer(t.Context(), f.group.Stream, f.group.Consumer(0)); err != nil { // as a stranger would
		t.Fatal(err)
	}
	f.publish("k0")
	f.settled(f.group)
	if bad := r.disorder(); len(bad) > 0 {
		t.Error(bad)
	}
	if r.distinct() != 101 {
		t.Errorf("%d handled, want 101", r.distinct())
	}
}

// TestReconnect breaks the owner's connection: what the broker sent into it must not wait for AckWait.
func TestReconnect(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	js := f.server.JetStream()
	r := newRecord()
	f.joinOn(bus.GroupConfig{Handler: r.handle}, f.deps(js))
	for i := range 600 {
		f.publish("k" + strconv.Itoa(i%20))
		if i%150 == 100 {
			if err := js.Conn().ForceReconnect(); err != nil {
				t.Fatal(err)
			}
		}
	}
	f.settled(f.group)
	if bad := r.disorder(); len(bad) > 0 {
		t.Errorf("%d out of order: %s", len(bad), bad[0])
	}
	if r.distinct() != 600 {
		t.Errorf("%d handled, want 600", r.distinct())
	}
	t.Logf("%d calls for 600 events", r.count())
}

// TestLeaderChange moves the consumer's leader around under a busy owner of a cluster.
func TestLeaderChange(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, cluster)
	r := newRecord()
	f.join(bus.GroupConfig{Handler: r.handle})
	const total = 900
	for i := range total {
		f.publish("k" + strconv.Itoa(i%20))
		if i%300 == 150 {
			f.stepDown()
		}
	}
	f.settled(f.group)
	if bad := r.disorder(); len(bad) > 0 {
		t.Errorf("%d out of order: %s", len(bad), bad[0])
	}
	if r.distinct() != total {
		t.Errorf("%d handled, want %d", r.distinct(), total)
	}
	t.Logf("%d calls for %d events", r.count(), total)
}

func (f *fixture) stepDown() {
	f.Helper()
	subject := "$JS.API.CONSUMER.LEADER.STEPDOWN." + f.group.Stream + "." + f.group.Consumer(0)
	eventstest.Eventually(f, 20*time.Second, "the leader steps down", func() bool {
		_, err := f.js.Conn().Request(subject, nil, time.Second)
		return err == nil
	})
}

// TestOperatorMovesGroupBack: the owner obeys a reset to an earlier sequence, and nothing that was handled is skipped.
func TestOperatorMovesGroupBack(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	r := newRecord()
	f.join(bus.GroupConfig{Handler: r.handle})
	f.publishMany(100, 10)
	f.settled(f.group)
	if _, err := f.js.ResetConsumerToSequence(t.Context(), f.group.Stream, f.group.Consumer(0), 41); err != nil {
		t.Fatal(err)
	}
	eventstest.Eventually(t, 10*time.Second, "the last 60 are handled again", func() bool { return r.count() == 160 })
	f.settled(f.group)
	for _, d := range r.snapshot()[100:] {
		if !d.Repeated || d.Sequence < 41 {
			t.Errorf("sequence %d, repeated %t; want 41 to 100, repeated", d.Sequence, d.Repeated)
		}
	}
}

// TestAhead: a handler that hangs holds the partition back at the limit, and the owner keeps its pin though it asks for nothing.
func TestAhead(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single, withoutMembers)
	const ahead, total = 16, 100
	r := newRecord()
	release := make(chan struct{})
	f.join(bus.GroupConfig{Ahead: ahead, Handler: func(ctx context.Context, d bus.Delivery) error {
		if d.Sequence == 1 {
			<-release
		}
		return r.handle(ctx, d)
	}})
	f.publishMany(total, total)
	eventstest.Eventually(t, 5*time.Second, "all up to the limit are handled", func() bool { return r.count() == ahead-1 })
	standby := newRecord()
	f.join(bus.GroupConfig{Handler: standby.handle})
	pin, until := f.info(f.group, 0).PriorityGroups[0].PinnedClientID, time.Now().Add(3*f.group.PinnedTTL)
	eventstest.Eventually(t, 10*time.Second, "three times the pin's time to live is over", func() bool { return time.Now().After(until) })
	info := f.info(f.group, 0)
	if now := info.PriorityGroups[0].PinnedClientID; pin == "" || now != pin {
		t.Errorf("pin was %q and is %q, want the same", pin, now)
	}
	if r.count() != ahead-1 || info.Delivered.Stream != ahead {
		t.Errorf("%d handled and %d delivered while the first hangs; want %d and %d", r.count(), info.Delivered.Stream, ahead-1, ahead)
	}
	close(release)
	f.settled(f.group)
	if r.distinct() != total || standby.count() != 0 {
		t.Errorf("owner handled %d, standby %d; want %d and 0", r.distinct(), standby.count(), total)
	}
}

// TestBrokerRestarts under a busy owner: the pin is gone, what was stored is not.
func TestBrokerRestarts(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	r := newRecord()
	f.join(bus.GroupConfig{Handler: r.handle})
	f.publishMany(200, 10)
	f.server.Restart(0)
	f.publishMany(200, 10)
	f.settled(f.group)
	if bad := r.disorder(); len(bad) > 0 {
		t.Errorf("%d out of order: %s", len(bad), bad[0])
	}
	if r.distinct() != 400 {
		t.Errorf("%d handled, want 400", r.distinct())
	}
	t.Logf("%d calls for 400 events", r.count())
}
