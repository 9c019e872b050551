package deadletter_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// desk is a server with the streams of dead letters.
type desk struct {
	*testing.T
	js       jetstream.JetStream
	subjects events.Subjects
	store    *deadletter.Store
	schemas  *events.Registry
	n        uint64
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	full := events.DefaultTopology(4)
	top := events.Topology{Partitions: 4}
	for _, name := range []string{events.StreamOrders, events.StreamDLQ, events.StreamDLQCtl} {
		s, _ := full.Stream(name)
		top.Streams = append(top.Streams, s)
	}
	s := eventstest.Start(t)
	s.Apply(top)
	schemas, err := events.NewRegistry()
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{T: t, js: s.JetStream(), subjects: top.Subjects(), schemas: schemas}
	d.store = deadletter.New(d.js, d.subjects)
	return d
}

var failedAt = time.Date(2026, 3, 1, 12, 0, 0, 5e6, time.UTC)

// letter makes a letter of an order's event.
func (d *desk) letter(key string, change ...func(*deadletter.Letter)) deadletter.Letter {
	d.Helper()
	ev, err := events.New("/test", events.TypeOrderCancelled, key, failedAt, events.OrderCancelled{OrderID: key, CustomerID: "c"})
	if err != nil {
		d.Fatal(err)
	}
	header, data, err := events.Encode(&ev)
	if err != nil {
		d.Fatal(err)
	}
	d.n++
	l := deadletter.Letter{
		ID: deadletter.ID("readers", events.StreamOrders, d.n), Group: "readers", Partition: d.subjects.PartitionOf(key), Key: key, KeyVersion: 7,
		FirstState: deadletter.StateDead, Attempts: 4, FirstFailedAt: failedAt, LastFailedAt: failedAt.Add(time.Second),
		Failure: deadletter.Failure{
			Reason: deadletter.ReasonExhausted, Class: "transient", Code: "smtp_451", Error: "no room", Fingerprint: "f1", Stack: "main.f\n  main.go:1",
			TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Handler: "h", Build: "abc", Instance: "host-1",
		},
		Stream: events.StreamOrders, Subject: d.subjects.Order(key), StreamSeq: d.n, StoredAt: failedAt.Add(-time.Hour),
		EventID: ev.ID, EventType: ev.Type, Header: header, Data: data,
	}
	for _, c := range change {
		c(&l)
	}
	return l
}

// park stores a letter as an owner does, and returns it as it was stored.
func (d *desk) park(l deadletter.Letter) deadletter.Letter {
	d.Helper()
	ack, err := d.js.PublishMsg(d.Context(), l.Message(d.subjects))
	if err != nil {
		d.Fatal(err)
	}
	stored, err := d.store.At(d.Context(), ack.Sequence)
	if err != nil {
		d.Fatal(err)
	}
	return stored
}

func (d *desk) write(e deadletter.Entry) deadletter.Entry {
	d.Helper()
	e, err := d.store.Write(d.Context(), e)
	if err != nil {
		d.Fatal(err)
	}
	return e
}

// TestALetterComesBack: what is parked is what is read, and the event's headers are as they were.
func TestALetterComesBack(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	want := d.letter("a key/ü", func(l *deadletter.Letter) {
		l.FirstState, l.NextAt, l.ReplayDepth = deadletter.StateRetrying, failedAt.Add(time.Minute), 2
		l.Header["Nats-Stream-Source"] = []string{"ORDERS 3"} // publishing these as they are is refused, or means something else
		l.Header["nats-expected-last-sequence"] = []string{"7"}
		l.Header["Dlq-Id"] = []string{"not ours"}
		l.Header["many"] = []string{"a", "b"}
	})
	got := d.park(want)
	if got.Sequence != 1 || time.Since(got.ParkedAt) > time.Minute {
		t.Errorf("stored at %d, %s", got.Sequence, got.ParkedAt)
	}
	if got.Current.State != deadletter.StateRetrying || !got.Current.NextAt.Equal(want.NextAt) || got.Current.Depth != 2 {
		t.Errorf("current state %+v", got.Current)
	}
	got.Sequence, got.ParkedAt, got.Current = 0, time.Time{}, deadletter.Entry{}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read\n%+v\nwant\n%+v", got, want)
	}
}

// TestUndecodableBytesAreALetter: bytes without any header.
func TestUndecodableBytesAreALetter(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	got := d.park(d.letter("k", func(l *deadletter.Letter) {
		l.Header, l.Data, l.EventID, l.EventType, l.KeyVersion = nil, []byte{0xff, 0, '\n'}, "", "", 0
	}))
	if len(got.Header) != 0 || string(got.Data) != "\xff\x00\n" || got.EventType != "" {
		t.Errorf("read %+v", got)
	}
}

func TestForeignMessagesAreNoLetters(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	if _, err := d.js.Publish(t.Context(), d.subjects.Letter("readers", 0, "k"), []byte("?")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.store.At(t.Context(), 1); !errors.Is(err, deadletter.ErrNoLetter) {
		t.Errorf("At: %v, want ErrNoLetter", err)
	}
	d.park(d.letter("k"))
	if got := d.list(deadletter.Filter{}); len(got) != 1 {
		t.Errorf("%d letters, want 1", len(got))
	}
}

func (d *desk) list(f deadletter.Filter) []deadletter.Letter {
	d.Helper()
	var out []deadletter.Letter
	for l, err := range d.store.Letters(d.Context(), f) {
		if err != nil {
			d.Fatal(err)
		}
		out = append(out, l)
	}
	return out
}

func TestFilters(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	if got := d.list(deadletter.Filter{}); len(got) != 0 {
		t.Errorf("%d letters in an empty stream", len(got))
	}
	for i := range 600 { // more than a batch
		d.park(d.letter(fmt.Sprintf("k%d", i%10), func(l *deadletter.Letter) {
			if i%3 == 0 {
				l.Failure.Reason, l.Failure.Fingerprint = deadletter.ReasonPermanent, "f2"
			}
			if i%100 == 0 {
				l.Group, l.ID = "others", deadletter.ID("others", l.Stream, l.StreamSeq)
			}
		}))
	}
	first := d.list(deadletter.Filter{})[0]
	claimed := d.write(first.Current.Next(deadletter.StateReplaying, deadletter.ActionClaim, "me", time.Now()))
	for name, c := range map[string]struct {
		filter deadletter.Filter
		want   int
	}{
		"all":                   {deadletter.Filter{}, 600},
		"group":                 {deadletter.Filter{Group: "readers"}, 594},
		"group and key":         {deadletter.Filter{Group: "readers", Key: "k1"}, 60},
		"key":                   {deadletter.Filter{Key: "k0"}, 60},
		"reason":                {deadletter.Filter{Reason: deadletter.ReasonPermanent}, 200},
		"fingerprint and group": {deadletter.Filter{Fingerprint: "f2", Group: "others"}, 2},
		"type":                  {deadletter.Filter{EventType: events.TypeOrderCancelled}, 600},
		"other type":            {deadletter.Filter{EventType: events.TypeOrderPlaced}, 0},
		"state":                 {deadletter.Filter{State: deadletter.StateReplaying}, 1},
		"id":                    {deadletter.Filter{ID: claimed.Letter}, 1},
		"since":                 {deadletter.Filter{Since: first.ParkedAt}, 600},
		"until":                 {deadletter.Filter{Until: first.ParkedAt}, 0},
	} {
		if got := d.list(c.filter); len(got) != c.want {
			t.Errorf("%s: %d letters, want %d", name, len(got), c.want)
		}
	}
}

// TestStates walks a letter through its life.
func TestStates(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	l := d.park(d.letter("k"))
	claim := l.Current.Next(deadletter.StateReplaying, deadletter.ActionClaim, "readers@host-1", time.Now())
	claim.Job, claim.Claims = "job1", 1
	claimed := d.write(claim)
	if _, err := d.store.Write(t.Context(), claim); err != nil { // the same again: the answer to the first was lost
		t.Errorf("the same entry again: %v, want no error", err)
	}
	other := claim
	other.By = "somebody else"
	if _, err := d.store.Write(t.Context(), other); !errors.Is(err, deadletter.ErrConflict) {
		t.Errorf("write on an old state: %v, want ErrConflict", err)
	}
	failed := claimed.Next(deadletter.StateDead, deadletter.ActionFail, "readers@host-1", time.Now())
	failed.Depth, failed.Claims = 1, 0
	for range 12 {
		failed.Failed(deadletter.Failure{Reason: deadletter.ReasonPermanent, Error: "no", Fingerprint: "f9"}, time.Now())
	}
	d.write(failed)
	again, err := d.store.Letter(t.Context(), l.ID)
	if err != nil {
		t.Fatal(err)
	}
	if c := again.Current; c.State != deadletter.StateDead || c.Depth != 1 || c.Failure.Fingerprint != "f9" || len(c.History) != 10 || c.Job != "" {
		t.Errorf("current %+v", c)
	}
	if got := d.list(deadletter.Filter{Fingerprint: "f9"}); len(got) != 1 {
		t.Error("a filter must see the last failure")
	}
	if err := d.store.Remove(t.Context(), &again); !errors.Is(err, deadletter.ErrNotAllowed) {
		t.Errorf("remove of a dead letter: %v, want ErrNotAllowed", err)
	}
	if _, err := d.store.Write(t.Context(), again.Current.Next(deadletter.StateResolved, deadletter.ActionResolve, "me", time.Now())); !errors.Is(err, deadletter.ErrNotAllowed) {
		t.Errorf("dead to resolved: %v, want ErrNotAllowed", err)
	}
	again.Current = d.write(again.Current.Next(deadletter.StateDiscarded, deadletter.ActionDiscard, "me", time.Now()))
	for range 2 {
		if err := d.store.Remove(t.Context(), &again); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.store.Letter(t.Context(), l.ID); !errors.Is(err, deadletter.ErrNotFound) {
		t.Errorf("a removed letter: %v, want ErrNotFound", err)
	}
	history, err := d.store.History(t.Context(), l.ID)
	if err != nil || len(history) != 3 {
		t.Fatalf("history: %d entries, %v; want 3", len(history), err)
	}
	if h := history[2]; h.Before != deadletter.StateDead || h.State != deadletter.StateDiscarded || h.By != "me" {
		t.Errorf("last entry %+v", h)
	}
	// The same event is parked again, as after its group was moved back: the old entries are history, not its state.
	reborn := d.park(l)
	if reborn.Current.State != deadletter.StateDead || reborn.Current.Depth != 0 {
		t.Errorf("parked again: %+v", reborn.Current)
	}
	d.write(reborn.Current.Next(deadletter.StateReplaying, deadletter.ActionClaim, "me", time.Now()))
}

func TestNotesAndEdits(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	l := d.park(d.letter("k"))
	if _, err := d.store.Note(t.Context(), l.ID, "ann", "asked the customer"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.store.Note(t.Context(), l.ID, "", "x"); err == nil {
		t.Error("a note without an author must be refused")
	}
	for name, data := range map[string]string{"no JSON": "{", "breaks its schema": `{"order_id":7}`} {
		if _, err := d.store.Edit(t.Context(), d.schemas, l.ID, []byte(data), "ann", "typo"); !errors.Is(err, deadletter.ErrNotEditable) {
			t.Errorf("edit: %s: %v, want ErrNotEditable", name, err)
		}
	}
	const fixed = `{"order_id":"k","customer_id":"d"}`
	if _, err := d.store.Edit(t.Context(), d.schemas, l.ID, []byte(fixed), "ann", "wrong customer"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.store.Note(t.Context(), l.ID, "ann", "edited"); err != nil { // the edit stays
		t.Fatal(err)
	}
	again, err := d.store.Letter(t.Context(), l.ID)
	if err != nil {
		t.Fatal(err)
	}
	if payload, err := d.store.Payload(t.Context(), &again); err != nil || string(payload) != fixed {
		t.Errorf("payload %s, %v; want the edited one", payload, err)
	}
	if string(again.Data) != string(l.Data) || again.Current.Note != "edited" || again.Current.State != deadletter.StateDead {
		t.Errorf("after the edit: %s, %+v", again.Data, again.Current)
	}
	history, err := d.store.History(t.Context(), l.ID)
	if err != nil || len(history) != 3 || history[1].Edit == nil || history[1].Edit.Before == history[1].Edit.After {
		t.Errorf("history %+v, %v", history, err)
	}
}

// TestOmittedPayload: the bytes that had no room in a letter are read from the event's stream.
func TestOmittedPayload(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	l := d.letter("k")
	if _, err := d.js.PublishMsg(t.Context(), &nats.Msg{Subject: l.Subject, Header: nats.Header(l.Header), Data: l.Data}); err != nil {
		t.Fatal(err)
	}
	want := l.Data
	l.Omitted = true
	stored := d.park(l)
	if payload, err := d.store.Payload(t.Context(), &stored); err != nil || string(payload) != string(want) || len(stored.Data) != 0 {
		t.Errorf("payload %q, %v", payload, err)
	}
	stored.StreamSeq = 99
	if _, err := d.store.Payload(t.Context(), &stored); !errors.Is(err, deadletter.ErrNotFound) {
		t.Errorf("an expired event: %v, want ErrNotFound", err)
	}
}

func TestJobs(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	job := deadletter.Job{Group: "readers", Kind: deadletter.JobReplay, By: "ann", Why: "fixed", Rate: 50, Canary: true}
	if _, err := d.store.CreateJob(t.Context(), job); err == nil {
		t.Error("a job without letters must be refused")
	}
	for i := range 20_000 { // several messages
		job.Letters = append(job.Letters, deadletter.Ref{ID: deadletter.ID("readers", events.StreamOrders, uint64(1_000_000+i)), Sequence: uint64(i + 1), Partition: i % 4})
	}
	made, err := d.store.CreateJob(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	read, err := d.store.Job(t.Context(), "readers", made.ID)
	if err != nil || !reflect.DeepEqual(read, made) {
		t.Errorf("read a job of %d letters, %v; want the %d of the made one", len(read.Letters), err, len(made.Letters))
	}
	for p := range 3 {
		if _, err := d.store.UpdateJob(t.Context(), "readers", made.ID, func(s *deadletter.JobStatus) error {
			s.Partitions[p] = deadletter.Progress{Done: 3, Resolved: 2, Failed: 1}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.store.CancelJob(t.Context(), "readers", made.ID, "ann", "wrong filter"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.store.CancelJob(t.Context(), "readers", made.ID, "ann", "again"); !errors.Is(err, deadletter.ErrNotAllowed) {
		t.Errorf("cancel of a cancelled job: %v, want ErrNotAllowed", err)
	}
	jobs, err := d.store.Jobs(t.Context(), "readers")
	if err != nil || len(jobs) != 1 {
		t.Fatalf("%d jobs, %v; want 1", len(jobs), err)
	}
	if s := jobs[0]; s.State != deadletter.JobCancelled || s.Total != 20_000 || s.Sum() != (deadletter.Progress{Done: 9, Resolved: 6, Failed: 3}) {
		t.Errorf("status %+v", s)
	}
	if history, err := d.store.JobHistory(t.Context(), "readers", made.ID); err != nil || len(history) != 3+1+3+1 {
		t.Errorf("%d messages about the job, %v", len(history), err)
	}
	if none, err := d.store.JobsSince(t.Context(), "readers", jobs[0].Sequence); err != nil || len(none) != 0 {
		t.Errorf("%d jobs after the last message, %v", len(none), err)
	}
	if _, err := d.store.Job(t.Context(), "readers", "none"); !errors.Is(err, deadletter.ErrNotFound) {
		t.Errorf("an unknown job: %v, want ErrNotFound", err)
	}
}

func TestTrips(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		job  deadletter.Job
		p    deadletter.Progress
		want bool
	}{
		{deadletter.Job{}, deadletter.Progress{Failed: 5}, false},
		{deadletter.Job{Canary: true}, deadletter.Progress{Resolved: 6, Failed: 1}, true},
		{deadletter.Job{Canary: true}, deadletter.Progress{Resolved: 95, Failed: 5}, false},
		{deadletter.Job{Canary: true, StopRatio: 0.5}, deadletter.Progress{Resolved: 6, Failed: 1}, false},
		{deadletter.Job{StopRatio: 0.1}, deadletter.Progress{Resolved: 6, Failed: 1}, true},
		{deadletter.Job{StopRatio: 0.1}, deadletter.Progress{Skipped: 7}, false},
	} {
		if got := c.job.Trips(c.p); got != c.want {
			t.Errorf("%+v with %+v trips: %t", c.job, c.p, got)
		}
	}
}

// ExampleEntry shows a message of DLQCTL.
func ExampleEntry() {
	l := deadletter.Letter{ID: "notify:ORDERS:42", Group: "notify", Sequence: 17, FirstState: deadletter.StateDead, Attempts: 1, Failure: deadletter.Failure{
		Reason: deadletter.ReasonPermanent, Class: "permanent", Error: "the server answered 550", Fingerprint: "1f3a…",
	}}
	e := deadletter.Initial(&l).Next(deadletter.StateDiscarded, deadletter.ActionDiscard, "ann", failedAt)
	e.Why = "the customer has left"
	text, _ := json.MarshalIndent(e, "", "  ")
	fmt.Println(string(text))
	// Output:
	// {
	//   "letter": "notify:ORDERS:42",
	//   "letter_seq": 17,
	//   "state": "discarded",
	//   "before": "dead",
	//   "action": "discard",
	//   "at": "2026-03-01T12:00:00.005Z",
	//   "by": "ann",
	//   "why": "the customer has left",
	//   "attempts": 1,
	//   "retries": 1,
	//   "failure": {
	//     "reason": "permanent",
	//     "class": "permanent",
	//     "error": "the server answered 550",
	//     "fingerprint": "1f3a…"
	//   }
	// }
}
