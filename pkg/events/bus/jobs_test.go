package bus_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/fail"
)

// parkMany makes n dead letters over so many keys, and leaves no member behind.
func (f *fixture) parkMany(n, keys int) {
	f.Helper()
	f.publishMany(n, keys)
	m := f.join(bus.GroupConfig{
		Breaker: bus.BreakerConfig{Keys: -1},
		Handler: func(context.Context, bus.Delivery) error { return fail.Permanent(errors.New("never")) },
	})
	f.settled(f.group)
	m.stop()
}

// TestCanaryStops: the first replays go one after the other, and the job stops at the first that fails. The rest is untouched.
func TestCanaryStops(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 4, single)
	f.parkMany(100, 100)
	var calls, running, most atomic.Int64
	f.join(bus.GroupConfig{Handler: func(context.Context, bus.Delivery) error {
		most.Store(max(most.Load(), running.Add(1)))
		defer running.Add(-1)
		time.Sleep(time.Millisecond) // work, not waiting
		if calls.Add(1) == 7 {
			return fail.Permanent(errors.New("still never"))
		}
		return nil
	}})
	status := f.done(f.job(deadletter.JobReplay, func(j *deadletter.Job) { j.Canary = true }))
	if sum := status.Sum(); status.State != deadletter.JobStopped || sum.Resolved != 6 || sum.Failed != 1 || sum.Done != 7 {
		t.Errorf("%s (%s): %+v, want it stopped after 6 resolved and 1 failed", status.State, status.Why, sum)
	}
	if n := len(f.letters()); n != 94 || calls.Load() != 7 || most.Load() != 1 {
		t.Errorf("%d letters left after %d calls, %d at once; want 94, 7, 1", n, calls.Load(), most.Load())
	}
}

func TestCanaryGoesOn(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 4, single)
	f.parkMany(100, 20)
	r := newRecord()
	f.join(bus.GroupConfig{Handler: r.handle})
	status := f.done(f.job(deadletter.JobReplay, func(j *deadletter.Job) { j.Canary = true }))
	if sum := status.Sum(); status.State != deadletter.JobDone || sum.Resolved != 100 {
		t.Errorf("%s: %+v, want all 100 resolved", status.State, sum)
	}
	if bad := r.disorder(); len(bad) > 0 || len(f.letters()) > 0 {
		t.Errorf("%d letters left; %v", len(f.letters()), bad)
	}
}

// TestRate: a job keeps its rate over all partitions together, and can be cancelled.
func TestRate(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 4, single)
	f.parkMany(100, 100)
	r := newRecord()
	f.join(bus.GroupConfig{Handler: r.handle})
	started := time.Now()
	job := f.job(deadletter.JobReplay, func(j *deadletter.Job) { j.Rate = 20 })
	eventstest.Eventually(t, 20*time.Second, "some are replayed", func() bool { return r.count() >= 15 })
	if _, err := f.desk().CancelJob(t.Context(), job.Group, job.ID, "ann", "enough"); err != nil {
		t.Fatal(err)
	}
	took := time.Since(started)
	f.publish("after") // what is under way at the end of the job is handled before this
	eventstest.Eventually(t, 20*time.Second, "the rest stays", func() bool { return r.count()+len(f.letters()) == 101 })
	if most := 20*took.Seconds() + 10; float64(r.count()) > most {
		t.Errorf("%d replays in %s at a rate of 20 a second", r.count(), took)
	}
	status, err := f.desk().JobStatus(t.Context(), job.Group, job.ID)
	if err != nil || status.State != deadletter.JobCancelled {
		t.Errorf("job %s, %v", status.State, err)
	}
}

// TestJobSurvivesItsOwner: the members stop in the middle of a job; the next ones finish it, and nothing is replayed twice.
func TestJobSurvivesItsOwner(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 4, single)
	f.parkMany(300, 60)
	r := newRecord()
	slow := func(ctx context.Context, d bus.Delivery) error {
		time.Sleep(2 * time.Millisecond) // work, not waiting
		return r.handle(ctx, d)
	}
	m := f.join(bus.GroupConfig{Handler: slow})
	job := f.job(deadletter.JobReplay)
	eventstest.Eventually(t, 20*time.Second, "some are replayed", func() bool { return r.count() >= 50 })
	m.stop()
	before := r.count()
	if before == 300 {
		t.Fatal("the job was over before its owner")
	}
	f.join(bus.GroupConfig{Handler: slow})
	status := f.done(job)
	if sum := status.Sum(); status.State != deadletter.JobDone || sum.Done != 300 || sum.Failed != 0 {
		t.Errorf("%s: %+v, want all 300 done", status.State, sum)
	}
	if bad := r.disorder(); len(bad) > 0 || r.distinct() != 300 || r.count() != 300 || len(f.letters()) > 0 {
		t.Errorf("%d calls for %d events, %d letters left; %v", r.count(), r.distinct(), len(f.letters()), bad)
	}
	t.Logf("%d before the change of owner", before)
}

// TestReplayReachesItsGroupAlone: nothing is published to the events' stream again.
func TestReplayReachesItsGroupAlone(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2, single)
	f.parkMany(20, 20)
	before := f.streamEnd()
	r := newRecord()
	f.join(bus.GroupConfig{Handler: r.handle})
	f.done(f.job(deadletter.JobReplay))
	if r.count() != 20 || f.streamEnd() != before {
		t.Errorf("%d replays, and the stream went from %d to %d", r.count(), before, f.streamEnd())
	}
}

func (f *fixture) streamEnd() uint64 {
	f.Helper()
	stream, err := f.js.Stream(context.Background(), f.group.Stream)
	if err != nil {
		f.Fatal(err)
	}
	return stream.CachedInfo().State.LastSeq
}

// TestNotesDuringARetry: an operator's note between an owner's look and its claim does not stop the retry.
func TestNotesDuringARetry(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	b := newBreakable(func(bus.Delivery) error { return errors.New("not yet") })
	f.join(bus.GroupConfig{InPlace: time.Nanosecond, Retries: []time.Duration{20 * time.Millisecond, 20 * time.Millisecond, 20 * time.Millisecond}, Handler: b.handle})
	f.publish("k")
	f.settled(f.group)
	for i := range 20 {
		l := f.letters()
		if len(l) == 0 {
			break
		}
		if _, err := f.desk().Note(t.Context(), l[0].ID, "ann", "note "+strconv.Itoa(i)); err != nil && !errors.Is(err, deadletter.ErrNotAllowed) && !errors.Is(err, deadletter.ErrNotFound) &&
			!errors.Is(err, deadletter.ErrConflict) {
			t.Fatal(err)
		}
	}
	eventstest.Eventually(t, 20*time.Second, "the retries are over", func() bool { return f.letters()[0].Current.State == deadletter.StateDead })
	b.broken.Store(false)
	f.done(f.job(deadletter.JobReplay))
	f.wantLetters()
	if got := fmt.Sprint(b.versions("k")); got != "[1]" {
		t.Errorf("handled %s", got)
	}
}
