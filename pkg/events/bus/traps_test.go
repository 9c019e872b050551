package bus_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// Traps of the broker that the handling of failures rests on. Where one of these fails after an upgrade of the broker, the design may become simpler, or wrong.
//
// Two traps have no test, since nothing rests on them. The broker's notice that a message has had its deliveries is sent only with the next pull, and to nobody where no one listens:
// with MaxDeliver -1 there is none, and letters are written by the owner that saw the failure. BackOff of a consumer and the delay of a refusal add up: groups have no BackOff
// (TestFactConsumerConfig) and refuse nothing.

// bench is a stream with ten messages and a consumer.
func bench(t *testing.T, cfg jetstream.ConsumerConfig) (jetstream.JetStream, jetstream.Consumer) {
	t.Helper()
	js := eventstest.Start(t).JetStream()
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "TRAPS", Subjects: []string{"traps.*"}}); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if _, err := js.Publish(t.Context(), "traps.a", nil); err != nil {
			t.Fatal(err)
		}
	}
	cfg.Durable, cfg.AckPolicy = "c", jetstream.AckExplicitPolicy
	c, err := js.CreateConsumer(t.Context(), "TRAPS", cfg)
	if err != nil {
		t.Fatal(err)
	}
	return js, c
}

func fetch(t *testing.T, c jetstream.Consumer, n int, wait time.Duration) []jetstream.Msg {
	t.Helper()
	batch, err := c.Fetch(n, jetstream.FetchMaxWait(wait))
	if err != nil {
		t.Fatal(err)
	}
	var out []jetstream.Msg
	for m := range batch.Messages() {
		out = append(out, m)
	}
	return out
}

// TestTrapMaxDeliver (why MaxDeliver is -1): what was in flight with a message that kills its process runs out of deliveries too, and is then silently never delivered again.
func TestTrapMaxDeliver(t *testing.T) {
	t.Parallel()
	js, c := bench(t, jetstream.ConsumerConfig{MaxDeliver: 2, AckWait: 100 * time.Millisecond})
	for range 2 {
		eventstest.Eventually(t, 10*time.Second, "all ten are delivered", func() bool { return len(fetch(t, c, 10, 300*time.Millisecond)) == 10 })
	}
	if got := fetch(t, c, 10, 500*time.Millisecond); len(got) != 0 {
		t.Fatalf("%d messages came a third time", len(got))
	}
	again, err := js.Consumer(t.Context(), "TRAPS", "c")
	if err != nil {
		t.Fatal(err)
	}
	if info := again.CachedInfo(); info.NumPending != 0 {
		t.Errorf("pending %d: the broker shows the loss now", info.NumPending)
	}
}

// TestTrapDelayedNak (why no retry waits in the broker): a message that was refused with a delay keeps its place among those in flight, so others wait for it; and the one behind it
// overtakes.
func TestTrapDelayedNak(t *testing.T) {
	t.Parallel()
	js, c := bench(t, jetstream.ConsumerConfig{MaxAckPending: 5, AckWait: time.Minute})
	for _, m := range fetch(t, c, 5, time.Second) {
		refuse(t, js, m, time.Second)
	}
	if got := fetch(t, c, 5, 300*time.Millisecond); len(got) != 0 {
		t.Errorf("%d messages came while five were delayed, of a limit of five", len(got))
	}
	js, c = bench(t, jetstream.ConsumerConfig{AckWait: time.Minute})
	refuse(t, js, fetch(t, c, 1, time.Second)[0], time.Second)
	meta, err := fetch(t, c, 1, time.Second)[0].Metadata()
	if err != nil || meta.Sequence.Stream != 2 {
		t.Errorf("sequence %d came next, %v; the trap is that 2 overtakes 1", meta.Sequence.Stream, err)
	}
}

func refuse(t *testing.T, js jetstream.JetStream, m jetstream.Msg, delay time.Duration) {
	t.Helper()
	if err := js.Conn().Publish(m.Reply(), fmt.Appendf(nil, `-NAK {"delay": %d}`, delay.Nanoseconds())); err != nil {
		t.Fatal(err)
	}
	if err := js.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
}

// TestTrapMessageID (why letters have none): an id that the broker remembers makes a publish look stored, though the message is gone.
func TestTrapMessageID(t *testing.T) {
	t.Parallel()
	js, _ := bench(t, jetstream.ConsumerConfig{})
	stream, err := js.Stream(t.Context(), "TRAPS")
	if err != nil {
		t.Fatal(err)
	}
	ack, err := js.Publish(t.Context(), "traps.b", nil, jetstream.WithMsgID("letter"))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(t.Context(), ack.Sequence); err != nil {
		t.Fatal(err)
	}
	again, err := js.Publish(t.Context(), "traps.b", nil, jetstream.WithMsgID("letter"))
	if err != nil || !again.Duplicate {
		t.Errorf("duplicate %t, %v; the trap is that it is taken for stored", again.Duplicate, err)
	}
	if _, err := stream.GetLastMsgForSubject(t.Context(), "traps.b"); !errors.Is(err, jetstream.ErrMsgNotFound) {
		t.Errorf("the message is there: %v", err)
	}
}

// TestTrapDeleteRewinds (why an owner looks at a letter's state before it parks): when the last message of a subject is deleted, the subject's lock is open again.
func TestTrapDeleteRewinds(t *testing.T) {
	t.Parallel()
	js, _ := bench(t, jetstream.ConsumerConfig{})
	stream, err := js.Stream(t.Context(), "TRAPS")
	if err != nil {
		t.Fatal(err)
	}
	expect := func(last uint64) (uint64, error) {
		ack, err := js.Publish(context.Background(), "traps.b", nil, jetstream.WithExpectLastSequencePerSubject(last))
		if err != nil {
			return 0, err
		}
		return ack.Sequence, nil
	}
	first, err := expect(0)
	if err != nil {
		t.Fatal(err)
	}
	var api *jetstream.APIError
	if _, err := expect(0); !errors.As(err, &api) || api.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequence {
		t.Errorf("a stale lock: %v, want it refused", err)
	}
	second, err := expect(first)
	if err != nil {
		t.Fatal(err)
	}
	for _, sequence := range []uint64{second, first} {
		if err := stream.DeleteMsg(t.Context(), sequence); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := expect(0); err != nil {
		t.Errorf("after the deletion: %v; the trap is that a stale owner may park", err)
	}
}

// TestTrapFull (what a full stream of letters does): a stream that discards new messages refuses, for one subject as for all, and says so.
func TestTrapFull(t *testing.T) {
	t.Parallel()
	js := eventstest.Start(t).JetStream()
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "TRAPS", Subjects: []string{"traps.*"}, Discard: jetstream.DiscardNew, DiscardNewPerSubject: true, MaxMsgs: 3, MaxMsgsPerSubject: 2,
	}); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		subject string
		ok      bool
	}{{"traps.a", true}, {"traps.a", true}, {"traps.a", false}, {"traps.b", true}, {"traps.c", false}} {
		_, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: c.subject})
		if (err == nil) != c.ok {
			t.Errorf("message %d to %s: %v", i, c.subject, err)
		}
	}
}

// TestTrapSubjectsTellKeys (why no record of locked keys is kept): one request lists every subject under a filter with its number of messages.
func TestTrapSubjectsTellKeys(t *testing.T) {
	t.Parallel()
	js, _ := bench(t, jetstream.ConsumerConfig{})
	for _, s := range []string{"traps.b", "traps.b", "traps.c"} {
		if _, err := js.Publish(t.Context(), s, nil); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := js.Stream(t.Context(), "TRAPS")
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter("traps.*"))
	if err != nil || info.State.Subjects["traps.b"] != 2 || info.State.Subjects["traps.c"] != 1 || len(info.State.Subjects) != 3 {
		t.Errorf("subjects %v, %v", info.State.Subjects, err)
	}
}

// TestTrapSchedule (what deadlines rest on): the broker publishes a scheduled message late or on time, never early, once, and also when it was down at that time. A second schedule on the subject
// replaces the first one. The headers come along without the message's id: who must know it reads the event's own.
func TestTrapSchedule(t *testing.T) {
	t.Parallel()
	s := eventstest.Start(t)
	js := s.JetStream()
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "TRAPS", Subjects: []string{"timers.*", "due.*"}, AllowMsgSchedules: true})
	if err != nil {
		t.Fatal(err)
	}
	schedule := func(key, id string, due time.Time) {
		t.Helper()
		m := &nats.Msg{Subject: "timers." + key, Data: []byte(id), Header: nats.Header{"ce-id": {id}, "traceparent": {"tp-" + id}, nats.MsgIdHdr: {id}}}
		if _, err := js.PublishMsg(t.Context(), m, jetstream.WithScheduleAt(due), jetstream.WithScheduleTarget("due."+key)); err != nil {
			t.Fatal(err)
		}
	}
	due := time.Now().Add(2 * time.Second).Truncate(time.Second) // in one second or two
	schedule("a", "first", due.Add(time.Hour))
	schedule("a", "second", due)
	schedule("b", "slept over", due)
	s.Stop(0)
	eventstest.Eventually(t, 20*time.Second, "the time has come", func() bool { return time.Now().After(due) })
	s.Restart(0)
	for key, id := range map[string]string{"a": "second", "b": "slept over"} {
		var m *jetstream.RawStreamMsg
		eventstest.Eventually(t, 20*time.Second, "the message is published", func() bool {
			m, err = stream.GetLastMsgForSubject(t.Context(), "due."+key)
			return err == nil
		})
		if string(m.Data) != id || m.Header.Get("ce-id") != id || m.Header.Get("traceparent") != "tp-"+id || m.Time.Before(due) {
			t.Errorf("%s: came as %q %v at %s, due at %s", key, m.Data, m.Header, m.Time, due)
		}
		if got := m.Header.Get(nats.MsgIdHdr); got != "" {
			t.Errorf("%s: has the id %q; the trap is that it has none", key, got)
		}
	}
	eventstest.Eventually(t, 20*time.Second, "there is one message for each, and no timer left", func() bool {
		info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter(">"))
		return err == nil && info.State.Subjects["due.a"] == 1 && info.State.Subjects["due.b"] == 1 && len(info.State.Subjects) == 2
	})
}
