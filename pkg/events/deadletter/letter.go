package deadletter

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

// The headers of a letter's envelope, beside those of the event.
const (
	HeaderID            = "Dlq-Id" // <group>:<stream>:<sequence>: parking twice is the same letter
	HeaderGroup         = "Dlq-Group"
	HeaderPartition     = "Dlq-Partition"
	HeaderKey           = "Dlq-Key"         // percent-encoded as in a URL path
	HeaderKeyVersion    = "Dlq-Key-Version" // the aggregate's version, where the event has one
	HeaderState         = "Dlq-State"       // the first [State]: dead, retrying or blocked
	HeaderNextAt        = "Dlq-Next-At"     // of a retry
	HeaderReason        = "Dlq-Reason"      // a [Reason]
	HeaderClass         = "Dlq-Class"       // transient, permanent …; what package fail made of the error
	HeaderCode          = "Dlq-Code"        // what the handler calls the failure, where it says so
	HeaderError         = "Dlq-Error"       // at most 1 KiB, without personal data
	HeaderFingerprint   = "Dlq-Fingerprint" // the same for failures of one cause
	HeaderStack         = "Dlq-Stack"       // at most 4 KiB, percent-encoded line ends
	HeaderHandler       = "Dlq-Handler"
	HeaderBuild         = "Dlq-Build"    // the program's revision
	HeaderInstance      = "Dlq-Instance" // the process
	HeaderStream        = "Dlq-Orig-Stream"
	HeaderSubject       = "Dlq-Orig-Subject"
	HeaderSequence      = "Dlq-Orig-Seq"
	HeaderTime          = "Dlq-Orig-Time" // store time, RFC 3339
	HeaderAttempts      = "Dlq-Attempts"  // calls of the handler
	HeaderFirstFailedAt = "Dlq-First-Failed-At"
	HeaderLastFailedAt  = "Dlq-Last-Failed-At"
	HeaderTraceParent   = "Dlq-Traceparent" // of the failed attempt's span
	HeaderReplayDepth   = "Dlq-Replay-Depth"
	HeaderOmitted       = "Dlq-Omitted" // "data" where the letter would have been too large; the data is in the original stream

	envelopePrefix = "Dlq-"
	brokerPrefix   = "Nats-"
	// keptPrefix is where an original header is kept whose name the broker or the envelope claims.
	keptPrefix = "Dlq-Kept-"
)

// ErrNoLetter is wrapped where a message of DLQ is not a letter.
var ErrNoLetter = errors.New("message is no dead letter")

// Failure is why a handler failed.
type Failure struct {
	Reason      Reason `json:"reason"`
	Class       string `json:"class,omitempty"`
	Code        string `json:"code,omitempty"`
	Error       string `json:"error,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"`
	Stack       string `json:"stack,omitempty"`
	TraceParent string `json:"traceparent,omitempty"`
	Handler     string `json:"handler,omitempty"`
	Build       string `json:"build,omitempty"`
	Instance    string `json:"instance,omitempty"`
}

// Letter is one dead letter as it was parked.
type Letter struct {
	ID        string `json:"id"` // <group>:<stream>:<sequence>
	Group     string `json:"group"`
	Partition int    `json:"partition"`
	Key       string `json:"key"`

	Sequence uint64    `json:"seq"`       // in DLQ; the order of a key's letters
	ParkedAt time.Time `json:"parked_at"` // the broker's store time

	FirstState    State     `json:"first_state"`
	NextAt        time.Time `json:"next_at,omitzero"` // of a retry
	Failure       Failure   `json:"failure"`
	Attempts      int       `json:"attempts"`
	FirstFailedAt time.Time `json:"first_failed_at,omitzero"`
	LastFailedAt  time.Time `json:"last_failed_at,omitzero"`
	ReplayDepth   int       `json:"replay_depth,omitempty"`

	Stream     string    `json:"stream"` // where the event is stored
	Subject    string    `json:"subject"`
	StreamSeq  uint64    `json:"stream_seq"`
	StoredAt   time.Time `json:"stored_at"`
	KeyVersion uint64    `json:"key_version,omitempty"`
	EventID    string    `json:"event_id,omitempty"`
	EventType  string    `json:"event_type,omitempty"`

	Header  events.Header `json:"header,omitempty"`  // the original headers
	Data    []byte        `json:"data,omitempty"`    // the original bytes
	Omitted bool          `json:"omitted,omitempty"` // the bytes were too many for a letter; the stream has them

	// Current is the letter's state. It is set by [Store]; [Parse] sets [Initial].
	Current Entry `json:"current"`
}

// ID is the identity of a group's letter for one event.
func ID(group, stream string, sequence uint64) string {
	return group + ":" + stream + ":" + strconv.FormatUint(sequence, 10)
}

// GroupOfID is the group in a letter's id.
func GroupOfID(id string) (group string, ok bool) {
	at := strings.LastIndexByte(id, ':')
	if at < 0 {
		return "", false
	}
	at = strings.LastIndexByte(id[:at], ':')
	if at < 1 {
		return "", false
	}
	return id[:at], true
}

// Message is the letter as a message for DLQ. Headers that the broker would take for its own are refused in a publish, and those that look like the
// envelope's would hide it: they are kept under names of their own.
func (l *Letter) Message(subjects events.Subjects) *nats.Msg {
	h := make(nats.Header, len(l.Header)+24)
	for name, values := range l.Header {
		if hasFoldedPrefix(name, brokerPrefix) || hasFoldedPrefix(name, envelopePrefix) {
			name = keptPrefix + name
		}
		h[name] = values
	}
	set := func(name, value string) {
		if value != "" {
			h[name] = []string{value}
		}
	}
	stamp := func(name string, t time.Time) {
		if !t.IsZero() {
			set(name, t.UTC().Format(time.RFC3339Nano))
		}
	}
	set(HeaderID, l.ID)
	set(HeaderGroup, l.Group)
	set(HeaderPartition, strconv.Itoa(l.Partition))
	h[HeaderKey] = []string{url.PathEscape(l.Key)}
	if l.KeyVersion > 0 {
		set(HeaderKeyVersion, strconv.FormatUint(l.KeyVersion, 10))
	}
	set(HeaderState, string(l.FirstState))
	stamp(HeaderNextAt, l.NextAt)
	set(HeaderReason, string(l.Failure.Reason))
	set(HeaderClass, l.Failure.Class)
	set(HeaderCode, line(l.Failure.Code, 100))
	set(HeaderError, line(l.Failure.Error, mostError))
	set(HeaderFingerprint, l.Failure.Fingerprint)
	set(HeaderStack, packLines(l.Failure.Stack, mostStack))
	set(HeaderHandler, line(l.Failure.Handler, 200))
	set(HeaderBuild, line(l.Failure.Build, 200))
	set(HeaderInstance, line(l.Failure.Instance, 200))
	set(HeaderTraceParent, l.Failure.TraceParent)
	set(HeaderStream, l.Stream)
	set(HeaderSubject, l.Subject)
	set(HeaderSequence, strconv.FormatUint(l.StreamSeq, 10))
	stamp(HeaderTime, l.StoredAt)
	set(HeaderAttempts, strconv.Itoa(l.Attempts))
	stamp(HeaderFirstFailedAt, l.FirstFailedAt)
	stamp(HeaderLastFailedAt, l.LastFailedAt)
	set(HeaderReplayDepth, strconv.Itoa(l.ReplayDepth))
	data := l.Data
	if l.Omitted {
		set(HeaderOmitted, "data")
		data = nil
	}
	return &nats.Msg{Subject: subjects.Letter(l.Group, l.Partition, l.Key), Header: h, Data: data}
}

// Parse reads a message of DLQ. It wraps [ErrNoLetter].
func Parse(m *jetstream.RawStreamMsg) (Letter, error) {
	get := func(name string) string {
		if values := m.Header[name]; len(values) > 0 {
			return values[0]
		}
		return ""
	}
	l := Letter{
		ID: get(HeaderID), Group: get(HeaderGroup), Sequence: m.Sequence, ParkedAt: m.Time.UTC(), FirstState: State(get(HeaderState)),
		Failure: Failure{
			Reason: Reason(get(HeaderReason)), Class: get(HeaderClass), Code: get(HeaderCode), Error: get(HeaderError), Fingerprint: get(HeaderFingerprint),
			Stack: unpackLines(get(HeaderStack)), TraceParent: get(HeaderTraceParent), Handler: get(HeaderHandler), Build: get(HeaderBuild), Instance: get(HeaderInstance),
		},
		Stream: get(HeaderStream), Subject: get(HeaderSubject), Data: m.Data, Omitted: get(HeaderOmitted) != "", Header: original(m.Header),
	}
	var errs []error
	var err error
	if l.Key, err = url.PathUnescape(get(HeaderKey)); err != nil {
		errs = append(errs, fmt.Errorf("header %s: %w", HeaderKey, err))
	}
	number := func(name string) uint64 {
		v := get(name)
		if v == "" {
			return 0
		}
		n, err := strconv.ParseUint(v, 10, 63)
		if err != nil {
			errs = append(errs, fmt.Errorf("header %s: %q is no number", name, v))
		}
		return n
	}
	stamp := func(name string) time.Time {
		v := get(name)
		if v == "" {
			return time.Time{}
		}
		t, err := time.Parse(time.RFC3339Nano, v)
		if err != nil {
			errs = append(errs, fmt.Errorf("header %s: %q is no RFC 3339 time", name, v))
		}
		return t
	}
	l.Partition, l.Attempts, l.ReplayDepth = int(number(HeaderPartition)), int(number(HeaderAttempts)), int(number(HeaderReplayDepth)) //nolint:gosec // 63 bits
	l.StreamSeq, l.KeyVersion = number(HeaderSequence), number(HeaderKeyVersion)
	l.StoredAt, l.NextAt, l.FirstFailedAt, l.LastFailedAt = stamp(HeaderTime), stamp(HeaderNextAt), stamp(HeaderFirstFailedAt), stamp(HeaderLastFailedAt)
	if l.ID == "" || l.Group == "" || l.FirstState == "" {
		errs = append(errs, fmt.Errorf("headers %s, %s and %s are required", HeaderID, HeaderGroup, HeaderState))
	}
	if len(errs) > 0 {
		return Letter{}, fmt.Errorf("%w: sequence %d: %w", ErrNoLetter, m.Sequence, errors.Join(errs...))
	}
	ev, _ := events.Decode(l.Header, l.Data) // what can be read of it
	l.EventID, l.EventType = ev.ID, ev.Type
	l.Current = Initial(&l)
	return l, nil
}

// original is what the event's headers were.
func original(h nats.Header) events.Header {
	out := make(events.Header, len(h))
	for name, values := range h {
		switch {
		case strings.HasPrefix(name, keptPrefix):
			out[name[len(keptPrefix):]] = values
		case hasFoldedPrefix(name, envelopePrefix), hasFoldedPrefix(name, brokerPrefix): // the latter are of the letter's own way
		default:
			out[name] = values
		}
	}
	return out
}

func hasFoldedPrefix(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
