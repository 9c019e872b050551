package deadletters

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tidemark/tidemark/pkg/events/deadletter"
)

// Selection is the list of letters that an action is about, frozen when it was made: what is parked later is not in it.
type Selection struct {
	Kind    deadletter.JobKind
	Preview []Preview // one for each group
	refs    map[string][]deadletter.Ref
}

// Preview is what an action would be about, of one group.
type Preview struct {
	Kind    deadletter.JobKind `json:"kind"`
	Group   string             `json:"group"`
	Count   int                `json:"count" doc:"Letters"`
	Keys    int                `json:"keys" doc:"Different keys"`
	Reasons map[string]int     `json:"reasons" doc:"Letters by reason"`
	TooDeep int                `json:"too_deep,omitempty" doc:"Of these, how many failed in so many replays that only force replays them again"`
	Oldest  time.Time          `json:"oldest"`
	Newest  time.Time          `json:"newest"`
}

// Count is the number of letters.
func (s *Selection) Count() int {
	n := 0
	for _, p := range s.Preview {
		n += p.Count
	}
	return n
}

// Select freezes the letters that fit, or those with the ids. Without a state in the filter, a replay is about letters that are dead: those that are retrying go by
// themselves, and those that are blocked follow the one that blocks them. A discard is about all of them but those that are being replayed.
func (d *Desk) Select(ctx context.Context, kind deadletter.JobKind, f deadletter.Filter, ids []string) (*Selection, error) {
	s := &Selection{Kind: kind, refs: make(map[string][]deadletter.Ref)}
	tally := make(map[string]*Preview)
	keys := make(map[place]bool)
	add := func(l *deadletter.Letter) {
		p := tally[l.Group]
		if p == nil {
			p = &Preview{Kind: kind, Group: l.Group, Reasons: make(map[string]int), Oldest: l.ParkedAt}
			tally[l.Group] = p
		}
		p.Count++
		p.Reasons[string(failureOf(&l.Current).Reason)]++
		p.Newest = l.ParkedAt
		if kind == deadletter.JobReplay && l.Current.Depth >= deadletter.MostDepth {
			p.TooDeep++
		}
		if at := (place{l.Group, l.Partition, l.Key}); !keys[at] {
			keys[at] = true
			p.Keys++
		}
		s.refs[l.Group] = append(s.refs[l.Group], deadletter.RefTo(l))
	}
	if err := d.each(ctx, kind, f, ids, add); err != nil {
		return nil, err
	}
	for _, p := range tally {
		s.Preview = append(s.Preview, *p)
	}
	slices.SortFunc(s.Preview, func(a, b Preview) int { return cmp.Compare(a.Group, b.Group) })
	return s, nil
}

func (d *Desk) each(ctx context.Context, kind deadletter.JobKind, f deadletter.Filter, ids []string, add func(*deadletter.Letter)) error {
	if len(ids) > 0 {
		return d.eachOf(ctx, ids, add)
	}
	if f.State == "" && kind == deadletter.JobReplay {
		f.State = deadletter.StateDead
	}
	for l, err := range d.store.Letters(ctx, f) {
		if err != nil {
			return err
		}
		if l.Current.State != deadletter.StateReplaying {
			add(&l)
		}
	}
	return nil
}

// eachOf finds letters by their ids, in one pass over each of their groups. An id that is not there is an error: whoever names letters means all of them.
func (d *Desk) eachOf(ctx context.Context, ids []string, add func(*deadletter.Letter)) error {
	missing := make(map[string]map[string]bool) // by group
	for _, id := range ids {
		group, ok := deadletter.GroupOfID(id)
		if !ok {
			return fmt.Errorf("dead letter %q: %w: an id is <group>:<stream>:<sequence>", id, deadletter.ErrNotFound)
		}
		if missing[group] == nil {
			missing[group] = make(map[string]bool)
		}
		missing[group][id] = true
	}
	for group, of := range missing {
		for l, err := range d.store.Letters(ctx, deadletter.Filter{Group: group}) {
			if err != nil {
				return err
			}
			if of[l.ID] {
				delete(of, l.ID)
				add(&l)
			}
			if len(of) == 0 {
				break
			}
		}
		for id := range of {
			return fmt.Errorf("dead letter %s: %w", id, deadletter.ErrNotFound)
		}
	}
	return nil
}

// Order says how the letters of a selection are worked on.
type Order struct {
	By, Why   string
	Rate      float64 // letters a second; 0: as fast as it goes
	Canary    bool    // the first one alone, then ten one by one, then the rest
	StopRatio float64 // stop when more than this part of the replays failed; 0: the default
	Force     bool    // also letters whose replays failed three times
}

// Job is how one job stands.
type Job struct {
	ID        string              `json:"id"`
	Group     string              `json:"group"`
	Kind      deadletter.JobKind  `json:"kind"`
	State     deadletter.JobState `json:"state" doc:"preparing, running, done, stopped (too many replays failed) or cancelled"`
	MadeAt    time.Time           `json:"made_at"`
	By        string              `json:"by" doc:"Who ordered it"`
	Why       string              `json:"why"`
	ChangedAt time.Time           `json:"changed_at" doc:"When it last changed"`
	Ended     string              `json:"ended,omitempty" doc:"Why it stopped, or who cancelled it and why"`
	Total     int                 `json:"total" doc:"Letters in its list"`
	Done      int                 `json:"done"`
	Resolved  int                 `json:"resolved"`
	Failed    int                 `json:"failed" doc:"Replayed, and dead again or waiting for a retry"`
	Discarded int                 `json:"discarded"`
	Skipped   int                 `json:"skipped" doc:"Gone already, waiting behind another letter, or replayed too often"`
}

func jobOf(s *deadletter.JobStatus) Job {
	p := s.Sum()
	ended := ""
	switch s.State {
	case deadletter.JobStopped:
		ended = s.Why
	case deadletter.JobCancelled:
		ended = s.By + ": " + s.Why
	}
	return Job{
		ID: s.ID, Group: s.Group, Kind: s.Kind, State: s.State, MadeAt: s.MadeAt, By: s.MadeBy, Why: s.MadeWhy, ChangedAt: s.At, Ended: ended, Total: s.Total,
		Done: p.Done, Resolved: p.Resolved, Failed: p.Failed, Discarded: p.Discarded, Skipped: p.Skipped,
	}
}

// Start orders what the selection is about: one job for each group. The members of the group carry it out.
func (d *Desk) Start(ctx context.Context, s *Selection, o Order) ([]Job, error) {
	for _, p := range s.Preview {
		if err := d.may(p.Group); err != nil {
			return nil, err
		}
	}
	jobs := make([]Job, 0, len(s.Preview))
	for _, p := range s.Preview {
		j, err := d.store.CreateJob(ctx, deadletter.Job{
			Group: p.Group, Kind: s.Kind, By: o.By, Why: o.Why, Letters: s.refs[p.Group], Rate: o.Rate, Canary: o.Canary, StopRatio: o.StopRatio, Force: o.Force,
		})
		if err != nil {
			return jobs, fmt.Errorf("%s of %d letters of %s: %w", s.Kind, p.Count, p.Group, err)
		}
		status, err := d.store.JobStatus(ctx, j.Group, j.ID)
		if err != nil {
			return jobs, err
		}
		jobs = append(jobs, jobOf(&status))
	}
	return jobs, nil
}

// Jobs are how the jobs of a group, or of all, stand, oldest first.
func (d *Desk) Jobs(ctx context.Context, group string) ([]Job, error) {
	all, err := d.store.Jobs(ctx, group)
	if err != nil {
		return nil, err
	}
	jobs := make([]Job, 0, len(all))
	for i := range all {
		jobs = append(jobs, jobOf(&all[i]))
	}
	return jobs, nil
}

// Job finds a job by its id, of whichever group it is. It wraps [deadletter.ErrNotFound].
func (d *Desk) Job(ctx context.Context, id string) (Job, error) {
	jobs, err := d.Jobs(ctx, "")
	if err != nil {
		return Job{}, err
	}
	for _, j := range jobs {
		if j.ID == id {
			return j, nil
		}
	}
	return Job{}, fmt.Errorf("job %s: %w", id, deadletter.ErrNotFound)
}

// JobDetails is a job with what was ordered and what became of it.
type JobDetails struct {
	Job
	Rate      float64   `json:"rate,omitempty"`
	Canary    bool      `json:"canary,omitempty"`
	StopRatio float64   `json:"stop_ratio,omitempty"`
	Force     bool      `json:"force,omitempty"`
	Letters   []string  `json:"letters" doc:"Its frozen list"`
	Steps     []JobStep `json:"steps" doc:"What happened to it, oldest first; what only counts on is left out"`
}

// JobStep is a change of a job's state.
type JobStep struct {
	At    time.Time           `json:"at"`
	State deadletter.JobState `json:"state"`
	By    string              `json:"by"`
	Why   string              `json:"why,omitempty"`
	Done  int                 `json:"done"`
}

// ShowJob is one job in full.
func (d *Desk) ShowJob(ctx context.Context, id string) (JobDetails, error) {
	now, err := d.Job(ctx, id)
	if err != nil {
		return JobDetails{}, err
	}
	made, err := d.store.Job(ctx, now.Group, id)
	if err != nil {
		return JobDetails{}, err
	}
	history, err := d.store.JobHistory(ctx, now.Group, id)
	if err != nil {
		return JobDetails{}, err
	}
	out := JobDetails{
		Job: now, Rate: made.Rate, Canary: made.Canary,
		StopRatio: made.StopRatio, Force: made.Force,
	}
	for _, r := range made.Letters {
		out.Letters = append(out.Letters, r.ID)
	}
	for i := range history {
		h := &history[i]
		if n := len(out.Steps); n > 0 && out.Steps[n-1].State == h.State {
			continue
		}
		out.Steps = append(out.Steps, JobStep{At: h.At, State: h.State, By: h.By, Why: h.Why, Done: h.Sum().Done})
	}
	return out, nil
}

// CancelJob ends a job. What is being replayed at the moment is finished. It wraps [deadletter.ErrNotAllowed] where the job has ended.
func (d *Desk) CancelJob(ctx context.Context, id, by, why string) (Job, error) {
	j, err := d.Job(ctx, id)
	if err != nil {
		return Job{}, err
	}
	if err := d.may(j.Group); err != nil {
		return Job{}, err
	}
	status, err := d.store.CancelJob(ctx, j.Group, id, by, why)
	if err != nil {
		return Job{}, err
	}
	return jobOf(&status), nil
}

const awaitEvery = 100 * time.Millisecond

// Await follows a job to its end, and tells each change.
func (d *Desk) Await(ctx context.Context, group, id string, tell func(Job)) (Job, error) {
	tick := time.NewTicker(awaitEvery)
	defer tick.Stop()
	var last Job
	for {
		status, err := d.store.JobStatus(ctx, group, id)
		if err != nil {
			return last, err
		}
		if now := jobOf(&status); now != last {
			last = now
			tell(now)
		}
		if status.State.Ended() {
			return last, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return last, context.Cause(ctx)
		}
	}
}

// ErrUnaccountable is wrapped where an action does not say who does it, or why.
var ErrUnaccountable = errors.New("the audit record needs a name and a reason")

// Accountable refuses an action without an author or a reason, before anything is read or written.
func Accountable(by, why string) error {
	var missing []string
	if strings.TrimSpace(by) == "" {
		missing = append(missing, "by")
	}
	if strings.TrimSpace(why) == "" {
		missing = append(missing, "why")
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: %s: required", ErrUnaccountable, strings.Join(missing, ", "))
	}
	return nil
}
