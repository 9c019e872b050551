package order

import (
	"slices"
	"sync"
)

// waiters are those who wait until an order has ended. They stay when another version of the listing takes over.
type waiters struct {
	mu sync.Mutex
	of map[key][]chan struct{}
}

func newWaiters() *waiters { return &waiters{of: make(map[key][]chan struct{})} }

// promote makes a table the one that tells the waiters. It is at the position of the one before.
func (w *waiters) promote(t *table) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiters = w
}

func (w *waiters) add(k key) (ended chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ended = make(chan struct{})
	w.of[k] = append(w.of[k], ended)
	return ended
}

func (w *waiters) remove(k key, c chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	left := slices.DeleteFunc(w.of[k], func(other chan struct{}) bool { return other == c })
	if len(left) == 0 {
		delete(w.of, k)
		return
	}
	w.of[k] = left
}

// ended wakes who waits for the order.
func (w *waiters) ended(k key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.of[k] {
		close(c)
	}
	delete(w.of, k)
}

// watch returns a channel that is closed when the order has ended, also when it is not yet known here. Call stop when nobody waits any more.
func (s *Service) watch(id string) (ended <-chan struct{}, stop func()) {
	k, _ := keyOf(id)
	c := s.waiters.add(k) // first: what ends from here on is told
	if o, ok := s.table().get(id); ok && o.Status.Ended() {
		s.waiters.remove(k, c)
		done := make(chan struct{})
		close(done)
		return done, func() {}
	}
	return c, func() { s.waiters.remove(k, c) }
}
