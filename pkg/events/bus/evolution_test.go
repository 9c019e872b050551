package bus_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/nats-io/nats.go"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
)

// A group reads every version of a type as the newest. What is newer than its catalogue, or can't be upcast, is parked as it was stored, with the fields that
// nobody knows: a later release replays it.
func TestGroupReadsTheNewestVersion(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1, single)
	anything := &fstest.MapFile{Data: []byte(`{"type":"object"}`)}
	registry, err := events.NewRegistry(fstest.MapFS{"test.thing.made.v1.json": anything, "test.thing.made.v2.json": anything})
	if err != nil {
		t.Fatal(err)
	}
	registry, err = registry.Evolving(events.Upcast{From: "test.thing.made.v1", To: "test.thing.made.v2", Payload: events.Fields(
		func(fields map[string]json.RawMessage) error {
			if fields["old"] == nil {
				return errors.New("old: required, is missing")
			}
			fields["new"] = fields["old"]
			delete(fields, "old")
			return nil
		})})
	if err != nil {
		t.Fatal(err)
	}
	deps := f.deps(f.js)
	deps.Encoder = bus.NewEncoder(registry, deps.Telemetry)

	var mu sync.Mutex
	got := make(map[string]string) // payloads by key
	f.joinOn(bus.GroupConfig{Handler: func(_ context.Context, d bus.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		got[d.Event.Key()] = d.Event.Type + " " + string(d.Event.Data)
		return nil
	}}, deps)
	stored := map[string][]byte{
		"one": []byte(`{"old":1,"unknown":"stays"}`), "two": []byte(`{"new":2}`),
		"three": []byte(`{"newest": 3, "unknown": 1.50}`), "broken": []byte(`{"odd": 1.50}`), "other": []byte(`{}`),
	}
	types := map[string]string{
		"one": "test.thing.made.v1", "two": "test.thing.made.v2", "three": "test.thing.made.v3", "broken": "test.thing.made.v1", "other": "test.thing.sold.v1",
	}
	for key, data := range stored {
		h := nats.Header{"ce-specversion": {"1.0"}, "ce-id": {key}, "ce-source": {"/test"}, "ce-type": {types[key]}, "ce-partitionkey": {key}}
		f.store(&nats.Msg{Subject: f.subjects.Order(key), Header: h, Data: data})
	}
	f.settled(f.group)

	mu.Lock()
	defer mu.Unlock()
	want := map[string]string{
		"one": `test.thing.made.v2 {"new":1,"unknown":"stays"}`, "two": `test.thing.made.v2 {"new":2}`,
		"other": `test.thing.sold.v1 {}`, // of no type that is known: the handler's business
	}
	if len(got) != len(want) {
		t.Errorf("handled: %v", got)
	}
	for key, w := range want {
		if got[key] != w {
			t.Errorf("%s is handled as %s, want %s", key, got[key], w)
		}
	}
	reasons := map[string]deadletter.Reason{"three": deadletter.ReasonUnsupportedVersion, "broken": deadletter.ReasonUndecodable}
	letters := f.lettersStored()
	if len(letters) != len(reasons) {
		t.Errorf("%d dead letters, want %d", len(letters), len(reasons))
	}
	for _, l := range letters {
		key := l.Header.Get(deadletter.HeaderKey)
		if l.Header.Get(deadletter.HeaderReason) != string(reasons[key]) || l.Header.Get("ce-type") != types[key] || !bytes.Equal(l.Data, stored[key]) {
			t.Errorf("%s is parked as %v %s", key, l.Header, l.Data)
		}
	}
}
