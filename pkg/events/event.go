package events

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Event is one CloudEvents 1.0 event with the extensions that Tidemark uses.
//
// Data holds the payload's bytes, JSON for every type of the catalogue. The zero value of an optional attribute means
// "absent". Time is event time: when the thing happened, not when it was stored.
type Event struct {
	ID      string    // ce-id: unique within Source
	Source  string    // ce-source: who says so, such as "/tidemark/order"
	Type    string    // ce-type: name and major version, such as "shop.order.placed.v1"
	Subject string    // ce-subject: what it is about, such as the order's id
	Time    time.Time // ce-time: event time, UTC

	DataContentType string // ce-datacontenttype: "application/json" unless told otherwise
	DataSchema      string // ce-dataschema: URI of the schema with major.minor

	CorrelationID string // ce-correlationid: the order that everything belongs to
	CausationID   string // ce-causationid: the id of the event that this one answers
	PartitionKey  string // ce-partitionkey: events of one key are handled in order
	Version       uint64 // ce-sequence: the aggregate's version, 1 for its first event; 0 means none

	TraceParent string // traceparent: W3C trace context
	TraceState  string // tracestate

	// Extensions are all other CloudEvents attributes, by lower-case name without "ce-". They are kept as they came.
	Extensions map[string]string

	Data []byte
}

// ExtensionEdited is an extension that an event has when an operator corrected its payload in a dead letter. Its id is the same, so that it is still seen to be handled
// before.
const ExtensionEdited = "dlqedited"

// ErrInvalidEvent is wrapped by every error about an event that breaks a rule of the envelope.
var ErrInvalidEvent = errors.New("invalid event")

// Validate reports every rule of the envelope that the event breaks, joined; the payload is checked by [Registry.Validate]. Encode and the
// decoders call it, so that whatever is written can be read.
func (e *Event) Validate() error {
	return errors.Join(e.checkRequired(), e.checkTexts(), e.checkExtensions())
}

func (e *Event) checkRequired() error {
	var errs []error
	require := func(name, value string) {
		if value == "" {
			errs = append(errs, fmt.Errorf("%w: %s: required, is empty", ErrInvalidEvent, name))
		}
	}
	require("id", e.ID)
	require("source", e.Source)
	require("type", e.Type)
	if y := e.Time.Year(); !e.Time.IsZero() && (y < 1 || y > 9999) {
		errs = append(errs, fmt.Errorf("%w: time: RFC 3339 has the years 1 to 9999, this is %d", ErrInvalidEvent, y))
	}
	return errors.Join(errs...)
}

func (e *Event) checkTexts() error {
	var errs []error
	text := func(name, value string) {
		if !utf8.ValidString(value) {
			errs = append(errs, fmt.Errorf("%w: %s: is not valid UTF-8", ErrInvalidEvent, name))
		}
	}
	text("id", e.ID)
	text("source", e.Source)
	text("type", e.Type)
	text("subject", e.Subject)
	text("datacontenttype", e.DataContentType)
	text("dataschema", e.DataSchema)
	text("correlationid", e.CorrelationID)
	text("causationid", e.CausationID)
	text("partitionkey", e.PartitionKey)
	for name, value := range e.Extensions {
		text("extension "+name, value)
	}
	return errors.Join(errs...)
}

func (e *Event) checkExtensions() error {
	var errs []error
	for name := range e.Extensions {
		if !validAttributeName(name) {
			errs = append(errs, fmt.Errorf("%w: extension %q: a name is 1 to 20 lower-case letters and digits", ErrInvalidEvent, name))
		}
		if knownAttribute(name) {
			errs = append(errs, fmt.Errorf("%w: extension %q: has a field of its own", ErrInvalidEvent, name))
		}
	}
	return errors.Join(errs...)
}

// Key is what orders the event: its partition key, else its subject, else its id.
func (e *Event) Key() string {
	switch {
	case e.PartitionKey != "":
		return e.PartitionKey
	case e.Subject != "":
		return e.Subject
	default:
		return e.ID
	}
}

// validAttributeName is the rule of CloudEvents 1.0 §3.1: lower-case letters and digits, at most 20 of them.
func validAttributeName(name string) bool {
	if name == "" || len(name) > 20 {
		return false
	}
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewID returns a random id: 26 characters of a-z and 2-7, so that it is a subject token as it stands.
func NewID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return idEncoding.EncodeToString(b[:])
}

// DeriveID returns the id that always comes out of the same parts, in the shape of [NewID]. Handlers give what they append the id
// derived from what they answer, so that doing it twice is seen to be the same.
func DeriveID(parts ...string) string {
	var buf [256]byte // what fits costs no allocation
	b := buf[:0]
	for _, p := range parts {
		b = append(strconv.AppendInt(b, int64(len(p)), 10), ':') // the length keeps ("a","bc") and ("ab","c") apart
		b = append(b, p...)
	}
	sum := sha256.Sum256(b)
	return idEncoding.EncodeToString(sum[:16])
}

// ValidID reports whether s has the shape of [NewID].
func ValidID(s string) bool {
	if len(s) != 26 {
		return false
	}
	return strings.IndexFunc(s, func(c rune) bool { return (c < 'a' || c > 'z') && (c < '2' || c > '7') }) < 0
}
