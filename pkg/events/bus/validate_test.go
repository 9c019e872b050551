package bus_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

func TestGroupConfigIsChecked(t *testing.T) {
	t.Parallel()
	good := topology(2).Groups[0]
	handler := func(context.Context, bus.Delivery) error { return nil }
	named := func(name string) events.Group {
		g := good
		g.Name = name
		return g
	}
	spread := good
	spread.Filter, spread.Partitions = "orders.*.*", 300
	for name, c := range map[string]struct {
		cfg  bus.GroupConfig
		want []string
	}{
		"empty": {bus.GroupConfig{}, []string{"handler: required", "group: name: required", "group: stream: required", "group: partitions: is 0", "group: pinned TTL", "group: ack wait"}},
		"negative": {
			bus.GroupConfig{Group: good, Handler: handler, Lanes: -1, Ahead: -1, Timeout: -1, Drain: -1, Retries: []time.Duration{1, -1}},
			[]string{"lanes: is -1", "ahead: is -1", "timeout: is -1ns", "drain: is -1ns", "retries[1]: is -1ns"},
		},
		"ahead of what the broker allows": {bus.GroupConfig{Group: good, Handler: handler, Ahead: 4096}, []string{"ahead: is 4096, must be at most the group's max pending, 2048"}},
		"a name that is no token":         {bus.GroupConfig{Group: named("a.b"), Handler: handler}, []string{`group: name: is "a.b", must be lower-case letters, digits and dashes`}},
		"a name in capitals":              {bus.GroupConfig{Group: named("Notify"), Handler: handler}, []string{`group: name: is "Notify"`}},
		"a name that begins with a digit": {bus.GroupConfig{Group: named("2nd"), Handler: handler}, []string{`group: name: is "2nd"`}},
		"a long name":                     {bus.GroupConfig{Group: named(strings.Repeat("x", 33)), Handler: handler}, []string{"at most 32 characters"}},
		"each would read everything":      {bus.GroupConfig{Group: spread, Handler: handler}, []string{"partitions: is 300, must be at least 1 and at most 256", `filter: is "orders.*.*", must hold "{p}"`}},
		"no JetStream":                    {bus.GroupConfig{Group: good, Handler: handler}, []string{"JetStream: required"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := bus.NewGroup(c.cfg, bus.Deps{})
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}

// TestMemberRefusesAnotherTopology: a member that was built for other partitions must not read.
func TestMemberRefusesAnotherTopology(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2, single)
	handler := func(context.Context, bus.Delivery) error { return nil }
	for name, change := range map[string]func(*events.Group){
		"fewer partitions": func(g *events.Group) { g.Partitions = 1 },
		"more partitions":  func(g *events.Group) { g.Partitions = 3 },
		"another filter":   func(g *events.Group) { g.Filter = "orders.*.x{p}" },
		"another name":     func(g *events.Group) { g.Name = "strangers" },
		"another stream":   func(g *events.Group) { g.Stream = "NOWHERE" },
	} {
		t.Run(name, func(t *testing.T) {
			g := f.group
			change(&g)
			member, err := bus.NewGroup(bus.GroupConfig{Group: g, Handler: handler}, f.deps(f.js))
			if err != nil {
				t.Fatal(err)
			}
			if err := member.Run(t.Context()); !errors.Is(err, bus.ErrTopology) {
				t.Errorf("Run: %v, want %v", err, bus.ErrTopology)
			}
		})
	}
}

// TestStopWithoutBroker: a member that can't reach its broker still stops.
func TestStopWithoutBroker(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	js := f.server.JetStream()
	m := f.joinOn(bus.GroupConfig{Handler: func(context.Context, bus.Delivery) error { return nil }}, f.deps(js))
	js.Conn().Close()
	m.stop()
}

// The rest of this file pins facts about the broker that the reading rule stands on. Where one of them fails after an upgrade, the rule must be thought through again.

func TestFactResetForgetsPendingAndCountsFromOne(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	f.publishMany(10, 10)
	c, err := f.js.Consumer(t.Context(), f.group.Stream, f.group.Consumer(0))
	if err != nil {
		t.Fatal(err)
	}
	fetch := func(n int) []jetstream.Msg {
		t.Helper()
		batch, err := c.Fetch(n, jetstream.FetchMaxWait(5*time.Second), jetstream.FetchPriorityGroup("owner"))
		if err != nil {
			t.Fatal(err)
		}
		var out []jetstream.Msg
		for m := range batch.Messages() {
			out = append(out, m)
		}
		if len(out) != n {
			t.Fatalf("fetched %d messages, want %d: %v", len(out), n, batch.Error())
		}
		return out
	}
	first := fetch(6)
	for _, i := range []int{0, 1, 4} { // 1, 2 and 5: the floor is 2
		if err := first[i].DoubleAck(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if info := f.info(f.group, 0); info.AckFloor.Stream != 2 || info.Delivered.Stream != 6 || info.NumAckPending != 3 {
		t.Fatalf("before: floor %d, delivered %d, pending %d", info.AckFloor.Stream, info.Delivered.Stream, info.NumAckPending)
	}
	if _, err := f.js.ResetConsumer(t.Context(), f.group.Stream, f.group.Consumer(0)); err != nil {
		t.Fatal(err)
	}
	if info := f.info(f.group, 0); info.AckFloor.Stream != 2 || info.Delivered.Stream != 2 || info.NumAckPending != 0 || info.NumPending != 8 {
		t.Errorf("after: floor %d, delivered %d, pending %d, waiting %d; want 2, 2, 0, 8", info.AckFloor.Stream, info.Delivered.Stream, info.NumAckPending, info.NumPending)
	}
	for i, m := range fetch(8) { // 5 again, though it was acknowledged: it lay above the floor
		meta, err := m.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		if meta.Sequence.Consumer != uint64(i+1) || meta.Sequence.Stream != uint64(i+3) || meta.NumDelivered != 1 {
			t.Errorf("message %d: consumer sequence %d, stream sequence %d, delivered %d times", i, meta.Sequence.Consumer, meta.Sequence.Stream, meta.NumDelivered)
		}
	}
	// An acknowledgement of before the reset, for what was not sent again since, settles nothing.
	if err := first[5].Ack(); err != nil {
		t.Fatal(err)
	}
}

func TestFactConsumerConfig(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	c := f.info(f.group, 0).Config
	if c.MaxDeliver != -1 || len(c.BackOff) != 0 || c.AckPolicy != jetstream.AckExplicitPolicy || c.PriorityPolicy != jetstream.PriorityPolicyPinned {
		t.Errorf("max deliver %d, back-off %v, acks %v, priority %v", c.MaxDeliver, c.BackOff, c.AckPolicy, c.PriorityPolicy)
	}
}

// TestFactStandbyGetsNothing: while the owner lives, nobody else is sent anything, though it asks for everything.
func TestFactStandbyGetsNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2, single, withoutMembers)
	owner, standby := newRecord(), newRecord()
	f.join(bus.GroupConfig{Handler: owner.handle})
	f.publishMany(50, 20)
	f.settled(f.group)
	f.join(bus.GroupConfig{Handler: standby.handle})
	f.publishMany(500, 20)
	f.settled(f.group)
	if owner.count() != 550 || standby.count() != 0 {
		t.Errorf("owner handled %d, standby %d; want 550 and 0", owner.count(), standby.count())
	}
}
