package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/bench/nexmark"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/window"
	"github.com/tidemark/tidemark/services/analytics"
)

// counter is who counts in a run: analytics in a mode, or the plain consumer.
type counter struct {
	mode  analytics.Mode
	plain bool
}

func countersOf(modes []analytics.Mode) (all []counter) {
	for _, m := range modes {
		all = append(all, counter{mode: m})
	}
	return all
}

func (c counter) String() string {
	if c.plain {
		return plainName
	}
	return c.mode.String()
}

// consumer is what it reads TIMELINE through.
func (c counter) consumer() string {
	if c.plain {
		return plainName
	}
	t := events.DefaultTopology(1)
	group, _ := t.Group(events.GroupAnalytics)
	return group.Consumer(0)
}

const (
	plainName   = "plain"
	plainStream = "PLAIN"
)

// plainCmd is what nats.go costs by itself: one consumer that reads TIMELINE, acknowledges each message, and publishes results when their time has come. It knows beforehand what they are, so it
// counts nothing; it does not decode events, nor check anything, nor store what it has done; and nothing that it publishes depends on what is there. So it is what the way through the broker
// leaves, on the same machine with the same load.
type plainCmd struct {
	NATS    string   `name:"nats" required:""`
	Events  int      `required:""`
	Queries []string `help:"By name; none: all."`
}

// Run serves until it is stopped.
func (c *plainCmd) Run(b *bench) error {
	p, err := c.prepare()
	if err != nil {
		return err
	}
	if p.to, err = dial(c.NATS, jetstream.WithPublishAsyncMaxPending(window16k)); err != nil {
		return err
	}
	defer p.to.close()
	consumer, err := p.to.js.CreateOrUpdateConsumer(b.ctx, events.StreamTimeline, jetstream.ConsumerConfig{
		Durable: plainName, AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 10_000,
	})
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
		if err := p.take(m); err != nil {
			select {
			case failed <- err:
			default:
			}
		}
	}, jetstream.PullMaxMessages(2000))
	if err != nil {
		return err
	}
	defer consuming.Stop()
	fmt.Fprintln(os.Stdout, "ready")
	select {
	case err := <-failed:
		return err
	case <-b.ctx.Done():
		return nil
	}
}

// plainCounter knows what comes out at which delivery, but for the query that goes by store time: there it counts, in the plainest way.
type plainCounter struct {
	to       *client
	cfg      nexmark.Config
	log      []nexmark.Delivery
	subjects events.Subjects
	results  [][]events.WindowResult // by the place of the delivery
	byStore  *nexmark.Query          // nil: it is not asked
	counts   map[int64]map[string]int64
}

func (c *plainCmd) prepare() (*plainCounter, error) {
	t := events.DefaultTopology(1)
	p := &plainCounter{cfg: nexmark.Default(c.Events), subjects: t.Subjects(), counts: make(map[int64]map[string]int64)}
	p.log = p.cfg.Log()
	p.results = make([][]events.WindowResult, len(p.log))
	for _, q := range nexmark.Queries() {
		switch {
		case len(c.Queries) > 0 && !slices.Contains(c.Queries, q.Name):
			continue
		case q.StoreTime:
			p.byStore = &q
			continue
		}
		if err := p.cfg.Results(&q, p.log, func(place int, r *window.Result) {
			p.results[place] = append(p.results[place], plainResult(q.Name, r))
		}); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func plainResult(query string, r *window.Result) events.WindowResult {
	out := events.WindowResult{
		Query: query, Key: r.Key, Start: time.UnixMilli(r.Start).UTC(), End: time.UnixMilli(r.End).UTC(), Revision: r.Revision, Timing: string(r.Timing), Count: r.Count, Value: r.Value.Number,
	}
	for _, rank := range r.Value.Top {
		out.Top = append(out.Top, events.Rank{Item: rank.Item, Value: rank.Sum})
	}
	return out
}

// take publishes what comes out at a message, and acknowledges it.
func (p *plainCounter) take(m jetstream.Msg) error {
	defer func() { _ = m.Ack() }() // the connection's trouble shows elsewhere
	place, meta, err := loggedAt(m)
	if err != nil || meta == nil {
		return err
	}
	for _, r := range p.results[place] {
		if err := p.publish(&r, meta.Sequence.Stream); err != nil {
			return err
		}
	}
	return p.count(place, meta)
}

func (p *plainCounter) count(place int, meta *jetstream.MsgMetadata) error {
	if p.byStore == nil {
		return nil
	}
	e := p.cfg.Event(p.log[place].Number)
	if !p.byStore.Takes(e.Kind) {
		return nil
	}
	size := p.byStore.Windows.Of(0)[0].End
	stored := meta.Timestamp.UnixMilli()
	start := stored - stored%size
	if p.counts[start] == nil {
		p.counts[start] = make(map[string]int64)
	}
	key, _, _ := p.byStore.Read(&e)
	p.counts[start][key]++
	for start, keys := range p.counts {
		if stored < start+size+nexmark.Bound.Milliseconds() {
			continue
		}
		delete(p.counts, start)
		for key, n := range keys {
			r := plainResult(p.byStore.Name, &window.Result{Key: key, Window: window.Window{Start: start, End: start + size}, Revision: 1, Timing: window.OnTime, Count: n})
			if err := p.publish(&r, meta.Sequence.Stream); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *plainCounter) publish(r *events.WindowResult, sequence uint64) error {
	r.Sequence = sequence
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	subject := plainName + strings.TrimPrefix(p.subjects.Window(r.Query, r.Key, r.Start.UnixMilli()), "windows")
	_, err = p.to.js.PublishAsync(subject, data, jetstream.WithStallWait(time.Minute))
	return err
}

// readPlain makes the stream of the plain consumer's results, and reads it.
func (c *client) readPlain(ctx context.Context) (*resultReader, error) {
	stream, err := c.js.Stream(ctx, events.StreamWindows)
	if err != nil {
		return nil, err
	}
	cfg := stream.CachedInfo().Config
	cfg.Name, cfg.Subjects, cfg.Description = plainStream, []string{plainName + ".>"}, ""
	if _, err := c.js.CreateStream(ctx, cfg); err != nil {
		return nil, err
	}
	return c.readResults(ctx, plainStream)
}
