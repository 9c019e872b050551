package order

import (
	"context"
	"fmt"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"
)

// once lets requests with one key follow each other, and knows what was just placed before the read model does. The lock in ORDERS decides which of two orders
// holds; this spares the second one the effects that come before it: a timer, an address. It knows of this instance only.
type once struct {
	mu     sync.Mutex
	now    map[string]chan struct{} // ids that are being placed
	placed *lru.Cache[string, struct{}]
}

// justPlaced is how many orders are remembered. The read model is behind by far fewer.
const justPlaced = 10_000

func newOnce() (*once, error) {
	placed, err := lru.New[string, struct{}](justPlaced)
	if err != nil {
		return nil, fmt.Errorf("requests at once: %w", err)
	}
	return &once{now: make(map[string]chan struct{}), placed: placed}, nil
}

// enter waits until no other request places the order. done must be called, with the result.
func (o *once) enter(ctx context.Context, id string) (known bool, done func(placed bool), err error) {
	for {
		o.mu.Lock()
		other, busy := o.now[id]
		if !busy {
			mine := make(chan struct{})
			o.now[id] = mine
			o.mu.Unlock()
			return o.placed.Contains(id), func(placed bool) { o.leave(id, mine, placed) }, nil
		}
		o.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return false, nil, ctx.Err()
		}
	}
}

func (o *once) leave(id string, mine chan struct{}, placed bool) {
	if placed {
		o.placed.Add(id, struct{}{})
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.now, id)
	close(mine)
}
