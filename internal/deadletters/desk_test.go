package deadletters

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

func TestMain(m *testing.M) {
	// The broker's, of a stream with sources: it ends some seconds after the broker.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*stream).trySetupSourceConsumer.func3"))
}

// office is a broker with the streams of dead letters and a desk on it. The test parks letters as an owner does, and writes what an owner would.
type office struct {
	*testing.T
	*Desk
	js       jetstream.JetStream
	subjects events.Subjects
	n        uint64
}

func newOffice(t *testing.T) *office {
	t.Helper()
	topology := events.DefaultTopology(4)
	made := events.Topology{Partitions: 4}
	for _, name := range []string{events.StreamOrders, events.StreamDLQ, events.StreamDLQCtl} {
		s, _ := topology.Stream(name)
		made.Streams = append(made.Streams, s)
	}
	server := eventstest.Start(t)
	server.Apply(made)
	registry, err := events.NewRegistry()
	if err != nil {
		t.Fatal(err)
	}
	o := &office{T: t, js: server.JetStream(), subjects: topology.Subjects()}
	if o.Desk, err = New(Deps{JS: o.js, Topology: topology, Registry: registry}); err != nil {
		t.Fatal(err)
	}
	return o
}

var failedAt = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func because(reason deadletter.Reason, fingerprint, text string) func(*deadletter.Letter) {
	return func(l *deadletter.Letter) {
		l.Failure.Reason, l.Failure.Fingerprint, l.Failure.Error = reason, fingerprint, text
	}
}

func behind(l *deadletter.Letter) {
	l.FirstState, l.Failure = deadletter.StateBlocked, deadletter.Failure{Reason: deadletter.ReasonPredecessor}
}

// park stores the letter of a cancelled order.
func (o *office) park(group, key string, change ...func(*deadletter.Letter)) deadletter.Letter {
	o.Helper()
	ev, err := events.New("/test", events.TypeOrderCancelled, key, failedAt, events.OrderCancelled{OrderID: key, CustomerID: "c"})
	if err != nil {
		o.Fatal(err)
	}
	header, data, err := events.Encode(&ev)
	if err != nil {
		o.Fatal(err)
	}
	o.n++
	l := deadletter.Letter{
		ID: deadletter.ID(group, events.StreamOrders, o.n), Group: group, Partition: o.subjects.PartitionOf(key), Key: key,
		FirstState: deadletter.StateDead, Attempts: 4, FirstFailedAt: failedAt, LastFailedAt: failedAt.Add(time.Second),
		Failure: deadletter.Failure{Reason: deadletter.ReasonExhausted, Class: "transient", Error: "no room", Fingerprint: "f1", Handler: "h", Instance: "i"},
		Stream:  events.StreamOrders, Subject: o.subjects.Order(key), StreamSeq: o.n, StoredAt: failedAt.Add(-time.Hour),
		EventID: ev.ID, EventType: ev.Type, Header: header, Data: data,
	}
	for _, c := range change {
		c(&l)
	}
	ack, err := o.js.PublishMsg(o.Context(), l.Message(o.subjects))
	if err != nil {
		o.Fatal(err)
	}
	l, err = o.store.At(o.Context(), ack.Sequence)
	if err != nil {
		o.Fatal(err)
	}
	return l
}

// owner does what the partition's owner does with a letter.
func (o *office) owner(l deadletter.Letter, state deadletter.State, action deadletter.Action) {
	o.Helper()
	now, err := o.store.At(o.Context(), l.Sequence)
	if err != nil {
		o.Fatal(err)
	}
	e := now.Current.Next(state, action, l.Group+"@i", time.Now())
	if action == deadletter.ActionFail {
		e.Failed(*now.Current.Failure, time.Now())
		e.Depth++
	}
	if now.Current, err = o.store.Write(o.Context(), e); err != nil {
		o.Fatal(err)
	}
	if state.Closed() {
		if err := o.store.Remove(o.Context(), &now); err != nil {
			o.Fatal(err)
		}
	}
}

func (o *office) ids(q Query) []string {
	o.Helper()
	f, err := q.Filter(o.topology, time.Now())
	if err != nil {
		o.Fatal(err)
	}
	out := []string{}
	for l, err := range o.Letters(o.Context(), f) {
		if err != nil {
			o.Fatal(err)
		}
		out = append(out, l.ID)
	}
	return out
}

func TestFilters(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	a := o.park(events.GroupNotify, "o1")
	b := o.park(events.GroupNotify, "o2", because(deadletter.ReasonPermanent, "f2", "550"))
	c := o.park(events.GroupInventory, "o1", func(l *deadletter.Letter) { l.FirstState, l.NextAt = deadletter.StateRetrying, failedAt })
	for name, tc := range map[string]struct {
		q    Query
		want []string
	}{
		"all":         {Query{}, []string{a.ID, b.ID, c.ID}},
		"group":       {Query{Group: events.GroupNotify}, []string{a.ID, b.ID}},
		"key":         {Query{Key: "o1"}, []string{a.ID, c.ID}},
		"reason":      {Query{Reason: "permanent"}, []string{b.ID}},
		"fingerprint": {Query{Fingerprint: "f1"}, []string{a.ID, c.ID}},
		"state":       {Query{State: "retrying"}, []string{c.ID}},
		"type":        {Query{EventType: events.TypeOrderPlaced}, nil},
		"since":       {Query{Since: "1h"}, []string{a.ID, b.ID, c.ID}},
		"until":       {Query{Until: "1h"}, nil},
		"a time":      {Query{Since: "2026-01-01T00:00:00Z", Group: events.GroupInventory}, []string{c.ID}},
	} {
		if got := o.ids(tc.q); fmt.Sprint(got) != fmt.Sprint(append([]string{}, tc.want...)) {
			t.Errorf("%s: got %v, want %v", name, got, tc.want)
		}
	}
}
