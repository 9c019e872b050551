package analytics

import (
	"time"

	"github.com/tidemark/tidemark/pkg/window"
)

// A query's results wait in the state until they are cut: put into a commit. Event by event that is the next commit; in a micro-batch it is later, and then
// those that a later one of the batch replaces are left out. A record says for each query up to which sequence all is out. So what is held need not be
// stored: whoever goes on reads the log from a base to the record, and keeps what came out behind the cut. A base holds what was held when it was
// made, since what is before it is not read again. Late events are never held.

// mostHeld is how many results are held back, whatever the mode says: they are in memory and in each base.
const mostHeld = 50_000

// hold takes what came out of the engine. What a record says to be out is dropped, as in a replay.
func (r *running) hold(results []window.Result, sequence uint64) {
	if len(results) == 0 || sequence <= r.cut {
		return
	}
	watermark, started := r.engine.Watermark()
	for i := range results {
		if r.Keep != nil && results[i].Timing != window.Retract && !r.Keep(&results[i]) {
			continue
		}
		held := resultOf(&results[i])
		held.Sequence = sequence
		if started {
			held.Watermark = &watermark
		}
		r.held = append(r.held, held)
	}
}

// due says whether it is time for a cut. since is when the query's last one was.
func (r *running) due(now, since time.Time) bool {
	m := r.settings.Mode
	switch {
	case len(r.held) == 0:
		return false
	case !m.batched(), len(r.held) >= mostHeld:
		return true
	}
	return m.Every > 0 && now.Sub(since) >= m.Every || m.Events > 0 && r.taken >= m.Events
}

// passed notes that all is out, since nothing is held.
func (r *running) passed() {
	r.cut = r.sequence
	r.settle()
	if n := r.settings.Mode.Events; n > 0 && r.taken >= n {
		r.taken = 0
	}
}

// release moves what is held into the outputs.
func (r *running) release(query int, out *outputs) {
	held := r.held
	if r.settings.Mode.batched() {
		held = coalesce(held)
	}
	for i := range held {
		held[i].Query = query
		out.Results = append(out.Results, held[i])
	}
	r.held, r.cut, r.taken = nil, r.sequence, 0
	r.settle()
}

// settle notes which windows are gone with all their results out: what a backfill may touch.
func (r *running) settle() {
	if gone, ok := r.engine.Gone(); ok {
		r.settled = &gone
	}
}

// coalesce is [window.Coalesce] for results that have been given their sequences.
func coalesce(held []result) []result {
	results := make([]window.Result, len(held))
	for i := range held {
		results[i] = window.Result{
			Key: held[i].Key, Window: window.Window{Start: held[i].Start, End: held[i].End}, Revision: held[i].Revision, Timing: window.Timing(held[i].Timing),
			Count: int64(i), // its place
		}
	}
	kept := window.Coalesce(results)
	out := make([]result, len(kept))
	for i := range kept {
		out[i] = held[kept[i].Count]
	}
	return out
}

// forget drops of what is held what a record says to be out.
func (r *running) forget(cut uint64) {
	n := 0
	for n < len(r.held) && r.held[n].Sequence <= cut {
		n++
	}
	r.held, r.cut = r.held[n:], cut
}
