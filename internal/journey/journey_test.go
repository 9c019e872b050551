package journey_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/internal/journey"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
	"github.com/tidemark/tidemark/pkg/events/store"
)

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// TestJourney reads an order whose cancellation is a letter of inventory.
func TestJourney(t *testing.T) {
	t.Parallel()
	top := events.DefaultTopology(0)
	server := eventstest.Start(t)
	server.Apply(top)
	js, subjects := server.JetStream(), top.Subjects()
	registry, err := events.NewRegistry()
	if err != nil {
		t.Fatal(err)
	}
	log := store.New(js, events.StreamOrders, bus.NewEncoder(registry, bus.Telemetry{}), bus.Telemetry{})
	placed, err := events.New("/test", events.TypeOrderPlaced, "o1", time.Now(), events.OrderPlaced{
		OrderID: "o1", CustomerID: "c", Currency: "EUR", Total: 100, Lines: []events.Line{{SKU: "A", Quantity: 1, UnitPrice: 100}}, PlacedAt: time.Now(), RequestDigest: strings.Repeat("a", 64),
	})
	if err != nil {
		t.Fatal(err)
	}
	placed.TraceParent, placed.Version = traceparent, 1
	cancelled, err := events.New("/test", events.TypeOrderCancelled, "o1", time.Now(), events.OrderCancelled{OrderID: "o1", CustomerID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	cancelled.CausationID, cancelled.Version = placed.ID, 2
	cancelled.Extensions = map[string]string{bus.ExtensionAttempt: "3"}
	if _, err := log.Append(t.Context(), subjects.Order("o1"), 0, placed, cancelled); err != nil {
		t.Fatal(err)
	}
	letter := deadletter.Letter{
		ID: deadletter.ID(events.GroupInventory, events.StreamOrders, 2), Group: events.GroupInventory, Partition: subjects.PartitionOf("o1"), Key: "o1", FirstState: deadletter.StateDead,
		Failure: deadletter.Failure{Reason: deadletter.ReasonPermanent, Error: "no such shelf", Instance: "i", TraceParent: traceparent}, Attempts: 4,
		Stream: events.StreamOrders, Subject: subjects.Order("o1"), StreamSeq: 2,
	}
	if _, err := js.PublishMsg(t.Context(), letter.Message(subjects)); err != nil {
		t.Fatal(err)
	}
	reader := journey.New(js, top)
	j, err := reader.Read(t.Context(), "o1")
	if err != nil {
		t.Fatal(err)
	}
	if len(j.Steps) != 3 || j.Trace != "0af7651916cd43dd8448eb211c80319c" {
		t.Fatalf("%+v", j)
	}
	first, second, third := j.Steps[0], j.Steps[1], j.Steps[2]
	if first.What != events.TypeOrderPlaced || first.Stream != events.StreamOrders || first.Sequence != 1 || first.Attempt != 1 || first.Span != "b7ad6b7169203331" {
		t.Errorf("first step %+v", first)
	}
	if second.Attempt != 3 || second.Cause != placed.ID || second.Lag != second.At.Sub(first.At) || second.Partition != subjects.PartitionOf("o1") {
		t.Errorf("second step %+v", second)
	}
	if third.What != "dead letter" || third.Group != events.GroupInventory || third.Stream != events.StreamDLQ || third.Attempt != 4 || third.Detail != "permanent: no such shelf" || third.Trace != j.Trace {
		t.Errorf("third step %+v", third)
	}
	var out bytes.Buffer
	j.Jaeger = journey.Link("http://jaeger:16686/", j.Trace)
	if err := j.Print(&out); err != nil || !strings.Contains(out.String(), "http://jaeger:16686/trace/0af7651916cd43dd8448eb211c80319c") || !strings.Contains(out.String(), "dead letter of inventory") {
		t.Errorf("%v\n%s", err, out.String())
	}
	if _, err := reader.Read(t.Context(), "o2"); !errors.Is(err, journey.ErrNotFound) {
		t.Errorf("an order that is not there: %v", err)
	}
}

func TestTraceID(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{traceparent: "0af7651916cd43dd8448eb211c80319c", "": "", "00-1-2-01": "", "nonsense": ""} {
		if got := journey.TraceID(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if journey.Link("", "x") != "" || journey.Link("http://x", "") != "" {
		t.Error("a link of nothing")
	}
}
