package analytics

import (
	"context"
	"testing"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

func TestHandlesWhatTheTopologySays(t *testing.T) {
	t.Parallel()
	topology := events.DefaultTopology(0)
	group, _ := topology.Group(events.GroupAnalytics)
	registry, err := events.NewRegistry()
	if err != nil {
		t.Fatal(err)
	}
	p := newPlan(Config{}.withDefaults(), &topology, registry)
	eventstest.CheckHandles(t, group, registry, func(_ context.Context, d bus.Delivery) error {
		_, err := p.check(&d.Event)
		return err
	})
}
