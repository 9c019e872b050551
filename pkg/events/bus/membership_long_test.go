//go:build long

package bus_test

import (
	"context"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// TestWithoutMembership: where the members can't see each other, reading goes on, a dead member is replaced, and when they can again, the partitions are shared.
func TestWithoutMembership(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 4, single)
	r := newRecord()
	cfg := bus.GroupConfig{Handler: r.handle, Drain: time.Millisecond}
	js := f.server.JetStream()
	dies, lives := f.joinOn(cfg, f.deps(js)), f.join(cfg)
	stop := f.keepBusy(40)
	f.awaitEven(dies, lives)
	if err := f.js.DeleteKeyValue(t.Context(), events.BucketMembers); err != nil {
		t.Fatal(err)
	}
	js.Conn().Close()
	died := f.lastStored()
	eventstest.Eventually(t, generous, "what was stored since is handled in every partition", func() bool {
		for p := range f.group.Partitions {
			if f.info(f.group, p).AckFloor.Stream <= died {
				return false
			}
		}
		return true
	})
	f.server.Apply(f.topology)
	third := f.join(cfg)
	f.awaitEven(lives, third)
	stop()
	f.settled(f.group)
	if bad := r.disorder(); len(bad) > 0 {
		t.Errorf("%d out of order: %s", len(bad), bad[0])
	}
}

// TestOrphanIsRead: a member that says that it is there but does not read, as one of another version might, does not leave its partitions unread.
func TestOrphanIsRead(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 4, single)
	kv, err := f.js.KeyValue(t.Context(), events.BucketMembers)
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for ctx.Err() == nil {
			if _, err := kv.Put(ctx, f.group.Name+".ghost", []byte("a heartbeat that nobody can read")); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(500 * time.Millisecond): // its rhythm
			}
		}
	}()
	t.Cleanup(func() { end(); <-gone })
	eventstest.Eventually(t, generous, "the ghost is seen", func() bool {
		members, err := bus.Members(t.Context(), f.js)
		return err == nil && len(members[f.group.Name]) == 1
	})
	r := newRecord()
	f.join(bus.GroupConfig{Handler: r.handle})
	f.publishMany(200, 40)
	f.settled(f.group)
	if bad := r.disorder(); len(bad) > 0 || r.count() != 200 {
		t.Errorf("%d calls for 200 events, out of order: %v", r.count(), bad)
	}
}

// TestMembershipOnACluster: the leaders of the members' bucket and of the log change under a busy group, and a node restarts.
func TestMembershipOnACluster(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 4, cluster)
	r := newRecord()
	cfg := bus.GroupConfig{Handler: r.handle}
	stop := f.keepBusy(40)
	first, second := f.join(cfg), f.join(cfg)
	f.awaitEven(first, second)
	works := func() {
		more := r.distinct() + 50
		eventstest.Eventually(t, generous, "the group goes on", func() bool { return r.distinct() > more })
	}
	for _, stream := range []string{"KV_" + events.BucketMembers, events.StreamOrders, "KV_" + events.BucketMembers} {
		f.server.StepDown(stream)
		works()
	}
	f.server.Restart(2)
	works()
	third := f.join(cfg)
	f.awaitEven(first, second, third)
	second.stop()
	f.awaitEven(first, third)
	stop()
	f.settled(f.group)
	if bad := r.disorder(); len(bad) > 0 {
		t.Errorf("%d out of order: %s", len(bad), bad[0])
	}
	t.Logf("%d calls for %d events", r.count(), r.distinct())
}
