package inventory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/store"
)

// errGap: an event of STOCK is missing. STOCK never loses any, so the state would be wrong from here on.
var errGap = errors.New("gap in the stock log")

// live is the state as it follows the log. Events reach it from two sides, from the decider that appended them and from the log itself; each is
// folded once, by its sequence.
type live struct {
	mu     sync.RWMutex
	state  *warehouse
	lastID string        // of the event at state.at.position
	sorted []string      // the SKUs in bytewise order; nil when a SKU came since
	broken error         // why the log can't be folded any further
	moved  chan struct{} // closed by the next fold; nil while nobody waits for it

	starting    bool          // nobody decides yet, so the state may forget while it is folded
	forgetEvery uint64        // events of STOCK
	forgotAt    uint64        // the position of the last forgetting
	due         chan struct{} // has something when it is time to forget
}

func newLive(forgetEvery uint64) *live {
	return &live{state: newWarehouse(), starting: true, forgetEvery: forgetEvery, due: make(chan struct{}, 1)}
}

// fold records the event with the given sequence, if it is the next one.
func (l *live) fold(sequence uint64, id string, c change) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	position := l.state.at.position
	if sequence <= position {
		return nil
	}
	if sequence != position+1 {
		l.broken = fmt.Errorf("%w: sequence %d after %d", errGap, sequence, position)
		return l.broken
	}
	known := len(l.state.items)
	if err := l.state.evolve(sequence, c); err != nil {
		l.broken = err
		return err
	}
	l.lastID = id
	if l.moved != nil {
		close(l.moved)
		l.moved = nil
	}
	if len(l.state.items) != known {
		l.sorted = nil
	}
	if sequence-l.forgotAt >= l.forgetEvery {
		l.timeToForget()
	}
	return nil
}

// timeToForget forgets, or asks the decider to. Only the decider may while it runs: what it looked up, and what it found in memory, must
// stay true until it has appended.
func (l *live) timeToForget() {
	if l.starting {
		l.state.forget()
		l.forgotAt = l.state.at.position
		return
	}
	select {
	case l.due <- struct{}{}:
	default:
	}
}

// foldRecorded is [live.fold] for an event as it was read.
func (l *live) foldRecorded(r store.Recorded) error {
	if r.Sequence <= l.position() {
		return nil // ours, and folded when it was appended: no need to read its payload again
	}
	c, err := decodeChange(r)
	if err != nil {
		err = fmt.Errorf("fold sequence %d of %s: %w", r.Sequence, r.Stream, err)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.broken = err
		return err
	}
	return l.fold(r.Sequence, r.ID, c)
}

// brokenBy is why the log can't be folded any further, or nil.
func (l *live) brokenBy() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.broken
}

// followTime is how long following the log is given to bring what was appended elsewhere: it is there already, or less than a millisecond away.
// Reading the log anew costs more.
const followTime = 100 * time.Millisecond

// catchUp returns when the state is past the position, or has read all that the log holds.
func (l *live) catchUp(ctx context.Context, log *store.Store, position uint64) error {
	if l.waitPast(ctx, position) {
		return nil
	}
	if _, err := log.Read(ctx, l.position()+1, l.foldRecorded); err != nil {
		return fmt.Errorf("catch up with %s: %w", events.StreamStock, err)
	}
	return nil
}

func (l *live) waitPast(ctx context.Context, position uint64) bool {
	limit := time.NewTimer(followTime)
	defer limit.Stop()
	for {
		l.mu.Lock()
		if l.state.at.position > position {
			l.mu.Unlock()
			return true
		}
		if l.moved == nil {
			l.moved = make(chan struct{})
		}
		moved := l.moved
		l.mu.Unlock()
		select {
		case <-moved:
		case <-limit.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

func (l *live) position() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.state.at.position
}

// stock is what is there of one SKU. ok is false for a SKU that was never received.
func (l *live) stock(sku string) (it item, ok bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.state.item(sku)
}

// list returns up to limit SKUs after the given one, in bytewise order, and the position that they are of. more is true where others follow.
func (l *live) list(after string, limit int) (stocks []Stock, position uint64, more bool) {
	l.mu.Lock() // not RLock: the order of the SKUs may have to be made
	defer l.mu.Unlock()
	if l.sorted == nil {
		l.sorted = make([]string, 0, len(l.state.items))
		for sku := range l.state.items {
			l.sorted = append(l.sorted, sku)
		}
		slices.Sort(l.sorted)
	}
	from, found := slices.BinarySearch(l.sorted, after)
	if found && after != "" {
		from++
	}
	to := min(from+limit, len(l.sorted))
	stocks = make([]Stock, 0, to-from)
	for _, sku := range l.sorted[from:to] {
		stocks = append(stocks, stockOf(sku, l.state.items[sku]))
	}
	return stocks, l.state.at.position, to < len(l.sorted)
}
