package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

// Change is what [Apply] does to one stream, bucket or consumer. A change without differences makes it.
type Change struct {
	Kind        string       `json:"kind"` // "stream", "bucket", "consumer"
	Name        string       `json:"name"`
	Stream      string       `json:"stream,omitempty"` // of a consumer
	Create      bool         `json:"create,omitempty"`
	Differences []Difference `json:"differences,omitempty"`
}

// Refused are the differences that can't be applied.
func (c Change) Refused() []Difference {
	return slices.DeleteFunc(slices.Clone(c.Differences), func(d Difference) bool { return d.Cure == "" })
}

// Plan says what [Apply] would change on the broker, in its order, and changes nothing. What the topology does not declare is left alone: other streams, other
// consumers, and settings that are an operator's business, such as placement and compression.
func Plan(ctx context.Context, js jetstream.JetStream, t events.Topology, replicas int) ([]Change, error) {
	var changes []Change
	for _, s := range t.Streams {
		stored, err := storedStream(ctx, js, s.Name)
		if err != nil {
			return nil, fmt.Errorf("stream %s: %w", s.Name, err)
		}
		changes = appendChange(changes, planStream(s, stored, replicas))
	}
	for _, b := range t.Buckets {
		stored, err := storedStream(ctx, js, BucketStream(b))
		if err != nil {
			return nil, fmt.Errorf("bucket %s: %w", b.Name, err)
		}
		changes = appendChange(changes, planBucket(b, stored, replicas))
	}
	for _, g := range t.Groups {
		for p := range g.Partitions {
			consumer, err := js.Consumer(ctx, g.Stream, g.Consumer(p))
			if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) && !errors.Is(err, jetstream.ErrStreamNotFound) {
				return nil, fmt.Errorf("consumer %s: %w", g.Consumer(p), err)
			}
			changes = appendChange(changes, planConsumer(g, p, consumer, replicas))
		}
	}
	return changes, nil
}

func appendChange(changes []Change, c Change) []Change {
	if !c.Create && len(c.Differences) == 0 {
		return changes
	}
	return append(changes, c)
}

// storedStream is a stream's configuration, nil where there is none.
func storedStream(ctx context.Context, js jetstream.JetStream, name string) (*jetstream.StreamConfig, error) {
	stream, err := js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil //nolint:nilnil // absence is an answer
	}
	if err != nil {
		return nil, err
	}
	config := stream.CachedInfo().Config
	return &config, Restoring(config)
}

func planStream(s events.Stream, stored *jetstream.StreamConfig, replicas int) Change {
	c := Change{Kind: "stream", Name: s.Name, Create: stored == nil}
	if stored == nil {
		return c
	}
	wanted := keepStream(*stored, StreamConfig(s, replicas))
	c.Differences = differences(*stored, wanted)
	for i := range c.Differences {
		d := &c.Differences[i]
		d.Loses, d.Cure = losesEvents(d.Setting, stored, &wanted), streamCure(*d)
	}
	return c
}

const (
	notePartitions = "metadata." + metadataPartitions
	noteVersion    = "metadata." + metadataVersion
)

// losesEvents reports whether a limit becomes tighter: the broker then forgets what is beyond it, at once.
func losesEvents(setting string, stored, wanted *jetstream.StreamConfig) bool {
	tighter := func(was, is int64) bool { return is > 0 && (was <= 0 || is < was) }
	switch setting {
	case "max_age":
		return tighter(int64(stored.MaxAge), int64(wanted.MaxAge))
	case "max_bytes":
		return tighter(stored.MaxBytes, wanted.MaxBytes)
	case "max_msgs":
		return tighter(stored.MaxMsgs, wanted.MaxMsgs)
	case "max_msgs_per_subject":
		return tighter(stored.MaxMsgsPerSubject, wanted.MaxMsgsPerSubject)
	}
	return false
}

const cureCopy = "keep it, or copy the events into a new stream, or start with an empty data directory"

// streamCure says what to do about a setting that the broker does not change, or that must not change; "" where it can be applied. A test asks the broker.
func streamCure(d Difference) string {
	switch d.Setting {
	case "storage":
		return "where a stream is stored is fixed when it is made: " + cureCopy
	case "retention":
		if d.Stored == "workqueue" || d.Wanted == "workqueue" {
			return "a work queue and a log can't become each other: " + cureCopy
		}
	case "deny_delete", "deny_purge":
		if d.Stored == "true" {
			return "a protection can't be taken off a stream: keep it, or copy the events into a new stream"
		}
	case "allow_msg_schedules", "allow_msg_ttl":
		if d.Stored == "true" {
			return "it can't be switched off: keep it, or copy the events into a new stream"
		}
	case notePartitions:
		if d.Stored != absent { // a stream that was made before this was noted is taken at its word; its consumers are asked, too
			return "the partition is part of every subject, so the count is fixed when a stream is made: use that count, or copy the events into new streams, or start with an empty data directory"
		}
	case noteVersion:
		return newerCure(d)
	}
	return ""
}

// newerCure refuses to put the settings of a newer program back.
func newerCure(d Difference) string {
	stored, err := strconv.Atoi(d.Stored)
	wanted, _ := strconv.Atoi(d.Wanted)
	if err == nil && stored <= wanted || d.Stored == absent {
		return ""
	}
	return "a newer version of the program has changed it, and its settings must not be put back: use that version or a newer one"
}

func planConsumer(g events.Group, p int, consumer jetstream.Consumer, replicas int) Change {
	c := Change{Kind: "consumer", Name: g.Consumer(p), Stream: g.Stream, Create: consumer == nil}
	if consumer == nil {
		return c
	}
	stored := consumer.CachedInfo().Config
	c.Differences = differences(stored, keepConsumer(stored, ConsumerConfig(g, p, replicas)))
	for i := range c.Differences {
		d := &c.Differences[i]
		switch d.Setting {
		case "ack_policy":
			d.Cure = "it is fixed when a consumer is made: remove the consumer (nats consumer rm " + g.Stream + " " + c.Name +
				"); the group then begins anew, and its handlers pass over what they have done"
		case notePartitions:
			d.Cure = streamCure(*d)
		}
	}
	return c
}

// BucketStream is the stream that holds a bucket.
func BucketStream(b events.Bucket) string {
	if b.Objects {
		return "OBJ_" + b.Name
	}
	return "KV_" + b.Name
}

// planBucket compares what the topology says of a bucket; the rest of its stream is the client library's.
func planBucket(b events.Bucket, stored *jetstream.StreamConfig, replicas int) Change {
	c := Change{Kind: "bucket", Name: b.Name, Create: stored == nil}
	if stored == nil {
		return c
	}
	wanted := *stored
	wanted.Description, wanted.Storage, wanted.Replicas = b.Description, jetstream.FileStorage, replicas
	wanted.MaxAge, wanted.SubjectDeleteMarkerTTL = b.TTL, b.TTL
	c.Differences = differences(*stored, wanted)
	for i := range c.Differences {
		c.Differences[i].Cure = streamCure(c.Differences[i])
	}
	return c
}

// refuse is the error that names everything that can't be applied, or nil.
func refuse(changes []Change) error {
	var errs []error
	for _, c := range changes {
		for _, d := range c.Refused() {
			errs = append(errs, fmt.Errorf("%w: %s %s: %s: %s", ErrTopology, c.Kind, c.Name, d, d.Cure))
		}
	}
	return errors.Join(errs...)
}

// mustHold is the error for what is not as it was asked for: the server changes some settings silently (schedules clear DenyPurge).
func mustHold(kind, name string, differ []Difference) error {
	if len(differ) == 0 {
		return nil
	}
	said := make([]string, 0, len(differ))
	for _, d := range differ {
		said = append(said, d.String())
	}
	return fmt.Errorf("%w: %s %s: the server keeps other settings than it was given: %s", ErrTopology, kind, name, strings.Join(said, "; "))
}
