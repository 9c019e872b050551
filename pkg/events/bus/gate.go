package bus

import "sync"

// gateKeys bounds the memory of a gate: it remembers at least so many aggregates, and at most twice as many. What can come again lies above the ack floor, so it is at most as
// many events as a partition reads ahead ([GroupConfig].Ahead); an aggregate that was forgotten since is handled again, and its own lock refuses it.
const gateKeys = 4096

// gate remembers the last version handled of each aggregate, so that an event that was handled is not handled again, and none after a
// newer one. An aggregate is a subject: versions count within it. Events without a version pass.
//
// Only success closes the gate. What failed is retried in place, before anything newer of its key, or parked, or given back with all that is
// queued behind it; so a version at or below the last one handled has never failed silently.
//
// It forgets by generations: when the young one is full, the old one is forgotten and the young one is the old one. A list of who was used last would be exact, and cost an event
// more than its queue does.
type gate struct {
	mu         sync.Mutex
	young, old map[string]uint64
}

func newGate() *gate { return &gate{young: make(map[string]uint64), old: make(map[string]uint64)} }

// passed reports whether the event, or a newer one of its aggregate, was handled.
func (g *gate) passed(d *Delivery) bool {
	if d.Event.Version == 0 {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	last, ok := g.young[d.Subject]
	if !ok {
		last, ok = g.old[d.Subject]
	}
	return ok && d.Event.Version <= last
}

// pass notes that the event was handled.
func (g *gate) pass(d *Delivery) {
	if d.Event.Version == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.young[d.Subject] = d.Event.Version
	if len(g.young) < gateKeys {
		return
	}
	clear(g.old)
	g.young, g.old = g.old, g.young
}

// open forgets everything.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.young)
	clear(g.old)
}
