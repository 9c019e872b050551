package journey

import (
	"cmp"
	"encoding/json"
	"strings"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
)

// stepOf is the step of an entry about a dead letter. The first one is the letter itself.
func stepOf(e *deadletter.Entry, partition int) Step {
	group, _ := deadletter.GroupOfID(e.Letter)
	s := Step{At: e.At.UTC(), Stream: events.StreamDLQCtl, Sequence: e.Sequence, Partition: partition, Attempt: e.Attempts, Group: group}
	if e.Action == "" {
		s.What, s.Stream, s.Sequence = "dead letter", events.StreamDLQ, e.LetterSequence
		if f := e.Failure; f != nil {
			s.Detail = strings.TrimSuffix(string(f.Reason)+": "+f.Error, ": ")
			s.Trace, s.Span = split(f.TraceParent)
		}
		return s
	}
	s.What = "letter: " + strings.ReplaceAll(string(e.Action), "_", " ")
	var said []string
	for _, part := range [][2]string{{"", string(e.State)}, {"by ", e.By}, {"why: ", e.Why}} {
		if part[1] != "" {
			said = append(said, part[0]+part[1])
		}
	}
	if e.Action == deadletter.ActionFail || e.Action == deadletter.ActionReschedule {
		if f := e.Failure; f != nil {
			said = append(said, f.Error)
			s.Trace, s.Span = split(f.TraceParent)
		}
	}
	s.Detail = strings.Join(said, "; ")
	return s
}

// detail is what an event says in a few words: why an order ended, or over which channel it was told.
func detail(ev *events.Event) string {
	var d struct{ Reason, Detail, Channel string }
	if err := json.Unmarshal(ev.Data, &d); err != nil {
		return ""
	}
	return cmp.Or(d.Reason, d.Channel)
}

// measure tells how long each step came behind what caused it, where that is known, else behind the step before.
func (j *Journey) measure() {
	stored := make(map[string]time.Time)
	for i := range j.Steps {
		s := &j.Steps[i]
		if s.Event != "" {
			stored[s.Event] = s.At
		}
		if s.What == events.TypeOrderPlaced && j.Trace == "" {
			j.Trace = s.Trace
		}
		if i == 0 {
			continue
		}
		before := j.Steps[i-1].At
		if cause, ok := stored[s.Cause]; ok && s.Cause != s.Event {
			before = cause
		}
		s.Lag = s.At.Sub(before)
	}
}
