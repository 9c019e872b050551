// Package fail is how a handler says what kind of failure it met, so that the one who called it knows what helps.
//
//	a plain error         transient: try again, by the group's schedule
//	RetryAfter(d, err)    transient: try again after d
//	Permanent(err)        no retry helps: the event becomes a dead letter at once
//	Infra(err)            not the event's fault: what everything needs is down. Pause the group and probe; this is no try
//	Drop(why)             the event is not wanted: settle it, and write down why
//
// All of them can be wrapped with %w and joined. Of several, the most careful one counts: Infra before Permanent (a verdict that was formed while the
// database was down is not trusted) before RetryAfter before transient. Drop counts only where every joined error says so: dropping is the one thing that
// can't be undone. A business "no", such as "out of stock", is an event and no failure.
package fail

import (
	"errors"
	"runtime"
	"time"
)

// Class is the kind of a failure.
type Class int

// The classes, from the weakest to the strongest.
const (
	None Class = iota // no error
	Dropped
	Transient
	Delayed // transient, with a wait of its own
	Final   // permanent
	Outage  // infrastructure
)

func (c Class) String() string {
	return [...]string{"none", "drop", "transient", "retry_after", "permanent", "infra"}[c]
}

// mark is an error that says its class.
type mark struct {
	class Class
	err   error
	wait  time.Duration
	code  string
	stack []uintptr
}

func (m *mark) Error() string { return m.err.Error() }
func (m *mark) Unwrap() error { return m.err }

// newMark notes where the caller of its caller stands: Go's errors don't, and a dead letter shall say it.
func newMark(class Class, err error) *mark {
	var pcs [24]uintptr
	n := runtime.Callers(3, pcs[:])
	return &mark{class: class, err: err, stack: append([]uintptr(nil), pcs[:n]...)}
}

// Permanent marks an error that no retry will change: the event becomes a dead letter at once. A code names the failure for those who
// sort letters. nil stays nil.
func Permanent(err error, code ...string) error {
	if err == nil {
		return nil
	}
	m := newMark(Final, err)
	if len(code) > 0 {
		m.code = code[0]
	}
	return m
}

// RetryAfter marks a transient error whose cause said how long to wait, such as an HTTP Retry-After. nil stays nil.
func RetryAfter(wait time.Duration, err error) error {
	if err == nil {
		return nil
	}
	m := newMark(Delayed, err)
	m.wait = max(wait, 0)
	return m
}

// Infra marks an error of something that every event needs. The group pauses and probes; the event is not blamed. nil stays nil.
func Infra(err error) error {
	if err == nil {
		return nil
	}
	return newMark(Outage, err)
}

// Drop says that the event is to be settled without an effect, and why. The reason is kept.
func Drop(why string) error { return newMark(Dropped, errors.New(why)) }

// Verdict is what an error says, all its branches taken together.
type Verdict struct {
	Class Class
	Wait  time.Duration // of [RetryAfter]
	Code  string        // of [Permanent]
	Stack []uintptr     // where the mark that counts was made; empty for a plain error
}

// Classify reads an error and everything that it wraps and joins.
func Classify(err error) Verdict {
	if err == nil {
		return Verdict{}
	}
	var v Verdict
	if m, ok := err.(*mark); ok { //nolint:errorlint // each error of the tree is looked at by itself
		v = Verdict{Class: m.class, Wait: m.wait, Code: m.code, Stack: m.stack}
		if m.class == Dropped {
			return v
		}
	}
	switch e := err.(type) { //nolint:errorlint // the same
	case interface{ Unwrap() []error }:
		return stronger(v, classifyAll(e.Unwrap()))
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			return stronger(v, Classify(inner))
		}
	}
	return stronger(v, Verdict{Class: Transient})
}

// classifyAll is the strongest of several; a drop only where all say so.
func classifyAll(errs []error) Verdict {
	var v Verdict
	for _, err := range errs {
		one := Classify(err)
		switch {
		case v.Class == None:
			v = one
		case v.Class == Dropped && one.Class != Dropped && one.Class != None, one.Class == Dropped && v.Class != Dropped:
			v = stronger(stronger(v, one), Verdict{Class: Transient})
		default:
			v = stronger(v, one)
		}
	}
	return v
}

// stronger prefers a where both are equal: the outer mark speaks.
func stronger(a, b Verdict) Verdict {
	if b.Class > a.Class {
		return b
	}
	return a
}

// IsPermanent reports whether err is permanent, and not only an outage.
func IsPermanent(err error) bool { return Classify(err).Class == Final }

// Wait is how long a [RetryAfter] error asks to wait.
func Wait(err error) (time.Duration, bool) {
	v := Classify(err)
	return v.Wait, v.Class == Delayed
}
