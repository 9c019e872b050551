package bus_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

const generous = 30 * time.Second // for what takes milliseconds on a machine that does nothing else

// owners is who reads each partition, by what the members and the broker say together; "" where that is nobody who is known.
func (f *fixture) owners(g events.Group) []string {
	f.Helper()
	members, err := bus.Members(f.Context(), f.js)
	if err != nil {
		f.Fatal(err)
	}
	out := make([]string, g.Partitions)
	for p := range g.Partitions {
		pin := f.info(g, p).PriorityGroups[0].PinnedClientID
		for _, m := range members[g.Name] {
			if pin != "" && m.Pins[p] == pin {
				out[p] = m.Name
			}
		}
	}
	return out
}

// keepBusy stores an event in every partition again and again: a partition has an owner once there is something to read.
func (f *fixture) keepBusy(keys int) (stop func()) {
	f.Helper()
	ctx, cancel := context.WithCancel(f.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				f.publish("k" + strconv.Itoa(i%keys))
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// evenAmong reports whether these members own all partitions, and none more than one more than another.
func evenAmong(owners []string, members ...string) bool {
	has := make(map[string]int)
	for _, m := range members {
		has[m] = 0
	}
	for _, o := range owners {
		if _, ours := has[o]; !ours {
			return false
		}
		has[o]++
	}
	n := slices.Collect(maps.Values(has))
	return slices.Max(n)-slices.Min(n) <= 1
}

func (f *fixture) awaitEven(members ...*member) (owners []string) {
	f.Helper()
	names := make([]string, len(members))
	for i, m := range members {
		names[i] = m.group.Member()
	}
	return f.awaitEvenNames(names...)
}

// awaitEvenNames returns the owners that it saw: a look later on a busy machine, one may have lost its pin for a moment.
func (f *fixture) awaitEvenNames(names ...string) (owners []string) {
	f.Helper()
	eventstest.Eventually(f, generous, fmt.Sprintf("%d members share the partitions evenly", len(names)), func() bool {
		owners = f.owners(f.group)
		return evenAmong(owners, names...)
	})
	return owners
}

// TestRollingRestart: members come and go one after the other under load. Partitions are shared evenly after each change, nothing is handled twice, and nothing out of order.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 8, single)
	r := newRecord()
	work := bus.GroupConfig{Handler: func(ctx context.Context, d bus.Delivery) error {
		time.Sleep(time.Duration(d.Sequence%3) * time.Millisecond) // work, not waiting
		return r.handle(ctx, d)
	}}
	stop := f.keepBusy(60)
	settle := func(members ...*member) {
		f.awaitEven(members...)
		more := r.distinct() + 100
		eventstest.Eventually(t, generous, "they work", func() bool { return r.distinct() > more })
	}
	members := []*member{f.join(work)}
	settle(members...)
	for range 2 {
		members = append(members, f.join(work))
		settle(members...)
	}
	for i := range members {
		members[i].stop()
		settle(slices.Delete(slices.Clone(members), i, i+1)...)
		members[i] = f.join(work)
		settle(members...)
	}
	stop()
	f.settled(f.group)
	stored := 0
	for _, n := range f.sent {
		stored += int(n)
	}
	if r.count() != stored || r.distinct() != stored {
		t.Errorf("%d calls for %d of %d events; want no duplicates, and all", r.count(), r.distinct(), stored)
	}
	if bad := r.disorder(); len(bad) > 0 {
		t.Errorf("%d out of order: %s", len(bad), bad[0])
	}
	t.Logf("%d events in two joins and three restarts", stored)
}

// TestCrashedMemberIsReplaced: a member that falls silent loses its partitions within five seconds, and the others go on meanwhile.
func TestCrashedMemberIsReplaced(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 4, single, func(top *events.Topology) { top.Groups[0].PinnedTTL = 2 * time.Second }) // as the services have it
	r := newRecord()
	cfg := bus.GroupConfig{Handler: r.handle, Drain: time.Millisecond}
	js := f.server.JetStream()
	dies, lives := f.joinOn(cfg, f.deps(js)), f.join(cfg)
	stop := f.keepBusy(40)
	f.awaitEven(dies, lives)
	js.Conn().Close()
	died := time.Now()
	f.awaitEven(lives)
	took := time.Since(died)
	stop()
	f.settled(f.group)
	t.Logf("the partitions of a dead member moved within %s", took)
	if took > 5*time.Second {
		t.Errorf("took %s", took)
	}
	if bad := r.disorder(); len(bad) > 0 {
		t.Errorf("%d out of order: %s", len(bad), bad[0])
	}
}

// TestMoreMembersThanPartitions: who has no partition stands by, and takes over.
func TestMoreMembersThanPartitions(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2, single)
	r := newRecord()
	stop := f.keepBusy(10)
	var members []*member
	for range 4 {
		members = append(members, f.join(bus.GroupConfig{Handler: r.handle}))
	}
	owners := f.awaitEven(members...)
	for _, m := range members {
		if slices.Contains(owners, m.group.Member()) {
			m.stop()
		}
	}
	left := slices.DeleteFunc(members, func(m *member) bool { return slices.Contains(owners, m.group.Member()) })
	if len(left) != 2 {
		t.Fatalf("%d members stood by, want 2", len(left))
	}
	f.awaitEven(left...)
	stop()
	f.settled(f.group)
	if bad := r.disorder(); len(bad) > 0 || r.count() != r.distinct() {
		t.Errorf("%d calls for %d events, out of order: %v", r.count(), r.distinct(), bad)
	}
}

// TestOneActiveMember: it owns all partitions and keeps them when others come; when it goes, the next one has them all.
func TestOneActiveMember(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 4, single, func(top *events.Topology) { top.Groups[0].Single = true })
	r := newRecord()
	stop := f.keepBusy(20)
	ownedBy := func(m *member) func() bool {
		return func() bool {
			return slices.Equal(f.owners(f.group), slices.Repeat([]string{m.group.Member()}, 4))
		}
	}
	first := f.join(bus.GroupConfig{Handler: r.handle})
	eventstest.Eventually(t, generous, "the first owns all", ownedBy(first))
	second, third := f.join(bus.GroupConfig{Handler: r.handle}), f.join(bus.GroupConfig{Handler: r.handle})
	until := r.distinct() + 200
	eventstest.Eventually(t, generous, "more is handled", func() bool { return r.distinct() > until })
	if !ownedBy(first)() {
		t.Errorf("owners %v, want %s for all", f.owners(f.group), first.group.Member())
	}
	first.stop()
	eventstest.Eventually(t, generous, "the second owns all", ownedBy(second))
	second.stop()
	eventstest.Eventually(t, generous, "the third owns all", ownedBy(third))
	stop()
	f.settled(f.group)
	if bad := r.disorder(); len(bad) > 0 || r.count() != r.distinct() {
		t.Errorf("%d calls for %d events, out of order: %v", r.count(), r.distinct(), bad)
	}
}

func (f *fixture) lastStored() uint64 {
	f.Helper()
	stream, err := f.js.Stream(f.Context(), events.StreamOrders)
	if err != nil {
		f.Fatal(err)
	}
	return stream.CachedInfo().State.LastSeq
}

// blind is a connection without the bucket of the members: with it a member reads as those of the first version do, which stand by on every partition.
type blind struct{ jetstream.JetStream }

func (blind) KeyValue(context.Context, string) (jetstream.KeyValue, error) {
	return nil, jetstream.ErrBucketNotFound
}

// TestTwoVersionsSideBySide: a rolling update from the version without membership to this one keeps the order, and handles nothing twice.
func TestTwoVersionsSideBySide(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 8, single)
	r := newRecord()
	cfg := bus.GroupConfig{Handler: r.handle}
	old := func() *member { return f.joinOn(cfg, f.deps(blind{f.server.JetStream()})) }
	stop := f.keepBusy(40)
	members := []*member{old(), old(), old()}
	for i := range members {
		before := r.distinct()
		eventstest.Eventually(t, generous, "old and new read", func() bool { return r.distinct() > before+200 })
		members[i].stop()
		members[i] = f.join(cfg)
	}
	f.awaitEven(members...)
	stop()
	f.settled(f.group)
	if bad := r.disorder(); len(bad) > 0 || r.count() != r.distinct() {
		t.Errorf("%d calls for %d events, out of order: %v", r.count(), r.distinct(), bad)
	}
}
