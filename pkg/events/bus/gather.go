package bus

import "time"

// gathering is a batch that waits for more.
type gathering struct {
	wait  time.Duration // 0: it waits for nothing
	most  int
	batch []*task
	timer *time.Timer // runs while there is a batch
}

// add takes more in, and reports whether the batch is to be delivered now.
func (g *gathering) add(more []*task) bool {
	g.batch = append(g.batch, more...)
	if g.wait == 0 || len(g.batch) >= g.most {
		return true
	}
	if g.timer == nil && len(g.batch) > 0 {
		g.timer = time.NewTimer(g.wait)
	}
	return false
}

// due delivers a time when the first event has waited long enough; nil, which blocks, while there is none.
func (g *gathering) due() <-chan time.Time {
	if g.timer == nil {
		return nil
	}
	return g.timer.C
}

// take hands the batch out and begins another.
func (g *gathering) take() []*task {
	g.stop()
	batch := g.batch
	g.batch = nil
	return batch
}

func (g *gathering) stop() {
	if g.timer != nil {
		g.timer.Stop()
		g.timer = nil
	}
}
