package eventstest_test

import (
	"testing"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

func TestTopologyAppliesTwice(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) *eventstest.Server{"R1": eventstest.Start, "R3": eventstest.StartCluster} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			s.Apply(events.DefaultTopology(2))
			s.Apply(events.DefaultTopology(2))
		})
	}
}
