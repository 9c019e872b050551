package store_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"testing/fstest"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// changed opens the ledger with the catalogue of a later release: amounts are called value now.
func (s setup) changed(t *testing.T) *store.Store {
	t.Helper()
	const newest = "test.amount.added.v2"
	registry, err := events.NewRegistry(fstest.MapFS{
		added + ".json":  {Data: []byte(`{"type":"object"}`)},
		newest + ".json": {Data: []byte(`{"type":"object","required":["value"],"properties":{"value":{"type":"integer"}}}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	registry, err = registry.Evolving(events.Upcast{From: added, To: newest, Payload: events.Fields(func(fields map[string]json.RawMessage) error {
		fields["value"] = fields["amount"]
		delete(fields, "amount")
		return nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	return store.New(s.JetStream(), ledger, bus.NewEncoder(registry, noTelemetry), noTelemetry)
}

// However an event is read, it is read in its newest version, and all but type, schema and payload is as it was stored.
func TestEveryReadUpcasts(t *testing.T) {
	t.Parallel()
	set := start(t, eventstest.Start)
	old := set.open(t)
	mustAppend(t, old, "ledger.a", 0, amount(7))
	s, ctx := set.changed(t), testContext(t)
	want := mustLoad(t, old, "ledger.a")[0]
	want.Type, want.DataSchema, want.Data = "test.amount.added.v2", events.SchemaURI("test.amount.added.v2"), []byte(`{"value":7}`)
	stop := errors.New("stop")
	for how, read := range map[string]func() (store.Recorded, error){
		"load": func() (store.Recorded, error) { return mustLoad(t, s, "ledger.a")[0], nil },
		"last": func() (store.Recorded, error) { return s.Last(ctx, "ledger.a") },
		"get":  func() (store.Recorded, error) { return s.Get(ctx, 1) },
		"read": func() (got store.Recorded, err error) {
			_, err = s.Read(ctx, 1, func(r store.Recorded) error { got = r; return nil })
			return got, err
		},
		"follow": func() (got store.Recorded, err error) {
			if err = s.Follow(ctx, 1, func(r store.Recorded) error { got = r; return stop }, nil); errors.Is(err, stop) {
				err = nil
			}
			return got, err
		},
	} {
		if got, err := read(); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v\nwant %+v", how, got, err, want)
		}
	}
	a := store.Aggregate[int64]{Store: s, Evolve: func(n int64, r store.Recorded) (int64, error) {
		v, err := events.Payload[struct{ Value int64 }](&r.Event)
		return n + v.Value, err
	}}
	newer := amount(0)
	newer.Type, newer.Data = "test.amount.added.v2", []byte(`{"value":5}`)
	state, err := a.Execute(ctx, "ledger.a", adding(newer))
	if loaded, err2 := a.Load(ctx, "ledger.a"); err != nil || err2 != nil || state.Value != 12 || loaded != state {
		t.Errorf("old and new together: %+v, %v, loaded %+v, %v", state, err, loaded, err2)
	}
}

// An aggregate's own fold refuses what it does not know, by name and place. Reading it is no fault: others may pass it over.
func TestUnknownEventIsRefusedByTheFold(t *testing.T) {
	t.Parallel()
	set := start(t, eventstest.Start)
	s, ctx := set.open(t), testContext(t)
	mustAppend(t, s, "ledger.b", 0, amount(1))
	mustAppend(t, s, "ledger.a", 0, amount(1))
	newer := amount(2)
	newer.Type, newer.Data = "test.amount.added.v2", []byte(`{"value":2}`)
	mustAppend(t, set.changed(t), "ledger.a", 2, newer)
	a := store.Aggregate[int64]{Store: s, Evolve: func(n int64, r store.Recorded) (int64, error) {
		if r.Type != added {
			return n, store.Unknown(r)
		}
		return n + 1, nil
	}}
	_, err1 := a.Load(ctx, "ledger.a")
	_, err2 := a.Execute(ctx, "ledger.a", adding(amount(1)))
	for _, err := range []error{err1, err2} {
		var unknown *store.UnknownEventError
		want := store.UnknownEventError{Type: newer.Type, Stream: ledger, Subject: "ledger.a", Sequence: 3}
		if !errors.As(err, &unknown) || *unknown != want || !errors.Is(err, events.ErrUnknownType) {
			t.Errorf("%v", err)
		}
	}
	if n := len(mustLoad(t, s, "ledger.a")); n != 2 {
		t.Errorf("%d events are read, want 2", n)
	}
}
