package groups_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/tidemark/tidemark/internal/groups"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

func TestMain(m *testing.M) {
	// The broker's, of a stream with sources: it ends some seconds after the broker.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*stream).trySetupSourceConsumer.func3"))
}

const limit = 30 * time.Second

// rig is a broker with the topology of the system in four partitions, and members of its groups that count what they handle.
type rig struct {
	*testing.T
	server   *eventstest.Server
	js       jetstream.JetStream
	topology events.Topology
	stored   int
}

func newRig(t *testing.T) *rig {
	t.Helper()
	s := eventstest.Start(t)
	return &rig{T: t, server: s, js: s.JetStream(), topology: s.Apply(events.DefaultTopology(4))}
}

// store puts n orders into ORDERS, over 20 keys.
func (r *rig) store(n int) {
	r.Helper()
	subjects := r.topology.Subjects()
	for range n {
		key := "o" + strconv.Itoa(r.stored%20)
		r.stored++
		ev, err := events.New("/test", events.TypeOrderCancelled, key, time.Now(), events.OrderCancelled{OrderID: key, CustomerID: "c"})
		if err != nil {
			r.Fatal(err)
		}
		header, data, err := events.Encode(&ev)
		if err != nil {
			r.Fatal(err)
		}
		if _, err := r.js.PublishMsg(r.Context(), &nats.Msg{Subject: subjects.Order(key), Header: nats.Header(header), Data: data}); err != nil {
			r.Fatal(err)
		}
	}
}

// join runs a member that counts; stop ends it.
func (r *rig) join(group string, counted *atomic.Int64) (name string, stop func()) {
	r.Helper()
	declared, ok := r.topology.Group(group)
	if !ok {
		r.Fatalf("no group %s", group)
	}
	g, err := bus.NewGroup(bus.GroupConfig{Group: declared, Handler: func(context.Context, bus.Delivery) error {
		counted.Add(1)
		return nil
	}}, bus.Deps{JS: r.server.JetStream(), Subjects: r.topology.Subjects()})
	if err != nil {
		r.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				r.Error(err)
			}
		})
	}
	r.Cleanup(stop)
	<-g.Ready()
	return g.Member(), stop
}

func (r *rig) show(group string) groups.Group {
	r.Helper()
	g, err := groups.Show(r.Context(), r.js, r.topology, group)
	if err != nil {
		r.Fatal(err)
	}
	return g
}

func (r *rig) await(what string, group string, is func(groups.Group) bool) groups.Group {
	r.Helper()
	var g groups.Group
	eventstest.Eventually(r, limit, what, func() bool { g = r.show(group); return is(g) })
	return g
}

func (r *rig) plan(group string, to groups.Target) *groups.Move {
	r.Helper()
	m, err := groups.Plan(r.Context(), r.js, r.topology, group, to)
	if err != nil {
		r.Fatal(err)
	}
	return m
}

func (r *rig) move(m *groups.Move, all bool) {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	if err := m.Do(ctx, r.js); err != nil {
		r.Fatal(err)
	}
	if err := m.Await(ctx, r.js, r.topology, all, nil); err != nil {
		r.Fatal(err)
	}
}

func TestListShowsWhoReadsWhat(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	all, err := groups.List(t.Context(), r.js, r.topology)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, g := range all {
		names = append(names, g.Group)
		if g.Lag != 0 || len(g.Members) != 0 || g.Partitions[0].Owner != "" {
			t.Errorf("at the start: %+v", g)
		}
	}
	if want := []string{"inventory", "order-stock", "order-deadlines", "notify", "analytics"}; !slices.Equal(names, want) {
		t.Errorf("groups %v, want %v", names, want)
	}
	r.store(100)
	if g := r.show(events.GroupNotify); g.Lag != 100 || g.Pending != 0 || g.LastActivity != nil {
		t.Errorf("with nobody there: lag %d, pending %d, last activity %v", g.Lag, g.Pending, g.LastActivity)
	}

	var handled atomic.Int64
	first, _ := r.join(events.GroupNotify, &handled)
	var others []string
	for range 5 {
		name, _ := r.join(events.GroupNotify, &handled)
		others = append(others, name)
	}
	r.store(100) // the new owners notice that they are
	g := r.await("six members share four partitions, and two stand by", events.GroupNotify, func(g groups.Group) bool {
		return g.Lag == 0 && len(g.Members) == 6 && len(g.StandingBy) == 2 && !slices.ContainsFunc(g.Partitions, func(p groups.Partition) bool { return p.Owner == "" })
	})
	if g.Members[0].Name != first || g.LastActivity == nil || handled.Load() != 200 {
		t.Errorf("oldest member %s, want %s; last activity %v; %d handled", g.Members[0].Name, first, g.LastActivity, handled.Load())
	}
	for _, m := range g.Members[1:] {
		if !slices.Contains(others, m.Name) {
			t.Errorf("member %s is unknown", m.Name)
		}
	}

	var text strings.Builder
	if err := groups.Print(&text, []groups.Group{g}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(text.String(), "stands by"); n != 2 || strings.Count(text.String(), "\n") != 1+1+6 {
		t.Errorf("printed %d that stand by:\n%s", n, text.String())
	}
	text.Reset()
	if err := groups.PrintOne(&text, g, time.Now()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text.String(), first) || strings.Count(text.String(), "\n") < 4+6+4 {
		t.Errorf("printed:\n%s", text.String())
	}

	var fields map[string]any
	raw, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &fields); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"group", "lag", "pending", "parked", "partitions"} { // scripts lean on them
		if _, ok := fields[name]; !ok {
			t.Errorf("no %q in %s", name, raw)
		}
	}
}

func TestListCountsLetters(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, group := range []string{events.GroupNotify, events.GroupNotify, events.GroupInventory} {
		if _, err := r.js.Publish(t.Context(), r.topology.Subjects().Letter(group, 0, "o1"), nil); err != nil {
			t.Fatal(err)
		}
	}
	for group, want := range map[string]uint64{events.GroupNotify: 2, events.GroupInventory: 1, events.GroupOrderStock: 0} {
		if g := r.show(group); g.Parked != want {
			t.Errorf("%s has %d letters, want %d", group, g.Parked, want)
		}
	}
}

// TestUnknownOwner: a member of a version that tells nothing about itself holds the pin.
func TestUnknownOwner(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.store(40)
	declared, _ := r.topology.Group(events.GroupNotify)
	c, err := r.js.Consumer(t.Context(), declared.Stream, declared.Consumer(0))
	if err != nil {
		t.Fatal(err)
	}
	batch, err := c.Fetch(1, jetstream.FetchPriorityGroup("owner"))
	if err != nil {
		t.Fatal(err)
	}
	for range batch.Messages() { //nolint:revive // to be the owner is enough
	}
	g := r.show(events.GroupNotify)
	if p := g.Partitions[0]; p.Owner != "" || !p.Active || p.Pending != 1 || g.Pending != 1 {
		t.Errorf("partition %+v, pending %d", p, g.Pending)
	}
	var text strings.Builder
	if err := groups.Print(&text, []groups.Group{g}, time.Now()); err != nil || !strings.Contains(text.String(), "unknown") || !strings.Contains(text.String(), "nobody") {
		t.Errorf("%v:\n%s", err, text.String())
	}
}

func TestNoGroups(t *testing.T) {
	t.Parallel()
	s := eventstest.Start(t)
	if _, err := groups.List(t.Context(), s.JetStream(), events.DefaultTopology(0)); !errors.Is(err, groups.ErrNoGroup) || !strings.Contains(err.Error(), "topology apply") {
		t.Errorf("on an empty broker: %v", err)
	}
	r := newRig(t)
	if _, err := groups.Show(t.Context(), r.js, r.topology, "nobody"); !errors.Is(err, groups.ErrNoGroup) || !strings.Contains(err.Error(), "notify") {
		t.Errorf("unknown group: %v", err)
	}
}
