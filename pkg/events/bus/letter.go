package bus

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/fail"
)

// The headers that a dead letter has beside those of the event.
const (
	LetterID          = "Dlq-Id" // <group>:<stream>:<sequence>: parking twice is the same letter
	LetterGroup       = "Dlq-Group"
	LetterReason      = "Dlq-Reason" // a [Reason]
	LetterError       = "Dlq-Error"  // the last error, at most 1 KiB
	LetterStream      = "Dlq-Orig-Stream"
	LetterSubject     = "Dlq-Orig-Subject"
	LetterSequence    = "Dlq-Orig-Seq"
	LetterTime        = "Dlq-Orig-Time" // store time, RFC 3339
	LetterKey         = "Dlq-Key"       // percent-encoded as in a URL path
	LetterAttempts    = "Dlq-Attempts"  // calls of the handler
	LetterTraceParent = "Dlq-Traceparent"
	LetterOmitted     = "Dlq-Omitted" // "data" where the letter would have been too large; the data is in the original stream
)

// Reason says why an event became a dead letter.
type Reason string

// The reasons.
const (
	ReasonPermanent   Reason = "permanent"    // the handler said that no retry helps
	ReasonExhausted   Reason = "exhausted"    // all retries failed
	ReasonPanic       Reason = "panic"        // the handler panicked again and again
	ReasonUndecodable Reason = "undecodable"  // no event, or a payload that is none
	ReasonUnknownType Reason = "unknown_type" // the type, or its version, is not in the catalogue
	ReasonSchema      Reason = "schema"       // the payload breaks its schema
)

// panicked is a panic of a handler as an error.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("handler panicked: %v", p.value) }

// reasonOf says why err makes a letter at once, or "" where a retry may help.
func reasonOf(err error) Reason {
	switch {
	case errors.Is(err, events.ErrUndecodable):
		return ReasonUndecodable
	case errors.Is(err, events.ErrUnknownType):
		return ReasonUnknownType
	case errors.Is(err, events.ErrSchema):
		return ReasonSchema
	case fail.IsPermanent(err):
		return ReasonPermanent
	}
	return ""
}

// letters stores dead letters for one group.
type letters struct {
	js       jetstream.JetStream
	group    string
	subjects events.Subjects
	metrics  *metrics
	refused  atomic.Int32 // events that wait because their letter is not stored
}

// verdict is what is to be written on a letter.
type verdict struct {
	reason      Reason
	err         error
	attempts    int
	traceparent string
}

// park stores the letter of one event, and tries until it is stored or ctx ends: an event is never dropped because there is no room for its
// letter. warn is told of each failure; alive is called before each try, so that the broker knows that the event is worked on.
func (l *letters) park(ctx context.Context, t *task, v verdict, alive func(), warn func(error)) error {
	msg := l.message(t, v)
	for failures := 1; ; failures++ {
		alive()
		err := l.publish(ctx, msg)
		if err == nil {
			l.metrics.parked.add(ctx)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		warn(err)
		l.wait(ctx, backoff(failures, 200*time.Millisecond, 5*time.Second))
	}
}

// wait counts as refusing: the partition takes nothing new meanwhile.
func (l *letters) wait(ctx context.Context, d time.Duration) {
	if l.refused.Add(1) == 1 {
		l.metrics.refusing.Add(ctx, 1, l.metrics.with)
	}
	defer func() {
		if l.refused.Add(-1) == 0 {
			l.metrics.refusing.Add(ctx, -1, l.metrics.with)
		}
	}()
	sleep(ctx, d)
}

func (l *letters) publish(ctx context.Context, msg *nats.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := l.js.PublishMsg(ctx, msg)
	if errors.Is(err, nats.ErrMaxPayload) && len(msg.Data) > 0 {
		msg.Header[LetterOmitted] = []string{"data"}
		msg.Data = nil
		_, err = l.js.PublishMsg(ctx, msg)
	}
	if err != nil {
		return fmt.Errorf("park on %s: %w", msg.Subject, err)
	}
	return nil
}

// message is the letter: the original bytes and headers, without what the broker wrote for itself (publishing that is refused), and the envelope.
func (l *letters) message(t *task, v verdict) *nats.Msg {
	d := &t.delivery
	id := l.group + ":" + d.Stream + ":" + strconv.FormatUint(d.Sequence, 10)
	h := make(nats.Header, len(t.msg.Header)+13)
	for name, values := range t.msg.Header {
		if len(name) < 5 || !strings.EqualFold(name[:5], "Nats-") {
			h[name] = values
		}
	}
	set := func(name, value string) { h[name] = []string{value} }
	set(nats.MsgIdHdr, id)
	set(LetterID, id)
	set(LetterGroup, l.group)
	set(LetterReason, string(v.reason))
	set(LetterError, headerText(v.err.Error()))
	set(LetterStream, d.Stream)
	set(LetterSubject, d.Subject)
	set(LetterSequence, strconv.FormatUint(d.Sequence, 10))
	set(LetterTime, d.StoredAt.UTC().Format(time.RFC3339Nano))
	set(LetterKey, url.PathEscape(t.key))
	set(LetterAttempts, strconv.Itoa(v.attempts))
	if v.traceparent != "" {
		set(LetterTraceParent, v.traceparent)
	}
	return &nats.Msg{Subject: l.subjects.Letter(l.group, t.key), Header: h, Data: t.msg.Data}
}

// headerText makes any text a valid header value of at most 1 KiB: one line of printable UTF-8.
func headerText(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return ' '
		}
		return r
	}, s)
	const most = 1024
	if len(s) > most {
		s = s[:most]
		for !utf8.ValidString(s) {
			s = s[:len(s)-1]
		}
	}
	return strings.TrimSpace(s)
}
