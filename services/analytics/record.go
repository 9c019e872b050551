package analytics

import (
	"strconv"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/window"
)

// recordFormat is the version of [record]. A change that an older program would misread raises it. Format 1 is that of 0.1.0: one partition a query, no lateness,
// no idle time, nothing held, and only the sum of what was late. It is read as what it meant.
const (
	recordFormat   = 2
	recordFormatV1 = 1
)

// record is one commit: the truth about what was counted. It is JSON, for people who debug.
type record struct {
	Format     int           `json:"format"`
	Sequence   uint64        `json:"sequence"`   // the last of TIMELINE whose effect is in
	Stored     time.Time     `json:"stored"`     // its store time: a log that has another message there is not the one that was counted
	Unreadable uint64        `json:"unreadable"` // events so far that could not be read
	Queries    []queryRecord `json:"queries"`
	Base       base          `json:"base"`
	LateBefore uint64        `json:"late_before"` // the last sequence of LATE before the outputs of this step
	Outputs    outputs       `json:"outputs"`
	Elsewhere  *pieces       `json:"outputs_stored,omitempty"` // where the outputs are that are too many for one message; Outputs is then empty
}

// queryRecord is where one query stood at the commit, and with which settings it got there.
type queryRecord struct {
	Name          string `json:"name"`
	Sequence      uint64 `json:"sequence"` // the last that it has read; less than the record's while a new query reads history
	Cut           uint64 `json:"cut"`      // up to which its results are in this record's outputs or those of one before
	Read          uint64 `json:"read"`     // the sum of all below, but for late
	Counted       uint64 `json:"counted"`
	Late          uint64 `json:"late"` // partially late, too late, future skew and no id
	PartiallyLate uint64 `json:"partially_late"`
	TooLate       uint64 `json:"too_late"`
	FutureSkew    uint64 `json:"future_skew"`
	NoID          uint64 `json:"no_id"`
	Duplicates    uint64 `json:"duplicates"`
	Unreadable    uint64 `json:"unreadable"`
	Given         uint64 `json:"-"`                      // what was read, counted apart; as far as this process knows
	Watermark     *int64 `json:"watermark_ms,omitempty"` // nil before the first counted event
	Gone          *int64 `json:"gone_ms,omitempty"`      // windows that end here or before take no event any more
	Settled       *int64 `json:"settled_ms,omitempty"`   // the same at the cut: all their results are in this record's outputs or those of one before

	Partitions int           `json:"partitions"`
	Bound      time.Duration `json:"bound_ns"`
	Lateness   time.Duration `json:"lateness_ns"`
	Idle       time.Duration `json:"idle_ns"`
	HoldIdle   bool          `json:"hold_idle"`
	MaxFuture  time.Duration `json:"max_future_ns"`
	Mode       Mode          `json:"mode"`
}

// base is a stored snapshot of the engines.
type base struct {
	Sequence uint64    `json:"sequence"` // of TIMELINE
	Stored   time.Time `json:"stored"`   // the store time there
	pieces
}

// pieces are something that is larger than a message may be, in parts.
type pieces struct {
	Parts  []uint64 `json:"parts"` // sequences in WINDOWS
	Size   int      `json:"size"`
	Digest string   `json:"sha256"`
}

// outputs are what one step gives to the world. Queries are meant by their place in the record.
type outputs struct {
	Results []result `json:"results,omitempty"`
	Late    []late   `json:"late,omitempty"`
}

type result struct {
	Query     int           `json:"q"`
	Key       string        `json:"k,omitempty"`
	Start     int64         `json:"s"`
	End       int64         `json:"e"`
	Count     int64         `json:"n"`
	Value     int64         `json:"v"`
	Top       []events.Rank `json:"top,omitempty"`
	Revision  int           `json:"r"`
	Timing    string        `json:"t"`
	Sequence  uint64        `json:"seq,omitempty"` // of TIMELINE: what made it come out
	Watermark *int64        `json:"w,omitempty"`   // then
}

type late struct {
	Query     int        `json:"q"`
	Reason    string     `json:"reason"`
	ID        string     `json:"id"`
	Key       *string    `json:"k,omitempty"` // nil in a record of 0.1.0
	Type      string     `json:"type"`
	Time      int64      `json:"t"`
	Watermark *int64     `json:"w,omitempty"`
	Sequence  uint64     `json:"seq"`
	Missed    [][2]int64 `json:"missed"`
}

func resultOf(r *window.Result) result {
	out := result{Key: r.Key, Start: r.Start, End: r.End, Count: r.Count, Value: r.Value.Number, Revision: r.Revision, Timing: string(r.Timing)}
	for _, rank := range r.Value.Top {
		out.Top = append(out.Top, events.Rank{Item: rank.Item, Value: rank.Sum})
	}
	return out
}

// window is the result as the engine gave it.
func (r *result) window() window.Result {
	return window.Result{
		Key: r.Key, Window: window.Window{Start: r.Start, End: r.End}, Count: r.Count, Value: window.Value{Number: r.Value}, Revision: r.Revision, Timing: window.Timing(r.Timing),
	}
}

func lateOf(query int, d *bus.Delivery, key string, o window.Outcome, watermark int64, started bool) late {
	l := late{Query: query, Reason: o.Verdict.String(), ID: d.Event.ID, Key: &key, Type: d.Event.Type, Time: d.Event.Time.UnixMilli(), Sequence: d.Sequence}
	if started {
		l.Watermark = &watermark
	}
	for _, w := range o.Missed {
		l.Missed = append(l.Missed, [2]int64{w.Start, w.End})
	}
	return l
}

const (
	perResult = 160 // bytes in a record, about
	perRank   = 40
	perLate   = 420 // an id may have 128 code points
)

// bytes is about how much the outputs add to a record.
func (o *outputs) bytes() int {
	n := len(o.Results)*perResult + len(o.Late)*perLate
	for i := range o.Results {
		n += len(o.Results[i].Top) * perRank
	}
	return n
}

func (o *outputs) empty() bool { return len(o.Results) == 0 && len(o.Late) == 0 }

// recordOf is the state as a record says it.
func recordOf(s *state) record {
	rec := record{Format: recordFormat, Sequence: s.sequence, Stored: s.stored, Unreadable: s.unreadable}
	for _, r := range s.running {
		rec.Queries = append(rec.Queries, r.record())
	}
	return rec
}

func (r *running) record() queryRecord {
	c, s := r.engine.Counts(), &r.settings
	q := queryRecord{
		Name: r.Name, Sequence: r.sequence, Cut: r.cut, Read: c.Read() + r.unreadable, Counted: c.Counted, Late: c.Late(),
		PartiallyLate: c.PartiallyLate, TooLate: c.TooLate, FutureSkew: c.FutureSkew, NoID: c.NoID, Duplicates: c.Duplicates, Unreadable: r.unreadable, Given: r.given,
		Partitions: r.partitions, Bound: s.Bound, Lateness: s.Lateness, Idle: s.Idle, HoldIdle: s.HoldIdle, MaxFuture: s.MaxFuture, Mode: s.Mode,
	}
	if w, ok := r.engine.Watermark(); ok {
		q.Watermark = &w
	}
	if gone, ok := r.engine.Gone(); ok {
		q.Gone = &gone
	}
	q.Settled = r.settled
	return q
}

// upgrade makes a record of format 1 say in the fields of today what it meant.
func (rec *record) upgrade() {
	rec.Format = recordFormat
	for i := range rec.Queries {
		q := &rec.Queries[i]
		q.Sequence, q.Cut, q.Partitions = rec.Sequence, rec.Sequence, 1
	}
}

const source = "/tidemark/analytics"

// event is the result as it is published. Its id hangs on the window and its revision alone, and where it stands in the log tells which of two is the newer one.
func (r *result) event(query string) (events.Event, error) {
	start, end := time.UnixMilli(r.Start).UTC(), time.UnixMilli(r.End).UTC()
	payload := events.WindowResult{
		Query: query, Key: r.Key, Start: start, End: end, Revision: r.Revision, Timing: r.Timing, Value: r.Value, Count: r.Count, Top: r.Top, Sequence: r.Sequence,
	}
	if r.Watermark != nil {
		w := time.UnixMilli(*r.Watermark).UTC()
		payload.Watermark = &w
	}
	ev, err := events.New(source, events.TypeWindowResult, query, end, payload)
	ev.ID = events.DeriveID("window", query, r.Key, number(r.Start), number(r.End), strconv.Itoa(r.Revision))
	return ev, err
}

// alert is the alert about the result's window. Its id hangs on the window alone.
func (r *result) alert(q *asked) (events.Event, error) {
	w := r.window()
	ev, err := events.New(source, q.Alert.Type, r.Key, time.UnixMilli(r.End).UTC(), q.Alert.Payload(&w))
	ev.ID = events.DeriveID("alert", q.Alert.Name, r.Key, number(r.Start), number(r.End))
	return ev, err
}

// event is the late event as it is published. Its id hangs on the query, the event and where it stands in the log.
func (l *late) event(query string) (events.Event, error) {
	payload := events.LateEvent{
		Query: query, Reason: l.Reason, EventID: l.ID, EventType: l.Type, EventTime: time.UnixMilli(l.Time).UTC(), Key: l.Key,
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
