package groups_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemark/tidemark/internal/groups"
	"github.com/tidemark/tidemark/pkg/events"
)

// TestReplay moves one group back while it reads; the other group on the same stream does not notice.
func TestReplay(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var moved, other atomic.Int64
	r.join(events.GroupNotify, &moved)
	r.join(events.GroupInventory, &other)
	r.store(200)
	done := func(g groups.Group) bool { return g.Lag == 0 }
	r.await("all is read", events.GroupNotify, done)
	r.await("all is read", events.GroupInventory, done)

	m := r.plan(events.GroupNotify, groups.Target{Seq: 51})
	if m.Events != 150 || m.Again != 150 || m.Skipped != 0 || len(m.Partitions) != 4 || m.Moved {
		t.Errorf("plan: %+v", m)
	}
	if g := r.show(events.GroupNotify); g.Lag != 0 || moved.Load() != 200 {
		t.Errorf("a plan has moved the group: lag %d, %d calls", g.Lag, moved.Load())
	}
	r.move(m, true)
	if moved.Load() != 350 || m.Lag != 0 || !m.Reading {
		t.Errorf("%d calls after the replay, want 350; %+v", moved.Load(), m)
	}
	r.store(10)
	r.await("new events are read", events.GroupNotify, done)
	r.await("new events are read", events.GroupInventory, done)
	if moved.Load() != 360 || other.Load() != 210 {
		t.Errorf("%d calls, and %d of the other group; want 360 and 210", moved.Load(), other.Load())
	}
}

// TestReplayUnderLoad: the owner obeys in the middle of its work.
func TestReplayUnderLoad(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var handled atomic.Int64
	r.join(events.GroupNotify, &handled)
	r.store(300)
	for range 3 {
		r.move(r.plan(events.GroupNotify, groups.Target{Seq: 1}), false)
		r.store(20)
	}
	g := r.await("all is read", events.GroupNotify, func(g groups.Group) bool { return g.Lag == 0 })
	for _, p := range g.Partitions {
		if p.Offset == 0 {
			t.Errorf("partition %d stands at 0", p.Partition)
		}
	}
	if handled.Load() < 360 {
		t.Errorf("%d calls, want at least all 360", handled.Load())
	}
}

func TestReplayFromTime(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.store(30)
	stream, err := r.js.Stream(t.Context(), events.StreamOrders)
	if err != nil {
		t.Fatal(err)
	}
	at, err := stream.GetMsg(t.Context(), 21)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		at  time.Time
		seq uint64
	}{"the beginning": {at.Time.Add(-time.Hour), 1}, "in the middle": {at.Time, 21}, "the end": {time.Now().Add(time.Hour), 31}} {
		if m := r.plan(events.GroupNotify, groups.Target{Time: c.at}); m.FromSeq != c.seq || m.Events != 31-c.seq {
			t.Errorf("%s: from %d, %d events; want %d and %d", name, m.FromSeq, m.Events, c.seq, 31-c.seq)
		}
	}
}

// TestReplayForwards passes over what was not handled, and says so before.
func TestReplayForwards(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.store(40)
	r.await("the broker has counted what waits", events.GroupNotify, func(g groups.Group) bool { return g.Lag == 40 }) // it does so a little after it has stored it
	m := r.plan(events.GroupNotify, groups.Target{Seq: 31})
	if m.Events != 10 || m.Again != 0 || m.Skipped != 30 {
		t.Errorf("plan: %+v", m)
	}
	r.move(m, false)
	if !m.Moved || m.Reading || !strings.Contains(m.Note, "nobody reads the group now") {
		t.Errorf("moved a group that nobody reads: %+v", m)
	}
	var handled atomic.Int64
	r.join(events.GroupNotify, &handled)
	r.await("all is read", events.GroupNotify, func(g groups.Group) bool { return g.Lag == 0 })
	if handled.Load() != 10 {
		t.Errorf("%d calls, want 10", handled.Load())
	}
}

func TestReplayRefusals(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.store(5)
	late, _ := r.topology.Group(events.GroupNotify)
	late.Name, late.FromNow = "late", true
	r.topology.Groups = append(r.topology.Groups, late)
	r.server.Apply(r.topology)
	for name, c := range map[string]struct {
		group string
		seq   uint64
		want  error
		says  string
	}{
		"unknown group":           {"nobody", 1, groups.ErrNoGroup, "there are inventory, "},
		"behind the end":          {events.GroupNotify, 7, groups.ErrTarget, "the next event gets 6"},
		"before a group's start":  {"late", 5, groups.ErrTarget, "begins at sequence 6"},
		"at the end, of no event": {"late", 6, nil, ""},
	} {
		_, err := groups.Plan(t.Context(), r.js, r.topology, c.group, groups.Target{Seq: c.seq})
		if !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestReplayWaitsNoLonger: where the owner does nothing, the wait ends and says what is so.
func TestReplayWaitsNoLonger(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.store(5)
	m := r.plan(events.GroupNotify, groups.Target{Seq: 1})
	if err := m.Do(t.Context(), r.js); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := m.Await(ctx, r.js, r.topology, true, nil)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "nobody has handled anything from there yet") {
		t.Errorf("got %v", err)
	}
}

// TestReplayOfAGroupWithItsOwnPlace says that nothing is read again.
func TestReplayOfAGroupWithItsOwnPlace(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	m := r.plan(events.GroupAnalytics, groups.Target{Seq: 1})
	if m.Events != 0 || m.Again != 0 || !strings.Contains(m.Note, "keeps its place with its results") {
		t.Errorf("plan: %+v", m)
	}
}
