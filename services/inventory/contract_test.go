package inventory

import (
	"testing"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

func TestHandlesWhatTheTopologySays(t *testing.T) {
	t.Parallel()
	s := newSite(t, eventstest.Start)
	in := s.start(Config{})
	group, _ := s.topology.Group(events.GroupInventory)
	eventstest.CheckHandles(t, group, s.registry, in.handle)
}

// TestPayloadsThatBreakTheirSchemaAreDeadLetters: a negative amount, and a missing field.
func TestPayloadsThatBreakTheirSchemaAreDeadLetters(t *testing.T) {
	t.Parallel()
	s := newSite(t, eventstest.Start)
	in := s.member(Config{})
	group, _ := s.topology.Group(events.GroupInventory)
	subjects := s.topology.Subjects()
	eventstest.CheckParks(t, eventstest.Parking{JS: s.js, Subjects: subjects, Group: group, Subject: subjects.Order, Type: events.TypeOrderPlaced},
		`{"order_id":"o","customer_id":"c1","currency":"GBP","placed_at":"2026-01-02T03:04:05Z","lines":[{"sku":"a","quantity":1}],"total_minor":-5,"request_digest":"d"}`,
		`{"order_id":"o","customer_id":"c1","currency":"GBP","placed_at":"2026-01-02T03:04:05Z","total_minor":5,"request_digest":"d"}`,
	)
	s.awaitLog(in, 0) // nothing was decided
}
