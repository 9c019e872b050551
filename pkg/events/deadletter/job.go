package deadletter

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
)

// JobKind is what a job does with its letters.
type JobKind string

// The kinds.
const (
	JobReplay  JobKind = "replay"
	JobDiscard JobKind = "discard"
)

// JobState is how a job stands.
type JobState string

// The states of a job.
const (
	JobPreparing JobState = "preparing" // its list is being written; nobody works on it
	JobRunning   JobState = "running"
	JobDone      JobState = "done"
	JobStopped   JobState = "stopped"   // by itself: too many of its replays failed
	JobCancelled JobState = "cancelled" // by an operator
)

// Ended reports whether the job does nothing more.
func (s JobState) Ended() bool { return s == JobDone || s == JobStopped || s == JobCancelled }

// CanarySize is how many replays of a job with a canary go one after the other before the rest is let go: first 1, then 10.
const CanarySize = 11

// Job is a job as it was made; it never changes.
type Job struct {
	ID      string    `json:"id"`
	Group   string    `json:"group"`
	Kind    JobKind   `json:"kind"`
	By      string    `json:"by"`
	Why     string    `json:"why"`
	MadeAt  time.Time `json:"made_at"`
	Letters []Ref     `json:"letters,omitempty"` // the frozen list

	Rate      float64 `json:"rate,omitempty"`       // letters a second, all partitions together; 0: as fast as it goes
	Canary    bool    `json:"canary,omitempty"`     // the first one alone, then ten one by one, then the rest
	StopRatio float64 `json:"stop_ratio,omitempty"` // stop when more than this part of the replays failed; 0: 0.05 with a canary, else never
	Force     bool    `json:"force,omitempty"`      // also letters whose replays failed three times
}

// MostDepth is how often a letter's replay may fail before only a job with Force tries it again.
const MostDepth = 3

// Ref is one letter of a job's list.
type Ref struct {
	ID        string `json:"id"`
	Sequence  uint64 `json:"seq"` // in DLQ
	Partition int    `json:"p"`
}

// RefTo is the place of a letter in a job's list.
func RefTo(l *Letter) Ref { return Ref{ID: l.ID, Sequence: l.Sequence, Partition: l.Partition} }

// Progress is what one partition has done of a job.
type Progress struct {
	Done      int `json:"done"` // the sum of the others
	Resolved  int `json:"resolved,omitempty"`
	Failed    int `json:"failed,omitempty"` // replayed, and dead again or waiting for a retry
	Discarded int `json:"discarded,omitempty"`
	Skipped   int `json:"skipped,omitempty"` // gone already, waiting behind another letter, or replayed too often
}

// JobStatus is how a job stands: the last message about it.
type JobStatus struct {
	ID         string           `json:"id"`
	Group      string           `json:"group"`
	Kind       JobKind          `json:"kind"`
	MadeAt     time.Time        `json:"made_at"`
	MadeBy     string           `json:"made_by"`
	MadeWhy    string           `json:"made_why"`
	State      JobState         `json:"state"`
	At         time.Time        `json:"at"`
	By         string           `json:"by"`
	Why        string           `json:"why,omitempty"`
	Total      int              `json:"total"`
	Partitions map[int]Progress `json:"partitions,omitempty"`

	Sequence uint64 `json:"-"` // in DLQCTL: the lock of the next message
}

// Sum is the progress of all partitions.
func (s JobStatus) Sum() Progress {
	var sum Progress
	for _, p := range s.Partitions {
		sum.Done += p.Done
		sum.Resolved += p.Resolved
		sum.Failed += p.Failed
		sum.Discarded += p.Discarded
		sum.Skipped += p.Skipped
	}
	return sum
}

// jobMessage is one message on a job's subject: the status, and while it is prepared a part of the job.
type jobMessage struct {
	JobStatus
	Job *Job `json:"job,omitempty"`
}

func parseJob(data []byte, sequence uint64) (jobMessage, error) {
	var m jobMessage
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("job at sequence %d: %w", sequence, err)
	}
	m.Sequence = sequence
	return m, nil
}

// Validate reports every error of a job, joined.
func (j *Job) Validate() error {
	var errs []error
	if j.Kind != JobReplay && j.Kind != JobDiscard {
		errs = append(errs, fmt.Errorf("job: kind: is %q, must be %s or %s", j.Kind, JobReplay, JobDiscard))
	}
	if j.Group == "" {
		errs = append(errs, errors.New("job: group: required, is empty"))
	}
	if err := accountable(j.By, j.Why); err != nil {
		errs = append(errs, err)
	}
	if len(j.Letters) == 0 {
		errs = append(errs, errors.New("job: letters: required, is empty"))
	}
	if j.Rate < 0 {
		errs = append(errs, fmt.Errorf("job: rate: is %g, must not be negative", j.Rate))
	}
	if j.StopRatio < 0 || j.StopRatio > 1 {
		errs = append(errs, fmt.Errorf("job: stop ratio: is %g, must be from 0 to 1", j.StopRatio))
	}
	for _, ref := range j.Letters {
		if group, ok := GroupOfID(ref.ID); !ok || group != j.Group || ref.Sequence == 0 {
			errs = append(errs, fmt.Errorf("job: letters: %q at %d is no letter of group %s", ref.ID, ref.Sequence, j.Group))
			break
		}
	}
	return errors.Join(errs...)
}

// NewJobID returns an id for a job.
func NewJobID() string { return events.NewID() }

const defaultStopRatio = 0.05

// Trips reports whether so many failures among so many replays stop the job.
func (j *Job) Trips(p Progress) bool {
	ratio := j.StopRatio
	if ratio == 0 && j.Canary {
		ratio = defaultStopRatio
	}
	tried := p.Resolved + p.Failed
	return ratio > 0 && tried > 0 && float64(p.Failed) > ratio*float64(tried)
}
