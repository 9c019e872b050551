package analytics

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/lookup"
	"github.com/tidemark/tidemark/pkg/window"
)

var (
	// errLogLost says that TIMELINE does not hold what was committed. Counting on would be wrong without anybody seeing it.
	errLogLost = errors.New("TIMELINE does not hold what was committed")
	// errOtherCounts says that the same log gave other counts than before: what a query means was changed, and its name was not.
	errOtherCounts = errors.New("the log gives other counts than the commit")
)

// replay makes the state of a record: its base, and the events from there to the record's sequence once more. What comes out on the way and is in the record, or in one before it,
// was published long ago; what the record says to be held back still is held again.
//
// The queries' settings may have been changed since. What is replayed is replayed with the settings that the record names, and the new ones hold from
// the next event on.
func (w *worker) replay(ctx context.Context, rec *record) (*state, error) {
	snapshot, err := w.journal.load(ctx, &rec.Base.pieces)
	if err != nil {
		return nil, fmt.Errorf("base: %w", err)
	}
	recorded := w.plan.asRecorded(rec)
	s, err := restoreState(recorded, snapshot)
	if errors.Is(err, errState) || errors.Is(err, window.ErrSnapshot) {
		// Written by another version of this program. A base is a cache: the log, where it still begins at its beginning, says the same.
		w.log.WarnContext(ctx, "the base can't be read; counting from the beginning of TIMELINE instead", "error", err, "base", rec.Base.Sequence, "until", rec.Sequence)
		s, err = newState(recorded)
	}
	if err != nil {
		return nil, err
	}
	if err := w.fault(duringRestore); err != nil {
		return nil, err
	}
	s.prepare(rec)
	if err := w.replayLog(ctx, s, rec.Sequence); err != nil {
		return nil, err
	}
	if err := sameCounts(rec, s); err != nil {
		return nil, err
	}
	next, err := restoreState(w.plan, s.snapshot())
	if err != nil {
		return nil, err
	}
	next.stored = rec.Stored
	for i := range next.running {
		next.running[i].settled = s.running[i].settled
	}
	return next, nil
}

// sameLog looks whether TIMELINE is the log that was counted: whether it has the message of the record, stored at the time that the record says. After its data was put back from
// an older copy it ends too early, or has come so far again with other messages.
func (w *worker) sameLog(ctx context.Context, rec *record) error {
	if rec.Sequence == 0 || rec.Stored.IsZero() {
		return nil // nothing is committed, or by 0.1.0
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	stream, err := w.js.Stream(ctx, events.StreamTimeline)
	if err != nil {
		return fmt.Errorf("read %s: %w", events.StreamTimeline, err)
	}
	state := stream.CachedInfo().State
	if state.LastSeq < rec.Sequence {
		return fmt.Errorf("%w: it ends at sequence %d, committed is %d; was the broker's data restored from an older copy?", errLogLost, state.LastSeq, rec.Sequence)
	}
	m, err := lookup.Of(w.js, events.StreamTimeline).FromLeader(ctx, lookup.Request{Sequence: rec.Sequence})
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return nil // expired
	case err != nil:
		return fmt.Errorf("read %s: %w", events.StreamTimeline, err)
	case !m.Time.Equal(rec.Stored):
		return fmt.Errorf("%w: its message %d was stored at %s, the committed one at %s; it ends at sequence %d; was the broker's data restored from an older copy?",
			errLogLost, rec.Sequence, m.Time.Format(time.RFC3339Nano), rec.Stored.Format(time.RFC3339Nano), state.LastSeq)
	}
	return nil
}

// asRecorded are the queries with the settings of the record.
func (p *plan) asRecorded(rec *record) *plan {
	old := *p
	old.queries = make([]*asked, len(p.queries))
	for i, a := range p.queries {
		was := *a
		for _, q := range rec.Queries {
			if q.Name == a.Name {
				was.partitions = q.Partitions
				was.settings = Settings{Bound: q.Bound, Lateness: q.Lateness, Idle: q.Idle, HoldIdle: q.HoldIdle, MaxFuture: q.MaxFuture, Mode: q.Mode}
			}
		}
		old.queries[i] = &was
	}
	return &old
}

// prepare sets how far each query is to read, and what of it is out. A query that the record does not know reads nothing: it is new, and its turn comes.
func (s *state) prepare(rec *record) {
	for _, r := range s.running {
		r.until = 0
		for _, q := range rec.Queries {
			if q.Name == r.Name {
				r.until = q.Sequence
				r.forget(q.Cut)
				r.settled = q.Settled
			}
		}
	}
}

// replayLog applies TIMELINE behind the state up to the sequence last.
func (w *worker) replayLog(ctx context.Context, s *state, last uint64) error {
	from := s.sequence
	for _, r := range s.running {
		if r.sequence < r.until {
			from = min(from, r.sequence)
		}
	}
	if from < last {
		var ignored outputs // late events: they are stored
		if err := w.readLog(ctx, from, last, func(d *bus.Delivery) error {
			ignored.Late = ignored.Late[:0]
			_, err := s.apply(d, &ignored)
			return err
		}); err != nil {
			return err
		}
	}
	s.arrive(last)
	return nil
}

// arrive notes that all is read, also where it ends with messages that have expired.
func (s *state) arrive(last uint64) {
	s.sequence = last
	for _, r := range s.running {
		if r.until > 0 {
			r.sequence = r.until
		}
	}
}

// readLog hands TIMELINE's messages behind one sequence, up to and with another, to take. It must hold them all.
func (w *worker) readLog(ctx context.Context, after, last uint64, take func(*bus.Delivery) error) error {
	first := uint64(0)
	end, err := readAll(ctx, w.js, events.StreamTimeline, after+1, func(m *jetstream.RawStreamMsg) error {
		if first == 0 {
			first = m.Sequence
		}
		if m.Sequence > last {
			return errAtEnd
		}
		d := deliveryOf(m, w.plan)
		err := take(&d)
		if err == nil && m.Sequence == last {
			err = errAtEnd
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case end < last:
		return fmt.Errorf("%w: it ends at sequence %d, committed is %d; was the broker's data restored from an older copy?", errLogLost, end, last)
	case first > after+1:
		return fmt.Errorf("%w: it begins at sequence %d, needed is %d: analytics was away, or its base was written by another version, for longer than TIMELINE is kept", errLogLost, first, after+1)
	}
	return nil
}

// deliveryOf is a message as the log's reader hands it over.
func deliveryOf(m *jetstream.RawStreamMsg, p *plan) bus.Delivery {
	d := bus.Delivery{Stream: events.StreamTimeline, Subject: m.Subject, Sequence: m.Sequence, StoredAt: m.Time}
	if m.Subject == events.SubjectTick {
		return d
	}
	if d.Event, d.Err = p.registry.Read(events.Header(m.Header), m.Data); d.Err == nil {
		d.Checked, d.Err = p.check(&d.Event)
	}
	return d
}

// sameCounts compares what the replay gave with what was committed, for the queries that both know.
func sameCounts(rec *record, s *state) error {
	now := recordOf(s)
	var wrong []string
	for _, a := range rec.Queries {
		for _, b := range now.Queries {
			if a.Name == b.Name && !a.same(b) {
				wrong = append(wrong, fmt.Sprintf("%s: committed %s, now %s", a.Name, a, b))
			}
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%w: %s; a query whose meaning changes needs a new name", errOtherCounts, strings.Join(wrong, "; "))
	}
	return nil
}

func (q queryRecord) same(o queryRecord) bool {
	return q.Read == o.Read && q.Counted == o.Counted && q.Late == o.Late && q.Duplicates == o.Duplicates && q.watermark() == o.watermark()
}

func (q queryRecord) watermark() string {
	if q.Watermark == nil {
		return "none"
	}
	return strconv.FormatInt(*q.Watermark, 10)
}

func (q queryRecord) String() string {
	return fmt.Sprintf("{read %d, counted %d, late %d, duplicates %d, watermark %s}", q.Read, q.Counted, q.Late, q.Duplicates, q.watermark())
}
