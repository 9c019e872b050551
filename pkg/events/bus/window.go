package bus

import (
	"sort"
	"sync"
)

// window holds what a term has accepted and not finished without a gap: between the first event that is not done and the newest. Its size is what
// a crash repeats at most. Events come in the order of the stream.
type window struct {
	mu       sync.Mutex
	ring     []*task
	head, n  int
	floor    uint64 // every event of the term up to this stream sequence is done
	accepted uint64 // the newest one
	hungry   bool   // the reader waits for room
	room     chan struct{}
}

func newWindow(size int) *window {
	return &window{ring: make([]*task, size), room: make(chan struct{}, 1)}
}

// reset empties the window for a term that starts behind the stream sequence floor. It returns the sequences that were done above a gap, which the
// broker will deliver again.
func (w *window) reset(floor uint64) (doneAbove []uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.n {
		t := w.at(i)
		if t.done && t.seq.stream > floor {
			doneAbove = append(doneAbove, t.seq.stream)
		}
	}
	clear(w.ring)
	w.head, w.n = 0, 0
	w.floor, w.accepted = floor, floor
	return doneAbove
}

func (w *window) at(i int) *task { return w.ring[(w.head+i)%len(w.ring)] }

// add takes new events. There is room, since no more were asked for.
func (w *window) add(ts ...*task) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range ts {
		w.ring[(w.head+w.n)%len(w.ring)] = t
		w.n++
		w.accepted = t.seq.stream
	}
}

// finish marks an event done.
func (w *window) finish(t *task) {
	w.mu.Lock()
	t.done = true
	if w.n == 0 || w.ring[w.head] != t {
		w.mu.Unlock()
		return
	}
	for w.n > 0 && w.ring[w.head].done {
		w.floor = w.ring[w.head].seq.stream
		w.ring[w.head] = nil
		w.head = (w.head + 1) % len(w.ring)
		w.n--
	}
	wake := w.hungry
	w.hungry = false
	w.mu.Unlock()
	if wake {
		select {
		case w.room <- struct{}{}:
		default:
		}
	}
}

func (w *window) size() int { return len(w.ring) }

// free is how many more events fit. Where it is below enough, room is signalled when it has changed.
func (w *window) free(enough int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	free := len(w.ring) - w.n
	w.hungry = free < enough
	return free
}

// known says what became of an event in this term: done, in flight, or neither.
func (w *window) known(seq uint64) (done, inFlight bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if seq <= w.floor {
		return true, false
	}
	i := sort.Search(w.n, func(i int) bool { return w.at(i).seq.stream >= seq })
	if i == w.n || w.at(i).seq.stream != seq {
		return false, false
	}
	return w.at(i).done, !w.at(i).done
}

// bounds are the stream sequences up to which all is done, and of the newest event accepted.
func (w *window) bounds() (floor, accepted uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.floor, w.accepted
}
