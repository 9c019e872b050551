package analytics

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/window"
)

// index holds the closed windows in memory, for listing. It is a projection of WINDOWS: it is filled from there at the start and follows it, and
// the active instance tells it at once what it has committed. It is safe for use by many goroutines.
//
// A row takes 88 bytes, and what is ranked in it. Four months of minutes with an order in each are 180,000 rows a query; the shop's first four months have 28,000. A
// query that comes to more than maxRows loses its oldest rows here. They are in WINDOWS still.
type index struct {
	mu      sync.RWMutex
	series  map[string]*series
	maxRows int
	own     own
}

const maxRows = 500_000

// series are one query's rows by start and key.
type series struct {
	rows  []row
	keys  []string
	keyOf map[string]uint32
}

type row struct {
	start, end   int64
	value, count int64
	sequence     uint64
	key          uint32
	revision     int32
	timing       string
	top          []events.Rank
}

// newer says whether the row replaces another one of its start and key. What came out later in the log does; a retraction comes before what takes its place; and
// results of 0.1.0 don't say.
func (r *row) newer(o *row) bool {
	retract := func(r *row) int {
		if r.timing == string(window.Retract) {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(r.sequence, o.sequence), cmp.Compare(retract(r), retract(o)), cmp.Compare(r.revision, o.revision)) > 0
}

func newIndex(p *plan) *index {
	x := &index{series: make(map[string]*series), maxRows: maxRows}
	for _, q := range p.queries {
		x.series[q.Name] = &series{keyOf: make(map[string]uint32)}
	}
	return x
}

// put takes a result in, unless a later one of its window is there already.
func (x *index) put(query string, r *result) {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.series[query]
	if s == nil {
		return // of a query that is not asked any more
	}
	s.put(r)
	if len(s.rows) > x.maxRows {
		s.rows = slices.Delete(s.rows, 0, x.maxRows/10+1)
	}
}

func (s *series) put(r *result) {
	key, known := s.keyOf[r.Key]
	if !known {
		key = uint32(len(s.keys)) //nolint:gosec // a count of keys
		s.keys = append(s.keys, r.Key)
		s.keyOf[r.Key] = key
	}
	next := row{
		start: r.Start, end: r.End, value: r.Value, count: r.Count, sequence: r.Sequence, key: key,
		revision: int32(r.Revision), timing: r.Timing, top: r.Top, //nolint:gosec // small
	}
	at, found := s.find(position{r.Start, r.Key})
	switch {
	case !found:
		s.rows = slices.Insert(s.rows, at, next) // nearly always at the end: windows close in order
	case next.newer(&s.rows[at]):
		s.rows[at] = next
	}
}

// position is a place in a listing: rows are in the order of start, then key.
type position struct {
	start int64
	key   string
}

func (p position) compare(o position) int {
	return cmp.Or(cmp.Compare(p.start, o.start), cmp.Compare(p.key, o.key))
}

func (s *series) find(p position) (int, bool) {
	return slices.BinarySearchFunc(s.rows, p, func(r row, p position) int { return position{r.start, s.keys[r.key]}.compare(p) })
}

// selection is which windows of a query are asked for.
type selection struct {
	from, to int64   // that start in [from, to)
	key      *string // of one key only
	after    *position
	limit    int
}

func (f *selection) takes(p position) bool {
	return p.start >= f.from && p.start < f.to && (f.key == nil || *f.key == p.key) && (f.after == nil || p.compare(*f.after) > 0)
}

// list copies at most limit rows, by start and key. Windows that were retracted are not among them.
func (x *index) list(query string, f *selection) []result {
	x.mu.RLock()
	defer x.mu.RUnlock()
	s := x.series[query]
	if s == nil {
		return nil
	}
	at, _ := s.find(position{start: f.from})
	if f.after != nil {
		behind, _ := s.find(*f.after)
		at = max(at, behind)
	}
	var out []result
	for ; at < len(s.rows) && len(out) < f.limit && s.rows[at].start < f.to; at++ {
		r := &s.rows[at]
		if r.timing == string(window.Retract) || !f.takes(position{r.start, s.keys[r.key]}) {
			continue
		}
		out = append(out, result{
			Key: s.keys[r.key], Start: r.start, End: r.end, Count: r.count, Value: r.value, Top: r.top, Revision: int(r.revision), Timing: r.timing, Sequence: r.sequence,
		})
	}
	return out
}

// follower fills an index from WINDOWS: the last message of each window first, then what comes; and that it tells the readers of changes.
type follower struct {
	tail  tail
	index *index
	feed  *feed
	live  bool // what comes now is new
	log   *slog.Logger
	ready chan struct{} // closed when everything that was stored at the start is in
	once  sync.Once
}

func newFollower(js jetstream.JetStream, subjects events.Subjects, p *plan, index *index, feed *feed, log *slog.Logger) *follower {
	f := &follower{index: index, feed: feed, log: log, ready: make(chan struct{}), tail: tail{js: js, stream: events.StreamWindows, latest: true}}
	for _, q := range p.queries {
		f.tail.filters = append(f.tail.filters, subjects.WindowsOf(q.Name))
	}
	return f
}

// run follows until ctx ends.
func (f *follower) run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := f.tail.session(ctx, f.take, f.caughtUp); ctx.Err() == nil {
			f.log.WarnContext(ctx, "reading of windows begins anew", "error", err, "from", f.tail.next)
			pause(ctx, readPause)
		}
	}
	return nil
}

func (f *follower) caughtUp() error {
	f.tail.latest = f.tail.latest && f.tail.next == 0 // from here on by sequence: what came meanwhile must not be missed
	f.live = true
	f.once.Do(func() { close(f.ready) })
	return nil
}

func (f *follower) take(m *jetstream.RawStreamMsg) error {
	if mine := f.index.own.take(m.Header.Get(nats.MsgIdHdr)); mine && !f.feed.watched() {
		return nil
	}
	w, err := resultIn(m)
	if err != nil {
		f.log.Warn("a window result can't be read: it is not listed", "error", err, "sequence", m.Sequence)
		return nil
	}
	if f.live {
		f.feed.tell(changeOf(m.Sequence, &w.WindowResult))
	}
	f.index.put(w.Query, &result{
		Key: w.Key, Start: w.Start.UnixMilli(), End: w.End.UnixMilli(), Count: w.Count, Value: w.Value, Top: w.Top, Revision: w.Revision, Timing: w.Timing, Sequence: w.Sequence,
	})
	return nil
}
