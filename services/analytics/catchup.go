package analytics

import (
	"context"
	"fmt"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

// A query that the last record does not know starts from history: from the first message that TIMELINE has. It reads up to where the others are, alone, a batch and a
// commit at a time; then all go on together. A record says how far each query has come, so an instance that dies on the way loses a batch at most.

const historyBatch = 1000 // messages

// catchUp lets the queries that are behind read up to where the others are.
func (w *worker) catchUp(ctx context.Context) error {
	if err := w.enrol(ctx); err != nil {
		return err
	}
	from, behind := w.state.lagging()
	if !behind {
		return nil
	}
	w.log.InfoContext(ctx, "a query is new: it reads history first", "from", from+1, "until", w.state.sequence)
	var out outputs
	n := 0
	err := w.readLog(ctx, from, w.state.sequence, func(d *bus.Delivery) error {
		if _, err := w.state.apply(d, &out); err != nil {
			return err
		}
		if n++; n < historyBatch && out.bytes() < maxOutputs {
			return nil
		}
		n = 0
		return w.commitAll(ctx, &out)
	})
	if err != nil {
		return fmt.Errorf("read history: %w", err)
	}
	for _, r := range w.state.running {
		r.sequence = w.state.sequence
	}
	w.cutAll(&out)
	if err := w.commit(ctx, out, true); err != nil {
		return err
	}
	w.log.InfoContext(ctx, "the query has read history", "until", w.state.sequence)
	return nil
}

// commitAll commits in the midst of history, with all that is held by then.
func (w *worker) commitAll(ctx context.Context, out *outputs) error {
	w.cutAll(out)
	w.rebase = true
	err := w.commit(ctx, *out, w.rec.Base.due(w.state.size(), w.state.sequence, w.state.stored))
	*out = outputs{}
	return err
}

// enrol gives new queries a place in the record before they read anything: the sequence that TIMELINE begins at now, which a replay begins at too.
func (w *worker) enrol(ctx context.Context) error {
	var fresh []*running
	for _, r := range w.state.running {
		known := false
		for _, q := range w.rec.Queries {
			known = known || q.Name == r.Name
		}
		if !known {
			fresh = append(fresh, r)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	first, err := w.firstOfLog(ctx)
	if err != nil {
		return err
	}
	for _, r := range fresh {
		r.sequence = min(first-1, w.state.sequence)
		r.cut = r.sequence
	}
	return w.commit(ctx, outputs{}, true)
}

func (w *worker) firstOfLog(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	stream, err := w.js.Stream(ctx, events.StreamTimeline)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", events.StreamTimeline, err)
	}
	return max(stream.CachedInfo().State.FirstSeq, 1), nil
}

// cutAll moves everything that is held into the outputs.
func (w *worker) cutAll(out *outputs) {
	for i, r := range w.state.running {
		r.release(i, out)
	}
}
