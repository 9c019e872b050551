package analytics

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/lookup"
	"github.com/tidemark/tidemark/pkg/window"
)

// logState is what TIMELINE holds when a round begins.
type logState struct {
	first, last uint64
	firstStored time.Time
}

// since is the event time from which on TIMELINE has all events, if it has lost its beginning.
func (s logState) since(maxFuture time.Duration) int64 {
	switch maxFuture {
	case window.Unlimited:
		return math.MaxInt64
	case 0:
		maxFuture = window.DefaultMaxFuture
	}
	return s.firstStored.Add(maxFuture+clockSlack).UnixMilli() + 1
}

func (b *backfill) logState(ctx context.Context) (logState, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	stream, err := b.js.Stream(ctx, events.StreamTimeline)
	if err != nil {
		return logState{}, fmt.Errorf("look at %s: %w", events.StreamTimeline, err)
	}
	s := stream.CachedInfo().State
	return logState{first: max(s.FirstSeq, 1), last: s.LastSeq, firstStored: s.FirstTime}, nil
}

const (
	catchUpTime = 30 * time.Second
	outputsTime = 30 * time.Second
	lookAgain   = 20 * time.Millisecond
)

// caughtUp waits for a while until what TIMELINE holds now is counted: who loads and then backfills means all of it. Where counting is behind for longer, the
// backfill is of what is counted.
func (b *backfill) caughtUp(ctx context.Context) error {
	log, err := b.logState(ctx)
	if err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, catchUpTime)
	defer cancel()
	for waiting.Err() == nil {
		consumer, err := b.js.Consumer(waiting, events.StreamTimeline, b.group.Consumer(0))
		if err == nil && consumer.CachedInfo().AckFloor.Stream >= log.last {
			return nil
		}
		pause(waiting, lookAgain)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	b.log.WarnContext(ctx, "analytics is behind: the backfill is of what is counted", "end", log.last)
	return nil
}

// settled is the committed record, once all its results are in WINDOWS. Those of the records before it are.
func (b *backfill) settled(ctx context.Context) (*record, error) {
	rec, seq, err := b.journal.last(ctx)
	if err != nil || seq == 0 {
		return &rec, err
	}
	if err := b.journal.outputs(ctx, &rec); err != nil {
		return nil, err
	}
	waiting, cancel := context.WithTimeout(ctx, outputsTime)
	defer cancel()
	for i := range rec.Outputs.Results {
		r := &rec.Outputs.Results[i]
		subject := b.journal.subjects.Window(rec.Queries[r.Query].Name, r.Key, r.Start)
		for {
			out, err := b.isOut(waiting, subject, r)
			if err != nil {
				return nil, fmt.Errorf("the results of the last commit are not out: %w", err)
			}
			if out {
				break
			}
			pause(waiting, lookAgain)
		}
	}
	return &rec, nil
}

// isOut says whether a result of a record, or one that replaced it, is in WINDOWS.
func (b *backfill) isOut(ctx context.Context, subject string, r *result) (bool, error) {
	m, err := lookup.Of(b.js, events.StreamWindows).FromLeader(ctx, lookup.Request{LastBySubject: subject})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	there, err := resultIn(&m)
	return there.Sequence >= r.Sequence, err
}

// readLate takes the misses of LATE behind the position, and those that are pending.
func (b *backfill) readLate(ctx context.Context, t *task, log logState) error {
	stream, err := b.js.Stream(ctx, events.StreamLate)
	if err != nil {
		return err
	}
	if err := b.readPending(ctx, t, stream, log); err != nil {
		return err
	}
	var filters []string
	for _, reason := range []window.Verdict{window.TooLate, window.PartiallyLate} {
		filters = append(filters, b.journal.subjects.Late(reason.String(), t.query.Name))
	}
	pending := len(t.lates)
	err = readMatching(ctx, b.js, reading{stream: events.StreamLate, filters: filters, from: t.position.Position + 1}, func(m *jetstream.RawStreamMsg) error {
		late, err := lateIn(m)
		if err != nil {
			return err
		}
		if late.Sequence > t.standing.Sequence {
			return errAtEnd // it came behind the record: the next backfill's
		}
		if len(t.lates)-pending >= b.mostWindows {
			t.more = true
		}
		switch {
		case !t.more:
			t.next.Position = m.Sequence
			t.next.Seen++
			t.report.Late++
			return b.miss(ctx, t, m.Sequence, &late, log)
		case log.first > 1: // to judge whether the log has all events of a window, one must know all that missed it
			return b.alsoMissed(ctx, t, &late, log)
		}
		return errAtEnd
	})
	if err == nil && !t.more && stream.CachedInfo().State.FirstSeq > t.position.Position+1 {
		t.forgotten()
	}
	return err
}

// forgotten counts the late events that LATE has forgotten before anybody looked at them: the record knows how many there were.
func (t *task) forgotten() {
	if all := t.standing.TooLate + t.standing.PartiallyLate; all > t.next.Seen {
		t.report.Expired += all - t.next.Seen
		t.next.Seen = all
	}
}

// readPending takes the misses that were pending. What LATE has forgotten meanwhile is lost for a backfill.
func (b *backfill) readPending(ctx context.Context, t *task, stream jetstream.Stream, log logState) error {
	found := make([]*events.LateEvent, len(t.position.Pending))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(asksAtOnce)
	for i, sequence := range t.position.Pending {
		g.Go(func() error {
			m, err := stream.GetMsg(gctx, sequence)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			late, err := lateIn(m)
			found[i] = &late
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("read pending late events: %w", err)
	}
	for i, late := range found {
		if late == nil {
			t.report.Expired++
			continue
		}
		if err := b.miss(ctx, t, t.position.Pending[i], late, log); err != nil {
			return err
		}
	}
	return nil
}

func lateIn(m *jetstream.RawStreamMsg) (events.LateEvent, error) {
	ev, err := events.Decode(events.Header(m.Header), m.Data)
	if err != nil {
		return events.LateEvent{}, fmt.Errorf("message %d of %s: %w", m.Sequence, events.StreamLate, err)
	}
	late, err := events.Payload[events.LateEvent](&ev)
	if err != nil {
		return events.LateEvent{}, fmt.Errorf("message %d of %s: %w", m.Sequence, events.StreamLate, err)
	}
	return late, nil
}

// miss takes one late event: its windows are asked for.
func (b *backfill) miss(ctx context.Context, t *task, sequence uint64, late *events.LateEvent, log logState) error {
	key, known, err := b.keyOf(ctx, t.query, late, log)
	if err != nil {
		return err
	}
	if !known { // neither LATE nor TIMELINE says what it was
		t.report.Expired++
		return nil
	}
	for _, span := range late.Missed {
		m := window.Miss{Key: key, Window: window.Window{Start: span.Start.UnixMilli(), End: span.End.UnixMilli()}}
		t.lates[m] = append(t.lates[m], sequence)
		if from, ok := t.from[key]; !ok || m.Start < from {
			t.from[key] = m.Start
		}
		t.recompute.Miss(m)
		t.note(m, late.Sequence, log)
	}
	return nil
}

// note says that a window has missed an event of the log.
func (t *task) note(m window.Miss, sequence uint64, log logState) {
	if sequence < log.first {
		t.recompute.Expired(m)
		return
	}
	t.missed[sequence] = append(t.missed[sequence], m.Window)
}

// alsoMissed takes a late event of another round, for what it says of the windows of this one.
func (b *backfill) alsoMissed(ctx context.Context, t *task, late *events.LateEvent, log logState) error {
	key, known, err := b.keyOf(ctx, t.query, late, log)
	if err != nil || !known {
		return err
	}
	for _, span := range late.Missed {
		if m := (window.Miss{Key: key, Window: window.Window{Start: span.Start.UnixMilli(), End: span.End.UnixMilli()}}); t.recompute.Wants(m) {
			t.note(m, late.Sequence, log)
		}
	}
	return nil
}

// keyOf is what the query groups a late event by. Late events of 0.1.0 don't say: then the event itself does.
func (b *backfill) keyOf(ctx context.Context, q *asked, late *events.LateEvent, log logState) (key string, known bool, err error) {
	if late.Key != nil {
		return *late.Key, true, nil
	}
	if late.Sequence < log.first {
		return "", false, nil
	}
	m, err := lookup.Of(b.js, events.StreamTimeline).FromLeader(ctx, lookup.Request{Sequence: late.Sequence})
	if err != nil {
		return "", false, fmt.Errorf("read late event %d of %s: %w", late.Sequence, events.StreamTimeline, err)
	}
	d := deliveryOf(&m, b.plan)
	reading, ok := b.readingOf(&d, q)
	return reading.Key, ok, d.Err
}

// readPublished reads the newest results of the windows that the round is about.
func (b *backfill) readPublished(ctx context.Context, t *task) error {
	what := reading{stream: events.StreamWindows, filters: []string{b.journal.subjects.WindowsOf(t.query.Name)}, latest: true}
	err := readMatching(ctx, b.js, what, func(m *jetstream.RawStreamMsg) error {
		w, err := resultIn(m)
		if err != nil {
			return fmt.Errorf("message %d of %s: %w", m.Sequence, events.StreamWindows, err)
		}
		r := w.result()
		at := window.Miss{Key: r.Key, Window: r.Window}
		if t.recompute.Wants(at) {
			t.published[at] = published{Result: r, sequence: m.Sequence}
		}
		return nil
	})
	if err != nil {
		return err
	}
	t.widen()
	return nil
}

// result is a stored result as the engine gave it.
func (s *storedResult) result() window.Result {
	r := window.Result{
		Key: s.Key, Window: window.Window{Start: s.Start.UnixMilli(), End: s.End.UnixMilli()}, Count: s.Count, Value: window.Value{Number: s.Value},
		Revision: s.Revision, Timing: window.Timing(s.Timing),
	}
	for _, rank := range s.Top {
		r.Value.Top = append(r.Value.Top, window.Rank{Item: rank.Item, Sum: rank.Value})
	}
	return r
}

// widen moves the beginning of each key back to where sessions begin that a missed event is part of.
func (t *task) widen() {
	for again := true; again; {
		again = false
		for at, p := range t.published {
			if from := t.from[at.Key]; at.Start < from && at.End > from && p.Timing != window.Retract {
				t.from[at.Key], again = at.Start, true
			}
		}
	}
}
