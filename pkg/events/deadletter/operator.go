package deadletter

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/lookup"
)

// Note writes a remark of an operator into a letter's history. Its state stays.
func (s *Store) Note(ctx context.Context, id, by, note string) (Entry, error) {
	return s.remark(ctx, id, by, note, ActionNote, func(_ *Letter, next *Entry) error {
		next.Note = note
		return nil
	})
}

// ErrNotEditable is wrapped where a corrected payload can't be accepted.
var ErrNotEditable = errors.New("edit refused")

// Edit corrects the payload of a letter for its replay. Nothing else of an event can be changed: what it is and whom it is about must stay, or it
// would be another event. The new payload must fit the schema of its type. The original stays in the letter.
func (s *Store) Edit(ctx context.Context, schemas *events.Registry, id string, data []byte, by, why string) (Entry, error) {
	return s.remark(ctx, id, by, why, ActionEdit, func(l *Letter, next *Entry) error {
		ev, err := events.Decode(l.Header, data)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrNotEditable, err)
		}
		if err := schemas.Validate(&ev); err != nil {
			return fmt.Errorf("%w: %w", ErrNotEditable, err)
		}
		before, err := s.Payload(ctx, l)
		if err != nil {
			return err
		}
		next.Edit = &Edit{Data: data, Before: digest(before), After: digest(data)}
		return nil
	})
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// remark writes an entry that keeps the state.
func (s *Store) remark(ctx context.Context, id, by, why string, action Action, change func(*Letter, *Entry) error) (Entry, error) {
	if err := accountable(by, why); err != nil {
		return Entry{}, err
	}
	const tries = 5
	for n := 1; ; n++ {
		l, err := s.Letter(ctx, id)
		if err != nil {
			return Entry{}, err
		}
		if l.Current.State == StateReplaying {
			return Entry{}, fmt.Errorf("%s of %s: %w: it is being replayed", action, id, ErrNotAllowed)
		}
		next := l.Current.Next(l.Current.State, action, by, s.now())
		next.NextAt, next.Why = l.Current.NextAt, why
		if err := change(&l, &next); err != nil {
			return Entry{}, fmt.Errorf("%s of %s: %w", action, id, err)
		}
		e, err := s.Write(ctx, next)
		if err == nil || !errors.Is(err, ErrConflict) || n == tries {
			return e, err
		}
	}
}

// Payload is what a replay of the letter uses: the last edit, else the original bytes, which are read from the event's own stream where the
// letter had no room for them. Wraps [ErrNotFound] where they have expired there.
func (s *Store) Payload(ctx context.Context, l *Letter) ([]byte, error) {
	if l.Current.Edit != nil {
		return l.Current.Edit.Data, nil
	}
	if at := l.Current.Edited; at != 0 {
		m, err := s.fromLeader(ctx, events.StreamDLQCtl, lookup.Request{Sequence: at})
		if err != nil {
			return nil, fmt.Errorf("read edit of %s: %w", l.ID, err)
		}
		e, err := parseEntry(m.Data, m.Sequence)
		if err != nil || e.Edit == nil {
			return nil, fmt.Errorf("read edit of %s: sequence %d holds none: %w", l.ID, at, err)
		}
		return e.Edit.Data, nil
	}
	if !l.Omitted {
		return l.Data, nil
	}
	m, err := s.fromLeader(ctx, l.Stream, lookup.Request{Sequence: l.StreamSeq})
	if err != nil {
		return nil, fmt.Errorf("read the event of %s in %s: %w", l.ID, l.Stream, err)
	}
	return m.Data, nil
}
