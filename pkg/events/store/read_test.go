package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

func TestReadOneEvent(t *testing.T) {
	t.Parallel()
	for name, server := range clusters {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, server).open(t)
			ctx := testContext(t)
			for i := range int64(5) {
				subject := fmt.Sprintf("ledger.%d", i%2)
				sequence, err := s.AppendAt(ctx, uint64(i), store.Write{Subject: subject, Event: amount(i)})
				if err != nil {
					t.Fatal(err)
				}
				for what, read := range map[string]func() (store.Recorded, error){
					"by sequence": func() (store.Recorded, error) { return s.Get(ctx, sequence) },
					"the last":    func() (store.Recorded, error) { return s.Last(ctx, subject) },
				} {
					r, err := read()
					if err != nil || r.Sequence != sequence || r.Subject != subject || amountOf(t, r) != i || r.Stream != ledger || r.StoredAt.IsZero() {
						t.Errorf("%s, right after it was stored: %+v, %v", what, r, err)
					}
				}
			}
			for what, read := range map[string]func() (store.Recorded, error){
				"get 0":           func() (store.Recorded, error) { return s.Get(ctx, 0) },
				"get the next":    func() (store.Recorded, error) { return s.Get(ctx, 6) },
				"last of nothing": func() (store.Recorded, error) { return s.Last(ctx, "ledger.none") },
			} {
				if _, err := read(); !errors.Is(err, store.ErrNotFound) {
					t.Errorf("%s: %v", what, err)
				}
			}
			if _, err := s.Last(ctx, "ledger.*"); err == nil || errors.Is(err, store.ErrNotFound) {
				t.Errorf("last of a wildcard: %v", err)
			}
			if recorded, err := s.Load(ctx, "ledger.none"); err != nil || len(recorded) != 0 {
				t.Errorf("load of nothing: %v, %v", recorded, err)
			}
			if _, err := s.Load(ctx, "ledger.>"); err == nil {
				t.Error("load of a wildcard succeeds")
			}
		})
	}
}

// Where an event stands is the broker's word. A producer that writes the same words into its headers hides no event, and moves none, read one by one or in a batch.
func TestHeadersThatSpeakForTheBroker(t *testing.T) {
	t.Parallel()
	set := start(t, eventstest.Start)
	s, js, ctx := set.open(t), set.JetStream(), testContext(t)
	const all = 40 // the first 16 are read one by one
	for i := range int64(all) {
		msg, err := set.encoder.Encode(ctx, "ledger.a", amount(i))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{jetstream.SequenceHeader, jetstream.LastSequenceHeader, "Nats-Num-Pending", "Status"} {
			msg.Header.Set(name, "0")
		}
		msg.Header.Set(jetstream.SubjectHeader, "ledger.b")
		msg.Header.Set(jetstream.TimeStampHeaer, "2001-01-01T00:00:00Z")
		if _, err := js.PublishMsg(ctx, msg); err != nil {
			t.Fatal(err)
		}
	}
	recorded, err := s.Load(ctx, "ledger.a")
	if err != nil || len(recorded) != all {
		t.Fatalf("%d events, %v", len(recorded), err)
	}
	for i, r := range recorded {
		if r.Sequence != uint64(i)+1 || r.Subject != "ledger.a" || amountOf(t, r) != int64(i) || r.StoredAt.Year() == 2001 {
			t.Errorf("event %d: sequence %d of %s, stored at %s", i, r.Sequence, r.Subject, r.StoredAt)
		}
	}
}

func TestMissingStream(t *testing.T) {
	t.Parallel()
	set := start(t, eventstest.Start)
	s := store.New(set.JetStream(), "NOWHERE", set.encoder, noTelemetry)
	ctx := testContext(t)
	if _, err := s.LastSequence(ctx); err == nil {
		t.Error("last sequence of a stream that is not there succeeds")
	}
	if _, err := s.Read(ctx, 1, func(store.Recorded) error { return nil }); err == nil || ctx.Err() != nil {
		t.Errorf("read of a stream that is not there: %v", err)
	}
	if err := s.Follow(ctx, 1, func(store.Recorded) error { return nil }, nil); err == nil || ctx.Err() != nil {
		t.Errorf("follow of a stream that is not there: %v", err)
	}
	// The subject belongs to another stream, so the broker would store it there.
	if _, err := s.Append(ctx, "ledger.a", 0, amount(1)); err == nil || errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrUnknownOutcome) {
		t.Errorf("append to another stream's subject: %v", err)
	}
	if _, err := s.Append(ctx, "ledger.a", 0, amount(1), amount(2)); err == nil || errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrUnknownOutcome) {
		t.Errorf("append of two to another stream's subject: %v", err)
	}
	if last, err := set.open(t).LastSequence(ctx); err != nil || last != 0 {
		t.Errorf("the other stream has %d events, %v", last, err)
	}
}

func TestReadEndsAtTheEndOfTheCall(t *testing.T) {
	t.Parallel()
	s := start(t, eventstest.Start).open(t)
	ctx := testContext(t)
	collect := func(from uint64, each func()) (got []uint64, last uint64) {
		t.Helper()
		last, err := s.Read(ctx, from, func(r store.Recorded) error {
			got = append(got, r.Sequence)
			each()
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return got, last
	}
	for _, from := range []uint64{0, 1, 2} {
		if got, last := collect(from, func() {}); len(got) != 0 || last != max(from, 1)-1 {
			t.Errorf("read of nothing from %d: %v, last %d", from, got, last)
		}
	}
	stored := uint64(0)
	for range 10 {
		stored = mustAppend(t, s, fmt.Sprintf("ledger.%d", stored), 0, amount(1))
	}
	for _, from := range []uint64{0, 1, 4, 10} {
		end := stored
		got, last := collect(from, func() { stored = mustAppend(t, s, fmt.Sprintf("ledger.%d", stored), 0, amount(1)) })
		var want []uint64
		for n := max(from, 1); n <= end; n++ {
			want = append(want, n)
		}
		if !slices.Equal(got, want) || last != end {
			t.Errorf("read from %d: %v, last %d, want %v", from, got, last, want)
		}
	}
	if got, last := collect(stored+1, func() {}); len(got) != 0 || last != stored {
		t.Errorf("read behind the end: %v, last %d", got, last)
	}
	broken := errors.New("broken")
	last, err := s.Read(ctx, 3, func(r store.Recorded) error {
		if r.Sequence == 5 {
			return broken
		}
		return nil
	})
	if !errors.Is(err, broken) || last != 4 {
		t.Errorf("read that fails at 5: last %d, %v", last, err)
	}
}

// A message that is no event ends a read, and the last sequence tells where.
func TestReadStopsAtWhatIsNoEvent(t *testing.T) {
	t.Parallel()
	set := start(t, eventstest.Start)
	s := set.open(t)
	ctx := testContext(t)
	mustAppend(t, s, "ledger.a", 0, amount(1))
	if _, err := set.JetStream().Publish(ctx, "ledger.a", []byte("not an event")); err != nil {
		t.Fatal(err)
	}
	last, err := s.Read(ctx, 1, func(store.Recorded) error { return nil })
	if !errors.Is(err, events.ErrUndecodable) || last != 1 {
		t.Errorf("read: last %d, %v", last, err)
	}
	if _, err := s.Load(ctx, "ledger.a"); !errors.Is(err, events.ErrUndecodable) {
		t.Errorf("load: %v", err)
	}
	if _, err := s.Get(ctx, 2); !errors.Is(err, events.ErrUndecodable) {
		t.Errorf("get: %v", err)
	}
}

// follow runs Follow until stop is called, and hands over what it was given.
type following struct {
	events   chan store.Recorded
	caughtUp chan struct{}
	ended    chan error
	stop     context.CancelFunc
}

func follow(ctx context.Context, s *store.Store, from uint64) *following {
	ctx, cancel := context.WithCancel(ctx)
	f := &following{events: make(chan store.Recorded, 10_000), caughtUp: make(chan struct{}), ended: make(chan error, 1), stop: cancel}
	go func() {
		f.ended <- s.Follow(ctx, from, func(r store.Recorded) error {
			f.events <- r
			return nil
		}, func() { close(f.caughtUp) }) // closing twice would panic: it is called once
	}()
	return f
}

func (f *following) expect(t *testing.T, from, to uint64) {
	t.Helper()
	for n := from; n <= to; n++ {
		select {
		case r := <-f.events:
			if r.Sequence != n {
				t.Fatalf("got sequence %d, want %d", r.Sequence, n)
			}
		case err := <-f.ended:
			t.Fatalf("follow ended: %v", err)
		case <-testContext(t).Done():
			t.Fatalf("sequence %d did not come", n)
		}
	}
}

func (f *following) end(t *testing.T) {
	t.Helper()
	f.stop()
	select {
	case err := <-f.ended:
		if err != nil {
			t.Errorf("follow ended with %v, want nil", err)
		}
	case <-testContext(t).Done():
		t.Fatal("follow does not end")
	}
	if len(f.events) > 0 {
		t.Errorf("%d more events than expected", len(f.events))
	}
}

func TestFollowOutlivesTheConnectionAndTheServer(t *testing.T) {
	t.Parallel()
	for name, server := range clusters {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := start(t, server)
			writer := set.open(t)
			nc := set.Connect()
			s := set.openOn(t, nc)
			last := uint64(0)
			write := func(n int) {
				t.Helper()
				for range n {
					last = mustAppend(t, writer, fmt.Sprintf("ledger.%d", last), 0, amount(1))
				}
			}
			f, behind := follow(t.Context(), s, 0), follow(t.Context(), s, 3)
			<-f.caughtUp
			write(5)
			f.expect(t, 1, last)
			behind.expect(t, 3, last)
			for range 3 {
				write(2)
				if err := nc.ForceReconnect(); err != nil {
					t.Fatal(err)
				}
				write(2)
			}
			f.expect(t, 6, last)
			before := last
			set.Restart(0)
			write(5)
			f.expect(t, before+1, last)
			behind.expect(t, 6, last)
			f.end(t)
			behind.end(t)
			late := follow(t.Context(), s, last)
			late.expect(t, last, last)
			<-late.caughtUp
			late.end(t)
		})
	}
}

// A service must be able to stop while the broker is away.
func TestFollowEndsWhileTheServerIsAway(t *testing.T) {
	t.Parallel()
	set := start(t, eventstest.Start)
	nc := set.Connect()
	s := set.openOn(t, nc)
	mustAppend(t, s, "ledger.a", 0, amount(1))
	f := follow(t.Context(), s, 1)
	f.expect(t, 1, 1)
	<-f.caughtUp
	set.Nodes()[0].Shutdown()
	eventstest.Eventually(t, waitLimit, "the connection is lost", func() bool { return nc.Status() == nats.RECONNECTING })
	f.end(t)
}

func TestFollowEndsWithTheErrorOfItsFunction(t *testing.T) {
	t.Parallel()
	s := start(t, eventstest.Start).open(t)
	mustAppend(t, s, "ledger.a", 0, amount(1))
	broken := errors.New("broken")
	if err := s.Follow(testContext(t), 1, func(store.Recorded) error { return broken }, nil); !errors.Is(err, broken) {
		t.Errorf("follow: %v", err)
	}
}
