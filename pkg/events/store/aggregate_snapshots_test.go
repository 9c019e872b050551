package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// A load leaves a snapshot when it has read many events, and later ones read only what stands behind it.
func TestLoadReadsOnlyWhatIsBehindTheSnapshot(t *testing.T) {
	t.Parallel()
	for name, server := range clusters {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShelf(t, server)
			s.add("ledger.a", 9)
			s.mustFold("ledger.a", 9)
			s.mustFold("ledger.a", 9) // too few for a snapshot
			s.add("ledger.b", 3)      // of others
			s.add("ledger.a", 1)
			s.mustFold("ledger.a", 10) // and leaves one
			s.mustFold("ledger.a", 0)
			s.add("ledger.a", 9)
			s.mustFold("ledger.a", 9)
			s.mustFold("ledger.a", 9)
			s.add("ledger.a", 1)
			s.mustFold("ledger.a", 10) // and leaves the next one
			s.mustFold("ledger.a", 0)
			want := map[string]int64{"absent": 3, "used": 5, "written": 2}
			if got := s.outcomes(); !maps.Equal(got, want) {
				t.Errorf("counted %v, want %v", got, want)
			}
		})
	}
}

// What is read is a few messages, however long the aggregate is.
func TestASnapshotSparesReading(t *testing.T) {
	t.Parallel()
	s := newShelf(t, eventstest.Start)
	s.add("ledger.a", 40)
	s.load("ledger.a")
	nc := s.Connect()
	a := s.aggregate()
	a.Store = s.openOn(t, nc)
	before := nc.Stats().InMsgs
	if _, err := a.Load(testContext(t), "ledger.a"); err != nil {
		t.Fatal(err)
	}
	if read := nc.Stats().InMsgs - before; read > 3 {
		t.Errorf("the log answered with %d messages", read)
	}
}

// A command on a long aggregate begins with the snapshot, decides on the same state, and leaves the next one.
func TestExecuteUsesSnapshots(t *testing.T) {
	t.Parallel()
	s := newShelf(t, eventstest.Start)
	a := s.aggregate()
	for n := range 35 {
		s.folded = 0
		state, err := a.Execute(testContext(t), "ledger.a", func(state store.State[account]) ([]events.Event, error) {
			if state.Version != uint64(n) || state.Sequence != uint64(n) || state.Value.Total != int64(n) || len(state.Value.IDs) != n {
				t.Errorf("command %d is decided on %+v", n, state)
			}
			return []events.Event{amount(1)}, nil
		})
		if err != nil || state.Value.Total != int64(n)+1 {
			t.Fatalf("command %d: %+v, %v", n, state, err)
		}
		if s.folded > 11 { // ten behind the snapshot, and its own
			t.Errorf("command %d folds %d events", n, s.folded)
		}
		if err := s.bucket.Flush(testContext(t)); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.ended("written"); n != 3 {
		t.Errorf("%d snapshots were written, want 3", n)
	}
}

func TestASlowLoadLeavesASnapshot(t *testing.T) {
	t.Parallel()
	s := newShelf(t, eventstest.Start)
	s.Every, s.Slow = 1000, time.Nanosecond
	s.add("ledger.a", 9)
	s.mustFold("ledger.a", 9) // slow, and not because of its events
	s.add("ledger.a", 1)
	s.mustFold("ledger.a", 10)
	s.mustFold("ledger.a", 0)
	s.Slow = time.Hour
	s.add("ledger.a", 20)
	s.mustFold("ledger.a", 20)
	s.mustFold("ledger.a", 20)
}

// Whatever happens to a snapshot, the state is the log's, and the next load leaves a good one.
func TestADamagedSnapshotChangesNothingButSpeed(t *testing.T) {
	t.Parallel()
	s := newShelf(t, eventstest.Start)
	s.add("ledger.a", 12)
	s.load("ledger.a")
	good := s.entry("ledger.a")
	s.add("ledger.other", 12)
	s.load("ledger.other")
	flipped := func(i int) []byte {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		return bad
	}
	cases := map[string][]byte{"empty": {}, "short": good[:5], "no head": good[:9], "cut off": good[:len(good)-1], "longer": append(bytes.Clone(good), ' '),
		"text": []byte("what is this, and who has put it here?"), "another aggregate's": s.entry("ledger.other")}
	for i := 0; i < len(good); i += 7 {
		cases[fmt.Sprintf("bit %d", i)] = flipped(i)
	}
	for what, bad := range cases {
		damaged := s.ended("damaged")
		s.put("ledger.a", bad)
		if got := s.load("ledger.a"); got != 12 {
			t.Errorf("%s: folds %d events, want all 12", what, got)
		}
		if s.ended("damaged") != damaged+1 {
			t.Errorf("%s: is not counted as damaged: %v", what, s.outcomes())
		}
		if got := s.load("ledger.a"); got != 0 {
			t.Errorf("%s: no good snapshot was left: folds %d events", what, got)
		}
	}
}

func TestDeletingAllSnapshotsChangesNothingButSpeed(t *testing.T) {
	t.Parallel()
	s := newShelf(t, eventstest.Start)
	s.add("ledger.a", 12)
	for how, remove := range map[string]func(context.Context, string) error{
		"delete": func(ctx context.Context, key string) error { return s.entries.Delete(ctx, key) },
		"purge":  func(ctx context.Context, key string) error { return s.entries.Purge(ctx, key) },
		"empty the bucket": func(ctx context.Context, _ string) error {
			stream, err := s.JetStream().Stream(ctx, "KV_"+snapshotBucket)
			if err != nil {
				return err
			}
			return stream.Purge(ctx)
		},
	} {
		s.load("ledger.a")
		s.mustFold("ledger.a", 0)
		if err := remove(testContext(t), "ledger.a"); err != nil {
			t.Fatalf("%s: %v", how, err)
		}
		s.mustFold("ledger.a", 12)
	}
}

// A fold that changed its name, or a state that changed its shape, does not read what another one left.
func TestAnotherFoldIgnoresTheSnapshot(t *testing.T) {
	t.Parallel()
	s := newShelf(t, eventstest.Start)
	s.add("ledger.a", 12)
	s.load("ledger.a")
	s.Fold = "account/2"
	s.mustFold("ledger.a", 12)
	if s.ended("other_fold") != 1 {
		t.Errorf("counted %v", s.outcomes())
	}
	s.mustFold("ledger.a", 0)
	s.Fold = "account/1"
	s.mustFold("ledger.a", 12) // there is one snapshot an aggregate

	type account struct { // of a later release
		Total int64
		IDs   []string
		Count int
	}
	later := store.Aggregate[account]{
		Store:     s.log,
		Snapshots: &store.AggregateSnapshots[account]{Bucket: s.bucket, Fold: s.Fold},
		Evolve: func(a account, r store.Recorded) (account, error) {
			return account{IDs: append(a.IDs, r.ID), Count: a.Count + 1}, nil
		},
	}
	if state, err := later.Load(testContext(t), "ledger.a"); err != nil || state.Value.Count != 12 || s.ended("other_fold") != 3 {
		t.Errorf("the later release comes to %+v, %v; %v", state, err, s.outcomes())
	}
}

// A state that loses something on its way through the encoding would be decided on: it is not kept.
func TestALossyStateIsNotKept(t *testing.T) {
	t.Parallel()
	s := newShelf(t, eventstest.Start)
	s.add("ledger.a", 12)
	type hidden struct {
		Total int64
		count int
	}
	a := store.Aggregate[hidden]{
		Store: s.log, Snapshots: &store.AggregateSnapshots[hidden]{Bucket: s.bucket, Fold: "hidden/1", Every: 1},
		Evolve: func(h hidden, _ store.Recorded) (hidden, error) {
			return hidden{Total: h.Total + 1, count: h.count + 1}, nil
		},
	}
	broken := errors.New("broken")
	for what, change := range map[string]func(){
		"JSON":   func() {},
		"decode": func() { a.Snapshots.Decode = func([]byte) (hidden, error) { return hidden{}, broken } },
		"encode": func() { a.Snapshots.Encode = func(hidden) ([]byte, error) { return nil, broken } },
	} {
		change()
		for range 2 {
			if state, err := a.Load(testContext(t), "ledger.a"); err != nil || state.Value != (hidden{12, 12}) {
				t.Errorf("%s: %+v, %v", what, state, err)
			}
		}
	}
	if got, want := s.outcomes(), map[string]int64{"lossy": 6, "absent": 6}; !maps.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
	a.Snapshots.Encode = func(h hidden) ([]byte, error) { return fmt.Appendf(nil, "%d %d", h.Total, h.count), nil }
	a.Snapshots.Decode = func(data []byte) (h hidden, err error) {
		_, err = fmt.Sscan(string(data), &h.Total, &h.count)
		return h, err
	}
	for range 2 {
		if state, err := a.Load(testContext(t), "ledger.a"); err != nil || state.Value != (hidden{12, 12}) {
			t.Errorf("with an encoding of its own: %+v, %v", state, err)
		}
		if err := s.bucket.Flush(testContext(t)); err != nil {
			t.Fatal(err)
		}
	}
	if s.ended("used") != 1 {
		t.Errorf("counted %v", s.outcomes())
	}
}

// A bucket that is gone costs one look now and then.
func TestWithoutABucketTheLogIsFolded(t *testing.T) {
	t.Parallel()
	s := newShelf(t, eventstest.Start)
	s.add("ledger.a", 12)
	s.load("ledger.a")
	if err := s.JetStream().DeleteKeyValue(testContext(t), snapshotBucket); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s.mustFold("ledger.a", 12)
	}
	if s.ended("unread") != 3 || s.ended("unwritten") == 0 {
		t.Errorf("counted %v", s.outcomes())
	}
}

func TestASnapshotThatIsTooLargeIsNotStored(t *testing.T) {
	t.Parallel()
	s := newShelf(t, eventstest.Start)
	s.add("ledger.a", 12)
	s.Encode = func(a account) ([]byte, error) { return append(make([]byte, 2<<20), fmt.Sprint(a.Total)...), nil }
	s.Decode = func([]byte) (account, error) { return s.aggregateOf("ledger.a"), nil }
	s.mustFold("ledger.a", 12)
	s.mustFold("ledger.a", 12)
	if s.ended("unwritten") != 2 {
		t.Errorf("counted %v", s.outcomes())
	}
}

func TestSnapshotsAreChecked(t *testing.T) {
	t.Parallel()
	s := newShelf(t, eventstest.Start)
	for what, change := range map[string]func(*store.AggregateSnapshots[account]){
		"bucket": func(c *store.AggregateSnapshots[account]) { c.Bucket = nil },
		"fold":   func(c *store.AggregateSnapshots[account]) { c.Fold = "" },
		"every":  func(c *store.AggregateSnapshots[account]) { c.Every = -1 },
	} {
		a, wrong := s.aggregate(), *s.AggregateSnapshots
		change(&wrong)
		a.Snapshots = &wrong
		_, err1 := a.Load(testContext(t), "ledger.a")
		_, err2 := a.Execute(testContext(t), "ledger.a", func(store.State[account]) ([]events.Event, error) { return nil, nil })
		for _, err := range []error{err1, err2} {
			if err == nil || !strings.Contains(err.Error(), what+":") {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	if _, err := store.NewSnapshotBucket(testContext(t), s.JetStream(), "NONE", noTelemetry); err == nil {
		t.Error("a bucket that is not there opens")
	}
}

// A subject that can't be a key has its snapshot all the same.
func TestSnapshotOfAnOddSubject(t *testing.T) {
	t.Parallel()
	s := newShelf(t, eventstest.Start)
	for _, subject := range []string{"ledger.zwölf", "ledger.a=2", "ledger.A-b_c=2E"} {
		s.add(subject, 10)
		s.mustFold(subject, 10)
		s.mustFold(subject, 0)
	}
}
