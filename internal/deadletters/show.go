package deadletters

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tidemark/tidemark/pkg/events/deadletter"
)

// Details is one letter in full. Of a letter that is gone, what its history and the event's own stream still know.
type Details struct {
	Letter
	Gone          bool       `json:"gone,omitempty" doc:"It was resolved or discarded; this is its history"`
	Subject       string     `json:"subject,omitempty"`
	StoredAt      *time.Time `json:"stored_at,omitempty" doc:"When the event was stored"`
	KeyVersion    uint64     `json:"key_version,omitempty" doc:"The aggregate's version"`
	FirstFailedAt *time.Time `json:"first_failed_at,omitempty"`
	LastFailedAt  *time.Time `json:"last_failed_at,omitempty"`
	Class         string     `json:"class,omitempty" doc:"What the error was taken for: transient, permanent …"`
	Handler       string     `json:"handler,omitempty"`
	Build         string     `json:"build,omitempty" doc:"Revision of the program that failed"`
	Instance      string     `json:"instance,omitempty" doc:"The process that failed"`
	TraceParent   string     `json:"traceparent,omitempty" doc:"Trace of the failed attempt"`
	Stack         string     `json:"stack,omitempty"`

	Headers  map[string][]string  `json:"headers,omitempty" doc:"The event's own, as they are stored"`
	Payload  Payload              `json:"payload" doc:"What a replay uses"`
	Original *Payload             `json:"original,omitempty" doc:"What was parked, where the payload was corrected"`
	Failures []deadletter.Attempt `json:"failures,omitempty" doc:"The last ten attempts that failed, oldest first"`
	History  []Action             `json:"history" doc:"Who did what, oldest first"`
}

// Payload is bytes in the most readable form that says all of them.
type Payload struct {
	Size    int             `json:"size"`
	JSON    json.RawMessage `json:"json,omitempty"`
	Text    string          `json:"text,omitempty" doc:"Where it is no JSON"`
	Base64  string          `json:"base64,omitempty" doc:"Where it is no text either"`
	Missing string          `json:"missing,omitempty" doc:"Why it can't be shown"`
}

// Action is one entry of a letter's history.
type Action struct {
	At     time.Time         `json:"at"`
	By     string            `json:"by" doc:"A person, or group@instance"`
	Action deadletter.Action `json:"action"`
	Before deadletter.State  `json:"before,omitempty"`
	State  deadletter.State  `json:"state"`
	Why    string            `json:"why,omitempty"`
	Note   string            `json:"note,omitempty"`
	Job    string            `json:"job,omitempty"`
	Error  string            `json:"error,omitempty" doc:"Of an attempt that failed"`
	Edit   *EditRecord       `json:"edit,omitempty"`
}

// EditRecord says what a correction changed.
type EditRecord struct {
	Before string `json:"before" doc:"SHA-256 of the payload that was replaced"`
	After  string `json:"after"`
}

// Show is one letter in full, also where it is gone. It wraps [deadletter.ErrNotFound] where neither the letter nor a history is there.
func (d *Desk) Show(ctx context.Context, id string) (Details, error) {
	l, err := d.store.Letter(ctx, id)
	gone := errors.Is(err, deadletter.ErrNotFound)
	if err != nil && !gone {
		return Details{}, err
	}
	history, historyErr := d.store.History(ctx, id)
	if historyErr != nil {
		return Details{}, historyErr
	}
	if gone {
		if len(history) == 0 {
			return Details{}, err
		}
		l = remains(id, history)
	}
	out := Details{
		Letter: viewOf(&l), Gone: gone, Subject: l.Subject, KeyVersion: l.KeyVersion, StoredAt: moment(l.StoredAt),
		FirstFailedAt: moment(l.FirstFailedAt), LastFailedAt: moment(l.LastFailedAt), Headers: l.Header, Failures: l.Current.History,
	}
	if f := failureOf(&l.Current); f != nil {
		out.Class, out.Handler, out.Build, out.Instance, out.TraceParent, out.Stack = f.Class, f.Handler, f.Build, f.Instance, f.TraceParent, f.Stack
	}
	for i := range history {
		out.History = append(out.History, actionOf(&history[i]))
	}
	out.Payload, out.Original, err = d.payloads(ctx, &l)
	return out, err
}

// remains is what the history knows of a letter that is gone.
func remains(id string, history []deadletter.Entry) deadletter.Letter {
	last := history[len(history)-1]
	l := deadletter.Letter{ID: id, Sequence: last.LetterSequence, Current: last, Omitted: true}
	l.Group, _ = deadletter.GroupOfID(id)
	if parts := strings.Split(id, ":"); len(parts) == 3 {
		l.Stream = parts[1]
		l.StreamSeq, _ = strconv.ParseUint(parts[2], 10, 64) // 0: no such event, and so it is said
	}
	return l
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func actionOf(e *deadletter.Entry) Action {
	a := Action{At: e.At, By: e.By, Action: e.Action, Before: e.Before, State: e.State, Why: e.Why, Job: e.Job}
	switch e.Action {
	case deadletter.ActionFail, deadletter.ActionReschedule:
		a.Error = failureOf(e).Error
	case deadletter.ActionNote:
		a.Note, a.Why = e.Note, ""
	case deadletter.ActionEdit:
		if e.Edit != nil {
			a.Edit = &EditRecord{Before: e.Edit.Before, After: e.Edit.After}
		}
	}
	return a
}

// payloads are what a replay uses and, where that was corrected, what was parked.
func (d *Desk) payloads(ctx context.Context, l *deadletter.Letter) (Payload, *Payload, error) {
	now, err := d.payload(ctx, l)
	if err != nil || l.Current.Edited == 0 && l.Current.Edit == nil {
		return now, nil, err
	}
	unedited := *l
	unedited.Current.Edited, unedited.Current.Edit = 0, nil
	original, err := d.payload(ctx, &unedited)
	return now, &original, err
}

func (d *Desk) payload(ctx context.Context, l *deadletter.Letter) (Payload, error) {
	data, err := d.store.Payload(ctx, l)
	if errors.Is(err, deadletter.ErrNotFound) {
		return Payload{Missing: "the event is no longer in " + l.Stream}, nil
	}
	if err != nil {
		return Payload{}, err
	}
	return readable(data), nil
}

func readable(data []byte) Payload {
	p := Payload{Size: len(data)}
	switch {
	case len(data) > 0 && json.Valid(data):
		p.JSON = data
	case utf8.Valid(data) && !bytes.ContainsFunc(data, unprintable):
		p.Text = string(data)
	default:
		p.Base64 = base64.StdEncoding.EncodeToString(data)
	}
	return p
}

func unprintable(r rune) bool { return r < ' ' && r != '\n' && r != '\t' && r != '\r' || r == 0x7f }
