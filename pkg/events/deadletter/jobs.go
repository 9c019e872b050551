package deadletter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/lookup"
)

const refsInMessage = 8000 // of about 60 bytes: a message has at most 1 MiB

// CreateJob stores a job, after which the group's members work on it. ID and MadeAt are filled in where they are empty.
func (s *Store) CreateJob(ctx context.Context, j Job) (Job, error) {
	if err := j.Validate(); err != nil {
		return Job{}, err
	}
	if j.ID == "" {
		j.ID = NewJobID()
	}
	if j.MadeAt.IsZero() {
		j.MadeAt = s.now().UTC()
	}
	status := JobStatus{
		ID: j.ID, Group: j.Group, Kind: j.Kind, MadeAt: j.MadeAt, MadeBy: j.By, MadeWhy: j.Why,
		State: JobPreparing, At: j.MadeAt, By: j.By, Why: j.Why, Total: len(j.Letters),
	}
	for refs := range slices.Chunk(j.Letters, refsInMessage) {
		part := j
		part.Letters = refs
		next, err := s.writeJob(ctx, jobMessage{JobStatus: status, Job: &part})
		if err != nil {
			return Job{}, fmt.Errorf("create job: %w", err)
		}
		status = next
	}
	status.State = JobRunning
	if _, err := s.writeJob(ctx, jobMessage{JobStatus: status}); err != nil {
		return Job{}, fmt.Errorf("create job: %w", err)
	}
	return j, nil
}

func (s *Store) writeJob(ctx context.Context, m jobMessage) (JobStatus, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return JobStatus{}, err
	}
	sequence, err := s.append(ctx, s.subjects.Job(m.Group, m.ID), body, m.Sequence)
	if err != nil {
		return JobStatus{}, err
	}
	m.Sequence = sequence
	return m.JobStatus, nil
}

// Job reads a job with its list. Wraps [ErrNotFound].
func (s *Store) Job(ctx context.Context, group, id string) (Job, error) {
	var job *Job
	complete := errors.New("all read")
	err := s.all(ctx, s.subjects.Job(group, id), func(m *jetstream.RawStreamMsg) error {
		part, err := parseJob(m.Data, m.Sequence)
		switch {
		case err != nil:
			return err
		case part.Job == nil:
			return complete
		case job == nil:
			job = part.Job
		default:
			job.Letters = append(job.Letters, part.Job.Letters...)
		}
		return nil
	})
	if err != nil && !errors.Is(err, complete) {
		return Job{}, fmt.Errorf("read job %s: %w", id, err)
	}
	if job == nil {
		return Job{}, fmt.Errorf("job %s of group %s: %w", id, group, ErrNotFound)
	}
	return *job, nil
}

// JobStatus reads how a job stands, from the stream's leader. Wraps [ErrNotFound].
func (s *Store) JobStatus(ctx context.Context, group, id string) (JobStatus, error) {
	m, err := s.fromLeader(ctx, events.StreamDLQCtl, lookup.Request{LastBySubject: s.subjects.Job(group, id)})
	if err != nil {
		return JobStatus{}, fmt.Errorf("job %s of group %s: %w", id, group, err)
	}
	status, err := parseJob(m.Data, m.Sequence)
	return status.JobStatus, err
}

// Jobs reads how every job of a group stands, oldest first; of all groups where group is empty.
func (s *Store) Jobs(ctx context.Context, group string) ([]JobStatus, error) {
	return s.JobsSince(ctx, group, 0)
}

// JobsSince reads how those jobs stand about which something was written after a sequence of DLQCTL.
func (s *Store) JobsSince(ctx context.Context, group string, sequence uint64) ([]JobStatus, error) {
	filter := s.subjects.Jobs()
	if group != "" {
		filter = s.subjects.JobsOfGroup(group)
	}
	last := make(map[string]JobStatus)
	var ids []string
	err := s.from(ctx, filter, sequence+1, func(m *jetstream.RawStreamMsg) error {
		status, err := parseJob(m.Data, m.Sequence)
		if err != nil {
			return err
		}
		if _, known := last[status.ID]; !known {
			ids = append(ids, status.ID)
		}
		last[status.ID] = status.JobStatus
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read jobs: %w", err)
	}
	out := make([]JobStatus, len(ids))
	for i, id := range ids {
		out[i] = last[id]
	}
	return out, nil
}

// JobHistory reads every message about a job, oldest first, without its list.
func (s *Store) JobHistory(ctx context.Context, group, id string) ([]JobStatus, error) {
	var out []JobStatus
	err := s.all(ctx, s.subjects.Job(group, id), func(m *jetstream.RawStreamMsg) error {
		status, err := parseJob(m.Data, m.Sequence)
		out = append(out, status.JobStatus)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("history of job %s: %w", id, err)
	}
	return out, nil
}

// CancelJob ends a job. Letters that are being replayed at the moment are finished. It wraps [ErrNotAllowed] where the job has ended.
func (s *Store) CancelJob(ctx context.Context, group, id, by, why string) (JobStatus, error) {
	if err := accountable(by, why); err != nil {
		return JobStatus{}, err
	}
	return s.UpdateJob(ctx, group, id, func(status *JobStatus) error {
		if status.State.Ended() {
			return fmt.Errorf("cancel job %s: %w: it is %s", id, ErrNotAllowed, status.State)
		}
		status.State, status.By, status.Why = JobCancelled, by, why
		return nil
	})
}

// UpdateJob reads how a job stands, lets change change it, and writes it under its lock, again where somebody was faster. An error of change ends it.
func (s *Store) UpdateJob(ctx context.Context, group, id string, change func(*JobStatus) error) (JobStatus, error) {
	for {
		status, err := s.JobStatus(ctx, group, id)
		if err != nil {
			return JobStatus{}, err
		}
		status.At = s.now().UTC()
		if status.Partitions == nil {
			status.Partitions = make(map[int]Progress)
		}
		if err := change(&status); err != nil {
			return status, err
		}
		written, err := s.writeJob(ctx, jobMessage{JobStatus: status})
		if err == nil {
			return written, nil
		}
		if !errors.Is(err, ErrConflict) {
			return JobStatus{}, fmt.Errorf("update job %s: %w", id, err)
		}
	}
}
