package deadletters

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
)

// Deps are what a desk is made of.
type Deps struct {
	JS       jetstream.JetStream
	Topology events.Topology
	Registry *events.Registry // what corrected payloads are checked against
	Service  string           // whose user of the broker this is, which may act on its own groups' letters alone; empty: the operator's
}

// Desk reads dead letters and orders what becomes of them. It is safe for use by many goroutines.
type Desk struct {
	store    *deadletter.Store
	js       jetstream.JetStream
	topology events.Topology
	registry *events.Registry
	service  string
}

// ErrElsewhere is wrapped where the user of the broker that this process is may not act on a group's letters.
var ErrElsewhere = errors.New("not from here")

// may reports why this process can't act on the letters of a group: the broker would not answer.
func (d *Desk) may(group string) error {
	g, ok := d.topology.Group(group)
	if d.service == "" || !ok || g.Service == d.service {
		return nil
	}
	return fmt.Errorf("%w: the user %s of the broker can't write about letters of the group %s; ask the operator's process (tidemark up) or the service %s", ErrElsewhere, d.service, group, g.Service)
}

// New returns a desk.
func New(deps Deps) (*Desk, error) {
	var errs []error
	if deps.JS == nil {
		errs = append(errs, errors.New("JS: required"))
	}
	if deps.Registry == nil {
		errs = append(errs, errors.New("registry: required"))
	}
	if len(deps.Topology.Groups) == 0 {
		errs = append(errs, errors.New("topology: required"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &Desk{store: deadletter.New(deps.JS, deps.Topology.Subjects()), js: deps.JS, topology: deps.Topology, registry: deps.Registry, service: deps.Service}, nil
}

// Letter is one dead letter as a listing shows it.
type Letter struct {
	ID          string           `json:"id" doc:"<group>:<stream>:<sequence>" example:"notify:ORDERS:4711"`
	Seq         uint64           `json:"seq" doc:"Place in the stream DLQ: the order in which letters were parked"`
	Group       string           `json:"group" doc:"The consumer group that failed"`
	Partition   int              `json:"partition"`
	Key         string           `json:"key" doc:"The event's key: an order, a user"`
	State       deadletter.State `json:"state" doc:"retrying, blocked, dead, replaying; resolved and discarded of a letter that is gone"`
	Reason      string           `json:"reason" doc:"Why its last attempt failed"`
	Code        string           `json:"code,omitempty"`
	Error       string           `json:"error" doc:"The last error, without personal data"`
	Fingerprint string           `json:"fingerprint,omitempty" doc:"The same for failures of one cause"`
	EventType   string           `json:"event_type,omitempty"`
	EventID     string           `json:"event_id,omitempty"`
	Stream      string           `json:"stream" doc:"Where the event is stored"`
	StreamSeq   uint64           `json:"stream_seq"`
	ParkedAt    time.Time        `json:"parked_at"`
	Attempts    int              `json:"attempts" doc:"Calls of the handler"`
	Depth       int              `json:"depth,omitempty" doc:"Replays that failed"`
	NextAt      *time.Time       `json:"next_at,omitempty" doc:"When a letter that is retrying is tried again"`
	Edited      bool             `json:"edited,omitempty" doc:"A replay uses a corrected payload"`
	Note        string           `json:"note,omitempty" doc:"The last note"`
}

// Letters yields the letters that fit, in the order in which they were parked. An error ends it.
func (d *Desk) Letters(ctx context.Context, f deadletter.Filter) iter.Seq2[Letter, error] {
	return func(yield func(Letter, error) bool) {
		for l, err := range d.store.Letters(ctx, f) {
			if err != nil {
				yield(Letter{}, err)
				return
			}
			if !yield(viewOf(&l), nil) {
				return
			}
		}
	}
}

func viewOf(l *deadletter.Letter) Letter {
	e := &l.Current
	v := Letter{
		ID: l.ID, Seq: l.Sequence, Group: l.Group, Partition: l.Partition, Key: l.Key, State: e.State,
		EventType: l.EventType, EventID: l.EventID, Stream: l.Stream, StreamSeq: l.StreamSeq,
		ParkedAt: l.ParkedAt, Attempts: e.Attempts, Depth: e.Depth, Edited: e.Edited != 0 || e.Edit != nil, Note: e.Note,
	}
	if f := failureOf(e); f != nil {
		v.Reason, v.Code, v.Error, v.Fingerprint = string(f.Reason), f.Code, f.Error, f.Fingerprint
	}
	if e.State == deadletter.StateRetrying && !e.NextAt.IsZero() {
		v.NextAt = &e.NextAt
	}
	return v
}

func failureOf(e *deadletter.Entry) *deadletter.Failure {
	if e.Failure == nil {
		return &deadletter.Failure{}
	}
	return e.Failure
}
