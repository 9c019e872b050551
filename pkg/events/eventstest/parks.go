package eventstest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
)

// Parking is what [CheckParks] needs to know of a running group.
type Parking struct {
	JS       jetstream.JetStream
	Subjects events.Subjects
	Group    events.Group
	Subject  func(key string) string // where events of a key are stored
	Type     string
}

// CheckParks stores payloads that break the schema of their type, each under a key of its own, as a producer does that does not publish with package bus. It holds the group, which must be
// running, to making each a dead letter at once: for the reason [deadletter.ReasonSchema], and before its handler was called.
func CheckParks(tb testing.TB, p Parking, payloads ...string) {
	tb.Helper()
	for i, data := range payloads {
		key := fmt.Sprintf("foreign-%d", i)
		header := nats.Header{
			"ce-specversion": {"1.0"}, "ce-id": {events.NewID()}, "ce-source": {"/foreign"}, "ce-type": {p.Type}, "ce-subject": {key}, "ce-partitionkey": {key},
		}
		if _, err := p.JS.PublishMsg(context.Background(), &nats.Msg{Subject: p.Subject(key), Header: header, Data: []byte(data)}); err != nil {
			tb.Fatal(err)
		}
		l := awaitLetter(tb, p, key)
		if l.Failure.Reason != deadletter.ReasonSchema || l.Attempts != 0 || l.Current.State != deadletter.StateDead {
			tb.Errorf("group %s parked %s as %s after %d attempts in the state %s, want the reason schema, 0 attempts, and that it is dead: %s",
				p.Group.Name, data, l.Failure.Reason, l.Attempts, l.Current.State, l.Failure.Error)
		}
	}
}

func awaitLetter(tb testing.TB, p Parking, key string) (found deadletter.Letter) {
	tb.Helper()
	store := deadletter.New(p.JS, p.Subjects)
	Eventually(tb, 30*time.Second, fmt.Sprintf("group %s has a dead letter of %s", p.Group.Name, key), func() bool {
		for l, err := range store.Letters(context.Background(), deadletter.Filter{Group: p.Group.Name}) {
			if err == nil && l.Key == key {
				found = l
				return true
			}
		}
		return false
	})
	return found
}
