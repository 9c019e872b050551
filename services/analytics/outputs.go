package analytics

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

// publisher gives the outputs of committed steps to WINDOWS and LATE. Doing it again, after a crash or by an instance that woke up late, changes
// nothing, however long ago the first time was:
//
//   - a result goes to the subject of its window, expecting what was there before it (nothing, for the first revision);
//   - a late event expects the last sequence of LATE. Who commits is fenced, so what comes at which place of LATE hangs on the log alone.
type publisher struct {
	js       jetstream.JetStream
	encoder  *bus.Encoder
	subjects events.Subjects
}

// errForeign says that a subject of ours holds something that we did not write.
var errForeign = errors.New("holds what this log did not give")

const (
	publishTries = 5 // without an answer, as between two leaders of a stream
	publishPause = 200 * time.Millisecond
	stallWait    = 5 * time.Second
)

// publish stores the outputs of a record, and returns the last sequence of LATE then. names are the queries by their place in the record.
func (p *publisher) publish(ctx context.Context, rec *record) (lateSeq uint64, err error) {
	names := make([]string, len(rec.Queries))
	for i, q := range rec.Queries {
		names[i] = q.Name
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if err := p.results(ctx, names, rec.Outputs.Results); err != nil {
		return 0, fmt.Errorf("publish results: %w", err)
	}
	lateSeq, err = p.late(ctx, names, rec.Outputs.Late, rec.LateBefore)
	if err != nil {
		return 0, fmt.Errorf("publish late events: %w", err)
	}
	return lateSeq, nil
}

// sent is one message on its way.
type sent struct {
	subject, id string
	future      jetstream.PubAckFuture
}

func (p *publisher) send(ctx context.Context, subject string, ev events.Event, expect jetstream.PublishOpt) (sent, error) {
	msg, err := p.encoder.Encode(ctx, subject, ev)
	if err != nil {
		return sent{}, err
	}
	future, err := p.js.PublishMsgAsync(msg, expect, jetstream.WithStallWait(stallWait),
		jetstream.WithRetryAttempts(publishTries), jetstream.WithRetryWait(publishPause))
	if err != nil {
		return sent{}, fmt.Errorf("publish to %s: %w", subject, err)
	}
	return sent{subject: subject, id: ev.ID, future: future}, nil
}

// wait returns the broker's word on one message.
func (s *sent) wait(ctx context.Context) (*jetstream.PubAck, error) {
	select {
	case ack := <-s.future.Ok():
		return ack, nil
	case err := <-s.future.Err():
		return nil, fmt.Errorf("publish to %s: %w", s.subject, err)
	case <-ctx.Done():
		return nil, fmt.Errorf("publish to %s: %w", s.subject, ctx.Err())
	}
}

// results stores the results of windows: all on their way at once, since each has a subject of its own.
func (p *publisher) results(ctx context.Context, names []string, results []result) error {
	var errs []error
	flying := make([]sent, 0, len(results))
	for i := range results {
		r := &results[i]
		ev, err := r.event(names[r.Query])
		if err != nil {
			return err
		}
		s, err := p.send(ctx, p.subjects.Window(names[r.Query], r.Key, r.Start), ev, jetstream.WithExpectLastSequencePerSubject(0))
		if err != nil {
			errs = append(errs, err)
			break
		}
		flying = append(flying, s)
	}
	for i := range flying {
		_, err := flying[i].wait(ctx)
		if isConflict(err) {
			err = p.isThere(ctx, flying[i])
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// isThere is nil when a result that was refused has been stored before.
func (p *publisher) isThere(ctx context.Context, s sent) error {
	stream, err := p.js.Stream(ctx, events.StreamWindows)
	if err != nil {
		return fmt.Errorf("look at %s: %w", s.subject, err)
	}
	msg, err := stream.GetLastMsgForSubject(ctx, s.subject)
	if err != nil {
		return fmt.Errorf("look at %s: %w", s.subject, err)
	}
	stored, err := events.Decode(events.Header(msg.Header), msg.Data)
	if err != nil || stored.ID != s.id {
		return fmt.Errorf("%s, sequence %d of %s: %w", s.subject, msg.Sequence, events.StreamWindows, errForeign)
	}
	return nil
}

// late stores late events behind the sequence before, in their order. When one is refused, LATE is read from there on: what is found is stored already.
func (p *publisher) late(ctx context.Context, names []string, lates []late, before uint64) (uint64, error) {
	const rounds = 5
	at, err := p.lateAfter(ctx, names, lates, before)
	for round := 1; isConflict(err) && round < rounds; round++ {
		found := make(map[string]bool)
		if at, err = p.scanLate(ctx, before, found); err != nil {
			return 0, err
		}
		var rest []late
		for i := range lates {
			if ev, err := lates[i].event(names[lates[i].Query]); err != nil || !found[ev.ID] {
				rest = append(rest, lates[i])
			}
		}
		at, err = p.lateAfter(ctx, names, rest, at)
	}
	return at, err
}

// scanLate gathers the ids of what is in LATE behind a sequence, and returns its last sequence.
func (p *publisher) scanLate(ctx context.Context, after uint64, ids map[string]bool) (last uint64, err error) {
	last, err = readAll(ctx, p.js, events.StreamLate, after+1, func(m *logMessage) error {
		if ev, err := events.Decode(events.Header(m.header), m.data); err == nil {
			ids[ev.ID] = true
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", events.StreamLate, err)
	}
	return last, nil
}

func (p *publisher) lateAfter(ctx context.Context, names []string, lates []late, at uint64) (uint64, error) {
	flying := make([]sent, 0, len(lates))
	var errs []error
	for i := range lates {
		l := &lates[i]
		ev, err := l.event(names[l.Query])
		if err != nil {
			return 0, err
		}
		s, err := p.send(ctx, p.subjects.Late(l.Reason, names[l.Query]), ev, jetstream.WithExpectLastSequence(at+uint64(i)))
		if err != nil {
			errs = append(errs, err)
			break
		}
		flying = append(flying, s)
	}
	for i := range flying {
		ack, err := flying[i].wait(ctx)
		if err == nil {
			at = max(at, ack.Sequence)
		}
		errs = append(errs, err)
	}
	return at, errors.Join(errs...)
}
