package bus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/fail"
)

var quick = []time.Duration{time.Millisecond, 2 * time.Millisecond, 3 * time.Millisecond}

// TestFailures: what a handler's error does.
func TestFailures(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom\r\nwith a second line")
	panics := func(int) error { panic("ouch") }
	always := func(err error) func(int) error { return func(int) error { return err } }
	until := func(n int) func(int) error {
		return func(attempt int) error {
			if attempt < n {
				return boom
			}
			return nil
		}
	}
	for _, c := range []struct {
		name     string
		handler  func(attempt int) error
		attempts int
		reason   deadletter.Reason
	}{
		{"success", always(nil), 1, ""},
		{"transient, then success", until(4), 4, ""},
		{"exhausted", always(boom), 4, deadletter.ReasonExhausted},
		{"permanent", always(fmt.Errorf("charge: %w", fail.Permanent(boom))), 1, deadletter.ReasonPermanent},
		{"permanent in a joined error", always(errors.Join(boom, fail.Permanent(boom))), 1, deadletter.ReasonPermanent},
		{"waits as told", always(fail.RetryAfter(time.Millisecond, boom)), 4, deadletter.ReasonExhausted},
		{"panic, three times", panics, 3, deadletter.ReasonPanic},
		{"payload is none", always(fmt.Errorf("%w: x", events.ErrUndecodable)), 1, deadletter.ReasonUndecodable},
		{"schema", always(fmt.Errorf("%w: x", events.ErrSchema)), 1, deadletter.ReasonSchema},
		{"rule", always(fmt.Errorf("%w: the total is negative", events.ErrRule)), 1, deadletter.ReasonRule},
		{"unsupported version", always(fmt.Errorf("%w: x", events.ErrUnsupportedVersion)), 1, deadletter.ReasonUnsupportedVersion},
		{"unknown type", always(fmt.Errorf("%w: x", events.ErrUnknownType)), 1, deadletter.ReasonUnknownType},
		{"a time-out of its own is transient", always(context.DeadlineExceeded), 4, deadletter.ReasonExhausted},
		{"a cancellation that is not ours is transient", always(context.Canceled), 4, deadletter.ReasonExhausted},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, 1, single)
			f.publish("a key")
			var attempts atomic.Int64
			m := f.join(bus.GroupConfig{Retries: quick, Handler: func(_ context.Context, d bus.Delivery) error {
				if n := attempts.Add(1); int(n) != d.Attempt {
					t.Errorf("call %d says that it is attempt %d", n, d.Attempt)
				}
				return c.handler(d.Attempt)
			}})
			f.settled(f.group)
			if n := attempts.Load(); n != int64(c.attempts) {
				t.Errorf("%d attempts, want %d", n, c.attempts)
			}
			letters := f.lettersStored()
			if c.reason == "" {
				if len(letters) != 0 {
					t.Errorf("%d dead letters, want none", len(letters))
				}
				return
			}
			if len(letters) != 1 {
				t.Fatalf("%d dead letters, want 1", len(letters))
			}
			checkLetter(t, f, letters[0], c.reason, c.attempts)
			if err := m.group.Healthy(); err != nil {
				t.Errorf("Healthy: %v", err)
			}
		})
	}
}

// checkLetter compares a letter with the event that it was made of: the first of the stream, with the key "a key".
func checkLetter(t *testing.T, f *fixture, letter *jetstream.RawStreamMsg, reason deadletter.Reason, attempts int) {
	t.Helper()
	stream, err := f.js.Stream(t.Context(), events.StreamOrders)
	if err != nil {
		t.Fatal(err)
	}
	original, err := stream.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if letter.Subject != "dlq.readers.0.a=20key" {
		t.Errorf("subject %s", letter.Subject)
	}
	if string(letter.Data) != string(original.Data) {
		t.Errorf("data %q, want %q", letter.Data, original.Data)
	}
	for name, values := range original.Header {
		if strings.HasPrefix(name, "Nats-") {
			continue
		}
		if letter.Header.Get(name) != values[0] {
			t.Errorf("header %s is %q, want %q", name, letter.Header.Get(name), values[0])
		}
	}
	if letter.Header.Get("Nats-Pin-Id") != "" { // reading a message adds others of the broker's, but not this one
		t.Error("headers that the broker wrote must not be copied")
	}
	for name, want := range map[string]string{
		deadletter.HeaderID: "readers:ORDERS:1", deadletter.HeaderGroup: "readers", deadletter.HeaderReason: string(reason),
		deadletter.HeaderStream: "ORDERS", deadletter.HeaderSubject: original.Subject, deadletter.HeaderSequence: "1", deadletter.HeaderKey: "a%20key",
		deadletter.HeaderState: "dead", deadletter.HeaderPartition: "0", deadletter.HeaderKeyVersion: "1", deadletter.HeaderReplayDepth: "0",
		deadletter.HeaderAttempts: fmt.Sprint(attempts), deadletter.HeaderTime: original.Time.UTC().Format(time.RFC3339Nano),
	} {
		if got := letter.Header.Get(name); got != want {
			t.Errorf("header %s is %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{
		deadletter.HeaderHandler, deadletter.HeaderInstance, deadletter.HeaderFingerprint, deadletter.HeaderClass, deadletter.HeaderFirstFailedAt, deadletter.HeaderLastFailedAt,
	} {
		if letter.Header.Get(name) == "" {
			t.Errorf("header %s is missing", name)
		}
	}
	if (reason == deadletter.ReasonPanic || reason == deadletter.ReasonPermanent) && letter.Header.Get(deadletter.HeaderStack) == "" {
		t.Error("the stack is missing")
	}
	if e := letter.Header.Get(deadletter.HeaderError); e == "" || strings.ContainsAny(e, "\r\n") {
		t.Errorf("header %s is %q, want one line", deadletter.HeaderError, e)
	}
}

// TestUndecodable: bytes that are no event are parked under the key of their subject.
func TestUndecodable(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	f.store(&nats.Msg{Subject: "orders.0.a=20key", Data: []byte("no event")})
	f.store(&nats.Msg{Subject: "orders.0.=zz", Data: []byte("a token that no key has")})
	f.publish("k")
	r := newRecord()
	f.join(bus.GroupConfig{Handler: r.handle})
	f.settled(f.group)
	if r.count() != 1 {
		t.Errorf("%d handled, want 1", r.count())
	}
	letters := f.lettersStored()
	if len(letters) != 2 {
		t.Fatalf("%d dead letters, want 2", len(letters))
	}
	keys := map[string]bool{}
	for _, l := range letters {
		keys[l.Header.Get(deadletter.HeaderKey)] = true
		if reason := l.Header.Get(deadletter.HeaderReason); reason != string(deadletter.ReasonUndecodable) {
			t.Errorf("reason %s", reason)
		}
	}
	if !keys["a%20key"] || !keys["=zz"] {
		t.Errorf("keys %v, want a%%20key and =zz", keys)
	}
}

// TestRetryBlocksItsKeyOnly: while one key waits for its retry, others go on, even where there is one lane. A short wait is spent in place and given back; a longer one
// as a letter.
func TestRetryBlocksItsKeyOnly(t *testing.T) {
	t.Parallel()
	for name, inPlace := range map[string]time.Duration{"in place": 2 * time.Hour, "as a letter": time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, 1, single)
			r := newRecord()
			var failed atomic.Bool
			m := f.join(bus.GroupConfig{Lanes: 2, InPlace: inPlace, Retries: []time.Duration{time.Hour}, Handler: func(ctx context.Context, d bus.Delivery) error {
				if d.Event.PartitionKey == "bad" {
					failed.Store(true)
					return errors.New("not now")
				}
				return r.handle(ctx, d)
			}})
			f.publish("bad")
			f.publish("bad")
			f.publishMany(100, 10)
			eventstest.Eventually(t, 10*time.Second, "the others are handled", func() bool { return r.count() == 100 && failed.Load() })
			if inPlace < time.Hour {
				f.settled(f.group)
				f.wantLetters("bad 1 retrying transient", "bad 2 blocked predecessor")
				return
			}
			m.stop() // gives the waiting one back
			f.wantLetters()
			again := newRecord()
			f.join(bus.GroupConfig{Handler: again.handle})
			f.settled(f.group)
			if again.last["bad"] != 2 || len(again.disorder()) > 0 {
				t.Errorf("the next owner handled %v, want version 1 and 2 of the key that failed", again.last)
			}
		})
	}
}

// TestTimeout: a call that takes too long fails, and its context says so.
func TestTimeout(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	f.publish("a key")
	f.join(bus.GroupConfig{Timeout: 10 * time.Millisecond, Retries: quick, Handler: func(ctx context.Context, _ bus.Delivery) error {
		<-ctx.Done()
		return ctx.Err()
	}})
	f.settled(f.group)
	letters := f.lettersStored()
	if len(letters) != 1 {
		t.Fatalf("%d dead letters, want 1", len(letters))
	}
	checkLetter(t, f, letters[0], deadletter.ReasonExhausted, 4)
}

// TestRefusedLetter: without room for a letter the partition stops, says so, and goes on when there is room. Nothing is lost.
func TestRefusedLetter(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single, func(top *events.Topology) {
		for i := range top.Streams {
			if top.Streams[i].Name == events.StreamDLQ {
				top.Streams[i].MaxMsgs = 1
			}
		}
	})
	r := newRecord()
	m := f.join(bus.GroupConfig{Ahead: 8, Handler: func(ctx context.Context, d bus.Delivery) error {
		if strings.HasPrefix(d.Event.PartitionKey, "bad") {
			return fail.Permanent(errors.New("never"))
		}
		return r.handle(ctx, d)
	}})
	f.publish("bad1")
	f.publish("bad2")
	eventstest.Eventually(t, 10*time.Second, "the second letter is refused", func() bool { return m.group.Healthy() != nil })
	f.publishMany(50, 50)
	stopped := f.info(f.group, 0).Delivered.Stream
	if stopped > 2+8 {
		t.Errorf("delivered up to %d while letters are refused", stopped)
	}
	dlq, _ := f.topology.Stream(events.StreamDLQ)
	dlq.MaxMsgs = 10
	if _, err := f.js.UpdateStream(t.Context(), bus.StreamConfig(dlq, 1)); err != nil {
		t.Fatal(err)
	}
	f.settled(f.group)
	if letters := f.lettersStored(); len(letters) != 2 {
		t.Errorf("%d dead letters, want 2", len(letters))
	}
	if r.distinct() != 50 {
		t.Errorf("%d handled, want 50", r.distinct())
	}
	if err := m.group.Healthy(); err != nil {
		t.Errorf("Healthy: %v", err)
	}
}

// TestLargeLetter: a letter that is too large for the broker is stored without its data, which the original stream holds.
func TestLargeLetter(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	ev := f.event("k")
	header, _, err := events.Encode(&ev)
	if err != nil {
		t.Fatal(err)
	}
	const limit = 1 << 20 // of the broker, headers and all
	size := len("NATS/1.0\r\n\r\n")
	for name, values := range header {
		size += len(name) + len(": \r\n") + len(values[0])
	}
	f.store(&nats.Msg{Subject: f.subjects.Order("k"), Header: nats.Header(header), Data: make([]byte, limit-size)})
	f.join(bus.GroupConfig{Handler: func(context.Context, bus.Delivery) error { return fail.Permanent(errors.New("never")) }})
	f.settled(f.group)
	letters := f.lettersStored()
	if len(letters) != 1 || letters[0].Header.Get(deadletter.HeaderOmitted) != "data" || len(letters[0].Data) != 0 {
		t.Fatalf("%d dead letters, want 1 without its data", len(letters))
	}
}

// TestVersionGate: an event that was stored twice is handled once; one without a version always.
func TestVersionGate(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	store := func(version uint64) {
		ev := f.event("k")
		ev.Version = version
		header, data, err := events.Encode(&ev)
		if err != nil {
			t.Fatal(err)
		}
		f.store(&nats.Msg{Subject: f.subjects.Order("k"), Header: nats.Header(header), Data: data})
	}
	for _, v := range []uint64{1, 2, 2, 1, 0, 0, 3} {
		store(v)
	}
	r := newRecord()
	f.join(bus.GroupConfig{Handler: r.handle})
	f.settled(f.group)
	var got []uint64
	for _, d := range r.snapshot() {
		got = append(got, d.Event.Version)
	}
	if fmt.Sprint(got) != "[1 2 0 0 3]" {
		t.Errorf("handled versions %v, want [1 2 0 0 3]", got)
	}
}

// TestGateStaysOpenForFailures: a version that became a dead letter does not let the gate skip anything that was not handled.
func TestGateStaysOpenForFailures(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	r := newRecord()
	var broken atomic.Bool
	broken.Store(true)
	f.join(bus.GroupConfig{Handler: func(ctx context.Context, d bus.Delivery) error {
		if d.Event.Version == 2 && broken.Load() {
			return fail.Permanent(errors.New("never"))
		}
		return r.handle(ctx, d)
	}})
	for range 3 {
		f.publish("k")
	}
	f.settled(f.group)
	broken.Store(false)
	f.done(f.job(deadletter.JobReplay))
	if got := fmt.Sprint(r.versions("k")); got != "[1 2 3]" {
		t.Errorf("handled versions %s, want [1 2 3]", got)
	}
}
