package groups

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

// ErrTarget is wrapped where a group can't be moved to where it is asked to.
var ErrTarget = errors.New("the group can't be moved there")

// Target is where a group is moved to: a sequence of its stream, or the first event that was stored at a time or later.
type Target struct {
	Seq  uint64
	Time time.Time // used where Seq is 0
}

// Move is one group's way to another offset: what [Plan] finds and [Move.Do] does.
type Move struct {
	Group   string `json:"group"`
	Stream  string `json:"stream"`
	FromSeq uint64 `json:"from_seq"` // the group reads from here on
	Events  uint64 `json:"events"`   // that it will read, up to the end of the stream as it is now
	Again   uint64 `json:"again"`    // of these, those that it has handled already
	Skipped uint64 `json:"skipped"`  // events that it has not handled and never will
	DryRun  bool   `json:"dry_run"`
	Moved   bool   `json:"moved"`
	Reading bool   `json:"reading"` // the owners read from the new offset
	Lag     uint64 `json:"lag"`     // when it was looked at last
	Note    string `json:"note,omitempty"`

	Partitions []Step `json:"partitions"`

	group       Group
	ownPosition bool
}

// Step is what becomes of one partition.
type Step struct {
	Partition int    `json:"partition"`
	Offset    uint64 `json:"offset"` // committed, before
	Events    uint64 `json:"events"`
	Again     uint64 `json:"again"`
	Skipped   uint64 `json:"skipped"`
}

// noteOwnPosition is what is said of a group whose place is in its results.
const noteOwnPosition = "the group keeps its place with its results: its reader starts over, and goes on behind its last commit. Nothing is counted twice, and nothing again"

// Plan says what moving a group would do, and changes nothing.
func Plan(ctx context.Context, js jetstream.JetStream, t events.Topology, name string, to Target) (*Move, error) {
	g, err := Show(ctx, js, t, name)
	if err != nil {
		return nil, err
	}
	m := &Move{Group: name, Stream: g.Stream, FromSeq: to.Seq, Lag: g.Lag, group: g}
	declared, _ := t.Group(name)
	m.ownPosition = declared.OwnPosition
	if err := m.resolve(ctx, js, to); err != nil {
		return nil, err
	}
	for _, p := range g.Partitions {
		step := Step{Partition: p.Partition, Offset: p.Offset}
		if start := p.info.Config.OptStartSeq; m.FromSeq < start {
			return nil, fmt.Errorf("%w: group %s begins at sequence %d, and can't be moved back to %d", ErrTarget, name, start, m.FromSeq)
		}
		if !m.ownPosition {
			if step.Events, err = count(ctx, js, g.Stream, p.info.Config.FilterSubject, m.FromSeq); err != nil {
				return nil, err
			}
			step.Again, step.Skipped = step.Events-min(step.Events, p.Lag), p.Lag-min(step.Events, p.Lag)
		}
		m.Events, m.Again, m.Skipped = m.Events+step.Events, m.Again+step.Again, m.Skipped+step.Skipped
		m.Partitions = append(m.Partitions, step)
	}
	if m.ownPosition {
		m.Note = noteOwnPosition
	}
	return m, nil
}

// resolve finds the sequence of the target and checks it.
func (m *Move) resolve(ctx context.Context, js jetstream.JetStream, to Target) error {
	stream, err := js.Stream(ctx, m.Stream)
	if err != nil {
		return fmt.Errorf("read stream %s: %w", m.Stream, err)
	}
	if to.Seq == 0 {
		if m.FromSeq, err = storedAt(ctx, js, m.Stream, to.Time); err != nil {
			return err
		}
	}
	if end := stream.CachedInfo().State.LastSeq + 1; m.FromSeq > end {
		return fmt.Errorf("%w: sequence %d is behind the end of %s; the next event gets %d", ErrTarget, m.FromSeq, m.Stream, end)
	}
	return nil
}

// storedAt is the sequence of the first event that was stored at a time or later, or the next one where there is none.
func storedAt(ctx context.Context, js jetstream.JetStream, stream string, at time.Time) (uint64, error) {
	info, err := look(ctx, js, stream, jetstream.ConsumerConfig{DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &at})
	if err != nil {
		return 0, fmt.Errorf("find what was stored at %s: %w", at.Format(time.RFC3339), err)
	}
	return info.Delivered.Stream + 1, nil
}

// count is how many events a filter finds from a sequence on.
func count(ctx context.Context, js jetstream.JetStream, stream, filter string, from uint64) (uint64, error) {
	info, err := look(ctx, js, stream, jetstream.ConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from, FilterSubject: filter})
	if err != nil {
		return 0, fmt.Errorf("count events of %s: %w", stream, err)
	}
	return info.NumPending, nil
}

// look makes a consumer for a moment: what it would deliver is the answer.
func look(ctx context.Context, js jetstream.JetStream, stream string, c jetstream.ConsumerConfig) (*jetstream.ConsumerInfo, error) {
	c.AckPolicy, c.MemoryStorage, c.InactiveThreshold, c.Replicas = jetstream.AckNonePolicy, true, 5*time.Second, 1
	consumer, err := js.CreateConsumer(ctx, stream, c)
	if err != nil {
		return nil, err
	}
	info := consumer.CachedInfo()
	return info, js.DeleteConsumer(ctx, stream, info.Name)
}

// Do moves the group, partition by partition. The owners notice by themselves. An error says how far it came; it can be done again.
func (m *Move) Do(ctx context.Context, js jetstream.JetStream) error {
	for i, p := range m.group.Partitions {
		if _, err := js.ResetConsumerToSequence(ctx, m.Stream, p.info.Config.Durable, m.FromSeq); err != nil {
			return fmt.Errorf("move partition %d of group %s (%d of %d partitions are moved): %w", p.Partition, m.Group, i, len(m.group.Partitions), err)
		}
	}
	m.Moved = true
	return nil
}

// Await waits until the owners read from the new offset, and with all until the group's lag is 0. progress is told how much is left, where it is not nil.
func (m *Move) Await(ctx context.Context, js jetstream.JetStream, t events.Topology, all bool, progress func(lag uint64)) error {
	const first, last = 20 * time.Millisecond, 500 * time.Millisecond
	for pause := first; ; pause = min(2*pause, last) {
		g, err := Show(ctx, js, t, m.Group)
		if ctx.Err() != nil {
			return fmt.Errorf("group %s is moved to %d, but %s: %w", m.Group, m.FromSeq, m.waitsFor(all), context.Cause(ctx))
		}
		if err != nil {
			return err
		}
		m.Lag, m.Reading = g.Lag, m.reads(g)
		if m.Reading && (!all || g.Lag == 0) {
			return nil
		}
		if len(g.Members) == 0 && !all {
			m.Note = "nobody reads the group now; who joins it next begins there"
			return nil
		}
		if progress != nil {
			progress(g.Lag)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

func (m *Move) waitsFor(all bool) string {
	if all && m.Reading {
		return fmt.Sprintf("%d events are left", m.Lag)
	}
	return "nobody has handled anything from there yet"
}

// reads reports whether in each partition with something to read an event was acknowledged since the reset, which starts the consumer's own count anew.
func (m *Move) reads(g Group) bool {
	for i, p := range g.Partitions {
		if i >= len(m.Partitions) {
			return true // made since
		}
		there := p.info.AckFloor.Consumer > 0 && p.Offset+1 >= m.FromSeq
		if m.ownPosition {
			there = p.Offset >= m.Partitions[i].Offset
		}
		if !there && (m.ownPosition || m.Partitions[i].Events > 0) {
			return false
		}
	}
	return true
}
