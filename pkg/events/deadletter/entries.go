package deadletter

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/nats-io/nats.go/jetstream"
)

var errEnough = errors.New("enough")

// Entries yields every entry about every letter, oldest first: the whole audit record. An error ends it.
func (s *Store) Entries(ctx context.Context) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		err := s.all(ctx, s.subjects.LetterStates(), func(m *jetstream.RawStreamMsg) error {
			e, err := parseEntry(m.Data, m.Sequence)
			if err != nil {
				return err
			}
			if !yield(e, nil) {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield(Entry{}, fmt.Errorf("read the states of dead letters: %w", err))
		}
	}
}
