package bus

import (
	"context"
	"errors"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
	"github.com/tidemark/tidemark/pkg/events/fail"
)

// Work on the letters of a key. It runs in the key's lane, so that no event of the key is handled meanwhile: an event that comes during it waits, and is parked behind the
// letters that are left, or handled when there is none.

// order is what a job wants done with one letter, and what came of it.
type order struct {
	job    *deadletter.Job
	ref    deadletter.Ref
	result result
}

type result int

const (
	undone result = iota
	resolved
	failed
	discarded
	skipped
)

// mostClaims is how many processes may die on one letter before it is dead.
const mostClaims = 3

var errCrashLoop = errors.New("processes died while they handled it")

const lookAgain = time.Second // after the broker did not answer

// drain works on a key's letters from the first on, as far as it goes: what waits for its retry is tried when that is due, what was blocked follows its predecessor, and
// of the dead the ordered one is replayed. When no letter is left, the key is free.
func (p *partition) drain(key string, o *order) {
	if p.group.Independent {
		p.drainEach(key)
		return
	}
	for p.patience.Err() == nil {
		l, err := p.letters.store.Head(p.life, p.group.Name, p.number, key)
		if errors.Is(err, deadletter.ErrNotFound) {
			p.letters.locked.unlock(key)
			return
		}
		if err != nil {
			p.drainLater(key, err)
			return
		}
		if !p.step(&l, o) {
			return
		}
	}
}

// drainEach is drain for groups whose events are independent: every letter is looked at by itself.
func (p *partition) drainEach(key string) {
	letters, err := p.letters.store.OfKey(p.life, p.group.Name, p.number, key)
	if err != nil {
		p.drainLater(key, err)
		return
	}
	left := false
	for i := range letters {
		if p.patience.Err() != nil {
			return
		}
		l, err := p.letters.store.At(p.life, letters[i].Sequence)
		if errors.Is(err, deadletter.ErrNotFound) {
			continue
		}
		if err != nil {
			p.drainLater(key, err)
			return
		}
		if !p.step(&l, nil) {
			left = true
		}
	}
	if !left {
		p.letters.locked.unlock(key)
	}
}

func (p *partition) drainLater(key string, err error) {
	if p.patience.Err() != nil {
		return
	}
	p.log.WarnContext(p.life, "could not work on the dead letters of a key, trying again", "error", err)
	p.letters.locked.soon(key, time.Now().Add(lookAgain), func() { p.drain(key, nil) })
}

// step does what is due with one letter. true: it is gone, or has changed, and the next look may find more to do.
func (p *partition) step(l *deadletter.Letter, o *order) (more bool) {
	state := l.Current.State
	switch {
	case state.Closed():
		return p.remove(l)
	case o.is(l):
		if o.result = p.refuses(l, o.job); o.result != undone {
			return false
		}
	case state == deadletter.StateDead:
		return false
	case state == deadletter.StateRetrying && time.Now().Before(l.Current.NextAt):
		p.letters.locked.soon(l.Key, l.Current.NextAt, func() { p.drain(l.Key, nil) })
		return false
	}
	return p.replay(l, o)
}

// refuses is the result of a letter that a job has been through before, or must not replay.
func (p *partition) refuses(l *deadletter.Letter, job *deadletter.Job) result {
	switch state := l.Current.State; {
	case l.Current.Job == job.ID && (state == deadletter.StateDead || state == deadletter.StateRetrying):
		return failed
	case l.Current.Depth >= deadletter.MostDepth && !job.Force:
		return skipped
	}
	return undone
}

// obey does with one letter what a job says.
func (p *partition) obey(key string, o *order) {
	if o.job.Kind == deadletter.JobReplay && !p.group.Independent {
		p.drain(key, o)
	}
	if o.result != undone || p.patience.Err() != nil {
		return
	}
	l, err := p.letters.store.At(p.life, o.ref.Sequence)
	switch {
	case errors.Is(err, deadletter.ErrNotFound):
		o.result = p.gone(o)
	case err != nil:
		p.log.WarnContext(p.life, "could not read a dead letter", "letter", o.ref.ID, "error", err)
	case o.job.Kind == deadletter.JobDiscard:
		p.discard(&l, o)
		p.follow(key)
	case p.group.Independent:
		p.step(&l, o)
		p.follow(key)
	default: // not the first of its key
		if o.result = p.refuses(&l, o.job); o.result == undone {
			o.result = skipped
		}
	}
}

// follow goes on with what waited behind a letter that is gone, and frees the key where that was the last one.
func (p *partition) follow(key string) {
	if !p.group.Independent {
		p.drain(key, nil)
		return
	}
	if _, err := p.letters.store.Head(p.life, p.group.Name, p.number, key); errors.Is(err, deadletter.ErrNotFound) {
		p.letters.locked.unlock(key)
	}
}

// gone is the result of a letter that is not there any more: this job may have finished it before a restart, or behind its predecessor.
func (p *partition) gone(o *order) result {
	last, err := p.letters.store.LastEntry(p.life, p.group.Name, o.ref.ID)
	if err != nil || last.Job != o.job.ID {
		return skipped
	}
	if last.State == deadletter.StateDiscarded {
		return discarded
	}
	return resolved
}

func (p *partition) discard(l *deadletter.Letter, o *order) {
	next := l.Current.Next(deadletter.StateDiscarded, deadletter.ActionDiscard, o.job.By, time.Now())
	next.Why, next.Job = o.job.Why, o.job.ID
	if p.write(l, next) && p.remove(l) {
		o.result = discarded
	}
}

// replay calls the handler with a letter's event. The claim that goes before says so: if this process dies, the next owner knows with what.
func (p *partition) replay(l *deadletter.Letter, o *order) (more bool) {
	job := ""
	switch {
	case o.is(l), o != nil && o.result == resolved: // or what waited behind it
		job = o.job.ID
	case l.Current.State == deadletter.StateReplaying: // claimed by an owner that has died
		job = l.Current.Job
	}
	by := p.who.by(p.group.Name)
	if l.Current.Claims >= mostClaims {
		next := l.Current.Next(deadletter.StateDead, deadletter.ActionFail, by, time.Now())
		next.Job, next.Claims = job, 0
		next.Failed(p.who.failure(verdict{reason: deadletter.ReasonCrashLoop, class: fail.Final, err: errCrashLoop}, l.EventType), time.Now())
		if p.write(l, next) && o.is(l) {
			o.result = failed
		}
		return false
	}
	claim := l.Current.Next(deadletter.StateReplaying, deadletter.ActionClaim, by, time.Now())
	claim.Job = job
	claim.Claims++
	before := l.Current
	if !p.write(l, claim) {
		return false
	}
	t, err := p.taskOf(l)
	if err != nil {
		p.giveBack(l, before)
		p.drainLater(l.Key, err)
		return false
	}
	v := p.tryLetter(t)
	switch {
	case errors.Is(v.err, errGiveBack):
		p.giveBack(l, before)
		return false
	case v.class == fail.None && v.reason == "", v.class == fail.Dropped:
		return p.succeed(l, o, t, v)
	}
	p.failLetter(l, o, v)
	return false
}

func (p *partition) succeed(l *deadletter.Letter, o *order, t *task, v verdict) (more bool) {
	next := l.Current.Next(deadletter.StateResolved, deadletter.ActionResolve, p.who.by(p.group.Name), time.Now())
	if v.class == fail.Dropped {
		next.State, next.Action, next.Why = deadletter.StateDiscarded, deadletter.ActionDrop, deadletter.Scrub(v.err.Error())
	}
	next.Job, next.Claims = l.Current.Job, 0
	next.Attempts++
	if !p.write(l, next) {
		return false
	}
	if !p.group.Independent {
		p.gate.pass(&t.delivery)
	}
	if o.is(l) {
		o.result = resolved
	}
	p.metrics.replayed(p.life, "resolved")
	return p.remove(l)
}

// failLetter notes that the handler failed with a letter: by the group's own schedule it is tried again, by a job it is dead.
func (p *partition) failLetter(l *deadletter.Letter, o *order, v verdict) {
	now := time.Now()
	next := l.Current.Next(deadletter.StateDead, deadletter.ActionFail, p.who.by(p.group.Name), now)
	next.Job, next.Claims = l.Current.Job, 0
	next.Attempts++
	next.Retries++
	if _, panics := errors.AsType[*panicked](v.err); panics && v.reason == "" && next.Attempts >= 3 {
		v.reason = deadletter.ReasonPanic
	}
	switch {
	case o.is(l):
		next.Depth++
		if v.reason == "" {
			v.reason = deadletter.ReasonExhausted
		}
	case v.reason != "":
	case next.Retries > len(p.retries):
		v.reason = deadletter.ReasonExhausted
	default:
		v.attempts, v.reason = next.Retries, deadletter.ReasonTransient
		next.State, next.Action, next.NextAt = deadletter.StateRetrying, deadletter.ActionReschedule, now.Add(p.waitBefore(v))
	}
	next.Failed(p.who.failure(v, l.EventType), now)
	if !p.write(l, next) {
		return
	}
	if o.is(l) {
		o.result = failed
	}
	p.metrics.replayed(p.life, string(next.State))
	p.log.WarnContext(p.life, "dead letter failed again", "letter", l.ID, "state", next.State, "reason", v.reason, "error", v.err)
	if next.State == deadletter.StateRetrying {
		p.letters.locked.soon(l.Key, next.NextAt, func() { p.drain(l.Key, nil) })
	}
}

// is reports whether a letter is the ordered one.
func (o *order) is(l *deadletter.Letter) bool { return o != nil && o.ref.Sequence == l.Sequence }

// giveBack takes a claim back that had no outcome.
func (p *partition) giveBack(l *deadletter.Letter, before deadletter.Entry) {
	next := l.Current.Next(before.State, deadletter.ActionGiveBack, p.who.by(p.group.Name), time.Now())
	next.Claims, next.NextAt, next.Job = before.Claims, before.NextAt, before.Job
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.life), time.Second)
	defer cancel()
	if _, err := p.letters.store.Write(ctx, next); err != nil {
		p.log.WarnContext(ctx, "could not give a dead letter back; the next owner takes it for one that was being handled", "letter", l.ID, "error", err)
	}
}

// write stores a letter's next state. false: nothing more may be done with it now.
func (p *partition) write(l *deadletter.Letter, next deadletter.Entry) bool {
	entry, err := p.letters.store.Write(p.life, next)
	switch {
	case err == nil:
		l.Current = entry
		return true
	case errors.Is(err, deadletter.ErrConflict) && next.Action != deadletter.ActionClaim && next.Action != deadletter.ActionDiscard:
		p.log.WarnContext(p.life, "another member works on a dead letter that is ours: giving the partition up", "letter", l.ID)
		p.lose()
	default: // a note came between, or the broker does not answer
		p.drainLater(l.Key, err)
	}
	return false
}

// remove takes a closed letter out of its stream.
func (p *partition) remove(l *deadletter.Letter) bool {
	if err := p.letters.store.Remove(p.life, l); err != nil {
		p.drainLater(l.Key, err)
		return false
	}
	p.letters.locked.removed(l.Key, l.Sequence)
	return true
}

// taskOf is a letter's event on its way to the handler.
func (p *partition) taskOf(l *deadletter.Letter) (*task, error) {
	data, err := p.letters.store.Payload(p.life, l)
	if err != nil {
		return nil, err
	}
	t := &task{key: l.Key, seq: sequences{stream: l.StreamSeq, stored: l.StoredAt}}
	d := &t.delivery
	d.Event, d.Err = p.registry.Read(l.Header, data)
	p.check(d)
	if l.Current.Edited != 0 && d.Err == nil {
		if d.Event.Extensions == nil {
			d.Event.Extensions = make(map[string]string)
		}
		d.Event.Extensions[events.ExtensionEdited] = "true"
	}
	d.Stream, d.Subject, d.Sequence, d.StoredAt, d.Partition = l.Stream, l.Subject, l.StreamSeq, l.StoredAt, l.Partition
	d.OriginStream, d.OriginSequence = l.Stream, l.StreamSeq
	if source := l.Header[sourceHeader]; len(source) > 0 {
		d.OriginStream, d.OriginSequence = origin(source[0], l.Stream, l.StreamSeq)
	}
	d.Attempt, d.Repeated = l.Current.Attempts+1, true
	d.Replay = &Replay{Letter: l.ID, Depth: l.Current.Depth, Job: l.Current.Job}
	if l.Current.Failure != nil {
		d.Replay.failed = l.Current.Failure.TraceParent
	}
	return t, nil
}

// tryLetter calls the handler once. While the group pauses, it waits.
func (p *partition) tryLetter(t *task) verdict {
	if t.delivery.Err != nil {
		return classify(t.delivery.Err)
	}
	if !p.group.Independent && p.gate.passed(&t.delivery) { // handled, and parked by an owner that did not know
		return verdict{}
	}
	for {
		probe, err := p.allowed(func() {})
		if err != nil {
			return verdict{class: fail.Transient, err: errGiveBack}
		}
		span, err := p.attempt(t)
		switch {
		case err == nil:
			p.breaker.succeeded()
			return verdict{}
		case p.life.Err() != nil:
			p.breaker.giveBack(probe)
			return verdict{class: fail.Transient, err: errGiveBack}
		}
		v := classify(err)
		v.traceparent = span
		switch {
		case v.class == fail.Dropped:
			p.breaker.giveBack(probe)
			return v
		case v.class == fail.Outage, probe:
			if p.pauses(probe, t, v) {
				continue
			}
		}
		return v
	}
}
