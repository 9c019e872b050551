package analytics

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/lookup"
	"github.com/tidemark/tidemark/pkg/window"
)

// replay puts TIMELINE through the tasks' recomputations, each up to where its query stands in the record.
func (b *backfill) replay(ctx context.Context, tasks []*task, log logState) error {
	after, last := uint64(math.MaxUint64), uint64(0)
	for _, t := range tasks {
		if len(t.lates) == 0 {
			continue
		}
		from, err := b.beginning(ctx, t, log)
		if err != nil {
			return err
		}
		after, last = min(after, from-1), max(last, t.standing.Sequence)
	}
	if last == 0 {
		return nil
	}
	n := 0
	_, err := readAll(ctx, b.js, events.StreamTimeline, after+1, func(m *jetstream.RawStreamMsg) error {
		if m.Sequence > last {
			return errAtEnd
		}
		if n++; n == 1 && m.Sequence > max(after+1, log.first) {
			return fmt.Errorf("%s has lost messages from %d on meanwhile: run the backfill again", events.StreamTimeline, after+1)
		}
		b.give(tasks, m)
		if m.Sequence == last {
			return errAtEnd
		}
		return nil
	})
	return err
}

// give puts one message through the recomputations.
func (b *backfill) give(tasks []*task, m *jetstream.RawStreamMsg) {
	d := deliveryOf(m, b.plan)
	stored := m.Time.UnixMilli()
	for _, t := range tasks {
		if len(t.lates) == 0 || m.Sequence > t.standing.Sequence {
			continue
		}
		reading, ok := b.readingOf(&d, t.query)
		if !ok {
			t.recompute.Tick(stored)
			continue
		}
		t.recompute.Apply(window.Event{
			ID: identity(&d.Event), Key: reading.Key, Item: reading.Item, Value: reading.Value, Parts: reading.Parts,
			Time: t.query.timeOf(&d.Event, stored), Stored: stored,
		}, t.missed[m.Sequence]...)
	}
}

// readingOf is what a query sees in a delivery. ok is false where it does not take it.
func (b *backfill) readingOf(d *bus.Delivery, q *asked) (r Reading, ok bool) {
	all, _ := d.Checked.(readings)
	if d.Err != nil || all == nil {
		return Reading{}, false
	}
	for n, i := range b.plan.byType[d.Event.Type] {
		if b.plan.queries[i] == q {
			return all[n], true
		}
	}
	return Reading{}, false
}

// beginning is the sequence from which on TIMELINE has all events of a task's windows: no event is counted that is dated later than it was stored, by more than the
// query allows.
func (b *backfill) beginning(ctx context.Context, t *task, log logState) (uint64, error) {
	maxFuture := t.query.config().MaxFuture
	switch maxFuture {
	case window.Unlimited:
		return log.first, nil
	case 0:
		maxFuture = window.DefaultMaxFuture
	}
	from := slices.Min(slices.Collect(maps.Values(t.from)))
	begins := time.UnixMilli(from).Add(-maxFuture - clockSlack).UTC()
	if !begins.After(log.firstStored) {
		return log.first, nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	m, err := lookup.Of(b.js, events.StreamTimeline).FromLeader(ctx, lookup.Request{StartTime: begins, NextBySubject: ">"})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return log.last, nil
	}
	if err != nil {
		return 0, fmt.Errorf("find %s in %s: %w", begins.Format(time.RFC3339), events.StreamTimeline, err)
	}
	return m.Sequence, nil
}

// reading is what of a stream is read.
type reading struct {
	stream  string
	filters []string
	from    uint64
	latest  bool // the last message of each subject
}

// readMatching hands what a stream holds now to fn. fn may end it early with errAtEnd; of latest, it may get a message twice.
func readMatching(ctx context.Context, js jetstream.JetStream, what reading, fn func(*jetstream.RawStreamMsg) error) error {
	end, err := lastMatching(ctx, js, &what)
	if err != nil || end < what.from || end == 0 {
		return err
	}
	t := tail{js: js, stream: what.stream, filters: what.filters, next: what.from, latest: what.latest}
	for try := 1; ; try++ {
		err := t.session(ctx, fn, func() error {
			if t.next > end {
				return errAtEnd
			}
			return fmt.Errorf("%w: the server that reads is behind", errSession)
		})
		switch {
		case errors.Is(err, errAtEnd):
			return nil
		case !errors.Is(err, errSession) || try == readTries || ctx.Err() != nil:
			return fmt.Errorf("read %s: %w", what.stream, err)
		}
		pause(ctx, readPause)
	}
}

// lastMatching is the sequence of the last message that matches a filter; 0 where there is none.
func lastMatching(ctx context.Context, js jetstream.JetStream, what *reading) (last uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for _, filter := range what.filters {
		m, err := lookup.Of(js, what.stream).FromLeader(ctx, lookup.Request{LastBySubject: filter})
		if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			return 0, fmt.Errorf("read %s: %w", what.stream, err)
		}
		last = max(last, m.Sequence)
	}
	return last, nil
}
