package analytics

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/tidemark/tidemark/pkg/window"
)

const publishAtOnce = 64

// publish stores results, each on top of what the round has seen. The newest of live counting came out of an earlier message of the log, so it
// can't take their place when it is published once more.
func (b *backfill) publish(ctx context.Context, t *task, results []window.Result) error {
	if len(results) == 0 {
		return nil
	}
	all := make([]result, len(results))
	for i := range results {
		all[i] = resultOf(&results[i])
		all[i].Sequence, all[i].Watermark = t.standing.Sequence, t.standing.Watermark
	}
	names := []string{t.query.Name}
	chains := b.publisher.chains(names, all)
	expect := t.lastOf()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(publishAtOnce)
	for i, c := range chains {
		if i == len(chains)/2 {
			if err := b.fault(duringResults); err != nil {
				_ = g.Wait()
				return err
			}
		}
		g.Go(func() error { return b.put(gctx, c, expect[subjectPlace{c.results[0].Key, c.results[0].Start}]) })
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("publish results: %w", err)
	}
	if err := b.publisher.sendAlerts(ctx, names, all).settle(ctx); err != nil {
		return fmt.Errorf("publish alerts: %w", err)
	}
	return nil
}

// subjectPlace is what a subject of a query is made of.
type subjectPlace struct {
	key   string
	start int64
}

// lastOf is the sequence of the last message by subject.
func (t *task) lastOf() map[subjectPlace]uint64 {
	last := make(map[subjectPlace]uint64, len(t.published))
	for at, p := range t.published {
		place := subjectPlace{at.Key, at.Start}
		last[place] = max(last[place], p.sequence)
	}
	return last
}

// put stores what goes to one subject, in its order.
func (b *backfill) put(ctx context.Context, c *chain, expect uint64) error {
	if err := c.encode(); err != nil {
		return err
	}
	for _, ev := range c.events {
		s, err := b.publisher.send(ctx, c.subject, ev, jetstream.WithExpectLastSequencePerSubject(expect))
		if err != nil {
			return err
		}
		ack, err := s.wait(ctx)
		switch {
		case isConflict(err):
			return fmt.Errorf("%w: %w", errOvertaken, err)
		case err != nil:
			return err
		case ack.Duplicate: // of the same revision: somebody's, or ours of a try that has no answer
			return fmt.Errorf("%w: revision on %s is there already", errOvertaken, c.subject)
		}
		expect = ack.Sequence
	}
	return nil
}
