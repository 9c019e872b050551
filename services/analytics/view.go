package analytics

import (
	"context"
	"errors"
	"time"

	"github.com/tidemark/tidemark/pkg/window"
)

// view is what the HTTP API sees of the worker: what is committed, never what is only applied. The worker holds its lock over applying and committing;
// whoever reads takes it for as long as it looks, and what is open is computed then. It is safe for use by many goroutines.
type view struct {
	plan    *plan
	journal *journal
	index   *index
	fresh   time.Duration

	held   chan struct{} // the lock: taken when it is full. A reader waits for it no longer than its caller does
	state  *state        // nil: this instance stands by
	lifeAt time.Time     // when this instance last did a step
}

// standing is one consistent look at all queries.
type standing struct {
	sequence   uint64
	unreadable uint64
	queries    map[string]queryRecord
	state      *state // nil where only the journal speaks; not to be kept
}

const (
	// An instance speaks for itself for so long after its last step. Heartbeats make a step a second, so one that is silent for longer does not hold the
	// partition: then the journal speaks.
	freshFor = 3 * time.Second

	lookTimeout = 2 * time.Second // a reader's patience with a commit
)

var errBusy = errors.New("a commit takes long")

func newView(p *plan, index *index, journal *journal) *view {
	return &view{plan: p, index: index, journal: journal, fresh: freshFor, held: make(chan struct{}, 1)}
}

// lock is the worker's: it waits for readers, who are quick.
func (v *view) lock() { v.held <- struct{}{} }

// unlock ends a step. After one that failed nobody may see what it has applied.
func (v *view) unlock(err error) {
	if err != nil {
		v.state = nil
	}
	<-v.held
}

// set shows a state, or none.
func (v *view) set(s *state) {
	v.lock()
	defer v.unlock(nil)
	v.state, v.lifeAt = s, time.Now()
}

// alive says that a step has ended. The worker holds the lock.
func (v *view) alive() { v.lifeAt = time.Now() }

// committed moves the windows that a commit closed to the index. In a step the worker holds the lock, so no reader sees a window twice or not at all.
func (v *view) committed(rec *record) {
	for i := range rec.Outputs.Results {
		r := &rec.Outputs.Results[i]
		v.index.put(rec.Queries[r.Query].Name, r)
	}
}

func standingOf(rec *record) standing {
	s := standing{sequence: rec.Sequence, unreadable: rec.Unreadable, queries: make(map[string]queryRecord, len(rec.Queries))}
	for _, q := range rec.Queries {
		s.queries[q.Name] = q
	}
	return s
}

// own calls read with where the queries stand, if this instance is the one that counts. No commit comes in between.
func (v *view) own(ctx context.Context, read func(standing)) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	select {
	case v.held <- struct{}{}:
	case <-ctx.Done():
		return false, errBusy
	}
	defer func() { <-v.held }()
	if v.state == nil || time.Since(v.lifeAt) >= v.fresh {
		return false, nil
	}
	rec := recordOf(v.state)
	now := standingOf(&rec)
	now.state = v.state
	read(now)
	return true, nil
}

// look calls read with where the queries stand.
func (v *view) look(ctx context.Context, read func(standing)) error {
	if mine, err := v.own(ctx, read); mine || err != nil {
		return err
	}
	rec, _, err := v.journal.last(ctx) // this instance stands by
	if err != nil {
		return err
	}
	read(standingOf(&rec))
	return nil
}

// notOut are the windows of a query that have not come out: those that are open, and results that are held back.
func (s *standing) notOut(query string) []window.Result {
	if s.state == nil {
		return nil
	}
	for _, r := range s.state.running {
		if r.Name == query {
			return r.notOut()
		}
	}
	return nil
}

func (r *running) notOut() []window.Result {
	var all []window.Result
	for _, w := range r.engine.Open() {
		if r.Keep == nil || r.Keep(&w) {
			all = append(all, w)
		}
	}
	return all
}
