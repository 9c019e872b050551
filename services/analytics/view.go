package analytics

import (
	"context"
	"sync"
	"time"

	"github.com/tidemark/tidemark/pkg/window"
)

// view is what the HTTP API sees of the worker: what is committed, never what is only applied. It is safe for use by many goroutines.
type view struct {
	queries []query
	journal *journal
	index   *index

	mu     sync.RWMutex
	now    standing
	lifeAt time.Time // when this instance last did a step
}

// standing is one consistent look at all queries.
type standing struct {
	sequence   uint64
	unreadable uint64
	queries    map[string]queryRecord
	open       map[string][]window.Result // what this instance does not know is not there
}

// fresh is how long after its last step an instance speaks for itself. Heartbeats make a step a second, so one that is silent for longer does not hold the
// partition: then the journal speaks.
const fresh = 3 * time.Second

func newView(qs []query, index *index, journal *journal) *view {
	return &view{queries: qs, index: index, journal: journal}
}

// committed takes in what a commit says, and moves the windows that it closed to the index in the same moment.
func (v *view) committed(s *state, rec *record) {
	now := standingOf(rec)
	now.open = make(map[string][]window.Result, len(s.running))
	for _, r := range s.running {
		now.open[r.query.name] = r.engine.Open()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := range rec.Outputs.Results {
		r := &rec.Outputs.Results[i]
		v.index.put(rec.Queries[r.Query].Name, r)
	}
	v.now, v.lifeAt = now, time.Now()
}

// alive says that the worker has come to a sequence without anything to commit.
func (v *view) alive(sequence uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.now.sequence, v.lifeAt = max(v.now.sequence, sequence), time.Now()
}

func standingOf(rec *record) standing {
	s := standing{sequence: rec.Sequence, unreadable: rec.Unreadable, queries: make(map[string]queryRecord, len(rec.Queries))}
	for _, q := range rec.Queries {
		s.queries[q.Name] = q
	}
	return s
}

// own is where the queries stand, if this instance is the one that counts.
func (v *view) own() (standing, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.now, time.Since(v.lifeAt) < fresh
}

// look returns where the queries stand, and calls read, where it is not nil, with no commit coming in between.
func (v *view) look(ctx context.Context, read func(standing)) (standing, error) {
	v.mu.RLock()
	if time.Since(v.lifeAt) < fresh {
		defer v.mu.RUnlock()
		if read != nil {
			read(v.now)
		}
		return v.now, nil
	}
	v.mu.RUnlock()
	rec, _, err := v.journal.last(ctx) // this instance stands by
	if err != nil {
		return standing{}, err
	}
	now := standingOf(&rec)
	if read != nil {
		read(now)
	}
	return now, nil
}
