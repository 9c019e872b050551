package analytics

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

// What this instance has put into the index itself is passed over once, unless somebody watches: a reader of changes is told of it as of any other.
func TestFollowerPassesOverItsOwnInstancesResults(t *testing.T) {
	t.Parallel()
	p := planOf("q")
	x, feed := newIndex(p), newFeed()
	f := &follower{index: x, feed: feed, live: true, log: testLog(t)}
	r := result{Start: 0, End: 1000, Count: 1, Value: 7, Revision: 1, Timing: "on_time", Sequence: 5}
	ev, err := r.event("q")
	if err != nil {
		t.Fatal(err)
	}
	header, data, err := events.Encode(&ev)
	if err != nil {
		t.Fatal(err)
	}
	header[nats.MsgIdHdr] = []string{bus.MessageID(&ev)}
	m := &jetstream.RawStreamMsg{Sequence: 9, Header: nats.Header(header), Data: data}
	take := func(noted bool) (rows int) {
		t.Helper()
		if noted {
			x.own.note(ev.ID)
		}
		if err := f.take(m); err != nil {
			t.Fatal(err)
		}
		return len(x.list("q", everything(10)))
	}
	if n := take(true); n != 0 {
		t.Errorf("%d rows: its own result was read", n)
	}
	watching := feed.join("", nil)
	if take(true); len(watching.room) != 1 {
		t.Error("a reader of changes was not told of its own result")
	}
	feed.leave(watching)
	x.series["q"].rows = nil
	if n := take(false); n != 1 {
		t.Errorf("%d rows: the result was not read though nothing says that the index has it", n)
	}
	for range mostOwn + 1 {
		x.own.note(ev.ID + string(rune(len(x.own.ids))))
	}
	if n := len(x.own.ids); n > mostOwn {
		t.Errorf("%d ids are noted", n)
	}
}
