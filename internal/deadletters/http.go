package deadletters

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tidemark/tidemark/pkg/events/access"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
)

const (
	root = "/v1/deadletters"
	tag  = "dead letters"
)

// Routes registers /v1/deadletters. It is the operator's: it shows payloads and can discard events.
func (d *Desk) Routes(api huma.API) {
	operation := func(id, method, path, summary string, codes ...int) huma.Operation {
		return huma.Operation{
			OperationID: id, Method: method, Path: root + path, Summary: summary, Tags: []string{tag}, Errors: append(codes, http.StatusForbidden),
			Security: access.Any(access.Operator),
		}
	}
	const missing, invalid, conflict = http.StatusNotFound, http.StatusUnprocessableEntity, http.StatusConflict
	huma.Register(api, operation("list-dead-letters", http.MethodGet, "", "List dead letters in the order of parking", invalid), d.getLetters)
	huma.Register(api, operation("list-dead-letter-groups", http.MethodGet, "/groups", "Dead letters by their cause", invalid), d.getCauses)
	huma.Register(api, operation("get-dead-letter", http.MethodGet, "/{id}", "One dead letter in full, also one that is gone", missing), d.getLetter)
	huma.Register(api, operation("note-dead-letter", http.MethodPost, "/{id}/notes", "Write a note into a letter's history", missing, conflict, invalid), d.postNote)
	huma.Register(api, operation("edit-dead-letter", http.MethodPut, "/{id}/payload", "Correct the payload that a replay uses", missing, conflict, invalid), d.putPayload)
	post := operation("start-dead-letter-job", http.MethodPost, "/jobs", "Replay or discard dead letters", missing, invalid)
	post.Description = "Freezes the list of letters that fit and makes one job for each of their consumer groups, which the groups' members carry out. With dry_run nothing is done: " +
		"the answer is 200 with what it would be about. At least one filter or id is required, or all."
	post.DefaultStatus = http.StatusAccepted
	huma.Register(api, post, d.postJob)
	huma.Register(api, operation("list-dead-letter-jobs", http.MethodGet, "/jobs", "List jobs, oldest first", invalid), d.getJobs)
	huma.Register(api, operation("get-dead-letter-job", http.MethodGet, "/jobs/{id}", "One job with its list and what happened to it", missing), d.getJob)
	huma.Register(api, operation("cancel-dead-letter-job", http.MethodPost, "/jobs/{id}/cancel", "End a job", missing, conflict, invalid), d.postCancel)
}

// FilterInput is the filters in a URL. Huma sees embedded structs only where they are exported.
type FilterInput struct {
	Group       string `query:"group" doc:"Consumer group"`
	Key         string `query:"key"`
	State       string `query:"state" enum:"retrying,blocked,dead,replaying"`
	Reason      string `query:"reason"`
	Fingerprint string `query:"fingerprint"`
	Type        string `query:"type" doc:"Event type"`
	Since       string `query:"since" doc:"Parked at or after: RFC 3339, or how long ago, such as 15m"`
	Until       string `query:"until" doc:"Parked before"`
}

func (in *FilterInput) query() Query {
	return Query{
		Group: in.Group, Key: in.Key, State: in.State, Reason: in.Reason, Fingerprint: in.Fingerprint, EventType: in.Type, Since: in.Since, Until: in.Until,
	}
}

type lettersInput struct {
	FilterInput
	Cursor uint64 `query:"cursor" doc:"next_cursor of the page before"`
	Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
}

// LetterPage is one page of a listing.
type LetterPage struct {
	Items      []Letter `json:"items"`
	NextCursor string   `json:"next_cursor,omitempty"`
}

type output[T any] struct{ Body T }

func (d *Desk) getLetters(ctx context.Context, in *lettersInput) (*output[LetterPage], error) {
	f, err := in.query().Filter(d.topology, time.Now())
	if err != nil {
		return nil, problem(err)
	}
	f.After = in.Cursor
	page := LetterPage{Items: make([]Letter, 0, in.Limit)}
	for l, err := range d.Letters(ctx, f) {
		if err != nil {
			return nil, problem(err)
		}
		if len(page.Items) == in.Limit {
			page.NextCursor = strconv.FormatUint(page.Items[in.Limit-1].Seq, 10)
			break
		}
		page.Items = append(page.Items, l)
	}
	return &output[LetterPage]{page}, nil
}

// CauseList is all causes.
type CauseList struct {
	Items []Cause `json:"items"`
}

func (d *Desk) getCauses(ctx context.Context, in *FilterInput) (*output[CauseList], error) {
	f, err := in.query().Filter(d.topology, time.Now())
	if err != nil {
		return nil, problem(err)
	}
	causes, err := d.Causes(ctx, f)
	return &output[CauseList]{CauseList{Items: causes}}, problem(err)
}

// IDInput names a letter or a job.
type IDInput struct {
	ID string `path:"id"`
}

func (d *Desk) getLetter(ctx context.Context, in *IDInput) (*output[Details], error) {
	details, err := d.Show(ctx, in.ID)
	return &output[Details]{details}, problem(err)
}

// NoteRequest is a note.
type NoteRequest struct {
	By   string `json:"by" minLength:"1" doc:"Who writes it: there are no logins yet"`
	Note string `json:"note" minLength:"1" maxLength:"2000"`
}

type noteInput struct {
	IDInput
	Body NoteRequest
}

func (d *Desk) postNote(ctx context.Context, in *noteInput) (*output[Letter], error) {
	if err := Accountable(in.Body.By, in.Body.Note); err != nil {
		return nil, problem(err)
	}
	l, err := d.Note(ctx, in.ID, in.Body.By, in.Body.Note)
	return &output[Letter]{l}, problem(err)
}

// EditRequest corrects a payload: either all of it, or a patch.
type EditRequest struct {
	By      string          `json:"by" minLength:"1"`
	Why     string          `json:"why" minLength:"1"`
	Payload json.RawMessage `json:"payload,omitempty" doc:"The whole payload"`
	Patch   json.RawMessage `json:"patch,omitempty" doc:"Or a JSON Patch (RFC 6902)"`
}

type editInput struct {
	IDInput
	Body EditRequest
}

func (d *Desk) putPayload(ctx context.Context, in *editInput) (*output[Letter], error) {
	c := Correction{Data: given(in.Body.Payload), Patch: given(in.Body.Patch)}
	if (c.Data == nil) == (c.Patch == nil) {
		return nil, huma.Error422UnprocessableEntity("give either payload or patch")
	}
	if err := Accountable(in.Body.By, in.Body.Why); err != nil {
		return nil, problem(err)
	}
	l, err := d.Edit(ctx, in.ID, c, in.Body.By, in.Body.Why)
	return &output[Letter]{l}, problem(err)
}

func given(raw json.RawMessage) []byte {
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		return nil
	}
	return raw
}

// JobRequest orders a replay or a discard.
type JobRequest struct {
	Kind      deadletter.JobKind `json:"kind" enum:"replay,discard"`
	By        string             `json:"by" minLength:"1"`
	Why       string             `json:"why" minLength:"1"`
	IDs       []string           `json:"ids,omitempty" doc:"Letters by id; or filters"`
	Filter    *JobFilter         `json:"filter,omitempty"`
	All       bool               `json:"all,omitempty" doc:"Every letter: required where neither an id nor a filter is given"`
	Rate      float64            `json:"rate,omitempty" minimum:"0" doc:"Letters a second; 0: as fast as it goes"`
	NoCanary  bool               `json:"no_canary,omitempty" doc:"Don't try one, then ten, before the rest"`
	StopRatio float64            `json:"stop_ratio,omitempty" minimum:"0" maximum:"1" doc:"Stop when more than this part of the replays failed; 0: the default, 0.05 with a canary"`
	Force     bool               `json:"force,omitempty" doc:"Also letters whose replays failed three times"`
	DryRun    bool               `json:"dry_run,omitempty"`
}

// JobFilter selects letters.
type JobFilter struct {
	Group       string `json:"group,omitempty"`
	Key         string `json:"key,omitempty"`
	State       string `json:"state,omitempty"`
	Reason      string `json:"reason,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"`
	Type        string `json:"type,omitempty"`
	Since       string `json:"since,omitempty"`
	Until       string `json:"until,omitempty"`
}

func (r *JobRequest) query() Query {
	if r.Filter == nil {
		return Query{}
	}
	f := r.Filter
	return Query{Group: f.Group, Key: f.Key, State: f.State, Reason: f.Reason, Fingerprint: f.Fingerprint, EventType: f.Type, Since: f.Since, Until: f.Until}
}

// StartedJobs is the answer to an order: the preview, and the jobs that were made.
type StartedJobs struct {
	Preview []Preview `json:"preview"`
	Jobs    []Job     `json:"jobs"`
}

type jobInput struct{ Body JobRequest }

type jobOutput struct {
	Status int
	Body   StartedJobs
}

func (d *Desk) postJob(ctx context.Context, in *jobInput) (*jobOutput, error) {
	r := &in.Body
	q := r.query()
	if err := Accountable(r.By, r.Why); err != nil {
		return nil, problem(err)
	}
	if err := Narrow(q, r.IDs, r.All); err != nil {
		return nil, problem(err)
	}
	f, err := q.Filter(d.topology, time.Now())
	if err != nil {
		return nil, problem(err)
	}
	selection, err := d.Select(ctx, r.Kind, f, r.IDs)
	if err != nil {
		return nil, problem(err)
	}
	out := &jobOutput{Status: http.StatusOK, Body: StartedJobs{Preview: selection.Preview, Jobs: []Job{}}}
	if r.DryRun || selection.Count() == 0 {
		return out, nil
	}
	out.Status = http.StatusAccepted
	out.Body.Jobs, err = d.Start(ctx, selection, Order{By: r.By, Why: r.Why, Rate: r.Rate, Canary: !r.NoCanary && r.Kind == deadletter.JobReplay, StopRatio: r.StopRatio, Force: r.Force})
	return out, problem(err)
}

// JobList is all jobs.
type JobList struct {
	Items []Job `json:"items"`
}

type jobsInput struct {
	Group string `query:"group"`
}

func (d *Desk) getJobs(ctx context.Context, in *jobsInput) (*output[JobList], error) {
	if _, err := (Query{Group: in.Group}).Filter(d.topology, time.Now()); err != nil {
		return nil, problem(err)
	}
	jobs, err := d.Jobs(ctx, in.Group)
	return &output[JobList]{JobList{Items: jobs}}, problem(err)
}

func (d *Desk) getJob(ctx context.Context, in *IDInput) (*output[JobDetails], error) {
	j, err := d.ShowJob(ctx, in.ID)
	return &output[JobDetails]{j}, problem(err)
}

// CancelRequest says who ends a job, and why.
type CancelRequest struct {
	By  string `json:"by" minLength:"1"`
	Why string `json:"why" minLength:"1"`
}

type cancelInput struct {
	IDInput
	Body CancelRequest
}

func (d *Desk) postCancel(ctx context.Context, in *cancelInput) (*output[Job], error) {
	if err := Accountable(in.Body.By, in.Body.Why); err != nil {
		return nil, problem(err)
	}
	j, err := d.CancelJob(ctx, in.ID, in.Body.By, in.Body.Why)
	return &output[Job]{j}, problem(err)
}

// problem is an error as HTTP says it.
func problem(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, deadletter.ErrNotFound):
		return huma.Error404NotFound(err.Error())
	case errors.Is(err, ErrElsewhere):
		return huma.Error403Forbidden(err.Error())
	case errors.Is(err, deadletter.ErrConflict), errors.Is(err, deadletter.ErrNotAllowed):
		return huma.Error409Conflict(err.Error())
	case errors.Is(err, ErrQuery), errors.Is(err, ErrPatch), errors.Is(err, deadletter.ErrNotEditable), errors.Is(err, ErrUnaccountable):
		return huma.Error422UnprocessableEntity(err.Error())
	}
	return fmt.Errorf("dead letters: %w", err)
}
