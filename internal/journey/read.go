package journey

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
)

// ErrNotFound: no stream has an event of the order.
var ErrNotFound = errors.New("no event of the order is stored")

// Reader reads journeys.
type Reader struct {
	js       jetstream.JetStream
	topology events.Topology
	subjects events.Subjects
	letters  *deadletter.Store
}

// New makes a reader of the streams that the topology declares.
func New(js jetstream.JetStream, topology events.Topology) *Reader {
	subjects := topology.Subjects()
	return &Reader{js: js, topology: topology, subjects: subjects, letters: deadletter.New(js, subjects)}
}

// Read tells the order's way so far. The error wraps [ErrNotFound] where there is none.
func (r *Reader) Read(ctx context.Context, order string) (Journey, error) {
	j := Journey{Order: order}
	for _, from := range []struct{ stream, subject string }{
		{events.StreamTimers, r.subjects.Timer(order)},
		{events.StreamTimers, r.subjects.Timeout(order)},
		{events.StreamOrders, r.subjects.Order(order)},
		{events.StreamStock, r.subjects.StockOrder(order)},
		{events.StreamNotices, r.subjects.NoticesOf(order)},
	} {
		steps, err := r.events(ctx, from.stream, from.subject, order)
		if err != nil {
			return j, err
		}
		j.Steps = append(j.Steps, steps...)
	}
	if len(j.Steps) == 0 {
		return j, fmt.Errorf("order %s: %w", order, ErrNotFound)
	}
	parked, err := r.parked(ctx, order, j.Steps)
	if err != nil {
		return j, err
	}
	j.Steps = append(j.Steps, parked...)
	slices.SortStableFunc(j.Steps, func(a, b Step) int { return a.At.Compare(b.At) })
	j.measure()
	return j, nil
}

// events reads what a stream holds on a subject.
func (r *Reader) events(ctx context.Context, stream, subject, order string) ([]Step, error) {
	var steps []Step
	err := r.messages(ctx, stream, subject, func(m *jetstream.RawStreamMsg) {
		s := Step{At: m.Time.UTC(), Stream: stream, Sequence: m.Sequence, Partition: r.subjects.PartitionOf(order)}
		ev, err := events.Decode(events.Header(m.Header), m.Data)
		s.What, s.Event, s.Cause = ev.Type, ev.ID, ev.CausationID
		s.Trace, s.Span = split(ev.TraceParent)
		if s.Attempt = 1; ev.Extensions[bus.ExtensionAttempt] != "" {
			s.Attempt, _ = strconv.Atoi(ev.Extensions[bus.ExtensionAttempt]) // 0 says that it can't be read
		}
		if s.Detail = detail(&ev); err != nil {
			s.What, s.Detail = cmp.Or(s.What, "unreadable"), err.Error()
		}
		if subject == r.subjects.Timer(order) {
			s.Detail = "the deadline is set"
		}
		steps = append(steps, s)
	})
	return steps, err
}

// messages hands over what a stream holds on a subject, which may have wildcards, in the order of the stream.
func (r *Reader) messages(ctx context.Context, stream, subject string, each func(*jetstream.RawStreamMsg)) error {
	s, err := r.js.Stream(ctx, stream)
	if err != nil {
		return fmt.Errorf("read %s: %w", stream, err)
	}
	for next := uint64(1); ; {
		m, err := s.GetMsg(ctx, next, jetstream.WithGetMsgSubject(subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", stream, err)
		}
		each(m)
		next = m.Sequence + 1
	}
}

// parked finds the dead letters that were made of the order's events, also those that are gone, by the ids that they must have.
func (r *Reader) parked(ctx context.Context, order string, from []Step) ([]Step, error) {
	open := make(map[string]deadletter.Letter)
	for _, g := range r.topology.Groups {
		for l, err := range r.letters.Letters(ctx, deadletter.Filter{Group: g.Name, Key: order}) {
			if err != nil {
				return nil, err
			}
			open[l.ID] = l
		}
	}
	ids, err := r.letterIDs(ctx, order, from)
	if err != nil {
		return nil, err
	}
	for id := range open { // of an event that is stored elsewhere, or no longer
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	var steps []Step
	for _, id := range ids {
		history, err := r.letters.History(ctx, id)
		if err != nil {
			return nil, err
		}
		if l, ok := open[id]; ok {
			history = append([]deadletter.Entry{deadletter.Initial(&l)}, history...)
		} else if len(history) > 0 {
			history = append([]deadletter.Entry{history[0].First()}, history...)
		}
		for i := range history {
			steps = append(steps, stepOf(&history[i], r.subjects.PartitionOf(order)))
		}
	}
	return steps, nil
}

// letterIDs are the ids of all letters that can have been made of the order's events.
func (r *Reader) letterIDs(ctx context.Context, order string, from []Step) (ids []string, err error) {
	at := make(map[string][]uint64)
	for i := range from {
		at[from[i].Stream] = append(at[from[i].Stream], from[i].Sequence)
	}
	err = r.messages(ctx, events.StreamTimeline, r.subjects.Order(order), func(m *jetstream.RawStreamMsg) {
		at[events.StreamTimeline] = append(at[events.StreamTimeline], m.Sequence)
	})
	for _, g := range r.topology.Groups {
		for _, sequence := range at[g.Stream] {
			ids = append(ids, deadletter.ID(g.Name, g.Stream, sequence))
		}
	}
	return ids, err
}
