package analytics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/window"
)

// A backfill makes windows good that late events have missed. It reads LATE from where the last one ended, computes the windows again from TIMELINE with the code
// that counts live events, and publishes what differs as the next revision. It recomputes and does not add up, so it does not matter how often it runs, where it
// died, or who else runs one.
//
// It never writes what live counting may still write: only windows that were gone at the committed record, with all their results out, are touched; the misses of others stay
// pending. A result is stored only on top of the one that the backfill has seen, and so is the position in LATE. Whoever comes second begins again, and finds
// nothing left to do.
//
//	standing   the committed record, once its results are in WINDOWS
//	late       LATE behind the position, as misses; and those that are pending
//	published  the newest result of each window that is asked for
//	log        TIMELINE up to the record, through window.Recompute
//	publish    what differs, each expecting what was there
//	position   on top of the one that was read
//
// In memory are the windows of one round, at most mostWindows of each query, and 16 bytes with their place in a map for each event in them; of sessions, all events of
// the keys that are asked for.
type backfill struct {
	js        jetstream.JetStream
	plan      *plan
	journal   *journal
	publisher *publisher
	group     events.Group
	log       *slog.Logger

	mostWindows int // of a query that one round adds to those that are pending
	fault       func(backfillStage) error
}

type backfillStage int

const (
	beforeResults  backfillStage = iota
	duringResults                // some of them are stored
	beforePosition               // all are, and the position is not
)

const (
	mostWindows   = 20_000
	backfillTries = 100 // each time somebody else has got on
	backfillPause = 200 * time.Millisecond
	// A first message's store time tells since when TIMELINE is whole; where its clock was set back, messages before it may be younger.
	clockSlack = time.Hour
)

// errOvertaken says that somebody else has published or committed: the round begins again, with what is there now.
var errOvertaken = errors.New("another backfill was faster")

func newBackfill(w *worker, group events.Group) *backfill {
	return &backfill{
		js: w.js, plan: w.plan, journal: w.journal, group: group, log: w.log, mostWindows: mostWindows,
		publisher: newPublisher(w.js, w.publisher.encoder, w.publisher.subjects, w.plan, func() error { return nil }),
		fault:     func(backfillStage) error { return nil },
	}
}

// BackfillReport is what a backfill did to one query.
type BackfillReport struct {
	Query     string       `json:"query"`
	Sequence  uint64       `json:"sequence" doc:"Of TIMELINE: what was counted up to here is in the results."`
	Late      int          `json:"late" doc:"Late events that were looked at."`
	Published int          `json:"published" doc:"Results of windows that were computed again and differ."`
	Retracted int          `json:"retracted" doc:"Sessions that have become part of another one."`
	Unchanged int          `json:"unchanged" doc:"Windows that were computed again and were right."`
	Pending   int          `json:"pending" doc:"Windows that a later backfill will look at: they are not gone yet, or their session may still grow."`
	Lost      int          `json:"lost" doc:"Windows that can't be computed again: TIMELINE does not hold all their events any more. They stay as they are."`
	Expired   uint64       `json:"expired" doc:"Late events that LATE forgot before any backfill looked at them."`
	Examples  []LostWindow `json:"lost_windows,omitempty" doc:"The first lost ones."`
}

// LostWindow is a window that can't be made good.
type LostWindow struct {
	Key   string    `json:"key"`
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
}

const mostExamples = 10

// task is one query's part of a round.
type task struct {
	query    *asked
	standing queryRecord
	position backfillRecord
	found    uint64 // sequence of the position in WINDOWS
	next     backfillRecord
	more     bool // LATE has more than this round takes

	overtaken error // the round is to be done again, with what is there now

	recompute *window.Recompute
	from      map[string]int64           // by key: no window of the round begins before
	missed    map[uint64][]window.Window // by sequence in TIMELINE
	lates     map[window.Miss][]uint64   // sequences in LATE
	published map[window.Miss]published
	report    BackfillReport
}

// published is the newest result of a window, and where it is.
type published struct {
	window.Result
	sequence uint64 // in WINDOWS
}

// run backfills queries until nothing is left to do. With dry it publishes and commits nothing. told is called after each round.
func (b *backfill) run(ctx context.Context, queries []*asked, dry bool, told func([]BackfillReport)) error {
	if err := b.caughtUp(ctx); err != nil {
		return err
	}
	positions := make(map[string]backfillRecord) // of a dry run, which stores none
	totals := make([]BackfillReport, len(queries))
	for i, q := range queries {
		totals[i].Query = q.Name
	}
	left := slices.Clone(queries)
	for tries := 0; len(left) > 0; {
		tasks, err := b.round(ctx, left, dry, positions)
		if err != nil {
			return err
		}
		left = left[:0]
		again := false
		for _, t := range tasks {
			switch {
			case t.overtaken != nil && tries == backfillTries:
				return fmt.Errorf("backfill %s: %w", t.query.Name, t.overtaken)
			case t.overtaken != nil:
				again = true
				left = append(left, t.query)
				continue
			case t.more:
				left = append(left, t.query)
			}
			at := slices.IndexFunc(totals, func(r BackfillReport) bool { return r.Query == t.query.Name })
			totals[at].add(&t.report)
			if dry {
				positions[t.query.Name] = t.next
			}
		}
		told(slices.Clone(totals))
		if again {
			tries++
			pause(ctx, rand.N(backfillPause)) //nolint:gosec // so that two don't stay in step
		}
	}
	return ctx.Err()
}

func (r *BackfillReport) add(o *BackfillReport) {
	r.Sequence = o.Sequence
	r.Late += o.Late
	r.Published += o.Published
	r.Retracted += o.Retracted
	r.Unchanged += o.Unchanged
	r.Pending = o.Pending // each round asks for all that are pending
	r.Lost += o.Lost
	r.Expired += o.Expired
	r.Examples = append(r.Examples, o.Examples...)
	r.Examples = r.Examples[:min(len(r.Examples), mostExamples)]
}

// round does one part of the work for all queries, so that TIMELINE is read once.
func (b *backfill) round(ctx context.Context, queries []*asked, dry bool, positions map[string]backfillRecord) ([]*task, error) {
	log, err := b.logState(ctx)
	if err != nil {
		return nil, err
	}
	rec, err := b.settled(ctx)
	if err != nil {
		return nil, err
	}
	var tasks []*task
	for _, q := range queries {
		for _, standing := range rec.Queries {
			if standing.Name != q.Name {
				continue
			}
			t, err := b.prepare(ctx, q, standing, log, positions)
			if err != nil {
				return nil, fmt.Errorf("backfill %s: %w", q.Name, err)
			}
			tasks = append(tasks, t)
		}
	}
	if err := b.replay(ctx, tasks, log); err != nil {
		return nil, fmt.Errorf("backfill: %w", err)
	}
	for _, t := range tasks {
		err := b.finish(ctx, t, dry)
		if errors.Is(err, errOvertaken) {
			t.overtaken = err
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("backfill %s: %w", t.query.Name, err)
		}
	}
	return tasks, nil
}

// prepare reads what a query's round is about.
func (b *backfill) prepare(ctx context.Context, q *asked, standing queryRecord, log logState, positions map[string]backfillRecord) (*task, error) {
	position, found, err := b.journal.position(ctx, q.Name)
	if err != nil {
		return nil, err
	}
	if p, ok := positions[q.Name]; ok {
		position = p
	}
	t := &task{
		query: q, standing: standing, position: position, found: found, next: position, from: make(map[string]int64),
		missed: make(map[uint64][]window.Window), lates: make(map[window.Miss][]uint64), published: make(map[window.Miss]published),
		report: BackfillReport{Query: q.Name, Sequence: standing.Sequence},
	}
	gone := int64(math.MinInt64)
	if standing.Settled != nil {
		gone = *standing.Settled
	}
	if t.recompute, err = window.NewRecompute(q.config(), gone); err != nil {
		return nil, err
	}
	if log.first > 1 {
		t.recompute.Since(log.since(q.config().MaxFuture))
	}
	if err := b.readLate(ctx, t, log); err != nil {
		return nil, err
	}
	if len(t.lates) == 0 {
		return t, nil
	}
	return t, b.readPublished(ctx, t)
}

// finish publishes what a round came to, and moves the position.
func (b *backfill) finish(ctx context.Context, t *task, dry bool) error {
	results, pending := t.recompute.Results(t.results())
	lost := t.recompute.Lost()
	t.next.Pending = t.sequencesOf(pending)
	t.next.fit()
	r := &t.report
	results = t.keep(results)
	for i := range results {
		if results[i].Timing == window.Retract {
			r.Retracted++
		} else {
			r.Published++
		}
	}
	r.Unchanged += t.recompute.Unchanged()
	r.Pending, r.Lost = len(pending), len(lost)
	for _, m := range lost[:min(len(lost), mostExamples)] {
		r.Examples = append(r.Examples, LostWindow{Key: m.Key, Start: time.UnixMilli(m.Start).UTC(), End: time.UnixMilli(m.End).UTC()})
	}
	if dry {
		return nil
	}
	if err := b.fault(beforeResults); err != nil {
		return err
	}
	if err := b.publish(ctx, t, results); err != nil {
		return err
	}
	if err := b.fault(beforePosition); err != nil {
		return err
	}
	t.next.add(r)
	if slices.Equal(t.next.Pending, t.position.Pending) && t.next.Position == t.position.Position {
		return nil
	}
	return b.journal.move(ctx, &t.next, t.found)
}

// keep leaves out what the query does not let come out. A window that is out is corrected all the same.
func (t *task) keep(results []window.Result) []window.Result {
	if t.query.Keep == nil {
		return results
	}
	return slices.DeleteFunc(results, func(r window.Result) bool {
		silent := r.Timing != window.Retract && r.Revision == 1 && !t.query.Keep(&r)
		if silent {
			t.report.Unchanged++
		}
		return silent
	})
}

func (t *task) results() func(yield func(window.Result) bool) {
	return func(yield func(window.Result) bool) {
		for _, p := range t.published {
			if !yield(p.Result) {
				return
			}
		}
	}
}

// sequencesOf are the late events, by their sequences in LATE, that missed the windows.
func (t *task) sequencesOf(pending []window.Miss) []uint64 {
	var all []uint64
	for _, m := range pending {
		all = append(all, t.lates[m]...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
