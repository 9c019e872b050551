package analytics

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

// The states of a backfill job.
const (
	jobWaiting     = "waiting" // for another one of this instance
	jobRunning     = "running"
	jobDone        = "done"
	jobFailed      = "failed"
	jobInterrupted = "interrupted" // its instance stopped: what it had done is done, and another backfill does the rest
)

// BackfillJob is one backfill as it is asked for and reported.
type BackfillJob struct {
	ID      string           `json:"id"`
	State   string           `json:"state" enum:"waiting,running,done,failed,interrupted"`
	Query   string           `json:"query,omitempty" doc:"The only query that it is of; absent: all."`
	DryRun  bool             `json:"dry_run,omitempty" doc:"Nothing is published: it says what would be."`
	Asked   time.Time        `json:"asked_at"`
	Updated time.Time        `json:"updated_at"`
	Error   string           `json:"error,omitempty"`
	Reports []BackfillReport `json:"queries" doc:"What it has done so far, by query."`
}

func (j *BackfillJob) ended() bool { return j.State != jobWaiting && j.State != jobRunning }

// backfills are the jobs of one instance, one at a time. Each state of a job is stored too, so that every instance can tell how a job goes; the last hundred are kept.
type backfills struct {
	backfill *backfill
	queue    chan *BackfillJob
	log      *slog.Logger

	mu    sync.Mutex
	known []*BackfillJob // of this instance, the oldest first
}

const (
	mostWaiting = 8
	mostKnown   = 100

	jobBeat    = 5 * time.Second // how often a running job says so
	jobSilence = 30 * time.Second

	jobsName = "backfill-jobs" // a token of the subject
)

// errQueueFull says that too many jobs wait.
var errQueueFull = errors.New("too many backfills wait")

func newBackfills(b *backfill) *backfills {
	return &backfills{backfill: b, queue: make(chan *BackfillJob, mostWaiting), log: b.log}
}

// add takes a job and returns it as it is then.
func (s *backfills) add(query string, dry bool) (BackfillJob, error) {
	now := time.Now().UTC()
	j := &BackfillJob{ID: rand.Text(), State: jobWaiting, Query: query, DryRun: dry, Asked: now, Updated: now, Reports: []BackfillReport{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.queue <- j:
	default:
		return BackfillJob{}, errQueueFull
	}
	s.known = append(s.known, j)
	if len(s.known) > mostKnown {
		s.known = slices.Delete(s.known, 0, 1)
	}
	return *j, nil
}

// unfinished is how many jobs of this instance have not ended.
func (s *backfills) unfinished() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.known {
		if !j.ended() {
			n++
		}
	}
	return n
}

// run does the jobs until ctx ends.
func (s *backfills) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case j := <-s.queue:
			s.do(ctx, j)
		}
	}
}

func (s *backfills) do(ctx context.Context, j *BackfillJob) {
	queries := s.backfill.plan.queries
	if q := s.backfill.plan.find(j.Query); q != nil {
		queries = []*asked{q}
	}
	s.change(ctx, j, func() { j.State = jobRunning })
	stop := s.beat(ctx, j)
	err := s.backfill.run(ctx, queries, j.DryRun, func(reports []BackfillReport) {
		s.change(ctx, j, func() { j.Reports = reports })
	})
	stop()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	s.change(last, j, func() {
		switch {
		case err == nil:
			j.State = jobDone
		case ctx.Err() != nil:
			j.State, j.Error = jobInterrupted, "the instance stops; another backfill does the rest"
		default:
			j.State, j.Error = jobFailed, err.Error()
		}
	})
	if err != nil {
		s.log.WarnContext(ctx, "backfill ended early", "job", j.ID, "error", err)
	}
}

// beat says once in a while that a job runs, until the returned function is called.
func (s *backfills) beat(ctx context.Context, j *BackfillJob) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var g sync.WaitGroup
	g.Go(func() {
		for {
			pause(ctx, jobBeat)
			if ctx.Err() != nil {
				return
			}
			s.change(ctx, j, func() {})
		}
	})
	return func() {
		cancel()
		g.Wait()
	}
}

// change changes a job and stores it as it is then. Where it can't be stored, other instances know less.
func (s *backfills) change(ctx context.Context, j *BackfillJob, how func()) {
	s.mu.Lock()
	how()
	j.Updated = time.Now().UTC()
	data, err := json.Marshal(j)
	s.mu.Unlock()
	if err == nil {
		_, err = s.backfill.journal.publish(ctx, &nats.Msg{Subject: s.subject(), Data: data})
	}
	if err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "the state of a backfill was not stored", "job", j.ID, "error", err)
	}
}

func (s *backfills) subject() string { return s.backfill.journal.subjects.Commit(jobsName, 0) }

// find is a job as it is now, of this instance or of another one.
func (s *backfills) find(ctx context.Context, id string) (BackfillJob, bool, error) {
	if j, ok := s.own(id); ok {
		return j, true, nil
	}
	var found BackfillJob
	what := reading{stream: events.StreamWindows, filters: []string{s.subject()}}
	err := readMatching(ctx, s.backfill.js, what, func(m *jetstream.RawStreamMsg) error {
		var j BackfillJob
		if err := json.Unmarshal(m.Data, &j); err != nil {
			return fmt.Errorf("backfill job in message %d of %s: %w", m.Sequence, events.StreamWindows, err)
		}
		if j.ID == id {
			found = j
		}
		return nil
	})
	if !found.ended() && time.Since(found.Updated) > jobSilence {
		found.State, found.Error = jobInterrupted, "its instance has not been heard of; another backfill does the rest"
	}
	return found, found.ID != "", err
}

func (s *backfills) own(id string) (BackfillJob, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.known {
		if j.ID == id {
			return *j, true
		}
	}
	return BackfillJob{}, false
}
