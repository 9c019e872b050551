package analytics

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// draft is a base in the making. Writing one at once would hold up the results that come out meanwhile, for tens of milliseconds at a state of some megabytes. So each step does a
// little of it, behind its results, and rests for longer than that took: it takes down one query, which is written beside the steps, or sends one part and does not wait for the answer. When the broker has all parts, the
// next record names them.
//
// So the queries are taken at different sequences, which is no harm: a snapshot says for each how far it has read, and whoever goes on from it reads the log from where the first was taken,
// and lets each query pass over what it has. A record names a base only when it is not before any of them.
type draft struct {
	sequence uint64 // of TIMELINE where the first query was taken
	stored   time.Time
	movedAt  time.Time

	queries int         // that are taken
	written chan []byte // gets what they come to
	data    []byte      // that; nil: it is not all written yet
	rest    []byte
	digest  hash.Hash
	sent    []sent
	parts   []uint64 // that the broker has
}

func newDraft(s *state, now time.Time) *draft {
	d := &draft{sequence: s.sequence, stored: s.stored, movedAt: now, written: make(chan []byte, 1), digest: sha256.New()}
	d.written <- s.appendHeader(make([]byte, 0, s.size()))
	return d
}

// draftTimeout is how long a draft may stand still: the answer to a part may be lost.
const draftTimeout = requestTimeout

var errDraftLost = errors.New("a part has no answer")

// advance does a little, and reports whether all is stored. half is called when some of it is.
func (d *draft) advance(s *state, j *journal, now time.Time, half func() error) (done bool, err error) {
	if d.queries < len(s.running) {
		if len(d.written) > 0 { // or the one before is still being written, and what is beside the steps slows them as well
			d.take(s)
		}
		return false, nil
	}
	if d.data == nil {
		select {
		case d.data = <-d.written:
			d.rest, d.movedAt = d.data, now
		default:
			return false, nil
		}
		if len(d.data) > maxParts*partSize {
			return false, errTooLarge
		}
	}
	if err := d.settle(half); err != nil {
		return false, err
	}
	switch {
	case len(d.rest) > 0:
		d.movedAt = now
		return false, d.send(j)
	case len(d.sent) == 0:
		return true, nil
	case now.Sub(d.movedAt) > draftTimeout:
		return false, errDraftLost
	}
	return false, nil
}

// take takes the next query. It is written behind those before it, by a goroutine that ends by itself.
func (d *draft) take(s *state) {
	write, before, written := s.running[d.queries].freeze(), d.written, make(chan []byte, 1)
	d.queries, d.written = d.queries+1, written
	go func() { written <- write(<-before) }()
}

// send gives the next part to the broker.
func (d *draft) send(j *journal) error {
	part := d.rest[:min(len(d.rest), partSize)]
	_, _ = d.digest.Write(part) // a hash does not fail
	subject := j.partSubject(baseName, len(d.parts)+len(d.sent))
	future, err := j.js.PublishMsgAsync(&nats.Msg{Subject: subject, Data: part}, jetstream.WithStallWait(stallWait))
	if err != nil {
		return fmt.Errorf("publish to %s: %w", subject, err)
	}
	d.sent, d.rest = append(d.sent, sent{subject, future}), d.rest[len(part):]
	return nil
}

// settle takes the answers that are there, in the order of the parts.
func (d *draft) settle(half func() error) error {
	for len(d.sent) > 0 {
		select {
		case ack := <-d.sent[0].future.Ok():
			d.parts, d.sent = append(d.parts, ack.Sequence), d.sent[1:]
		case err := <-d.sent[0].future.Err():
			return fmt.Errorf("publish to %s: %w", d.sent[0].subject, err)
		default:
			return nil
		}
		if len(d.parts) == 1 {
			if err := half(); err != nil {
				return err
			}
		}
	}
	return nil
}

// base is what a record names once all is stored.
func (d *draft) base() base {
	return base{Sequence: d.sequence, Stored: d.stored, pieces: pieces{Parts: d.parts, Size: len(d.data), Digest: hex.EncodeToString(d.digest.Sum(nil))}}
}

// nextBase is what a worker has of a base that no record names yet.
type nextBase struct {
	draft  *draft
	stored *base // a draft that is done
	atOnce bool  // a draft came to nothing: the next one is written in one go, so that what is left behind does not grow
	tried  base  // where one could not be written

	rests time.Time // nothing is done for it before
}

// baseRest is how many times as long as a step's share of a base took nothing more is done for it. Each share delays the events that make the next step larger; one behind the other they would
// delay results by the sum.
const baseRest = 4

func (n *nextBase) underWay() bool { return n.draft != nil || n.stored != nil }

func (n *nextBase) drop() {
	n.atOnce = n.atOnce || n.underWay()
	n.draft, n.stored = nil, nil
}

// baseDue says whether a new base is worth its bytes. One that could not be written is as good as written: it would not work out a moment later either.
func (w *worker) baseDue() bool {
	last := w.rec.Base
	if t := &w.next.tried; last.Parts != nil && t.Sequence > last.Sequence {
		last.Sequence, last.Stored = t.Sequence, t.Stored
	}
	return w.rebase && last.due(w.state.size(), w.state.sequence, w.state.stored)
}

// prepareBase does a step's share of the next base, if one is due.
func (w *worker) prepareBase() error {
	n, began := &w.next, w.now()
	if began.Before(n.rests) {
		return nil
	}
	defer func() {
		now := w.now()
		w.next.rests = now.Add(baseRest * now.Sub(began))
	}()
	switch {
	case n.stored != nil: // the next commit names it
		return nil
	case n.draft == nil:
		if w.baseDue() {
			n.draft, w.rebase = newDraft(w.state, w.now()), false
		}
		return nil
	}
	done, err := n.draft.advance(w.state, w.journal, w.now(), func() error { return w.fault(duringBase) })
	switch {
	case errors.Is(err, errTooLarge), errors.Is(err, errDraftLost):
		w.noBase(err)
		return nil
	case err != nil:
		return fmt.Errorf("store a base: %w", err)
	case done:
		b := n.draft.base()
		n.draft, n.stored = nil, &b
	}
	return nil
}

// writeBase makes a base of what a record says and waits until it is stored.
func (w *worker) writeBase(ctx context.Context, rec *record) error {
	kept, err := w.journal.keep(ctx, baseName, w.state.snapshot(), func() error { return w.fault(duringBase) })
	switch {
	case err == nil:
		rec.Base = base{Sequence: w.state.sequence, Stored: w.state.stored, pieces: kept}
		w.next = nextBase{}
		return nil
	case errors.Is(err, errTooLarge):
		w.noBase(err)
		return nil
	}
	return err
}

func (w *worker) noBase(err error) {
	w.next = nextBase{tried: base{Sequence: w.state.sequence, Stored: w.state.stored}, atOnce: errors.Is(err, errDraftLost)}
	w.rebase = true
	w.log.Warn("no new base: a restart will read TIMELINE from the last one", "error", err, "base", w.rec.Base.Sequence)
}
