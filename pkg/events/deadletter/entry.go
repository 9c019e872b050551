package deadletter

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Entry is one message of DLQCTL about a letter: its new state, and who made it so, when and why. The last one is the letter's state, all of them are
// its history.
type Entry struct {
	Letter         string    `json:"letter"`     // its id
	LetterSequence uint64    `json:"letter_seq"` // its sequence in DLQ: an event that is parked again is another message
	State          State     `json:"state"`
	Before         State     `json:"before,omitempty"`
	Action         Action    `json:"action,omitempty"` // empty in [Initial]
	At             time.Time `json:"at"`
	By             string    `json:"by"`            // a person, or group@instance
	Why            string    `json:"why,omitempty"` // what a person gave as reason
	Job            string    `json:"job,omitempty"` // the job that asked for it

	ParkedAt time.Time `json:"parked_at,omitzero"`        // the letter's; it is gone when the event is handled, and this is not
	NextAt   time.Time `json:"next_at,omitzero"`          // of a retry
	Attempts int       `json:"attempts"`                  // calls of the handler, since the event came
	Retries  int       `json:"retries,omitempty"`         // calls of the handler that count against the group's schedule
	Claims   int       `json:"claims,omitempty"`          // claims without an outcome: so many processes died on it, or lost their partition
	Depth    int       `json:"depth,omitempty"`           // replays that failed
	Failure  *Failure  `json:"failure,omitempty"`         // the last one
	History  []Attempt `json:"attempt_history,omitempty"` // the last ten
	Edited   uint64    `json:"edited,omitempty"`          // the sequence of the entry that holds the payload to use
	Note     string    `json:"note,omitempty"`            // the last note
	Edit     *Edit     `json:"edit,omitempty"`            // of the action edit alone

	Sequence uint64 `json:"-"` // in DLQCTL; 0 where nothing was written. The lock of the next entry.
}

// Attempt is one call of a handler that failed.
type Attempt struct {
	At          time.Time `json:"at"`
	Instance    string    `json:"instance,omitempty"`
	Build       string    `json:"build,omitempty"`
	Reason      Reason    `json:"reason,omitempty"`
	Error       string    `json:"error,omitempty"`
	Fingerprint string    `json:"fingerprint,omitempty"`
	TraceParent string    `json:"traceparent,omitempty"`
}

// Edit is a payload that an operator corrected. The original stays in the letter.
type Edit struct {
	Data   []byte `json:"data"`
	Before string `json:"before"` // SHA-256 of the payload that it replaces, "sha256:…"
	After  string `json:"after"`
}

// Initial is the state of a letter about which nothing was written.
func Initial(l *Letter) Entry {
	e := Entry{
		Letter: l.ID, LetterSequence: l.Sequence, State: l.FirstState, At: l.ParkedAt, By: l.Group + "@" + l.Failure.Instance,
		ParkedAt: l.ParkedAt, NextAt: l.NextAt, Attempts: l.Attempts, Retries: l.Attempts, Depth: l.ReplayDepth,
	}
	failure := l.Failure
	e.Failure = &failure
	return e
}

// First is what can be told of the letter itself from the first entry about it, where the letter is gone.
func (e Entry) First() Entry {
	first := Entry{Letter: e.Letter, LetterSequence: e.LetterSequence, State: e.Before, At: e.ParkedAt, ParkedAt: e.ParkedAt, Failure: e.Failure, Attempts: e.Attempts}
	if first.At.IsZero() { // written by a version that did not note it
		first.At = e.At
	}
	if len(e.History) > 0 { // the entry itself is of a failure
		first.Attempts = max(1, e.Attempts-1)
	}
	return first
}

const mostHistory = 10

// Next is the entry that follows e: everything carried over, with a new state and a new author.
func (e Entry) Next(state State, action Action, by string, now time.Time) Entry {
	next := e
	next.Before, next.State, next.Action, next.By, next.At = e.State, state, action, by, now.UTC()
	next.Why, next.Job, next.Edit = "", "", nil
	if e.Edit != nil {
		next.Edited = e.Sequence
	}
	if state != StateRetrying {
		next.NextAt = time.Time{}
	}
	return next
}

// Failed notes a call of the handler that failed.
func (e *Entry) Failed(f Failure, at time.Time) {
	e.Failure = &f
	history := append(append([]Attempt(nil), e.History...), Attempt{
		At: at.UTC(), Instance: f.Instance, Build: f.Build, Reason: f.Reason, Error: f.Error, Fingerprint: f.Fingerprint, TraceParent: f.TraceParent,
	})
	e.History = history[max(0, len(history)-mostHistory):]
}

var errEntry = errors.New("invalid entry")

func (e *Entry) validate() error {
	switch {
	case e.Letter == "" || e.LetterSequence == 0 && e.Action != ActionDrop:
		return fmt.Errorf("%w: letter and letter_seq: required", errEntry)
	case e.By == "":
		return fmt.Errorf("%w: by: required: who does it?", errEntry)
	case e.Action == "":
		return fmt.Errorf("%w: action: required", errEntry)
	case e.Action != ActionDrop && !allowed(e.Before, e.State):
		return fmt.Errorf("%w: %w: from %s to %s", errEntry, ErrNotAllowed, e.Before, e.State)
	}
	return nil
}

func parseEntry(data []byte, sequence uint64) (Entry, error) {
	var e Entry
	if err := json.Unmarshal(data, &e); err != nil {
		return Entry{}, fmt.Errorf("entry at sequence %d: %w", sequence, err)
	}
	e.Sequence = sequence
	return e, nil
}
