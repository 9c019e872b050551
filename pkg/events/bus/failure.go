package bus

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/deadletter"
	"github.com/tidemark/tidemark/pkg/events/fail"
)

// panicked is a panic of a handler as an error.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("handler panicked: %v", p.value) }

// verdict is what an error of a handler, or of decoding, means for its event.
type verdict struct {
	class  fail.Class
	reason deadletter.Reason // of a letter; empty where a retry may help
	wait   time.Duration     // of [fail.RetryAfter]
	err    error

	attempts    int // calls of the handler
	firstAt     time.Time
	lastAt      time.Time
	nextAt      time.Time // where the letter is one that waits for its retry
	traceparent string
	code        string
	stack       []uintptr
}

// classify says what an error means. What the bus knows by itself goes before what a handler left unsaid, and an outage before all.
func classify(err error) verdict {
	said := fail.Classify(err)
	v := verdict{class: said.Class, wait: said.Wait, code: said.Code, stack: said.Stack, err: err}
	if err == nil {
		return v
	}
	if outage(err) {
		v.class = fail.Outage
	}
	if v.class == fail.Outage || v.class == fail.Dropped {
		return v
	}
	if reason := reasonOf(err); reason != "" {
		v.class, v.reason = fail.Final, reason
	}
	return v
}

// reasonOf says why err makes a letter at once, or "" where a retry may help.
func reasonOf(err error) deadletter.Reason {
	switch {
	case errors.Is(err, events.ErrUndecodable):
		return deadletter.ReasonUndecodable
	case errors.Is(err, events.ErrUnsupportedVersion): // before the next case: it is one of those too
		return deadletter.ReasonUnsupportedVersion
	case errors.Is(err, events.ErrUnknownType):
		return deadletter.ReasonUnknownType
	case errors.Is(err, events.ErrSchema):
		return deadletter.ReasonSchema
	case errors.Is(err, events.ErrRule):
		return deadletter.ReasonRule
	case fail.IsPermanent(err):
		return deadletter.ReasonPermanent
	}
	return ""
}

// outage reports whether err says that the broker can't be reached, or takes nothing more because its store or a stream is full: no event is to blame for that.
func outage(err error) bool {
	if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrConnectionDraining) ||
		errors.Is(err, jetstream.ErrNoStreamResponse) {
		return true
	}
	const (
		noQuorum, notLeader                        = 10008, 10009
		storeFull, memoryFull, accountFull, filled = 10023, 10028, 10047, 10077 // the last: a stream at its limit that discards nothing
	)
	api, ok := errors.AsType[*jetstream.APIError](err)
	if !ok {
		return false
	}
	switch api.ErrorCode {
	case noQuorum, notLeader, storeFull, memoryFull, accountFull, filled:
		return true
	}
	return false
}

// identity is who processes events here: it stands on letters.
type identity struct {
	handler  string // the function
	build    string // the program's revision
	instance string // the process
	module   string // our module's path, with a slash
}

func newIdentity(handler any, instance string) identity {
	who := identity{instance: instance}
	if value := reflect.ValueOf(handler); value.Kind() == reflect.Func && !value.IsNil() {
		who.handler = strings.TrimSuffix(runtime.FuncForPC(value.Pointer()).Name(), "-fm") // of a method value
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return who
	}
	who.module = info.Main.Path + "/"
	who.build = info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			who.build = s.Value
		}
	}
	return who
}

// by is how the owner signs what it does with letters.
func (w identity) by(group string) string { return group + "@" + w.instance }

// failure is a verdict as a letter tells it.
func (w identity) failure(v verdict, eventType string) deadletter.Failure {
	stack := frames(v.stack)
	text := ""
	if v.err != nil {
		text = deadletter.Scrub(v.err.Error())
	}
	f := deadletter.Failure{
		Reason: v.reason, Class: v.class.String(), Code: v.code, Error: text, TraceParent: v.traceparent,
		Handler: w.handler, Build: w.build, Instance: w.instance,
	}
	if v.reason == deadletter.ReasonPredecessor {
		return f // nothing has failed
	}
	frame := w.ownFrame(v.stack)
	if panicErr, ok := errors.AsType[*panicked](v.err); ok {
		f.Class, f.Stack = "panic", deadletter.Scrub(string(panicErr.stack))
		frame = w.panicFrame(panicErr.stack)
	} else {
		f.Stack = stack
	}
	cause := deadletter.Cause{Reason: v.reason, Handler: w.handler, EventType: eventType, Err: v.err, Code: v.code, Frame: frame}
	if v.reason == deadletter.ReasonTransient { // the last try of the same failure is the same cause
		cause.Reason = deadletter.ReasonExhausted
	}
	f.Fingerprint = cause.Fingerprint()
	return f
}

func frames(stack []uintptr) string {
	if len(stack) == 0 {
		return ""
	}
	var b strings.Builder
	for it := runtime.CallersFrames(stack); ; {
		frame, more := it.Next()
		fmt.Fprintf(&b, "%s\n\t%s:%d\n", frame.Function, frame.File, frame.Line)
		if !more {
			return b.String()
		}
	}
}

// ownFrame is the first function of our own module on a stack.
func (w identity) ownFrame(stack []uintptr) string {
	if len(stack) == 0 {
		return ""
	}
	for it := runtime.CallersFrames(stack); ; {
		frame, more := it.Next()
		if w.module != "/" && strings.HasPrefix(frame.Function, w.module) {
			return frame.Function
		}
		if !more {
			return ""
		}
	}
}

// panicFrame is the function that panicked: the first of our own behind the runtime's, in the text of a stack.
func (w identity) panicFrame(stack []byte) string {
	_, after, _ := strings.Cut(string(stack), "panic(")
	for line := range strings.Lines(after) {
		if name, _, call := strings.Cut(strings.TrimSpace(line), "("); call && w.module != "/" && strings.HasPrefix(name, w.module) {
			return name
		}
	}
	return ""
}
