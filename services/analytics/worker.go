package analytics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

// worker turns deliveries into commits and outputs. Its methods are called by one goroutine, the log reader's. After any error it
// forgets what it has in memory and goes on from the journal: so there is one way to recover, and it is the way that every start takes.
type worker struct {
	js        jetstream.JetStream
	plan      *plan
	journal   *journal
	publisher *publisher
	view      *view
	health    health // of steps
	reach     health // of reading the journal
	log       *slog.Logger
	now       func() time.Time // when micro-batches are due; nothing that is counted hangs on it

	state      *state      // nil: to be made from the journal
	rec        record      // the last commit
	recSeq     uint64      // its sequence in WINDOWS; 0: there is none
	positioned uint64      // the record that the reader's position is of
	lateSeq    uint64      // last sequence of LATE
	pending    bool        // something happened since the last commit
	rebase     bool        // something happened since the last base
	cuts       []time.Time // when each query's last micro-batch ended

	next nextBase

	fault func(stage) error // tests let a step die here
}

// stage is a place of a step where it may die.
type stage int

const (
	beforeCommit  stage = iota
	duringBase          // a part of it is stored
	afterCommit         // and before the outputs are published
	duringPublish       // some of them are
	afterPublish        // and before the acknowledgement
	duringRestore       // the base is loaded, the log not yet read
)

// Limits of a step.
const (
	maxOutputs = 400 << 10 // bytes of outputs after which a step is committed in the midst of it
	maxQuiet   = 1000      // sequences without any effect that are acknowledged without a commit, so that heartbeats alone write nothing
)

func newWorker(js jetstream.JetStream, subjects events.Subjects, encoder *bus.Encoder, p *plan, index *index, telemetry bus.Telemetry) *worker {
	w := &worker{
		js: js, plan: p, journal: newJournal(js, subjects), log: telemetry.Logger, now: time.Now,
		cuts:  make([]time.Time, len(p.queries)),
		fault: func(stage) error { return nil },
	}
	w.publisher = newPublisher(js, encoder, subjects, p, func() error { return w.fault(duringPublish) })
	w.publisher.own = &index.own
	w.publisher.spans = bus.NewPublishSpans(telemetry)
	w.view = newView(p, index, w.journal)
	return w
}

// position is the last sequence whose effect is committed. The reader asks at every take-over and reset, and while it stands by.
func (w *worker) position(ctx context.Context) (uint64, error) {
	rec, seq, err := w.journal.last(ctx)
	if err == nil {
		err = w.sameLog(ctx, &rec)
	}
	w.reach.note(err)
	if err != nil {
		return 0, err
	}
	if seq > w.recSeq {
		w.health.note(nil) // another instance gets on
	}
	w.positioned = seq
	return rec.Sequence, nil
}

// handle is one step.
func (w *worker) handle(ctx context.Context, ds []bus.Delivery) error {
	err := w.step(ctx, ds)
	if err != nil {
		w.forget()
		if errors.Is(err, errOtherInstance) {
			w.log.InfoContext(ctx, "another instance commits: standing by", "error", err)
		}
	}
	w.health.note(err)
	return err
}

// forget throws away what is in memory: it may be ahead of what is committed.
func (w *worker) forget() {
	w.state = nil
	w.next.drop()
	w.view.set(nil)
}

func (w *worker) step(ctx context.Context, ds []bus.Delivery) (err error) {
	if w.state == nil || w.recSeq != w.positioned {
		w.forget()
		if err := w.resume(ctx); err != nil {
			return fmt.Errorf("go on from the last commit: %w", err)
		}
	}
	w.view.lock()
	defer func() { w.view.unlock(err) }()
	var out outputs
	for i := range ds {
		changed, err := w.state.apply(&ds[i], &out)
		if err != nil {
			return err
		}
		w.pending = w.pending || changed
		w.rebase = w.rebase || changed
		if i == len(ds)-1 {
			break
		}
		if w.cut(&out, false); out.bytes() >= maxOutputs {
			if err := w.conclude(ctx, &out); err != nil {
				return err
			}
		}
	}
	w.cut(&out, true)
	if err := w.conclude(ctx, &out); err != nil {
		return err
	}
	w.view.alive()
	return w.prepareBase()
}

// conclude commits what was applied, where there is something that is worth it.
func (w *worker) conclude(ctx context.Context, out *outputs) error {
	due := w.next.atOnce && w.baseDue()
	if !w.pending && out.empty() && !due && w.next.stored == nil && w.state.sequence-w.rec.Sequence < maxQuiet {
		return nil
	}
	err := w.commit(ctx, *out, due)
	*out = outputs{}
	return err
}

// due is when a step is to be made though nothing comes: when the first of the micro-batches that hold something has had its time. It is asked by the goroutine that steps.
func (w *worker) due() (first time.Time) {
	if w.state == nil {
		return first
	}
	for i, r := range w.state.running {
		if every := r.settings.Mode.Every; every > 0 && len(r.held) > 0 {
			if at := w.cuts[i].Add(every); first.IsZero() || at.Before(first) {
				first = at
			}
		}
	}
	return first
}

// cut moves what is due of what is held into the outputs: in the midst of a step what has grown to its number of events, at the end what has had its time.
func (w *worker) cut(out *outputs, last bool) {
	var now time.Time
	if last {
		now = w.now()
	}
	for i, r := range w.state.running {
		switch {
		case len(r.held) == 0:
			r.passed()
		case r.due(now, w.cuts[i]):
			r.release(i, out)
			w.cuts[i] = w.now()
		}
	}
}

// commit stores what was applied and publishes what came out of it.
func (w *worker) commit(ctx context.Context, out outputs, due bool) error {
	rec := recordOf(w.state)
	rec.Base, rec.LateBefore, rec.Outputs = w.rec.Base, w.lateSeq, out
	switch {
	case due || rec.Base.Parts == nil:
		if err := w.writeBase(ctx, &rec); err != nil {
			return err
		}
	case w.next.stored != nil:
		rec.Base = *w.next.stored
	}
	if err := w.fault(beforeCommit); err != nil {
		return err
	}
	seq, err := w.journal.append(ctx, &rec, w.recSeq)
	if err != nil {
		return err
	}
	w.rebase = w.rebase && rec.Base.Sequence != rec.Sequence
	w.next.stored = nil
	w.rec, w.recSeq, w.positioned, w.pending = rec, seq, seq, false
	w.view.committed(&rec)
	if err := w.fault(afterCommit); err != nil {
		return err
	}
	if w.lateSeq, err = w.publisher.publish(ctx, &rec); err != nil {
		return err
	}
	return w.fault(afterPublish)
}

// resume makes the state of the last commit and publishes its outputs: whoever wrote it may have died before it did.
func (w *worker) resume(ctx context.Context) error {
	rec, seq, err := w.journal.last(ctx)
	if err != nil {
		return err
	}
	w.rec, w.recSeq, w.positioned, w.pending = rec, seq, seq, false
	if seq == 0 {
		return w.begin(ctx)
	}
	if w.state, err = w.replay(ctx, &rec); err != nil {
		return err
	}
	w.rebase = rec.Base.Sequence != rec.Sequence
	if err := w.journal.outputs(ctx, &rec); err != nil {
		return err
	}
	w.view.committed(&rec) // before it is published, as in a commit
	if w.lateSeq, err = w.publisher.publish(ctx, &rec); err != nil {
		return err
	}
	w.log.InfoContext(ctx, "goes on from the last commit", "sequence", rec.Sequence, "base", rec.Base.Sequence, "outputs", len(rec.Outputs.Results)+len(rec.Outputs.Late))
	w.rec.Outputs, w.rec.Elsewhere = rec.Outputs, nil
	if err := w.catchUp(ctx); err != nil {
		return err
	}
	w.view.set(w.state)
	return nil
}

// close leaves a base at the last sequence, so that the next program, which may be a newer one, has nothing to replay. That it fails costs nothing but that.
func (w *worker) close(ctx context.Context) {
	if w.state == nil || w.recSeq != w.positioned || !w.rebase && !w.pending && !w.next.underWay() {
		return
	}
	if err := w.commit(ctx, outputs{}, true); err != nil {
		w.log.InfoContext(ctx, "no base left at the end", "error", err)
	}
}

// begin is the start of all starts: nothing was committed yet.
func (w *worker) begin(ctx context.Context) error {
	stream, err := w.js.Stream(ctx, events.StreamLate)
	if err != nil {
		return fmt.Errorf("read %s: %w", events.StreamLate, err)
	}
	w.lateSeq = stream.CachedInfo().State.LastSeq
	if w.state, err = newState(w.plan); err != nil {
		return err
	}
	w.view.set(w.state)
	return nil
}
