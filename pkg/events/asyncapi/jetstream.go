package asyncapi

import (
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

// Streams are the settings of all streams by name: they belong to several channels, or, where a stream only copies others, to none.
type Streams struct {
	Partitions int               `json:"partitions"`
	Streams    map[string]Stream `json:"streams"`
}

// Stream is what a broker holds of one stream. It has the same form for a declared stream and for a running one, so that the two can be compared.
type Stream struct {
	Description       string   `json:"description"`
	Subjects          []string `json:"subjects,omitempty"`
	Copies            []Source `json:"copies,omitempty"`
	StoredAs          string   `json:"stored_as,omitempty"` // where the server adds the partition
	Storage           string   `json:"storage"`
	Retention         string   `json:"retention"`
	Discard           string   `json:"discard"`
	MaxAge            string   `json:"max_age,omitempty"`
	MaxBytes          int64    `json:"max_bytes,omitempty"`
	MaxMsgs           int64    `json:"max_msgs,omitempty"`
	MaxMsgsPerSubject int64    `json:"max_msgs_per_subject,omitempty"`
	DuplicateWindow   string   `json:"duplicate_window,omitempty"`
	DenyDelete        bool     `json:"deny_delete,omitempty"`
	DenyPurge         bool     `json:"deny_purge,omitempty"`
	AtomicBatches     bool     `json:"atomic_batches,omitempty"`
	Schedules         bool     `json:"schedules,omitempty"`
	MessageTTL        bool     `json:"message_ttl,omitempty"`
}

// Source is a stream that another one copies.
type Source struct {
	Stream string `json:"stream"`
	Filter string `json:"filter,omitempty"`
}

// ChannelStream says where a channel's messages are kept.
type ChannelStream struct {
	Stream   string   `json:"stream"`
	Subject  string   `json:"subject"`             // the filter that matches them
	StoredAs string   `json:"stored_as,omitempty"` // where the server adds the partition
	CopiedTo []string `json:"copied_to,omitempty"`
}

// ConsumerGroup is what a broker holds of one group: the settings of its consumers, which are the same but for the partition.
type ConsumerGroup struct {
	Stream     string `json:"stream"`
	Group      string `json:"group"`
	Consumer   string `json:"consumer"` // one a partition; "{p}" stands for it
	Filter     string `json:"filter,omitempty"`
	Partitions int    `json:"partitions"`
	OneActive  bool   `json:"one_active_member,omitempty"`
	ConsumerSettings
}

// ConsumerSettings are those of one consumer. They have the same form for a declared consumer and for a running one.
type ConsumerSettings struct {
	AckPolicy      string `json:"ack_policy"`
	AckWait        string `json:"ack_wait"`
	MaxAckPending  int    `json:"max_ack_pending"`
	MaxDeliver     int    `json:"max_deliver"` // -1: for ever
	PriorityPolicy string `json:"priority_policy"`
	PinnedTTL      string `json:"pinned_ttl"`
}

func streamsOf(t *events.Topology) Streams {
	s := Streams{Partitions: t.Partitions, Streams: make(map[string]Stream, len(t.Streams))}
	for _, declared := range t.Streams {
		s.Streams[declared.Name] = DescribeStream(bus.StreamConfig(declared, 1))
	}
	return s
}

// DescribeStream says what a stream's configuration amounts to, declared or read back from a broker.
func DescribeStream(c jetstream.StreamConfig) Stream {
	s := Stream{
		Description: c.Description, Subjects: c.Subjects, Storage: wire(c.Storage), Retention: wire(c.Retention), Discard: wire(c.Discard),
		MaxAge: duration(c.MaxAge), MaxBytes: limit(c.MaxBytes), MaxMsgs: limit(c.MaxMsgs), MaxMsgsPerSubject: limit(c.MaxMsgsPerSubject),
		DuplicateWindow: duration(c.Duplicates), DenyDelete: c.DenyDelete, DenyPurge: c.DenyPurge,
		AtomicBatches: c.AllowAtomicPublish, Schedules: c.AllowMsgSchedules, MessageTTL: c.AllowMsgTTL,
	}
	if c.SubjectTransform != nil {
		s.StoredAs = c.SubjectTransform.Destination
	}
	for _, source := range c.Sources {
		s.Copies = append(s.Copies, Source{Stream: source.Name, Filter: source.FilterSubject})
	}
	return s
}

// DescribeConsumer says what a consumer's configuration amounts to, declared or read back from a broker.
func DescribeConsumer(c jetstream.ConsumerConfig) ConsumerSettings {
	return ConsumerSettings{
		AckPolicy: wire(c.AckPolicy), AckWait: duration(c.AckWait), MaxAckPending: c.MaxAckPending, MaxDeliver: c.MaxDeliver,
		PriorityPolicy: wire(c.PriorityPolicy), PinnedTTL: duration(c.PinnedTTL),
	}
}

func channelStream(t *events.Topology, c events.Channel) ChannelStream {
	s, _ := t.Stream(c.Stream)
	out := ChannelStream{Stream: c.Stream, Subject: c.Filter(), StoredAs: s.TransformTo}
	for _, other := range t.Streams {
		if other.Name == c.Stream {
			continue
		}
		for _, copied := range t.ChannelsOf(other.Name) {
			if copied.Name == c.Name {
				out.CopiedTo = append(out.CopiedTo, other.Name)
			}
		}
	}
	return out
}

func groupOf(g events.Group) ConsumerGroup {
	consumer := g.Name + "-{p}"
	if g.Partitions == 1 {
		consumer = g.Consumer(0)
	}
	return ConsumerGroup{
		Stream: g.Stream, Group: g.Name, Consumer: consumer, Filter: g.Filter, Partitions: g.Partitions, OneActive: g.Single,
		ConsumerSettings: DescribeConsumer(bus.ConsumerConfig(g, 0, 1)),
	}
}

// wire is a setting's name as the broker writes it.
func wire(v interface{ MarshalJSON() ([]byte, error) }) string {
	raw, err := v.MarshalJSON()
	if err != nil || len(raw) < 2 {
		return ""
	}
	return string(raw[1 : len(raw)-1])
}

func duration(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

func limit(n int64) int64 { return max(n, 0) }
