package bus_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
)

const (
	goodOrder     = `{"order_id":"o","customer_id":"c","currency":"GBP","placed_at":"2026-01-02T03:04:05Z","lines":[{"sku":"a","quantity":1,"unit_price_minor":5}],"total_minor":5,"request_digest":"d"}`
	negativeOrder = `{"order_id":"o","customer_id":"c","currency":"GBP","placed_at":"2026-01-02T03:04:05Z","lines":[{"sku":"a","quantity":1,"unit_price_minor":5}],"total_minor":-5,"request_digest":"d"}`
	lineless      = `{"order_id":"o","customer_id":"c","currency":"GBP","placed_at":"2026-01-02T03:04:05Z","total_minor":5,"request_digest":"d"}`
)

// storeForeign stores an order as a producer does that knows CloudEvents and not this package.
func (f *fixture) storeForeign(key, data string) {
	f.Helper()
	f.store(&nats.Msg{Subject: f.subjects.Order(key), Data: []byte(data), Header: nats.Header{
		"ce-specversion": {"1.0"}, "ce-id": {key}, "ce-source": {"/foreign"}, "ce-type": {events.TypeOrderPlaced}, "ce-partitionkey": {key},
	}})
}

// TestPayloadsAreChecked: what a foreign producer stored against the catalogue's schema is a dead letter at once. The handler never sees it, and other keys flow.
func TestPayloadsAreChecked(t *testing.T) {
	t.Parallel()
	for _, unchecked := range []bool{false, true} {
		t.Run(fmt.Sprintf("unchecked %t", unchecked), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, 1, single)
			deps := f.deps(f.js)
			deps.Encoder = bus.NewEncoder(registry(t), deps.Telemetry)
			var mu sync.Mutex
			var handled []string
			f.joinOn(bus.GroupConfig{Unchecked: unchecked, Handler: func(_ context.Context, d bus.Delivery) error {
				mu.Lock()
				defer mu.Unlock()
				handled = append(handled, d.Event.Key())
				return nil
			}}, deps)
			f.storeForeign("negative", negativeOrder)
			f.storeForeign("lineless", lineless)
			f.storeForeign("torn", goodOrder[:40])
			f.storeForeign("good", goodOrder)
			f.settled(f.group)
			seen := func() []string {
				mu.Lock()
				defer mu.Unlock()
				slices.Sort(handled)
				return slices.Clone(handled)
			}
			if unchecked {
				f.wantLetters()
				if got := seen(); len(got) != 4 {
					t.Errorf("handled %v, want all four", got)
				}
				return
			}
			letters := f.letters()
			got := describe(letters)
			slices.Sort(got) // keys are parked side by side
			if want := []string{"lineless 0 dead schema", "negative 0 dead schema", "torn 0 dead undecodable"}; !slices.Equal(got, want) {
				t.Fatalf("dead letters %q, want %q", got, want)
			}
			for _, l := range letters {
				if field := map[string]string{"negative": "/total_minor", "lineless": "'lines'"}[l.Key]; !strings.Contains(l.Failure.Error, field) || l.Attempts != 0 {
					t.Errorf("%s: %q after %d attempts; want %q named, and no attempt", l.Key, l.Failure.Error, l.Attempts, field)
				}
			}
			if got := seen(); !slices.Equal(got, []string{"good"}) {
				t.Errorf("handled %v, want the good one", got)
			}
			// A replay of what was not mended does not reach the handler either; what was mended does.
			for _, l := range letters {
				if l.Key == "negative" {
					if _, err := f.desk().Edit(t.Context(), registry(t), l.ID, []byte(goodOrder), "ann", "the sign"); err != nil {
						t.Fatal(err)
					}
				}
			}
			if sum := f.done(f.job(deadletter.JobReplay)).Sum(); sum.Resolved != 1 || sum.Failed != 2 {
				t.Errorf("replay: %+v, want 1 resolved and 2 failed", sum)
			}
			if got := seen(); !slices.Equal(got, []string{"good", "negative"}) {
				t.Errorf("handled %v after the replay, want the good and the mended one", got)
			}
		})
	}
}
