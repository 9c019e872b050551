package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tidemark/tidemark/pkg/events/deadletter"
)

// The part of a job that one partition does.

const (
	lettersAtOnce = 16                     // of one job in one partition
	flushEvery    = 250 * time.Millisecond // progress is written so often
	reviveAtOnce  = 8
)

// tend works on letters for one term: first what an owner before left unfinished or due, then jobs.
func (p *partition) tend(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { p.revive(ctx) })
	done := make(map[string]bool)
	for ctx.Err() == nil {
		job, changed := p.jobs.next(p.number, done)
		if job == nil {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		if err := p.work(ctx, job); err != nil && ctx.Err() == nil {
			p.log.WarnContext(ctx, "a job on dead letters stopped here, trying again", "job", job.job.ID, "error", err)
			sleep(ctx, lookAgain)
			continue
		}
		done[job.job.ID] = true
	}
}

// revive looks at every locked key once: letters that wait for a retry, that were being handled when their owner died, or whose predecessor is gone.
func (p *partition) revive(ctx context.Context) {
	slots := make(chan struct{}, reviveAtOnce)
	for _, key := range p.letters.locked.all() {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		if !p.inner.add(key, func() {
			defer func() { <-slots }()
			p.drain(key, nil)
		}) {
			return
		}
	}
}

// tally is one partition's progress of a job while it works.
type tally struct {
	mu       sync.Mutex
	progress deadletter.Progress
	urgent   chan struct{} // somebody waits for it to be written
}

func (t *tally) add(r result, urgent bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.progress.Done++
	switch r {
	case resolved:
		t.progress.Resolved++
	case failed:
		t.progress.Failed++
	case discarded:
		t.progress.Discarded++
	default:
		t.progress.Skipped++
	}
	if urgent || r == failed {
		t.hurry()
	}
}

func (t *tally) hurry() {
	select {
	case t.urgent <- struct{}{}:
	default:
	}
}

func (t *tally) now() deadletter.Progress {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.progress
}

var errJobEnded = errors.New("the job has ended")

// work does this partition's part of a job, from the beginning of the list: what was done before a restart shows in the letters. nil: done, or the job has ended.
func (p *partition) work(ctx context.Context, a *activeJob) error {
	parts := a.parts[p.number]
	if status, _ := p.jobs.stand(a.job.ID); status == nil || status.Partitions[p.number].Done >= len(parts) {
		return nil
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	t := &tally{urgent: make(chan struct{}, 1)}
	var running, flushing sync.WaitGroup
	over := make(chan struct{})
	flushing.Go(func() { p.flushing(ctx, a, t, over, stop) })
	err := p.walk(ctx, a, parts, t, &running)
	running.Wait()
	close(over)
	flushing.Wait()
	if errors.Is(err, errJobEnded) || errors.Is(context.Cause(ctx), errJobEnded) {
		return nil
	}
	return err
}

// walk hands the letters of a part to the lanes, as the job's canary and rate allow.
func (p *partition) walk(ctx context.Context, a *activeJob, parts []part, t *tally, running *sync.WaitGroup) error {
	slots := make(chan struct{}, lettersAtOnce)
	pace := newPace(a.job.Rate, len(parts), len(a.job.Letters))
	for _, part := range parts {
		if err := p.turn(ctx, a, part.index, t); err != nil {
			return err
		}
		pace.wait(ctx)
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		await := p.one(ctx, a.job, part, t)
		running.Go(func() {
			await()
			<-slots
		})
	}
	return nil
}

// turn waits until a letter may be worked on: in a canary when all before it are done, else when the canary is over.
func (p *partition) turn(ctx context.Context, a *activeJob, index int, t *tally) error {
	before := 0
	if a.job.Canary {
		before = min(index, deadletter.CanarySize)
	}
	for {
		status, changed := p.jobs.stand(a.job.ID)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if status == nil || status.State != deadletter.JobRunning {
			return errJobEnded
		}
		if before == 0 || status.Sum().Done >= before {
			return nil
		}
		t.hurry()
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// one works on one letter in the lane of its key. It is queued there when one returns, so that the letters of a key keep their order; what is returned waits for the outcome.
func (p *partition) one(ctx context.Context, job *deadletter.Job, part part, t *tally) (await func()) {
	o := &order{job: job, ref: part.ref}
	queued := p.queue(ctx, o)
	return func() {
		for try := 1; queued != nil; try++ {
			select {
			case <-queued:
			case <-p.patience.Done(): // the lane may have been told to forget it
				return
			}
			if o.result != undone {
				t.add(o.result, job.Canary && part.index < deadletter.CanarySize)
				return
			}
			sleep(ctx, backoff(try, 50*time.Millisecond, time.Second))
			queued = p.queue(ctx, o)
		}
	}
}

// queue hands an order to the lane of its key. nil: the term or the job is over.
func (p *partition) queue(ctx context.Context, o *order) (done chan struct{}) {
	done = make(chan struct{})
	for try := 1; ctx.Err() == nil; try++ {
		l, err := p.letters.store.Peek(ctx, o.ref.Sequence)
		if errors.Is(err, deadletter.ErrNotFound) {
			o.result = p.gone(o)
			close(done)
			return done
		}
		if err == nil && p.inner.add(l.Key, func() {
			defer close(done)
			if p.patience.Err() == nil && ctx.Err() == nil {
				p.obey(l.Key, o)
			}
		}) {
			return done
		}
		sleep(ctx, backoff(try, 50*time.Millisecond, time.Second))
	}
	return nil
}

// flushing writes progress until the work is over, and ends the job where it is done or too much of it failed.
func (p *partition) flushing(ctx context.Context, a *activeJob, t *tally, over <-chan struct{}, stop context.CancelCauseFunc) {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	last := deadletter.Progress{Done: -1}
	for {
		final := false
		select {
		case <-tick.C:
			if status, _ := p.jobs.stand(a.job.ID); status == nil {
				stop(errJobEnded)
			}
		case <-t.urgent:
		case <-over:
			final = true
		}
		for now := t.now(); now != last && now.Done > 0; {
			if p.flush(ctx, a, now, stop) {
				last = now
				break
			}
			if !final || ctx.Err() != nil {
				break
			}
			sleep(ctx, lookAgain)
		}
		if final {
			return
		}
	}
}

func (p *partition) flush(ctx context.Context, a *activeJob, now deadletter.Progress, stop context.CancelCauseFunc) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout) // also at the end of a term
	defer cancel()
	status, err := p.jobs.store.UpdateJob(ctx, p.group.Name, a.job.ID, func(s *deadletter.JobStatus) error {
		if s.Partitions[p.number].Done >= now.Done { // an owner before did more; this one has only begun to count
			return errNothingNew
		}
		s.Partitions[p.number] = now
		if s.State.Ended() {
			return nil // what was under way when it ended counts too
		}
		sum := s.Sum()
		s.By, s.Why = p.who.by(p.group.Name), ""
		switch {
		case a.job.Trips(sum):
			s.State, s.Why = deadletter.JobStopped, fmt.Sprintf("%d of %d replays failed", sum.Failed, sum.Resolved+sum.Failed)
		case sum.Done >= s.Total:
			s.State = deadletter.JobDone
		}
		return nil
	})
	if errors.Is(err, errNothingNew) {
		return true
	}
	if err != nil {
		p.log.WarnContext(ctx, "the progress of a job is not written, trying again", "job", a.job.ID, "error", err)
		return false
	}
	_ = p.jobs.note(ctx, status) // an active job is known, so there is nothing to read
	if status.State.Ended() {
		stop(errJobEnded)
	}
	return true
}

var errNothingNew = errors.New("nothing new")

// pace spreads the letters of a part so that all parts together keep the job's rate.
type pace struct {
	every time.Duration
	next  time.Time
}

func newPace(rate float64, part, whole int) *pace {
	if rate <= 0 || part == 0 {
		return &pace{}
	}
	share := rate * float64(part) / float64(whole)
	return &pace{every: time.Duration(float64(time.Second) / share), next: time.Now()}
}

func (p *pace) wait(ctx context.Context) {
	if p.every == 0 {
		return
	}
	sleep(ctx, time.Until(p.next))
	p.next = p.next.Add(p.every)
	if now := time.Now(); p.next.Before(now.Add(-time.Second)) { // waited for something else: don't make up for it
		p.next = now
	}
}
