// Package groups is what operators see of consumer groups, and how they move one: who reads which partition, how far it is, and replay.
//
// It asks the broker, not the topology, so it also shows groups that another program added. The consumers say how far each partition is and which pin owns it; the members'
// heartbeats say whose pin that is.
package groups

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

// ErrNoGroup is wrapped where the broker has no group of that name.
var ErrNoGroup = errors.New("there is no such consumer group")

// Group is the state of one consumer group.
type Group struct {
	Group        string      `json:"group"`
	Service      string      `json:"service,omitempty"`
	Stream       string      `json:"stream"`
	Single       bool        `json:"single"`  // one active member, the others stand by
	Lag          uint64      `json:"lag"`     // events that are not acknowledged
	Pending      uint64      `json:"pending"` // of these, those that were given to a member
	Parked       uint64      `json:"parked"`  // dead letters
	LastActivity *time.Time  `json:"last_activity"`
	Members      []Member    `json:"members"`
	StandingBy   []string    `json:"standing_by"` // members that have no partition
	Partitions   []Partition `json:"partitions"`
}

// Member is one process of a group.
type Member struct {
	Name       string    `json:"name"`
	Since      time.Time `json:"since"`
	Partitions []int     `json:"partitions"` // that it owns, or that are its own as soon as there is something to read
}

// Partition is the state of one partition of a group.
type Partition struct {
	Partition    int        `json:"partition"`
	Owner        string     `json:"owner"`     // empty: nobody, or one that is not known
	Active       bool       `json:"active"`    // the owner holds the broker's pin; else it is waiting for the first event
	Offset       uint64     `json:"offset"`    // committed: everything up to this sequence is acknowledged
	Delivered    uint64     `json:"delivered"` // the last sequence that was given to a member
	Lag          uint64     `json:"lag"`
	Pending      uint64     `json:"pending"`
	LastActivity *time.Time `json:"last_activity"`

	info *jetstream.ConsumerInfo
}

// List reads the state of every group: those of the topology in its order, then others by name.
func List(ctx context.Context, js jetstream.JetStream, t events.Topology) ([]Group, error) {
	found, err := find(ctx, js, t)
	if err != nil {
		return nil, err
	}
	members, err := bus.Members(ctx, js)
	if err != nil && !errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil, err
	}
	out := make([]Group, 0, len(found))
	for _, name := range sorted(found, t) {
		g := found[name]
		g.addMembers(members[name])
		if g.Parked, err = parked(ctx, js, t, name); err != nil {
			return nil, err
		}
		out = append(out, *g)
	}
	return out, nil
}

// Show reads the state of one group.
func Show(ctx context.Context, js jetstream.JetStream, t events.Topology, name string) (Group, error) {
	all, err := List(ctx, js, t)
	if err != nil {
		return Group{}, err
	}
	var names []string
	for _, g := range all {
		if g.Group == name {
			return g, nil
		}
		names = append(names, g.Group)
	}
	return Group{}, fmt.Errorf("%w: %q; there are %s", ErrNoGroup, name, strings.Join(names, ", "))
}

// find reads the consumers of all streams and puts those of a group together.
func find(ctx context.Context, js jetstream.JetStream, t events.Topology) (map[string]*Group, error) {
	found := make(map[string]*Group)
	for _, s := range t.Streams {
		stream, err := js.Stream(ctx, s.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read stream %s: %w", s.Name, err)
		}
		consumers := stream.ListConsumers(ctx)
		for info := range consumers.Info() {
			name, partition, ok := bus.PartitionOf(info.Config)
			if !ok {
				continue
			}
			g := found[name]
			if g == nil {
				declared, _ := t.Group(name)
				g = &Group{Group: name, Service: declared.Service, Stream: s.Name, Single: declared.Single}
				found[name] = g
			}
			g.add(partition, info)
		}
		if err := consumers.Err(); err != nil {
			return nil, fmt.Errorf("list the consumers of %s: %w", s.Name, err)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%w: the broker has none; `tidemark topology apply` makes them", ErrNoGroup)
	}
	return found, nil
}

func sorted(found map[string]*Group, t events.Topology) []string {
	place := func(name string) int {
		i := slices.IndexFunc(t.Groups, func(g events.Group) bool { return g.Name == name })
		if i < 0 {
			return len(t.Groups)
		}
		return i
	}
	return slices.SortedFunc(maps.Keys(found), func(a, b string) int { return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(a, b)) })
}

func (g *Group) add(partition int, info *jetstream.ConsumerInfo) {
	p := Partition{
		Partition: partition, Offset: info.AckFloor.Stream, Delivered: info.Delivered.Stream, Pending: uint64(max(info.NumAckPending, 0)), //nolint:gosec // not negative
		Active: bus.Pin(info) != "", LastActivity: later(info.Delivered.Last, info.AckFloor.Last), info: info,
	}
	p.Lag = info.NumPending + p.Pending
	g.Lag, g.Pending, g.LastActivity = g.Lag+p.Lag, g.Pending+p.Pending, later(g.LastActivity, p.LastActivity)
	g.Partitions = append(g.Partitions, p)
	slices.SortFunc(g.Partitions, func(a, b Partition) int { return cmp.Compare(a.Partition, b.Partition) })
}

func later(a, b *time.Time) *time.Time {
	if a == nil || b != nil && b.After(*a) {
		return b
	}
	return a
}

// addMembers finds out who owns what: who holds the broker's pin, or, where nobody does, whose partition it is.
func (g *Group) addMembers(members []bus.Member) {
	slices.SortFunc(members, func(a, b bus.Member) int { return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Name, b.Name)) })
	g.Members, g.StandingBy = []Member{}, []string{}
	for _, m := range members {
		has := []int{}
		for i := range g.Partitions {
			p := &g.Partitions[i]
			pin := bus.Pin(p.info)
			if pin != "" && m.Pins[p.Partition] != pin || pin == "" && !slices.Contains(m.Partitions, p.Partition) {
				continue
			}
			p.Owner = m.Name
			has = append(has, p.Partition)
		}
		g.Members = append(g.Members, Member{Name: m.Name, Since: m.Since, Partitions: has})
		if len(has) == 0 {
			g.StandingBy = append(g.StandingBy, m.Name)
		}
	}
}

// parked counts the dead letters of a group.
func parked(ctx context.Context, js jetstream.JetStream, t events.Topology, group string) (uint64, error) {
	stream, err := js.Stream(ctx, events.StreamDLQ)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("count dead letters: %w", err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(t.Subjects().LettersOfGroup(group)))
	if err != nil {
		return 0, fmt.Errorf("count dead letters: %w", err)
	}
	var n uint64
	for _, letters := range info.State.Subjects {
		n += letters
	}
	return n, nil
}
