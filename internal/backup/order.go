package backup

import (
	"fmt"
	"slices"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

// item is one stream of a backup. Of most only the beginning of the snapshot matters: what is stored in them stays, so the broker can send it later.
type item struct {
	name string // of the stream
	// whole: messages of this stream are replaced or deleted while others are stored, so a snapshot that lost some on its way is taken again.
	whole bool
	// held: it is read to its end while all groups stand still.
	held bool
	// stills is the group that must stand still until the stream is read to its end, since it replaces what it wrote there.
	stills string
}

// items are the streams of a backup, in the order in which their snapshots begin. What is computed from a log comes before the log, so that nothing in the backup answers an event that is
// not in it. See the package comment; a test compares the list with the topology.
func items(t *events.Topology) ([]item, error) {
	list := []item{
		{name: events.StreamDLQ, whole: true, held: true}, // before what a letter's replay writes
		{name: events.StreamDLQCtl},
		{name: events.StreamWindows, whole: true, stills: events.GroupAnalytics}, // a commit names a sequence of TIMELINE
		{name: events.StreamLate},
		{name: events.StreamAlerts},
		{name: events.StreamTimeline}, // before ORDERS, CLICKS and TICKS: it goes on behind the last message that it has of each
		{name: events.StreamNotices},
		{name: events.StreamStock},
		{name: events.StreamOrders},
		// From here on the groups may work again. An order's address and deadline are stored before it, so they are here if it is.
		{name: events.StreamClicks},
		{name: events.StreamTicks},
		{name: events.StreamTimers},
		{name: bus.BucketStream(events.Bucket{Name: events.BucketContacts}), whole: true},
	}
	declared := make([]string, 0, len(t.Streams)+len(t.Buckets))
	for _, s := range t.Streams {
		declared = append(declared, s.Name)
	}
	for _, b := range t.Buckets {
		if !b.Cache {
			declared = append(declared, bus.BucketStream(b))
		}
	}
	out := slices.DeleteFunc(list, func(i item) bool { return !slices.Contains(declared, i.name) })
	if len(out) != len(declared) {
		return nil, fmt.Errorf("backup: the topology has %d streams, and the order is known of %d", len(declared), len(out))
	}
	return out, nil
}

// lastHeld is the last of the streams whose snapshot must begin while the groups stand still.
const lastHeld = events.StreamOrders
