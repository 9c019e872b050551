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
// cluster. It can be run again at any time; what is stored stays. The effective settings are read back and compared, since the
// server changes some silently (schedules clear DenyPurge).
func Apply(ctx context.Context, js jetstream.JetStream, t events.Topology, replicas int) error {
	for _, s := range t.Streams {
		if err := applyStream(ctx, js, s, replicas); err != nil {
			return err
		}
	}
	if err := applyTick(ctx, js); err != nil {
		return err
	}
	for _, b := range t.Buckets {
		if err := applyBucket(ctx, js, b, replicas); err != nil {
			return err
		}
	}
	for _, g := range t.Groups {
		if err := applyGroup(ctx, js, g, replicas); err != nil {
			return err
		}
	}
	return nil
}

func applyStream(ctx context.Context, js jetstream.JetStream, s events.Stream, replicas int) error {
	want := StreamConfig(s, replicas)
	stream, err := js.CreateOrUpdateStream(ctx, want)
	if err != nil {
		return fmt.Errorf("apply stream %s: %w", s.Name, err)
	}
	got := stream.CachedInfo().Config
	if got.DenyDelete != want.DenyDelete || got.DenyPurge != want.DenyPurge || got.AllowAtomicPublish != want.AllowAtomicPublish {
		return fmt.Errorf("%w: stream %s: DenyDelete, DenyPurge, AllowAtomicPublish are %t, %t, %t, must be %t, %t, %t", ErrTopology, s.Name,
			got.DenyDelete, got.DenyPurge, got.AllowAtomicPublish, want.DenyDelete, want.DenyPurge, want.AllowAtomicPublish)
	}
	return nil
}

// StreamConfig is the JetStream configuration of a declared stream.
func StreamConfig(s events.Stream, replicas int) jetstream.StreamConfig {
	c := jetstream.StreamConfig{
		Name: s.Name, Description: s.Description, Subjects: s.Subjects, Storage: jetstream.FileStorage, Replicas: replicas,
		Retention: jetstream.LimitsPolicy, MaxAge: s.MaxAge, MaxBytes: orUnlimited(s.MaxBytes), MaxMsgs: orUnlimited(s.MaxMsgs),
		MaxMsgsPerSubject: orUnlimited(s.MaxMsgsPerSubject), Duplicates: s.DuplicateWindow,
		DenyDelete: s.DenyDelete, DenyPurge: s.DenyPurge, AllowAtomicPublish: s.AtomicBatches, AllowMsgSchedules: s.Schedules,
		AllowMsgTTL: s.TTL, AllowDirect: true,
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
		_, err = js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: b.Name, Description: b.Description, Storage: jetstream.FileStorage, Replicas: replicas})
	}
	if err != nil {
		return fmt.Errorf("apply bucket %s: %w", b.Name, err)
	}
	return nil
}

// pinGroup is the one priority group of each durable: with the pinned policy its holder alone gets messages.
const pinGroup = "owner"

// metadataPartitions is how many partitions the group has, on each of its consumers: a member that was built for another count must not read.
const metadataPartitions = "tidemark.partitions"

func applyGroup(ctx context.Context, js jetstream.JetStream, g events.Group, replicas int) error {
	for p := range g.Partitions {
		if _, err := js.CreateOrUpdateConsumer(ctx, g.Stream, ConsumerConfig(g, p, replicas)); err != nil {
			return fmt.Errorf("apply group %s, partition %d: %w", g.Name, p, err)
		}
	}
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
		Metadata: map[string]string{metadataPartitions: strconv.Itoa(g.Partitions)},
	}
}
