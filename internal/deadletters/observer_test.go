package deadletters

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
)

// metrics are the values by name and attributes.
func metrics(t *testing.T, reader *sdk.ManualReader) map[string]float64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &all); err != nil {
		t.Fatal(err)
	}
	out := make(map[string]float64)
	note := func(name string, a attribute.Set, v float64) {
		out[name+a.Encoded(attribute.DefaultEncoder())] = v
		for _, forbidden := range []attribute.Key{"id", "key", "fingerprint", "letter"} {
			if a.HasValue(forbidden) {
				t.Errorf("%s has the attribute %s, of which there is no end", name, forbidden)
			}
		}
	}
	for _, s := range all.ScopeMetrics {
		for _, m := range s.Metrics {
			switch d := m.Data.(type) {
			case metricdata.Gauge[int64]:
				for _, p := range d.DataPoints {
					note(m.Name+" ", p.Attributes, float64(p.Value))
				}
			case metricdata.Gauge[float64]:
				for _, p := range d.DataPoints {
					note(m.Name+" ", p.Attributes, p.Value)
				}
			case metricdata.Sum[int64]:
				for _, p := range d.DataPoints {
					note(m.Name+" ", p.Attributes, float64(p.Value))
				}
			default:
				t.Errorf("%s is a %T", m.Name, d)
			}
		}
	}
	return out
}

func TestObserver(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	reader := sdk.NewManualReader()
	observer, err := NewObserver(o.Desk, ObserverConfig{}, bus.Telemetry{Meter: sdk.NewMeterProvider(sdk.WithReader(reader))})
	if err != nil {
		t.Fatal(err)
	}
	look := func() map[string]float64 {
		if err := observer.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		return metrics(t, reader)
	}
	want := func(got map[string]float64, name string, v float64) {
		t.Helper()
		if g, ok := got[name]; !ok || g != v {
			t.Errorf("%s is %v (there: %t), want %v\n%v", name, g, ok, v, got)
		}
	}
	old := o.park(events.GroupInventory, "o1")
	o.park(events.GroupInventory, "o1", behind)
	observer.now = func() time.Time { return old.ParkedAt.Add(time.Hour) }
	got := look()
	want(got, "tidemark.dlq.letters group=inventory,reason=exhausted,state=dead", 1)
	want(got, "tidemark.dlq.letters group=inventory,reason=predecessor,state=blocked", 1)
	want(got, "tidemark.dlq.oldest_age group=inventory,reason=exhausted,state=dead", 3600)
	want(got, "tidemark.dlq.blocked_keys group=inventory", 1)
	want(got, "tidemark.dlq.blocked_keys group=notify", 0)
	want(got, "tidemark.dlq.causes group=inventory", 1)
	want(got, "tidemark.dlq.cap_used of=stream", 2.0/100_000)
	want(got, "tidemark.dlq.cap_used of=key", 2.0/1000)
	want(got, "tidemark.dlq.parked ", 2)
	if _, counted := got["tidemark.dlq.new_causes group=inventory,reason=exhausted"]; counted {
		t.Error("what was there when the process started counts as new")
	}

	o.park(events.GroupNotify, "o1", because(deadletter.ReasonPermanent, "f2", "550"))
	o.park(events.GroupNotify, "o2", because(deadletter.ReasonPermanent, "f2", "550"))
	got = look()
	want(got, "tidemark.dlq.new_causes group=notify,reason=permanent", 1)
	want(got, "tidemark.dlq.letters group=notify,reason=permanent,state=dead", 2)

	o.owner(old, deadletter.StateDiscarded, deadletter.ActionDiscard)
	got = look()
	if n, there := got["tidemark.dlq.letters group=inventory,reason=exhausted,state=dead"]; there {
		t.Errorf("a letter that is gone is counted: %v", n)
	}
	want(got, "tidemark.dlq.parked ", 4)
}

// What has not changed is not read again: ten thousand letters cost two questions.
func TestObserverReadsOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	observer, err := NewObserver(o.Desk, ObserverConfig{Every: time.Millisecond}, bus.Telemetry{})
	if err != nil {
		t.Fatal(err)
	}
	o.park(events.GroupNotify, "o1")
	if err := observer.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := observer.last()
	if err := observer.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if observer.last() != first {
		t.Error("the letters were read again")
	}
	if _, err := o.Note(t.Context(), deadletter.ID(events.GroupNotify, events.StreamOrders, 1), "ann", "n"); err != nil {
		t.Fatal(err)
	}
	if err := observer.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if observer.last() == first {
		t.Error("a change was not seen")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- observer.Run(ctx) }()
	cancel()
	if err := <-done; err != nil {
		t.Error(fmt.Errorf("run: %w", err))
	}
}
