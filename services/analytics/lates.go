package analytics

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

// lateFlight are late events on their way into LATE, behind a sequence, in their order.
type lateFlight struct {
	publisher *publisher
	names     []string
	lates     []late
	before    uint64
	sent      []sent
	err       error // of sending
}

// sendLates sends them. The flight must be settled.
func (p *publisher) sendLates(ctx context.Context, names []string, lates []late, before uint64) *lateFlight {
	f := &lateFlight{publisher: p, names: names, lates: lates, before: before}
	for i := range lates {
		l := &lates[i]
		ev, err := l.event(names[l.Query])
		if err != nil {
			f.err = err
			break
		}
		s, err := p.send(ctx, p.subjects.Late(l.Reason, names[l.Query]), ev, jetstream.WithExpectLastSequence(before+uint64(i)))
		if err != nil {
			f.err = err
			break
		}
		f.sent = append(f.sent, s)
	}
	return f
}

// settle waits until all are stored, and returns the last sequence of LATE. When one is refused, LATE is read from there on: what is found is stored already.
func (f *lateFlight) settle(ctx context.Context) (uint64, error) {
	const rounds = 5
	at, err := f.wait(ctx)
	for round := 1; isConflict(err) && round < rounds; round++ {
		found := make(map[string]bool)
		if at, err = f.publisher.scanLate(ctx, f.before, found); err != nil {
			return 0, err
		}
		var rest []late
		for i := range f.lates {
			if ev, err := f.lates[i].event(f.names[f.lates[i].Query]); err != nil || !found[ev.ID] {
				rest = append(rest, f.lates[i])
			}
		}
		at, err = f.publisher.sendLates(ctx, f.names, rest, at).wait(ctx)
	}
	return at, err
}

// wait waits for the answers to all, and returns the last sequence that they say.
func (f *lateFlight) wait(ctx context.Context) (uint64, error) {
	at, errs := f.before, []error{f.err}
	for i := range f.sent {
		ack, err := f.sent[i].wait(ctx)
		if err == nil {
			at = max(at, ack.Sequence)
		}
		errs = append(errs, err)
	}
	return at, errors.Join(errs...)
}

// scanLate gathers the ids of what is in LATE behind a sequence, and returns its last sequence.
func (p *publisher) scanLate(ctx context.Context, after uint64, ids map[string]bool) (last uint64, err error) {
	last, err = readAll(ctx, p.js, events.StreamLate, after+1, func(m *jetstream.RawStreamMsg) error {
		if ev, err := events.Decode(events.Header(m.Header), m.Data); err == nil {
			ids[ev.ID] = true
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", events.StreamLate, err)
	}
	return last, nil
}
