package analytics

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

// index holds the closed windows in memory, for listing. It is a projection of WINDOWS: it is filled from there at the start and follows it, and
// the active instance tells it at once what it has committed. It is safe for use by many goroutines.
//
// A row takes 48 bytes. Four months of minutes with an order in each are 180,000 rows a query; the shop's first four months have 28,000. A
// query that comes to more than maxRows loses its oldest rows here. They are in WINDOWS still.
type index struct {
	mu      sync.RWMutex
	series  map[string]*series
	maxRows int
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
	key          uint32
	revision     int32
	timing       string
}

func newIndex(qs []query) *index {
	x := &index{series: make(map[string]*series), maxRows: maxRows}
	for _, q := range qs {
		x.series[q.name] = &series{keyOf: make(map[string]uint32)}
	}
	return x
}

// put takes a result in, unless a later revision of its window is there already.
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
	next := row{start: r.Start, end: r.End, value: r.Value, count: r.Count, key: key, revision: int32(r.Revision), timing: r.Timing} //nolint:gosec // small
	at, found := s.find(position{r.Start, r.Key})
	switch {
	case !found:
		s.rows = slices.Insert(s.rows, at, next) // nearly always at the end: windows close in order
	case s.rows[at].revision < next.revision:
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

// list copies at most limit rows behind after (all where it is nil) that start in [from, to).
func (x *index) list(query string, from, to int64, after *position, limit int) []result {
	x.mu.RLock()
	defer x.mu.RUnlock()
	s := x.series[query]
	if s == nil {
		return nil
	}
	at, _ := s.find(position{start: from})
	if after != nil {
		behind, found := s.find(*after)
		if found {
			behind++
		}
		at = max(at, behind)
	}
	var out []result
	for ; at < len(s.rows) && len(out) < limit && s.rows[at].start < to; at++ {
		r := s.rows[at]
		out = append(out, result{Key: s.keys[r.key], Start: r.start, End: r.end, Count: r.count, Value: r.value, Revision: int(r.revision), Timing: r.timing})
	}
	return out
}

// follower fills an index from WINDOWS: the last message of each window first, then what comes.
type follower struct {
	tail  tail
	index *index
	log   *slog.Logger
	ready chan struct{} // closed when everything that was stored at the start is in
	once  sync.Once
}

func newFollower(js jetstream.JetStream, subjects events.Subjects, qs []query, index *index, log *slog.Logger) *follower {
	f := &follower{index: index, log: log, ready: make(chan struct{}), tail: tail{js: js, stream: events.StreamWindows, latest: true}}
	for _, q := range qs {
		f.tail.filters = append(f.tail.filters, subjects.WindowsOf(q.name))
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
	f.once.Do(func() { close(f.ready) })
	return nil
}

func (f *follower) take(m *logMessage) error {
	ev, err := events.Decode(events.Header(m.header), m.data)
	if err == nil {
		var w events.WindowResult
		if w, err = events.Payload[events.WindowResult](&ev); err == nil {
			f.index.put(w.Query, &result{
				Key: w.Key, Start: w.Start.UnixMilli(), End: w.End.UnixMilli(), Count: w.Count, Value: w.Value, Revision: w.Revision, Timing: w.Timing,
			})
			return nil
		}
	}
	f.log.Warn("a window result can't be read: it is not listed", "error", err, "sequence", m.sequence)
	return nil
}
