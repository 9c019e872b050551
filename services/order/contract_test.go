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
