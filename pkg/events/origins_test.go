package events_test

import (
	"slices"
	"testing"

	"github.com/tidemark/tidemark/pkg/events"
)

func TestOriginsOfTheTimeline(t *testing.T) {
	t.Parallel()
	topology := events.DefaultTopology(8)
	subjects, origins := topology.Subjects(), topology.Origins(events.StreamTimeline)
	if want := []string{events.StreamOrders, events.StreamClicks}; !slices.Equal(origins.Streams, want) {
		t.Fatalf("streams %v, want %v", origins.Streams, want)
	}
	for subject, want := range map[string][2]int{
		subjects.Order("536365"): {0, subjects.PartitionOf("536365")}, "clicks.7.ann": {1, 7}, "orders.nonsense.1": {0, 0}, "orders.-1.1": {0, 0},
	} {
		stream, partition, ok := origins.Of(subject)
		if !ok || stream != want[0] || partition != want[1] {
			t.Errorf("%s: stream %d, partition %d, %t; want %v", subject, stream, partition, ok, want)
		}
	}
	for _, subject := range []string{events.SubjectTick, "stock.main.3.1", "", "ordersx"} {
		if _, _, ok := origins.Of(subject); ok {
			t.Errorf("%q has an origin", subject)
		}
	}
	for _, c := range []struct {
		types []string
		want  []int
	}{
		{[]string{events.TypeOrderPlaced}, []int{0}}, {[]string{events.TypePageClicked}, []int{1}},
		{[]string{events.TypePageClicked, events.TypeOrderCancelled}, []int{0, 1}}, {[]string{events.TypeStockReceived}, nil},
	} {
		if got := origins.Holding(&topology, c.types); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.types, got, c.want)
		}
	}
}
