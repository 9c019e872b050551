package bus

import (
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// gateKeys bounds the memory of a gate. What can come again lies above the ack floor, so it is at most as many events as a partition reads ahead
// ([GroupConfig].Ahead); an aggregate that was forgotten since is handled again, and its own lock refuses it.
const gateKeys = 4096

// gate remembers the last version handled of each aggregate, so that an event that was handled is not handled again, and none after a
// newer one. An aggregate is a subject: versions count within it. Events without a version pass.
//
// Only success closes the gate. What failed is retried in place, before anything newer of its key, or parked, or given back with all that is
// queued behind it; so a version at or below the last one handled has never failed silently.
type gate struct {
	mu   sync.Mutex
	last *simplelru.LRU[string, uint64]
}

func newGate() (*gate, error) {
	last, err := simplelru.NewLRU[string, uint64](gateKeys, nil)
	return &gate{last: last}, err
}

// passed reports whether the event, or a newer one of its aggregate, was handled.
func (g *gate) passed(d *Delivery) bool {
	if d.Event.Version == 0 {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	last, ok := g.last.Get(d.Subject)
	return ok && d.Event.Version <= last
}

// pass notes that the event was handled.
func (g *gate) pass(d *Delivery) {
	if d.Event.Version == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last.Add(d.Subject, d.Event.Version)
}

// open forgets everything.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last.Purge()
}
