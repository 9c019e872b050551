package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

// ErrTopology is wrapped where the broker does not hold what the topology declares.
var ErrTopology = errors.New("topology does not match the broker")

// Apply makes the topology real: it creates or updates every stream, bucket and consumer. replicas is 1 on a single server, 3 on a
// cluster. It can be run again at any time; what is stored stays, and a consumer keeps its ack floor. What the broker can't change is refused with its cure, before
// anything is changed. The effective settings are read back and compared, since the server changes some silently (schedules clear DenyPurge).
func Apply(ctx context.Context, js jetstream.JetStream, t events.Topology, replicas int) error {
	changes, err := Plan(ctx, js, t, replicas)
	if err != nil {
		return fmt.Errorf("read the broker's topology: %w", err)
	}
	if err := errors.Join(refuse(changes), validateGroups(t.Groups)); err != nil {
		return err
	}
	changed := make(map[string]bool, len(changes))
	for _, c := range changes {
		changed[c.Kind+" "+c.Name] = true
	}
	for _, s := range t.Streams {
		if changed["stream "+s.Name] {
			if err := applyStream(ctx, js, s, replicas); err != nil {
				return err
			}
		}
	}
	if err := applyTick(ctx, js); err != nil {
		return err
	}
	for _, b := range t.Buckets {
		if changed["bucket "+b.Name] {
			if err := applyBucket(ctx, js, b, replicas); err != nil {
				return err
			}
		}
	}
	for _, g := range t.Groups {
		for p := range g.Partitions {
			if !changed["consumer "+g.Consumer(p)] {
				continue
			}
			if err := applyConsumer(ctx, js, g, p, replicas); err != nil {
				return fmt.Errorf("apply group %s, partition %d: %w", g.Name, p, err)
			}
		}
	}
	return nil
}

func applyStream(ctx context.Context, js jetstream.JetStream, s events.Stream, replicas int) error {
	stored, err := storedStream(ctx, js, s.Name)
	if err != nil {
		return fmt.Errorf("apply stream %s: %w", s.Name, err)
	}
	want := StreamConfig(s, replicas)
	if stored != nil {
		want = keepStream(*stored, want)
	}
	stream, err := js.CreateOrUpdateStream(ctx, want)
	if err != nil {
		return fmt.Errorf("apply stream %s: %w", s.Name, err)
	}
	got := stream.CachedInfo().Config
	return mustHold("stream", s.Name, differences(got, keepStream(got, want)))
}

// StreamConfig is the JetStream configuration of a declared stream.
func StreamConfig(s events.Stream, replicas int) jetstream.StreamConfig {
	c := jetstream.StreamConfig{
		Name: s.Name, Description: s.Description, Subjects: s.Subjects, Storage: jetstream.FileStorage, Replicas: replicas,
		Retention: jetstream.LimitsPolicy, MaxAge: s.MaxAge, MaxBytes: orUnlimited(s.MaxBytes), MaxMsgs: orUnlimited(s.MaxMsgs),
		MaxMsgsPerSubject: orUnlimited(s.MaxMsgsPerSubject), Duplicates: s.DuplicateWindow,
		DenyDelete: s.DenyDelete, DenyPurge: s.DenyPurge, AllowAtomicPublish: s.AtomicBatches, AllowMsgSchedules: s.Schedules,
		AllowMsgTTL: s.TTL, AllowDirect: true,
		AllowRollup: s.Schedules, // the server's doing: a schedule is replaced by rolling it up
		Metadata:    map[string]string{metadataVersion: strconv.Itoa(events.TopologyVersion)},
	}
	if c.Duplicates == 0 && len(s.Sources) == 0 {
		c.Duplicates = duplicateWindow(c.MaxAge)
	}
	if s.Partitions > 0 {
		c.Metadata[metadataPartitions] = strconv.Itoa(s.Partitions)
	}
	if s.DiscardNew {
		c.Discard = jetstream.DiscardNew
		c.DiscardNewPerSubject = s.MaxMsgsPerSubject > 0
	}
	if s.TransformFrom != "" {
		c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: s.TransformFrom, Destination: s.TransformTo}
	}
	for _, source := range s.Sources {
		c.Sources = append(c.Sources, &jetstream.StreamSource{Name: source.Stream, FilterSubject: source.Filter})
	}
	return c
}

// duplicateWindow is what the server takes where nothing is said.
func duplicateWindow(maxAge time.Duration) time.Duration {
	const usual = 2 * time.Minute
	if maxAge > 0 && maxAge < usual {
		return maxAge
	}
	return usual
}

func orUnlimited(n int64) int64 {
	if n == 0 {
		return -1
	}
	return n
}

// applyTick stores the schedule of the heartbeats, once: storing it again would start the second anew.
func applyTick(ctx context.Context, js jetstream.JetStream) error {
	stream, err := js.Stream(ctx, events.StreamTicks)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil // a topology without heartbeats, as some tests have
	}
	if err != nil {
		return fmt.Errorf("apply heartbeat: %w", err)
	}
	if _, err := stream.GetLastMsgForSubject(ctx, events.SubjectTickSchedule); err == nil {
		return nil
	} else if !errors.Is(err, jetstream.ErrMsgNotFound) {
		return fmt.Errorf("apply heartbeat: %w", err)
	}
	_, err = js.Publish(ctx, events.SubjectTickSchedule, nil, jetstream.WithScheduleEvery(time.Second), jetstream.WithScheduleTarget(events.SubjectTick))
	if err != nil {
		return fmt.Errorf("apply heartbeat: %w", err)
	}
	return nil
}

func applyBucket(ctx context.Context, js jetstream.JetStream, b events.Bucket, replicas int) error {
	var err error
	if b.Objects {
		_, err = js.CreateOrUpdateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: b.Name, Description: b.Description, Storage: jetstream.FileStorage, Replicas: replicas})
	} else {
		_, err = js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: b.Name, Description: b.Description, Storage: jetstream.FileStorage, Replicas: replicas, TTL: b.TTL, LimitMarkerTTL: b.TTL,
		})
	}
	if err != nil {
		return fmt.Errorf("apply bucket %s: %w", b.Name, err)
	}
	return nil
}

// pinGroup is the one priority group of each durable: with the pinned policy its holder alone gets messages.
const pinGroup = "owner"

// What is noted on streams and consumers. A member that was built for another partition count must not read, and a program that is older than the topology
// must not put its own settings back. Operators find the consumers of a group by its name.
const (
	metadataPartitions = "tidemark.partitions"
	metadataVersion    = "tidemark.topology"
	metadataGroup      = "tidemark.group"
)

// MetadataRestore is noted on a stream while a restore is under way: its backup's id. Until it is gone, the stream must not be worked on: others of the same backup may not be there yet.
const MetadataRestore = "tidemark.restore"

// Restoring is the error for a stream that is part of a restore that has not ended, or nil.
func Restoring(c jetstream.StreamConfig) error {
	if id := c.Metadata[MetadataRestore]; id != "" {
		return fmt.Errorf("%w: stream %s: the restore of backup %s has not ended: run `tidemark restore` again", ErrTopology, c.Name, id)
	}
	return nil
}

// applyConsumer makes or updates the consumer of one partition. It is never deleted: its ack floor is the group's offset.
func applyConsumer(ctx context.Context, js jetstream.JetStream, g events.Group, p, replicas int) error {
	want := ConsumerConfig(g, p, replicas)
	stored, err := js.Consumer(ctx, g.Stream, g.Consumer(p))
	switch {
	case err == nil:
		want = keepConsumer(stored.CachedInfo().Config, want)
	case !errors.Is(err, jetstream.ErrConsumerNotFound):
		return err
	case g.FromNow:
		if err := beginNow(ctx, js, g, &want); err != nil {
			return err
		}
	}
	consumer, err := js.CreateOrUpdateConsumer(ctx, g.Stream, want)
	if err != nil {
		return err
	}
	got := consumer.CachedInfo().Config
	return mustHold("consumer", g.Consumer(p), differences(got, keepConsumer(got, want)))
}

// beginNow lets a consumer that is made begin behind what is stored, and where the group's first partition begins, if that is there already. It gets a sequence: a consumer that
// delivers what is new could not be reset.
func beginNow(ctx context.Context, js jetstream.JetStream, g events.Group, c *jetstream.ConsumerConfig) error {
	c.DeliverPolicy = jetstream.DeliverByStartSequencePolicy
	first, err := js.Consumer(ctx, g.Stream, g.Consumer(0))
	if err == nil && first.CachedInfo().Config.OptStartSeq > 0 {
		c.OptStartSeq = first.CachedInfo().Config.OptStartSeq
		return nil
	}
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return err
	}
	stream, err := js.Stream(ctx, g.Stream)
	if err != nil {
		return err
	}
	c.OptStartSeq = stream.CachedInfo().State.LastSeq + 1
	return nil
}

// ConsumerConfig is the JetStream configuration of one partition of a group. MaxDeliver is unlimited and BackOff unset on purpose: the
// broker's own counting forgets messages silently, also innocent ones.
func ConsumerConfig(g events.Group, partition, replicas int) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: g.Consumer(partition), Description: g.Description, FilterSubject: g.FilterOf(partition), Replicas: replicas,
		DeliverPolicy: jetstream.DeliverAllPolicy, AckPolicy: jetstream.AckExplicitPolicy, AckWait: g.AckWait,
		MaxDeliver: -1, MaxAckPending: g.MaxPending,
		PriorityPolicy: jetstream.PriorityPolicyPinned, PriorityGroups: []string{pinGroup}, PinnedTTL: g.PinnedTTL,
		Metadata: map[string]string{metadataPartitions: strconv.Itoa(g.Partitions), metadataGroup: g.Name},
	}
}
