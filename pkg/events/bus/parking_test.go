package bus_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/fail"
)

// breakable is a handler that fails for some keys while it is broken.
type breakable struct {
	*record
	broken atomic.Bool
	fails  func(d bus.Delivery) error
}

func newBreakable(fails func(d bus.Delivery) error) *breakable {
	b := &breakable{record: newRecord(), fails: fails}
	b.broken.Store(true)
	return b
}

func (b *breakable) handle(ctx context.Context, d bus.Delivery) error {
	if b.broken.Load() {
		if err := b.fails(d); err != nil {
			return err
		}
	}
	return b.record.handle(ctx, d)
}

func never(keys ...string) func(d bus.Delivery) error {
	return func(d bus.Delivery) error {
		if slices.Contains(keys, d.Event.Key()) {
			return fail.Permanent(errors.New("never"))
		}
		return nil
	}
}

// TestLaterEventsWait: what comes after a dead letter of its key waits behind it, all other keys flow, and a replay sets the key free in order. Also
// across a change of owner in the middle.
func TestLaterEventsWait(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	b := newBreakable(never("bad"))
	m := f.join(bus.GroupConfig{Handler: b.handle})
	for range 3 {
		f.publish("bad")
		f.publish("good")
	}
	f.settled(f.group)
	f.wantLetters("bad 1 dead permanent", "bad 2 blocked predecessor", "bad 3 blocked predecessor")
	m.stop()
	f.join(bus.GroupConfig{Handler: b.handle})
	f.publish("bad")
	f.publish("good")
	f.settled(f.group)
	f.wantLetters("bad 1 dead permanent", "bad 2 blocked predecessor", "bad 3 blocked predecessor", "bad 4 blocked predecessor")
	if got := b.versions("good"); len(got) != 4 || len(b.versions("bad")) != 0 {
		t.Errorf("handled %v of the good key and %v of the bad one", got, b.versions("bad"))
	}
	again := f.done(f.job(deadletter.JobReplay))
	if sum := again.Sum(); sum.Failed != 1 || sum.Skipped != 3 || again.State != deadletter.JobDone {
		t.Errorf("a replay that fails: %s %+v", again.State, sum)
	}
	if l := f.letters(); l[0].Current.Depth != 1 || l[0].Current.State != deadletter.StateDead {
		t.Errorf("after a failed replay: %+v", l[0].Current)
	}
	b.broken.Store(false)
	job := f.job(deadletter.JobReplay)
	if sum := f.done(job).Sum(); sum.Resolved != 4 {
		t.Errorf("a replay: %+v, want 4 resolved", sum)
	}
	f.publish("bad")
	f.settled(f.group)
	f.wantLetters()
	if got := fmt.Sprint(b.versions("bad")); got != "[1 2 3 4 5]" {
		t.Errorf("handled versions %s of the bad key, want [1 2 3 4 5]", got)
	}
	// The same again changes nothing.
	calls := b.count()
	job.ID = ""
	twice, err := f.desk().CreateJob(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	if sum := f.done(twice).Sum(); sum.Skipped != 4 || b.count() != calls {
		t.Errorf("the same replay again: %+v, %d calls more", sum, b.count()-calls)
	}
}

// TestIndependentEventsGoOn: a group may declare that its events don't wait for each other.
func TestIndependentEventsGoOn(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	f.group.Independent = true
	b := newBreakable(func(d bus.Delivery) error {
		switch d.Event.Version {
		case 1:
			return fail.Permanent(errors.New("never"))
		case 2:
			return fail.RetryAfter(time.Second, errors.New("later"))
		}
		return nil
	})
	m := f.join(bus.GroupConfig{Handler: b.handle, InPlace: time.Millisecond})
	for range 3 {
		f.publish("k")
	}
	f.settled(f.group)
	f.wantLetters("k 1 dead permanent", "k 2 retrying transient")
	if got := fmt.Sprint(b.versions("k")); got != "[3]" {
		t.Errorf("handled %s, want [3]", got)
	}
	m.stop() // the next owner finds the retry and its time
	b.broken.Store(false)
	f.join(bus.GroupConfig{Handler: b.handle, InPlace: time.Millisecond})
	eventstest.Eventually(t, 20*time.Second, "the retry succeeds", func() bool { return len(f.letters()) == 1 })
	f.done(f.job(deadletter.JobReplay))
	f.wantLetters()
	if got := fmt.Sprint(b.versions("k")); got != "[3 2 1]" {
		t.Errorf("handled %s, want [3 2 1]", got)
	}
}

// TestRetryOfALetter: a retry that waits as a letter runs when it is due, and what waits behind it follows in order; after the last one it is dead.
func TestRetryOfALetter(t *testing.T) {
	t.Parallel()
	for name, tries := range map[string]int{"succeeds at the third try": 3, "is exhausted": 99} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, 1, single)
			r := newRecord()
			var calls atomic.Int64
			f.join(bus.GroupConfig{
				InPlace: time.Nanosecond, Retries: []time.Duration{20 * time.Millisecond, 30 * time.Millisecond, 40 * time.Millisecond},
				Handler: func(ctx context.Context, d bus.Delivery) error {
					if d.Event.Version == 1 {
						if n := calls.Add(1); int(n) < tries {
							if (d.Replay != nil) != (n > 1) || d.Attempt != int(n) {
								t.Errorf("call %d: attempt %d, replay %v", n, d.Attempt, d.Replay)
							}
							return errors.New("not yet")
						}
					}
					return r.handle(ctx, d)
				},
			})
			for range 3 {
				f.publish("k")
			}
			f.settled(f.group)
			if tries == 3 {
				eventstest.Eventually(t, 20*time.Second, "the key is free", func() bool { return len(f.letters()) == 0 && r.count() == 3 })
				if got := fmt.Sprint(r.versions("k")); got != "[1 2 3]" {
					t.Errorf("handled %s, want [1 2 3]", got)
				}
				return
			}
			eventstest.Eventually(t, 20*time.Second, "it is dead", func() bool { return f.letters()[0].Current.State == deadletter.StateDead })
			l := f.letters()[0]
			if c := l.Current; c.Failure.Reason != deadletter.ReasonExhausted || c.Attempts != 4 || len(c.History) != 3 || calls.Load() != 4 {
				t.Errorf("after %d calls: %+v", calls.Load(), c)
			}
			if l.Current.Failure.Fingerprint != l.Failure.Fingerprint {
				t.Error("the last failure of one cause has another fingerprint than the first")
			}
		})
	}
}

// TestEditedLetter: a corrected payload reaches the handler under the same id, marked.
func TestEditedLetter(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	schemas, err := events.NewRegistry()
	if err != nil {
		t.Fatal(err)
	}
	ev := f.event("k")
	header, _, err := events.Encode(&ev)
	if err != nil {
		t.Fatal(err)
	}
	f.store(&nats.Msg{Subject: f.subjects.Order("k"), Header: nats.Header(header), Data: []byte(`{"order_id":`)})
	r := newRecord()
	f.join(bus.GroupConfig{Handler: func(ctx context.Context, d bus.Delivery) error {
		if err := schemas.Validate(&d.Event); err != nil {
			return err
		}
		return r.handle(ctx, d)
	}})
	f.settled(f.group)
	f.wantLetters("k 1 dead undecodable")
	letter := f.letters()[0]
	const fixed = `{"order_id":"k","customer_id":"c"}`
	if _, err := f.desk().Edit(t.Context(), schemas, letter.ID, []byte(fixed), "ann", "cut off"); err != nil {
		t.Fatal(err)
	}
	f.done(f.job(deadletter.JobReplay))
	f.wantLetters()
	if got := r.snapshot(); len(got) != 1 || string(got[0].Event.Data) != fixed || got[0].Event.ID != ev.ID || got[0].Event.Extensions[events.ExtensionEdited] != "true" {
		t.Errorf("handled %+v", got)
	}
}

// TestDiscard: the letter goes, what waits behind it follows, and the record says who and why.
func TestDiscard(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	r := newRecord()
	f.join(bus.GroupConfig{Handler: func(ctx context.Context, d bus.Delivery) error {
		if d.Event.Version == 1 {
			return fail.Permanent(errors.New("never"))
		}
		return r.handle(ctx, d)
	}})
	for range 3 {
		f.publish("k")
	}
	f.settled(f.group)
	head := f.letters()[0]
	job := f.job(deadletter.JobDiscard, func(j *deadletter.Job) { j.Letters = j.Letters[:1] })
	if sum := f.done(job).Sum(); sum.Discarded != 1 {
		t.Errorf("%+v, want 1 discarded", sum)
	}
	eventstest.Eventually(t, 10*time.Second, "the others follow", func() bool { return len(f.letters()) == 0 })
	if got := fmt.Sprint(r.versions("k")); got != "[2 3]" {
		t.Errorf("handled %s, want [2 3]", got)
	}
	history, err := f.desk().History(t.Context(), head.ID)
	if err != nil || len(history) != 1 || history[0].By != "ann" || history[0].Why != "test" || history[0].Job != job.ID || history[0].State != deadletter.StateDiscarded {
		t.Errorf("history %+v, %v", history, err)
	}
}

// TestDrop: the event is settled without a letter, and the reason is kept.
func TestDrop(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	f.publish("k")
	f.join(bus.GroupConfig{Handler: func(context.Context, bus.Delivery) error { return fail.Drop("a test of ann@example.com") }})
	f.settled(f.group)
	f.wantLetters()
	history, err := f.desk().History(t.Context(), deadletter.ID("readers", events.StreamOrders, 1))
	if err != nil || len(history) != 1 || history[0].Why != "a test of [email]" || history[0].State != deadletter.StateDiscarded {
		t.Errorf("history %+v, %v", history, err)
	}
}

// TestParkedTwiceIsOneLetter: an owner that dies between parking and settling leaves a letter; the next one finds it, however much later, and with others parked since.
func TestParkedTwiceIsOneLetter(t *testing.T) {
	t.Parallel()
	for name, independent := range map[string]bool{"ordered": false, "independent": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, 1, single)
			f.group.Independent = independent
			b := newBreakable(never("k"))
			m := f.join(bus.GroupConfig{Handler: b.handle})
			f.publish("k")
			f.publish("k")
			f.settled(f.group)
			m.stop()
			// Both acknowledgements were lost: the broker sends both again.
			if _, err := f.js.ResetConsumerToSequence(t.Context(), f.group.Stream, f.group.Consumer(0), 1); err != nil {
				t.Fatal(err)
			}
			want := describe(f.letters())
			f.join(bus.GroupConfig{Handler: b.handle})
			f.publish("other")
			f.settled(f.group)
			f.wantLetters(want...)
		})
	}
}

// TestAResolvedLetterIsParkedAgain: an operator moves the group back, and the event fails again. That it had a letter once must not lose it.
func TestAResolvedLetterIsParkedAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	b := newBreakable(never("k"))
	f.join(bus.GroupConfig{Handler: b.handle})
	f.publish("k")
	f.settled(f.group)
	b.broken.Store(false)
	f.done(f.job(deadletter.JobReplay))
	b.broken.Store(true)
	if _, err := f.js.ResetConsumerToSequence(t.Context(), f.group.Stream, f.group.Consumer(0), 1); err != nil {
		t.Fatal(err)
	}
	eventstest.Eventually(t, 10*time.Second, "it is parked again", func() bool { return len(f.letters()) == 1 })
	f.wantLetters("k 1 dead permanent")
	b.broken.Store(false)
	f.done(f.job(deadletter.JobReplay))
	f.wantLetters()
}

// TestDepth: after three failed replays only force tries again.
func TestDepth(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	var calls atomic.Int64
	f.join(bus.GroupConfig{Handler: func(context.Context, bus.Delivery) error {
		calls.Add(1)
		return fail.Permanent(errors.New("never"))
	}})
	f.publish("k")
	f.settled(f.group)
	for range deadletter.MostDepth {
		if sum := f.done(f.job(deadletter.JobReplay)).Sum(); sum.Failed != 1 {
			t.Errorf("%+v, want 1 failed", sum)
		}
	}
	if sum := f.done(f.job(deadletter.JobReplay)).Sum(); sum.Skipped != 1 || calls.Load() != 4 {
		t.Errorf("%+v after %d calls, want it skipped", sum, calls.Load())
	}
	if sum := f.done(f.job(deadletter.JobReplay, func(j *deadletter.Job) { j.Force = true })).Sum(); sum.Failed != 1 || calls.Load() != 5 {
		t.Errorf("with force: %+v after %d calls", sum, calls.Load())
	}
}

// TestBlockedKeysFillTheStream: the letters of one key are bounded; what is more is refused, and the partition waits instead of losing it.
func TestBlockedKeysFillTheStream(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single, func(top *events.Topology) {
		for i := range top.Streams {
			if top.Streams[i].Name == events.StreamDLQ {
				top.Streams[i].MaxMsgsPerSubject = 3
			}
		}
	})
	b := newBreakable(never("bad"))
	m := f.join(bus.GroupConfig{Handler: b.handle})
	for range 5 {
		f.publish("bad")
	}
	eventstest.Eventually(t, 10*time.Second, "the fourth letter is refused", func() bool { return m.group.Healthy() != nil })
	b.broken.Store(false)
	f.done(f.job(deadletter.JobReplay)) // makes room
	f.settled(f.group)
	eventstest.Eventually(t, 20*time.Second, "all are handled", func() bool { return len(b.versions("bad")) == 5 })
	if got := fmt.Sprint(b.versions("bad")); got != "[1 2 3 4 5]" || m.group.Healthy() != nil {
		t.Errorf("handled %s, %v", got, m.group.Healthy())
	}
}

// TestBreaker: many keys that fail for one cause, or an outage, pause the group instead of filling the stream; one probe that succeeds lets all go on.
func TestBreaker(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"systemic": fail.Permanent(errors.New("table orders does not exist")), "transient": errors.New("connection refused"),
		"infra": fail.Infra(errors.New("database is down")), "broker": nats.ErrNoResponders,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, 2, single)
			b := newBreakable(func(bus.Delivery) error { return err })
			m := f.join(bus.GroupConfig{Handler: b.handle, Retries: quick, Breaker: bus.BreakerConfig{Keys: 5, MinProbe: 20 * time.Millisecond, MaxProbe: 100 * time.Millisecond}})
			f.publishMany(200, 100)
			eventstest.Eventually(t, 10*time.Second, "the group pauses", func() bool { return m.group.Healthy() != nil && strings.Contains(m.group.Healthy().Error(), "paused") })
			parked := len(f.letters())
			if parked > 10 {
				t.Errorf("%d letters before the breaker opened", parked)
			}
			b.broken.Store(false)
			eventstest.Eventually(t, 20*time.Second, "the group goes on", func() bool { return m.group.Healthy() == nil })
			f.settled(f.group)
			if more := len(f.letters()); more > 10 {
				t.Errorf("%d letters in the end", more)
			}
			if len(f.letters()) > 0 {
				f.done(f.job(deadletter.JobReplay))
			}
			eventstest.Eventually(t, 20*time.Second, "all are handled", func() bool { return b.distinct() == 200 })
			if bad := b.disorder(); len(bad) > 0 {
				t.Error(bad)
			}
		})
	}
}
