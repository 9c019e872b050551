package analytics

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/window"
)

var (
	// errLogLost says that TIMELINE does not hold what was committed. Counting on would be wrong without anybody seeing it.
	errLogLost = errors.New("TIMELINE does not hold what was committed")
	// errOtherCounts says that the same log gave other counts than before: what a query means was changed, and its name was not.
	errOtherCounts = errors.New("the log gives other counts than the commit")
)

// replay makes the state of a record: its base, and the events from there to the record's sequence once more. The windows that fire on the way
// have been published long ago.
//
// The queries' bounds may have been changed since. What is replayed is replayed with the bounds that the record names, and the new ones hold from
// the next event on.
func (w *worker) replay(ctx context.Context, rec *record) (*state, error) {
	snapshot, err := w.journal.load(ctx, &rec.Base)
	if err != nil {
		return nil, err
	}
	s, err := restoreState(asRecorded(w.queries, rec), snapshot)
	if errors.Is(err, errState) || errors.Is(err, window.ErrSnapshot) {
		// Written by another version of this program. A base is a cache: the log, where it still begins at its beginning, says the same.
		w.log.WarnContext(ctx, "the base can't be read; counting from the beginning of TIMELINE instead", "error", err, "base", rec.Base.Sequence, "until", rec.Sequence)
		s, err = newState(asRecorded(w.queries, rec))
	}
	if err != nil {
		return nil, err
	}
	if err := replayLog(ctx, w.js, s, rec.Sequence, w.registry, w.check); err != nil {
		return nil, err
	}
	if err := sameCounts(rec, s); err != nil {
		return nil, err
	}
	return restoreState(w.queries, s.snapshot())
}

// asRecorded are the queries with the settings of the record.
func asRecorded(qs []query, rec *record) []query {
	old := make([]query, len(qs))
	copy(old, qs)
	for i := range old {
		for _, q := range rec.Queries {
			if q.Name == old[i].name {
				old[i].window.Bound, old[i].window.MaxFuture = q.Bound, q.MaxFuture
			}
		}
	}
	return old
}

// replayLog applies TIMELINE behind the state up to the sequence last.
func replayLog(ctx context.Context, js jetstream.JetStream, s *state, last uint64, registry *events.Registry, check func(*events.Event) error) error {
	if s.sequence >= last {
		return nil
	}
	var ignored outputs
	base, first := s.sequence, uint64(0)
	end, err := readAll(ctx, js, events.StreamTimeline, base+1, func(m *logMessage) error {
		if first == 0 {
			first = m.sequence
		}
		if m.sequence > last {
			return errAtEnd
		}
		d := deliveryOf(m, registry, check)
		ignored = outputs{}
		_, err := s.apply(&d, &ignored)
		if err == nil && m.sequence == last {
			err = errAtEnd
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case end < last:
		return fmt.Errorf("%w: it ends at sequence %d, committed is %d; was the broker's data restored from an older copy?", errLogLost, end, last)
	case first > base+1:
		return fmt.Errorf("%w: it begins at sequence %d, needed is %d: analytics was away, or its base was written by another version, for longer than TIMELINE is kept", errLogLost, first, base+1)
	}
	s.sequence = last
	return nil
}

// deliveryOf is a message as the log's reader hands it over.
func deliveryOf(m *logMessage, registry *events.Registry, check func(*events.Event) error) bus.Delivery {
	d := bus.Delivery{Stream: events.StreamTimeline, Subject: m.subject, Sequence: m.sequence, StoredAt: m.stored}
	if m.subject == events.SubjectTick {
		return d
	}
	if d.Event, d.Err = registry.Read(events.Header(m.header), m.data); d.Err == nil {
		d.Err = check(&d.Event)
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
