package events

import (
	"slices"
	"strconv"
	"strings"
)

// Origins says of a message in a stream that copies others which of them it came from, and of which of its partitions: the subject tells both.
type Origins struct {
	// Streams are the copied streams that have partitions, in the order of the topology.
	Streams []string

	prefixes []string // of their subjects: all before the partition
}

// Origins returns what the stream's sources are known by. Sources whose subjects name no partition, such as heartbeats, are left out.
func (t *Topology) Origins(stream string) Origins {
	var o Origins
	s, _ := t.Stream(stream)
	for _, source := range s.Sources {
		from, _ := t.Stream(source.Stream)
		if from.Partitions == 0 || len(from.Subjects) == 0 {
			continue
		}
		subject := from.Subjects[0]
		if from.TransformTo != "" {
			subject = from.TransformTo
		}
		o.Streams = append(o.Streams, from.Name)
		o.prefixes = append(o.prefixes, subject[:strings.IndexAny(subject, "*{")])
	}
	return o
}

// Of is the place of the message's stream in Streams, and the partition. ok is false for a message of none of them. A subject that was published past the topology,
// without a number where the partition belongs, counts as one of partition 0.
func (o *Origins) Of(subject string) (stream, partition int, ok bool) {
	for i, prefix := range o.prefixes {
		rest, found := strings.CutPrefix(subject, prefix)
		if !found {
			continue
		}
		token, _, _ := strings.Cut(rest, ".")
		p, err := strconv.ParseUint(token, 10, 16)
		if err != nil {
			p = 0
		}
		return i, int(p), true
	}
	return 0, 0, false
}

// Holding are the places in Streams of those that keep one of the event types, by the topology's channels.
func (o *Origins) Holding(t *Topology, types []string) []int {
	var places []int
	for i, name := range o.Streams {
		if slices.ContainsFunc(t.TypesOf(name), func(held string) bool { return slices.Contains(types, held) }) {
			places = append(places, i)
		}
	}
	return places
}
