package bus_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// ownerDies leaves the consumer as an owner does that dies: version 1 of a key acknowledged, version 2 in its executor. Version 3 is stored later,
// where later is set.
func (f *fixture) ownerDies(later bool) {
	f.Helper()
	f.publish("k")
	f.publish("k")
	nc := f.server.Connect()
	js, err := jetstream.New(nc)
	if err != nil {
		f.Fatal(err)
	}
	c, err := js.Consumer(f.Context(), f.group.Stream, f.group.Consumer(0))
	if err != nil {
		f.Fatal(err)
	}
	batch, err := c.Fetch(2, jetstream.FetchMaxWait(5*time.Second), jetstream.FetchPriorityGroup("owner"))
	if err != nil {
		f.Fatal(err)
	}
	n := 0
	for m := range batch.Messages() {
		if n++; n == 1 {
			if err := m.DoubleAck(f.Context()); err != nil {
				f.Fatal(err)
			}
		}
	}
	if n != 2 {
		f.Fatalf("the owner got %d messages, want 2", n)
	}
	nc.Close()
	if later {
		f.publish("k")
	}
}

// TestNaiveReaderLosesOrder is the counterexample: what the rule of this package is for. A durable, a pin and a keyed executor are not enough.
func TestNaiveReaderLosesOrder(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	f.ownerDies(true)
	c, err := f.js.Consumer(t.Context(), f.group.Stream, f.group.Consumer(0))
	if err != nil {
		t.Fatal(err)
	}
	batch, err := c.Fetch(1, jetstream.FetchMaxWait(10*time.Second), jetstream.FetchPriorityGroup("owner"))
	if err != nil {
		t.Fatal(err)
	}
	m, ok := <-batch.Messages()
	if !ok {
		t.Fatalf("the naive reader got nothing: %v", batch.Error())
	}
	ev, err := events.Decode(events.Header(m.Headers()), m.Data())
	if err != nil {
		t.Fatal(err)
	}
	if ev.Version != 3 {
		t.Fatalf("the naive reader got version %d; the counterexample expects version 3 before 2", ev.Version)
	}
}

func TestNewOwnerKeepsOrder(t *testing.T) {
	t.Parallel()
	for name, later := range map[string]bool{"busy partition": true, "quiet partition": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, 1, single)
			f.ownerDies(later)
			r := newRecord()
			r.last["k"] = 1 // by the owner that died
			started := time.Now()
			f.join(bus.GroupConfig{Handler: r.handle})
			f.settled(f.group)
			if took := time.Since(started); took > 10*time.Second { // AckWait is a minute
				t.Errorf("take-over took %s", took)
			}
			calls := r.snapshot()
			if calls[0].Event.Version != 2 || !calls[0].Repeated {
				t.Errorf("first handled: version %d, repeated %t; want version 2, repeated", calls[0].Event.Version, calls[0].Repeated)
			}
			if later && (len(calls) != 2 || calls[1].Event.Version != 3 || calls[1].Repeated) {
				t.Errorf("then handled %d more, want version 3, not repeated", len(calls)-1)
			}
			if bad := r.disorder(); len(bad) > 0 {
				t.Error(bad)
			}
		})
	}
}

// TestOrderAcrossCrash cuts a busy owner off in the middle. What it does after that is not seen by anybody, as with a process that died.
func TestOrderAcrossCrash(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) *eventstest.Server{"R1": single, "R3": cluster} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, 2, start)
			const total, keys = 1200, 30
			r := newRecord()
			var dead atomic.Bool
			slow := func(ctx context.Context, d bus.Delivery) error {
				time.Sleep(time.Duration(1+d.Sequence%4) * time.Millisecond) // work, not waiting
				return r.handle(ctx, d)
			}
			first := f.server.JetStream()
			f.joinOn(bus.GroupConfig{Lanes: 16, Handler: func(ctx context.Context, d bus.Delivery) error {
				if dead.Load() {
					<-ctx.Done()
					return ctx.Err()
				}
				return slow(ctx, d)
			}, Drain: time.Millisecond}, f.deps(first))
			f.join(bus.GroupConfig{Lanes: 16, Handler: slow})
			for i := range total {
				f.publish(fmt.Sprintf("k%d", i%keys))
				if i == total/2 {
					dead.Store(true)
					first.Conn().Close()
				}
			}
			eventstest.Eventually(t, 30*time.Second, "all are handled", func() bool { return r.distinct() == total })
			if bad := r.disorder(); len(bad) > 0 {
				t.Errorf("%d out of order: %s", len(bad), bad[0])
			}
			t.Logf("%d calls for %d events", r.count(), total)
		})
	}
}

const (
	childURL     = "BUS_TEST_CHILD_URL"
	childRole    = "BUS_TEST_CHILD_ROLE"
	childSubject = "applied"
)

// children are what this test binary is as a child, by its role.
var children = map[string]func(url string) error{"": runChild, "effects": runEffects, "dies": runDyingChild, "replays": runReplayingChild}

// runChild is the program that TestOrderAcrossKill kills: a member that publishes what it applies.
func runChild(url string) error { return runTelling(url, 1, time.Millisecond) }

// runTelling is a member that tells what it applies before it is done with it: the connection keeps the order, so nothing is settled that was not told.
func runTelling(url string, partitions int, work time.Duration) error {
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	top := topology(partitions)
	group, _ := top.Group("readers")
	g, err := bus.NewGroup(bus.GroupConfig{Group: group, Handler: func(_ context.Context, d bus.Delivery) error {
		time.Sleep(work) // work, not waiting
		return nc.Publish(childSubject, fmt.Appendf(nil, "%d %d %s", d.Sequence, d.Event.Version, d.Event.PartitionKey))
	}}, bus.Deps{JS: js, Subjects: top.Subjects()})
	if err != nil {
		return err
	}
	fmt.Println("running")
	return g.Run(context.Background())
}

// TestOrderAcrossKill kills a member's process, twice. What it repeats is at most what was between its ack floor and its last delivery.
func TestOrderAcrossKill(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	const total, keys = 900, 20
	r := newRecord()
	f.hear(r)
	kill := f.child()
	mayRepeat := make(map[uint64]bool)
	for i := range total {
		f.publish(fmt.Sprintf("k%d", i%keys))
		if i == total/3 || i == 2*total/3 {
			eventstest.Eventually(t, 10*time.Second, "some are handled", func() bool { return r.distinct() > i/3 })
			kill()
			info := f.info(f.group, 0)
			for seq := info.AckFloor.Stream + 1; seq <= info.Delivered.Stream; seq++ {
				mayRepeat[seq] = true
			}
			kill = f.child()
		}
	}
	eventstest.Eventually(t, 30*time.Second, "all are handled", func() bool { return r.distinct() == total })
	kill()
	if bad := r.disorder(); len(bad) > 0 {
		t.Errorf("%d out of order: %s", len(bad), bad[0])
	}
	for _, seq := range r.repeated() {
		if !mayRepeat[seq] {
			t.Errorf("sequence %d was handled again, and lay not between the ack floor and the last delivery when a member was killed", seq)
		}
	}
	t.Logf("%d calls for %d events, where %d might have been repeated", r.count(), total, len(mayRepeat))
}

// hear records what children say that they apply.
func (f *fixture) hear(r *record) {
	f.Helper()
	if _, err := f.js.Conn().Subscribe(childSubject, func(m *nats.Msg) {
		var d bus.Delivery
		if _, err := fmt.Sscan(string(m.Data), &d.Sequence, &d.Event.Version, &d.Event.PartitionKey); err != nil {
			f.Error(err)
		}
		r.add(d)
	}); err != nil {
		f.Fatal(err)
	}
}

// child starts this test binary as a member and returns what kills it.
func (f *fixture) child() (kill func()) {
	f.Helper()
	cmd := exec.Command(os.Args[0]) //nolint:gosec // ourselves
	cmd.Env = append(os.Environ(), childURL+"="+f.server.URL())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		f.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		f.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		f.Fatal(err)
	}
	return f.killer(cmd)
}

// killer kills a process that was started, once, at the latest with the test.
func (f *fixture) killer(cmd *exec.Cmd) (kill func()) {
	killed := false
	kill = func() {
		if killed {
			return
		}
		killed = true
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // says that it was killed
	}
	f.Cleanup(kill)
	return kill
}
