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
