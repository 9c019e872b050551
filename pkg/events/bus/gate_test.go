package bus

import (
	"fmt"
	"testing"

	"github.com/tidemark/tidemark/pkg/events"
)

func handled(aggregate int, version uint64) *Delivery {
	return &Delivery{Subject: fmt.Sprintf("orders.0.%d", aggregate), Event: events.Event{Version: version}}
}

// TestGate: it knows the last gateKeys aggregates, forgets what is much older, and never takes one for another.
func TestGate(t *testing.T) {
	t.Parallel()
	const all = 3 * gateKeys
	g := newGate()
	for i := range all {
		g.pass(handled(i, 2))
		if len(g.young)+len(g.old) > 2*gateKeys {
			t.Fatalf("remembers %d aggregates", len(g.young)+len(g.old))
		}
	}
	for i := all - gateKeys; i < all; i++ {
		if !g.passed(handled(i, 1)) || !g.passed(handled(i, 2)) || g.passed(handled(i, 3)) {
			t.Fatalf("aggregate %d, handled in version 2: passed 1, 2, 3 is %t, %t, %t", i, g.passed(handled(i, 1)), g.passed(handled(i, 2)), g.passed(handled(i, 3)))
		}
	}
	if g.passed(handled(0, 1)) || g.passed(handled(all, 1)) {
		t.Error("passed what is forgotten, or never came")
	}
	old := all - gateKeys // in the old generation; a newer version of it goes before what stands there
	g.pass(handled(old, 5))
	if !g.passed(handled(old, 5)) || g.passed(handled(old, 6)) {
		t.Error("the newer version of an old aggregate is not known")
	}
	if g.pass(handled(all, 0)); g.passed(handled(all, 0)) {
		t.Error("an event without a version was stopped")
	}
	if g.open(); g.passed(handled(all-1, 2)) {
		t.Error("an open gate stopped an event")
	}
}
