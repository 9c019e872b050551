package bus

import (
	"context"
	"sync"
)

// seat tells the reader of one partition whether it is this member's to read. Membership sets it, the reader waits for it.
type seat struct {
	mu      sync.Mutex
	decided bool
	held    bool
	turn    context.Context // ends with the next change
	end     context.CancelFunc
	changed chan struct{} // closed by the next change
}

func newSeat() *seat {
	s := &seat{changed: make(chan struct{})}
	s.turn, s.end = context.WithCancel(context.Background())
	return s
}

// set says whose the partition is now. Saying again what is so already changes nothing for who holds it; who does not hold it may have taken it as an orphan, and gives it back.
func (s *seat) set(mine bool) (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.decided && s.held && mine {
		return false
	}
	changed = s.held != mine
	s.decided, s.held = true, mine
	s.end()
	s.turn, s.end = context.WithCancel(context.Background())
	close(s.changed)
	s.changed = make(chan struct{})
	return changed
}

// state is what is so now, and what says that it is so no more.
func (s *seat) state() (decided, mine bool, turn context.Context, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.decided, s.held, s.turn, s.changed
}

// leave ends the turn for good.
func (s *seat) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end()
}

// during is a context that ends with ctx and with the turn.
func during(ctx, turn context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(turn, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}
