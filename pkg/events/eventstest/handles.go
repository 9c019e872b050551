package eventstest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

// CheckHandles holds a group's handler to what the topology declares of it: of all event types it must answer those that the group handles, and no
// other. It hands the handler one event of each type with a payload that can't be read: who handles the type says so by an error that
// wraps [events.ErrUndecodable] or [events.ErrSchema], who does not passes over it.
func CheckHandles(tb testing.TB, group events.Group, registry *events.Registry, handler bus.Handler) {
	tb.Helper()
	for _, eventType := range registry.Types() {
		e := events.Event{ID: events.NewID(), Source: "/test", Type: eventType, Subject: "1", Time: time.Unix(1, 0).UTC(), Data: []byte(`[]`)}
		err := handler(context.Background(), bus.Delivery{Event: e, Stream: group.Stream, Sequence: 1})
		switch declared, handled := slices.Contains(group.Handles, eventType), errors.Is(err, events.ErrUndecodable) || errors.Is(err, events.ErrSchema); {
		case declared && !handled:
			tb.Errorf("group %s is declared to handle %s, and its handler passes over it (error %v)", group.Name, eventType, err)
		case !declared && handled:
			tb.Errorf("group %s handles %s, and the topology does not say so", group.Name, eventType)
		case !declared && err != nil:
			tb.Errorf("group %s fails on %s instead of passing over it: %v", group.Name, eventType, err)
		}
	}
}
