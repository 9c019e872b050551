package order

import (
	"context"
	"time"
)

// byStatus is how many orders there are in each state.
func (t *table) byStatus() (counts [statuses]int) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, p := range t.pages {
		for status, n := range p.counts {
			counts[status] += n
		}
	}
	return counts
}

// oldestOpen is the sequence in ORDERS of the first order that has not ended, or 0.
func (t *table) oldestOpen() uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.open == 0 {
		return 0
	}
	for _, p := range t.pages {
		if p.counts[Placed]+p.counts[Reserved] == 0 {
			continue
		}
		for i := range p.rows {
			if !p.rows[i].status.Ended() {
				return p.rows[i].placedSeq
			}
		}
	}
	return 0
}

// oldestOpen is how long ago the oldest order that has not ended was stored, by the broker's clock: its event time may be anything. false: it is not known now.
func (s *Service) oldestOpen(ctx context.Context) (time.Duration, bool) {
	sequence := s.table().oldestOpen()
	if sequence == 0 {
		return 0, true
	}
	r, err := s.log.Get(ctx, sequence)
	if err != nil {
		return 0, false
	}
	return max(0, time.Since(r.StoredAt)), true
}
