package analytics

import (
	"strconv"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/window"
)

// recordFormat is the version of [record]. A change that an older program would misread raises it.
const recordFormat = 1

// record is one commit: the truth about what was counted. It is JSON, for people who debug.
type record struct {
	Format     int           `json:"format"`
	Sequence   uint64        `json:"sequence"`   // the last of TIMELINE whose effect is in
	Unreadable uint64        `json:"unreadable"` // events so far that could not be read
	Queries    []queryRecord `json:"queries"`
	Base       base          `json:"base"`
	LateBefore uint64        `json:"late_before"` // the last sequence of LATE before the outputs of this step
	Outputs    outputs       `json:"outputs"`
}

// queryRecord is where one query stood at the commit, and with which settings it got there.
type queryRecord struct {
	Name       string `json:"name"`
	Read       uint64 `json:"read"`
	Counted    uint64 `json:"counted"`
	Late       uint64 `json:"late"`
	Duplicates uint64 `json:"duplicates"`
	Unreadable uint64 `json:"unreadable"`
	Watermark  *int64 `json:"watermark_ms,omitempty"` // nil before the first counted event

	Bound     time.Duration `json:"bound_ns"`
	MaxFuture time.Duration `json:"max_future_ns"`
}

// base is a stored snapshot of the engines.
type base struct {
	Sequence uint64    `json:"sequence"` // of TIMELINE
	Stored   time.Time `json:"stored"`   // the store time there
	Parts    []uint64  `json:"parts"`    // sequences in WINDOWS
	Size     int       `json:"size"`
	Digest   string    `json:"sha256"`
}

// outputs are what one step gives to the world. Queries are meant by their place in the record.
type outputs struct {
	Results []result `json:"results,omitempty"`
	Late    []late   `json:"late,omitempty"`
}

type result struct {
	Query    int    `json:"q"`
	Key      string `json:"k,omitempty"`
	Start    int64  `json:"s"`
	End      int64  `json:"e"`
	Count    int64  `json:"n"`
	Value    int64  `json:"v"`
	Revision int    `json:"r"`
	Timing   string `json:"t"`
}

type late struct {
	Query     int        `json:"q"`
	Reason    string     `json:"reason"`
	ID        string     `json:"id"`
	Type      string     `json:"type"`
	Time      int64      `json:"t"`
	Watermark *int64     `json:"w,omitempty"`
	Sequence  uint64     `json:"seq"`
	Missed    [][2]int64 `json:"missed"`
}

func resultOf(query int, r window.Result) result {
	return result{
		Query: query, Key: r.Key, Start: r.Start, End: r.End, Count: r.Count, Value: r.Value.Number, Revision: r.Revision, Timing: string(r.Timing),
	}
}

func lateOf(query int, d *bus.Delivery, o window.Outcome, watermark int64, started bool) late {
	l := late{Query: query, Reason: o.Verdict.String(), ID: d.Event.ID, Type: d.Event.Type, Time: d.Event.Time.UnixMilli(), Sequence: d.Sequence}
	if started {
		l.Watermark = &watermark
	}
	for _, w := range o.Missed {
		l.Missed = append(l.Missed, [2]int64{w.Start, w.End})
	}
	return l
}

// bytes is about how much the outputs add to a record.
func (o *outputs) bytes() int {
	const perResult, perLate = 120, 420 // an id may have 128 code points
	return len(o.Results)*perResult + len(o.Late)*perLate
}

// recordOf is the state as a record says it.
func recordOf(s *state) record {
	rec := record{Format: recordFormat, Sequence: s.sequence, Unreadable: s.unreadable}
	for _, r := range s.running {
		c := r.engine.Counts()
		q := queryRecord{
			Name: r.query.name, Read: c.Read() + r.unreadable, Counted: c.Counted, Late: c.Late(), Duplicates: c.Duplicates, Unreadable: r.unreadable,
			Bound: r.query.window.Bound, MaxFuture: r.query.window.MaxFuture,
		}
		if w, ok := r.engine.Watermark(); ok {
			q.Watermark = &w
		}
		rec.Queries = append(rec.Queries, q)
	}
	return rec
}

const source = "/tidemark/analytics"

// event is the result as it is published. Its id hangs on the window and its revision alone.
func (r *result) event(query string) (events.Event, error) {
	start, end := time.UnixMilli(r.Start).UTC(), time.UnixMilli(r.End).UTC()
	ev, err := events.New(source, events.TypeWindowResult, query, end, events.WindowResult{
		Query: query, Key: r.Key, Start: start, End: end, Revision: r.Revision, Timing: r.Timing, Value: r.Value, Count: r.Count,
	})
	ev.ID = events.DeriveID("window", query, r.Key, number(r.Start), number(r.End), strconv.Itoa(r.Revision))
	return ev, err
}

// event is the late event as it is published. Its id hangs on the query, the event and where it stands in the log.
func (l *late) event(query string) (events.Event, error) {
	payload := events.LateEvent{
		Query: query, Reason: l.Reason, EventID: l.ID, EventType: l.Type, EventTime: time.UnixMilli(l.Time).UTC(),
		Stream: events.StreamTimeline, Sequence: l.Sequence,
	}
	if l.Watermark != nil {
		payload.Watermark = time.UnixMilli(*l.Watermark).UTC()
		payload.LateByMS = max(*l.Watermark-l.Time, 0)
	}
	for _, w := range l.Missed {
		payload.Missed = append(payload.Missed, events.Span{Start: time.UnixMilli(w[0]).UTC(), End: time.UnixMilli(w[1]).UTC()})
	}
	ev, err := events.New(source, events.TypeEventLate, query, payload.EventTime, payload)
	ev.ID = events.DeriveID("late", query, l.ID, strconv.FormatUint(l.Sequence, 10))
	ev.CausationID = l.ID
	return ev, err
}

func number(n int64) string { return strconv.FormatInt(n, 10) }
