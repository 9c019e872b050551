package bus_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// small is a topology with one of each thing.
func small() events.Topology {
	return events.Topology{
		Partitions: 2,
		Streams: []events.Stream{
			{Name: "LOG", Subjects: []string{"log.*.*"}, Partitions: 2, DenyDelete: true, DenyPurge: true, AtomicBatches: true, Description: "a log"},
			{Name: "LATER", Subjects: []string{"later.*"}, Schedules: true, TTL: true, MaxAge: time.Hour},
			{Name: "COPY", Sources: []events.Source{{Stream: "LOG"}}},
		},
		Groups: []events.Group{{
			Name: "readers", Stream: "LOG", Filter: "log.{p}.*", Partitions: 2, AckWait: time.Minute, MaxPending: 10, PinnedTTL: time.Second, Description: "reads",
		}},
		Buckets: []events.Bucket{{Name: "ADDRESSES", Description: "a bucket"}, {Name: "FILES", Description: "objects", Objects: true}},
	}
}

func plan(t *testing.T, s *eventstest.Server, topology events.Topology) []bus.Change {
	t.Helper()
	changes, err := bus.Plan(t.Context(), s.JetStream(), topology, s.Replicas())
	if err != nil {
		t.Fatal(err)
	}
	return changes
}

func TestPlanSaysWhatApplyWillDo(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) *eventstest.Server{"one server": eventstest.Start, "cluster": eventstest.StartCluster} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			for _, topology := range []events.Topology{small(), events.DefaultTopology(2)} {
				things := len(topology.Streams) + len(topology.Buckets)
				for _, g := range topology.Groups {
					things += g.Partitions
				}
				before := plan(t, s, topology)
				if len(before) != things || slices.ContainsFunc(before, func(c bus.Change) bool { return !c.Create }) {
					t.Errorf("on an empty broker: %d changes of %d: %+v", len(before), things, before)
				}
				if again := plan(t, s, topology); len(again) != things {
					t.Error("planning has changed something")
				}
				s.Apply(topology)
				if after := plan(t, s, topology); len(after) > 0 {
					t.Errorf("after apply there is still something to do: %+v", after)
				}
			}
		})
	}
}

func TestChangedSettingsAreAppliedAndOffsetsKept(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) *eventstest.Server{"one server": eventstest.Start, "cluster": eventstest.StartCluster} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changesAndKeeps(t, start(t))
		})
	}
}

func changesAndKeeps(t *testing.T, s *eventstest.Server) {
	t.Helper()
	topology := s.Apply(small())
	js := s.JetStream()
	for range 5 {
		if _, err := js.Publish(t.Context(), "log.1.a", nil); err != nil {
			t.Fatal(err)
		}
	}
	ackThree(t, js, "LOG", "readers-1")

	topology.Streams[0].Description = "the log"
	topology.Streams[0].MaxMsgsPerSubject = 1000
	topology.Streams[1].MaxAge = time.Minute
	topology.Groups[0].AckWait, topology.Groups[0].MaxPending, topology.Groups[0].PinnedTTL = 2*time.Minute, 20, 3*time.Second
	topology.Groups[0].Description = "reads on"
	topology.Buckets[0].Description = "where people live"
	var said []string
	for _, c := range plan(t, s, topology) {
		for _, d := range c.Differences {
			line := c.Kind + " " + c.Name + ": " + d.String()
			if d.Loses {
				line += " (forgets)"
			}
			said = append(said, line)
		}
	}
	want := []string{
		"stream LOG: description is a log, must be the log",
		"stream LOG: max_msgs_per_subject is -1, must be 1000 (forgets)",
		"stream LATER: duplicate_window is 2m0s, must be 1m0s",
		"stream LATER: max_age is 1h0m0s, must be 1m0s (forgets)",
		"bucket ADDRESSES: description is a bucket, must be where people live",
	}
	for _, c := range []string{"readers-0", "readers-1"} {
		for _, d := range []string{"ack_wait is 1m0s, must be 2m0s", "description is reads, must be reads on", "max_ack_pending is 10, must be 20", "priority_timeout is 1s, must be 3s"} {
			want = append(want, "consumer "+c+": "+d)
		}
	}
	if !slices.Equal(said, want) {
		t.Errorf("planned:\n%s\nwant:\n%s", strings.Join(said, "\n"), strings.Join(want, "\n"))
	}
	s.Apply(topology)
	if left := plan(t, s, topology); len(left) > 0 {
		t.Errorf("not applied: %+v", left)
	}
	consumer, err := js.Consumer(t.Context(), "LOG", "readers-1")
	if err != nil {
		t.Fatal(err)
	}
	info := consumer.CachedInfo()
	if info.AckFloor.Stream != 3 || info.NumPending != 2 || info.Config.AckWait != 2*time.Minute {
		t.Errorf("after the change: ack floor %d, pending %d, ack wait %s; want 3, 2, 2m", info.AckFloor.Stream, info.NumPending, info.Config.AckWait)
	}
}

func ackThree(t *testing.T, js jetstream.JetStream, stream, consumer string) {
	t.Helper()
	c, err := js.Consumer(t.Context(), stream, consumer)
	if err != nil {
		t.Fatal(err)
	}
	batch, err := c.Fetch(3, jetstream.FetchPriorityGroup("owner"))
	if err != nil {
		t.Fatal(err)
	}
	for m := range batch.Messages() {
		if err := m.DoubleAck(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := batch.Error(); err != nil {
		t.Fatal(err)
	}
}

// What can't be changed is refused before anything is changed, and the error says what to do. The broker is asked whether it is so.
func TestWhatTheBrokerCannotChangeIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before func(*jetstream.StreamConfig) // how the stream was made
		after  func(*events.Topology)
		want   string
		ours   bool // the broker would take it: refusing is our rule
	}{
		"storage": {
			before: func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage },
			want:   "stream LATER: storage is memory, must be file: where a stream is stored is fixed",
		},
		"retention": {
			before: func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy },
			want:   "stream LATER: retention is workqueue, must be limits: a work queue and a log",
		},
		"deny delete": {
			before: func(c *jetstream.StreamConfig) { c.DenyDelete = true },
			want:   "stream LATER: deny_delete is true, must be unset: a protection",
		},
		"schedules": {
			after: func(t *events.Topology) { t.Streams[1].Schedules = false },
			want:  "stream LATER: allow_msg_schedules is true, must be unset: it can't be switched off",
		},
		"TTL": {
			after: func(t *events.Topology) { t.Streams[1].TTL = false },
			want:  "stream LATER: allow_msg_ttl is true, must be unset: it can't be switched off",
		},
		"partitions": {
			after: func(t *events.Topology) { t.Streams[0].Partitions = 4 },
			want:  "stream LOG: metadata.tidemark.partitions is 2, must be 4: the partition is part of every subject", ours: true,
		},
		"partitions of a group": {
			after: func(t *events.Topology) { t.Groups[0].Partitions = 4 },
			want:  "consumer readers-1: metadata.tidemark.partitions is 2, must be 4: the partition is part of every subject", ours: true,
		},
		"made by a newer program": {
			before: func(c *jetstream.StreamConfig) { c.Metadata = map[string]string{"tidemark.topology": "1000"} },
			want:   "stream LATER: metadata.tidemark.topology is 1000, must be 1: a newer version of the program", ours: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := eventstest.Start(t)
			topology := small()
			if c.before != nil {
				config := bus.StreamConfig(topology.Streams[1], 1)
				c.before(&config)
				if _, err := s.JetStream().CreateStream(t.Context(), config); err != nil {
					t.Fatal(err)
				}
			} else {
				s.Apply(topology)
				c.after(&topology)
			}
			topology.Streams[0].Description = "another one"
			before := plan(t, s, topology)
			err := bus.Apply(t.Context(), s.JetStream(), topology, 1)
			if !errors.Is(err, bus.ErrTopology) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v\nwant %s", err, c.want)
			}
			if after := plan(t, s, topology); len(after) != len(before) {
				t.Errorf("it was refused, and yet something was changed: %+v", after)
			}
			if _, err := s.JetStream().UpdateStream(t.Context(), bus.StreamConfig(topology.Streams[1], 1)); (err == nil) != c.ours {
				t.Errorf("the broker itself says %v", err)
			}
		})
	}
}

func TestConsumersAndBucketsAreRefusedToo(t *testing.T) {
	t.Parallel()
	s := eventstest.Start(t)
	js, topology := s.JetStream(), small()
	topology.Buckets, topology.Groups = nil, nil
	s.Apply(topology)
	topology = small()
	if _, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "ADDRESSES", Storage: jetstream.MemoryStorage}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateConsumer(t.Context(), "LOG", jetstream.ConsumerConfig{Durable: "readers-0", AckPolicy: jetstream.AckNonePolicy}); err != nil {
		t.Fatal(err)
	}
	err := bus.Apply(t.Context(), js, topology, 1)
	for _, want := range []string{
		"bucket ADDRESSES: storage is memory, must be file: where a stream is stored is fixed",
		"consumer readers-0: ack_policy is none, must be explicit: it is fixed when a consumer is made: remove the consumer (nats consumer rm LOG readers-0)",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
	if _, err := js.UpdateConsumer(t.Context(), "LOG", bus.ConsumerConfig(topology.Groups[0], 0, 1)); err == nil {
		t.Error("the broker changes an ack policy now")
	}
	if err := js.DeleteConsumer(t.Context(), "LOG", "readers-0"); err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteKeyValue(t.Context(), "ADDRESSES"); err != nil {
		t.Fatal(err)
	}
	s.Apply(topology) // the cures help
}

// The trap that the comparison after a change is there for: the server changes settings and says nothing.
func TestSettingsThatTheServerChangesAreNoticed(t *testing.T) {
	t.Parallel()
	s := eventstest.Start(t)
	// Schedules clear DenyPurge, unless they are asked for together with what they bring along. So StreamConfig does that, and the server refuses.
	config := jetstream.StreamConfig{Name: "TRAP", Subjects: []string{"trap"}, AllowMsgSchedules: true, DenyPurge: true}
	stream, err := s.JetStream().CreateStream(t.Context(), config)
	if err != nil || stream.CachedInfo().Config.DenyPurge || !stream.CachedInfo().Config.AllowRollup {
		t.Errorf("the server no longer clears DenyPurge silently: %v", err)
	}
	topology := small()
	topology.Streams[1].DenyPurge = true
	if err := bus.Apply(t.Context(), s.JetStream(), topology, 1); err == nil || !strings.Contains(err.Error(), "apply stream LATER") {
		t.Errorf("schedules together with DenyPurge: %v", err)
	}
	topology = small()
	topology.Groups[0].MaxPending = 0
	want := "consumer readers-0: the server keeps other settings than it was given: max_ack_pending is 1000, must be unset"
	if err := bus.Apply(t.Context(), s.JetStream(), topology, 1); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

// What the topology does not speak of is somebody else's.
func TestApplyLeavesTheRestAlone(t *testing.T) {
	t.Parallel()
	s := eventstest.Start(t)
	topology := s.Apply(small())
	js := s.JetStream()
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "OTHERS", Subjects: []string{"others"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateConsumer(t.Context(), "LOG", jetstream.ConsumerConfig{Durable: "audit", DeliverPolicy: jetstream.DeliverNewPolicy}); err != nil {
		t.Fatal(err)
	}
	config := bus.StreamConfig(topology.Streams[0], 1)
	config.Compression, config.Metadata["team"] = jetstream.S2Compression, "shop"
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteConsumer(t.Context(), "LOG", "readers-0"); err != nil {
		t.Fatal(err)
	}
	fromTwo := bus.ConsumerConfig(topology.Groups[0], 0, 1)
	fromTwo.DeliverPolicy, fromTwo.OptStartSeq, fromTwo.SampleFrequency = jetstream.DeliverByStartSequencePolicy, 2, "50%"
	if _, err := js.CreateConsumer(t.Context(), "LOG", fromTwo); err != nil {
		t.Fatal(err)
	}
	if left := plan(t, s, topology); len(left) > 0 {
		t.Errorf("would change %+v", left)
	}
	topology.Streams[0].Description, topology.Groups[0].Description = "changed", "changed"
	s.Apply(topology)
	stream, err := js.Stream(t.Context(), "LOG")
	if err != nil {
		t.Fatal(err)
	}
	if c := stream.CachedInfo().Config; c.Compression != jetstream.S2Compression || c.Metadata["team"] != "shop" || c.Description != "changed" {
		t.Errorf("the operator's settings are gone: %+v", c)
	}
	consumer, err := js.Consumer(t.Context(), "LOG", "readers-0")
	if err != nil {
		t.Fatal(err)
	}
	if c := consumer.CachedInfo().Config; c.OptStartSeq != 2 || c.SampleFrequency != "50%" || c.Description != "changed" {
		t.Errorf("the consumer is another one: %+v", c)
	}
	if _, err := js.Stream(t.Context(), "OTHERS"); err != nil {
		t.Errorf("a stream of others: %v", err)
	}
	if _, err := js.Consumer(t.Context(), "LOG", "audit"); err != nil {
		t.Errorf("a consumer of others: %v", err)
	}
}
