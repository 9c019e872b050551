package inventory

import (
	"testing"
	"time"
)

// TestPace: whatever a batch costs, inventory ends up with what is quicker for those that wait, and follows when the cost changes.
func TestPace(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	p := &pace{most: 200}
	share := func(waiting int, single, batch time.Duration) float64 { // of what was decided in batches
		const rounds = 20_000
		batched, decided := 0, 0
		for range rounds {
			n := p.together(waiting)
			took := single
			if decided += n; n > 1 {
				batched += n
				took = batch
			}
			p.took(n, waiting, took)
		}
		return float64(batched) / float64(decided)
	}
	for _, c := range []struct {
		what          string
		waiting       int
		single, batch time.Duration
		least, most   float64
	}{
		{"replicated, three wait", 3, ms / 2, ms / 2, 0.99, 1},
		{"one server, eight wait", 8, ms / 10, 4 * ms, 0, 0.02},
		{"one server, 150 wait", 150, ms / 10, 4 * ms, 0.9, 1},
		{"its disk gets busy", 150, ms / 10, 60 * ms, 0, 0.1},
		{"and quiet again", 150, ms / 10, 4 * ms, 0.9, 1},
	} {
		if got := share(c.waiting, c.single, c.batch); got < c.least || got > c.most {
			t.Errorf("%s: %.3f were decided in batches, want %.2f to %.2f", c.what, got, c.least, c.most)
		}
	}
}

func TestPaceAsConfigured(t *testing.T) {
	t.Parallel()
	p := &pace{from: 8, most: 200, single: time.Hour}
	for waiting, want := range map[int]int{0: 0, 1: 1, 2: 1, 7: 1, 8: 8, 199: 199, 300: 200} {
		if got := p.together(waiting); got != want {
			t.Errorf("of %d that wait, %d are decided together, want %d", waiting, got, want)
		}
	}
}
