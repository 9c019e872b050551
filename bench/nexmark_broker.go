package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/bench/nexmark"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/services/analytics"
)

const nexmarkStream = "NEXMARK"

// nexmarkTopology is Tidemark's, with the auction site in place of orders and clicks: TIMELINE copies its stream.
func nexmarkTopology(partitions int) events.Topology {
	t := events.DefaultTopology(partitions)
	t.Streams = append([]events.Stream{{Name: nexmarkStream, Description: "people, auctions and bids", Partitions: partitions, Subjects: []string{"nexmark.*.*"}}}, t.Streams...)
	for i := range t.Streams {
		if s := &t.Streams[i]; s.Name == events.StreamTimeline {
			s.Sources = []events.Source{{Stream: nexmarkStream}, {Stream: events.StreamTicks, Filter: events.SubjectTick}}
		}
	}
	var types []string
	for _, k := range []nexmark.Kind{nexmark.Person, nexmark.Auction, nexmark.Bid} {
		types = append(types, k.Type())
	}
	t.Channels = append(t.Channels, events.Channel{Name: "nexmark", Stream: nexmarkStream, Address: "nexmark.{partition}.{kind}", Types: types})
	t.Groups = slices.DeleteFunc(t.Groups, func(g events.Group) bool { return g.Name != events.GroupAnalytics })
	return t
}

func nexmarkSubject(d *nexmark.Delivery, kind nexmark.Kind) string {
	return "nexmark." + strconv.Itoa(d.Partition) + "." + [...]string{nexmark.Person: "person", nexmark.Auction: "auction", nexmark.Bid: "bid"}[kind]
}

// Headers of a message beside those of CloudEvents.
const (
	headerPlace = "nexmark-place" // in the log
	headerDue   = "nexmark-due"   // when it was to be sent, nanoseconds since 1970
)

// nexmarkQueries are the queries as the service takes them. names empty: all.
func nexmarkQueries(names []string) []analytics.Query {
	var all []analytics.Query
	for _, q := range nexmark.Queries() {
		if len(names) > 0 && !slices.Contains(names, q.Name) {
			continue
		}
		query := analytics.Query{Name: q.Name, StoreTime: q.StoreTime, Windows: q.Windows, Aggregate: q.Aggregate, Keep: q.Keep}
		for _, k := range q.Kinds {
			query.Types = append(query.Types, k.Type())
		}
		query.Read = func(in *analytics.Input) (analytics.Reading, error) {
			p, err := analytics.Payload[nexmark.Payload](in)
			if err != nil {
				return analytics.Reading{}, err
			}
			e, err := p.Event(in.Type)
			key, item, value := q.Read(&e)
			return analytics.Reading{Key: key, Item: item, Value: value}, err
		}
		all = append(all, query)
	}
	return all
}

// nexmarkSettings are what the digests were computed with.
func nexmarkSettings(c nexmark.Config, mode analytics.Mode) analytics.Settings {
	return analytics.Settings{Bound: nexmark.Bound, Lateness: nexmark.Lateness, Idle: c.Silence, HoldIdle: true, Mode: mode}
}

// client is a connection of the bench to the broker.
type client struct {
	nc *nats.Conn
	js jetstream.JetStream
}

func dial(url string, opts ...jetstream.JetStreamOpt) (*client, error) {
	nc, err := nats.Connect(url)
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc, opts...)
	return &client{nc: nc, js: js}, err
}

func (c *client) close() { c.nc.Close() }

// prepare makes the streams and consumers.
func (c *client) prepare(ctx context.Context, t events.Topology) error {
	return bus.Apply(ctx, c.js, t, 1)
}

// backlog is how many messages are on their way: not copied to TIMELINE yet, or not acknowledged by who counts.
func (c *client) backlog(ctx context.Context, by counter) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	sent, err := c.lastSequence(ctx, nexmarkStream)
	if err != nil {
		return 0, err
	}
	ticks, err := c.js.Stream(ctx, events.StreamTimeline)
	if err != nil {
		return 0, err
	}
	info, err := ticks.Info(ctx, jetstream.WithSubjectFilter("nexmark.>"))
	if err != nil {
		return 0, err
	}
	var copied uint64
	for _, n := range info.State.Subjects {
		copied += n
	}
	consumer, err := c.js.Consumer(ctx, events.StreamTimeline, by.consumer())
	if err != nil {
		return 0, err
	}
	state := consumer.CachedInfo()
	return int(sent-min(copied, sent)) + int(state.NumPending) + state.NumAckPending, nil //nolint:gosec // small
}

func (c *client) lastSequence(ctx context.Context, stream string) (uint64, error) {
	s, err := c.js.Stream(ctx, stream)
	if err != nil {
		return 0, fmt.Errorf("look at %s: %w", stream, err)
	}
	return s.CachedInfo().State.LastSeq, nil
}

var errRunVoid = errors.New("the run is void")
