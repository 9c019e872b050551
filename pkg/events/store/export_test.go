package store

import "time"

// Hurry shortens the waits between tries, for tests with many of them.
func (s *Store) Hurry() *Store {
	s.pace.recover, s.pace.refused, s.pace.conflict, s.pace.longest = time.Millisecond, time.Millisecond, time.Millisecond, time.Millisecond
	return s
}
