package bus

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
)

// jobs is what a member knows of its group's jobs. They are found by asking DLQCTL from time to time; what is published there is heard at once and makes it ask
// sooner. The partitions do the work.
type jobs struct {
	store   *deadletter.Store
	nc      *nats.Conn
	subject string
	group   string
	log     *slog.Logger

	mu      sync.Mutex
	seen    uint64 // last sequence of DLQCTL that was read
	active  map[string]*activeJob
	changed chan struct{} // closed and made anew at each change
}

// activeJob is a job that has not ended.
type activeJob struct {
	job    *deadletter.Job
	parts  map[int][]part
	status deadletter.JobStatus
}

// part is one letter of a job with its place in the whole list.
type part struct {
	ref   deadletter.Ref
	index int
}

func newJobs(js jetstream.JetStream, subjects events.Subjects, group string, log *slog.Logger) *jobs {
	return &jobs{
		store: deadletter.New(js, subjects), nc: js.Conn(), subject: subjects.JobsOfGroup(group), group: group, log: log.With("group", group),
		active: make(map[string]*activeJob), changed: make(chan struct{}),
	}
}

const jobsEvery = 2 * time.Second // between two looks, where nothing is heard

// run keeps the list until ctx ends.
func (j *jobs) run(ctx context.Context) {
	heard := make(chan struct{}, 1)
	sub, err := j.nc.Subscribe(j.subject, func(*nats.Msg) {
		select {
		case heard <- struct{}{}:
		default:
		}
	})
	if err != nil { // the connection is closed; asking will say so too
		j.log.DebugContext(ctx, "jobs are not heard", "error", err)
	} else {
		defer func() { _ = sub.Unsubscribe() }() // fails with the connection, which ends it too
	}
	tick := time.NewTicker(jitter(jobsEvery))
	defer tick.Stop()
	for {
		j.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-heard:
			// A message is heard before it is stored, and on another server after it is stored.
			for wait := time.Millisecond; wait < 100*time.Millisecond && !j.look(ctx) && ctx.Err() == nil; wait *= 3 {
				sleep(ctx, wait)
			}
		}
	}
}

// look asks what is new. false: nothing.
func (j *jobs) look(ctx context.Context) (news bool) {
	j.mu.Lock()
	seen := j.seen
	j.mu.Unlock()
	statuses, err := j.store.JobsSince(ctx, j.group, seen)
	if err != nil {
		if ctx.Err() == nil {
			j.log.DebugContext(ctx, "could not read jobs, trying again", "error", err)
		}
		return true // at the next tick
	}
	for _, status := range statuses {
		if err := j.note(ctx, status); err != nil {
			j.log.WarnContext(ctx, "could not read a job, trying again", "job", status.ID, "error", err)
			return true
		}
		seen = max(seen, status.Sequence)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seen = seen
	return len(statuses) > 0
}

// note takes over how a job stands.
func (j *jobs) note(ctx context.Context, status deadletter.JobStatus) error {
	j.mu.Lock()
	known := j.active[status.ID]
	j.mu.Unlock()
	var loaded *activeJob
	if known == nil && status.State == deadletter.JobRunning {
		job, err := j.store.Job(ctx, j.group, status.ID)
		if err != nil {
			return err
		}
		loaded = newActiveJob(&job)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if loaded != nil && j.active[status.ID] == nil {
		j.active[status.ID] = loaded
		j.log.InfoContext(ctx, "a job on dead letters begins", "job", status.ID, "kind", loaded.job.Kind, "letters", len(loaded.job.Letters), "by", loaded.job.By)
	}
	if a := j.active[status.ID]; a != nil && status.Sequence > a.status.Sequence {
		a.status = status
		if status.State.Ended() {
			delete(j.active, status.ID)
			j.log.InfoContext(ctx, "a job on dead letters ended", "job", status.ID, "state", status.State, "why", status.Why)
		}
	}
	close(j.changed)
	j.changed = make(chan struct{})
	return nil
}

func newActiveJob(job *deadletter.Job) *activeJob {
	a := &activeJob{job: job, parts: make(map[int][]part)}
	for i, ref := range job.Letters {
		a.parts[ref.Partition] = append(a.parts[ref.Partition], part{ref: ref, index: i})
	}
	return a
}

// next is a job that a partition has work on, oldest first, without those in done.
func (j *jobs) next(partition int, done map[string]bool) (*activeJob, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var found []*activeJob
	for id, a := range j.active {
		if !done[id] && a.status.State == deadletter.JobRunning && len(a.parts[partition]) > 0 {
			found = append(found, a)
		}
	}
	if len(found) == 0 {
		return nil, j.changed
	}
	return slices.MinFunc(found, func(a, b *activeJob) int { return a.job.MadeAt.Compare(b.job.MadeAt) }), j.changed
}

// concern reports whether some job has work for a partition.
func (j *jobs) concern(partition int) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, a := range j.active {
		if len(a.parts[partition]) > 0 && a.status.Partitions[partition].Done < len(a.parts[partition]) {
			return true
		}
	}
	return false
}

// stand is how a job stands; nil where it has ended.
func (j *jobs) stand(id string) (*deadletter.JobStatus, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	a := j.active[id]
	if a == nil {
		return nil, j.changed
	}
	status := a.status
	return &status, j.changed
}
