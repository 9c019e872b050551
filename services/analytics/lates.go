package analytics

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

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
