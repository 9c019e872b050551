package inventory

import "time"

// pace finds out what is quicker for what waits: an append for each decision, or one atomic batch. It hangs on how the broker stores a batch. Replicas stage it in memory, so it
// takes as long as one append; a single server stages it in a file and syncs that to the disk, 3 ms where the disk is quiet and 60 where it is
// busy, while appends by themselves are not synced one by one. So both are measured as they happen.
type pace struct {
	from int // how many must wait for a batch; 0: by what was measured
	most int // in a batch

	single time.Duration // one append by itself, lately
	batch  time.Duration // one batch, lately
}

const (
	paceMargin = 2      // a batch must promise to be so many times as quick: both swing
	paceSingle = 0.05   // weight of the last append by itself: there are many, and one may have met a pause
	paceBatch  = 0.5    // weight of the last batch: there are few, and a dear one must not be tried again soon
	paceForget = 0.9995 // of what was measured of the way that was not taken: in the end it is tried again
)

// together is how many of the waiting requests to decide at once.
func (p *pace) together(waiting int) int {
	worth := waiting >= p.from
	if p.from == 0 {
		worth = p.single*time.Duration(waiting) > paceMargin*p.batch
	}
	if waiting < 2 || !worth {
		return min(waiting, 1)
	}
	return min(waiting, p.most)
}

// took notes how long it took to decide n of the waiting requests.
func (p *pace) took(n, waiting int, took time.Duration) {
	taken, other, weight := &p.single, &p.batch, paceSingle
	if n > 1 {
		taken, other, weight = other, taken, paceBatch
	}
	if *taken == 0 {
		*taken = took
	}
	*taken += time.Duration(weight * float64(took-*taken))
	if waiting > 1 { // there was a choice
		*other = time.Duration(paceForget * float64(*other))
	}
}
