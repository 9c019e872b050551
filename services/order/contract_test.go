package order

import (
	"testing"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

func TestHandlesWhatTheTopologySays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	in := w.start(Config{})
	stock, _ := w.topology.Group(events.GroupOrderStock)
	eventstest.CheckHandles(t, stock, w.registry, in.onStock)
	deadlines, _ := w.topology.Group(events.GroupOrderDeadlines)
	eventstest.CheckHandles(t, deadlines, w.registry, in.onDeadline)
}

// TestPayloadsThatBreakTheirSchemaAreDeadLetters: a negative amount, and a missing field.
func TestPayloadsThatBreakTheirSchemaAreDeadLetters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start(Config{})
	subjects := w.topology.Subjects()
	stock, _ := w.topology.Group(events.GroupOrderStock)
	eventstest.CheckParks(t, eventstest.Parking{JS: w.nats.JetStream(), Subjects: subjects, Group: stock, Subject: subjects.StockOrder, Type: events.TypeStockReserved},
		`{"order_id":"o","order_seq":1,"lines":[{"sku":"a","quantity":-1}]}`,
		`{"order_id":"o","lines":[{"sku":"a","quantity":1}]}`,
	)
	deadlines, _ := w.topology.Group(events.GroupOrderDeadlines)
	eventstest.CheckParks(t, eventstest.Parking{JS: w.nats.JetStream(), Subjects: subjects, Group: deadlines, Subject: subjects.Timeout, Type: events.TypeOrderDeadline},
		`{"order_id":"o","due_at":"soon"}`,
		`{"order_id":"o"}`,
	)
}
