package events

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Header is a message's headers. It is the shape of nats.Header and http.Header, so either converts without a copy.
type Header map[string][]string

// The header names that are not CloudEvents attributes.
const (
	HeaderTraceParent = "traceparent"
	HeaderTraceState  = "tracestate"
	HeaderContentType = "content-type"

	attributePrefix = "ce-"
	specVersion     = "1.0"
	contentTypeJSON = "application/json"
)

// ErrUndecodable is wrapped by every error of [Decode]: the bytes are no event, and no retry will change that.
var ErrUndecodable = errors.New("undecodable event")

// Encode writes the event as a CloudEvent in binary mode of the NATS binding: attributes in lower-case "ce-" headers, values
// percent-encoded as the binding says, the payload as the body.
func Encode(e *Event) (Header, []byte, error) {
	if err := e.Validate(); err != nil {
		return nil, nil, fmt.Errorf("encode event: %w", err)
	}
	h := make(Header, 18+len(e.Extensions)) // with room for what a publisher adds: its id, and a lock. A map that grows is copied
	// One backing array for all values: an event has about a dozen, and each would be an allocation of its own.
	values := make([]string, 0, 16+len(e.Extensions))
	set := func(name, value string) {
		if value == "" {
			return
		}
		values = append(values, value)
		n := len(values)
		h[name] = values[n-1 : n : n]
	}
	set("ce-specversion", specVersion)
	set("ce-id", escape(e.ID))
	set("ce-source", escape(e.Source))
	set("ce-type", escape(e.Type))
	set("ce-subject", escape(e.Subject))
	if !e.Time.IsZero() {
		set("ce-time", e.Time.UTC().Format(time.RFC3339Nano))
	}
	set("ce-datacontenttype", escape(e.contentType()))
	set("ce-dataschema", escape(e.DataSchema))
	set("ce-correlationid", escape(e.CorrelationID))
	set("ce-causationid", escape(e.CausationID))
	set("ce-partitionkey", escape(e.PartitionKey))
	if e.Version > 0 {
		set("ce-sequence", formatVersion(e.Version))
	}
	for name, value := range e.Extensions {
		set(attributePrefix+name, escape(value))
	}
	set(HeaderTraceParent, traceHeader(e.TraceParent))
	set(HeaderTraceState, traceHeader(e.TraceState))
	return h, e.Data, nil
}

// traceHeader drops a trace context that can't stand in a header. It comes from outside, and W3C Trace Context says that a broken one is
// ignored: a trace may be lost, an event may not.
func traceHeader(s string) string {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return ""
		}
	}
	return strings.TrimSpace(s)
}

func (e *Event) contentType() string {
	if e.DataContentType == "" && len(e.Data) > 0 {
		return contentTypeJSON
	}
	return e.DataContentType
}

// formatVersion pads, since the sequence extension of CloudEvents compares as text.
func formatVersion(v uint64) string {
	const width = 10
	s := strconv.FormatUint(v, 10)
	if len(s) >= width {
		return s
	}
	return "0000000000"[:width-len(s)] + s
}

// escape percent-encodes what the NATS binding of CloudEvents asks for: space, double quote, percent, and all outside of
// printable ASCII, as the bytes of its UTF-8 encoding.
func escape(s string) string {
	clean := true
	for i := range len(s) {
		if mustEscape(s[i]) {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if mustEscape(c) {
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

func mustEscape(c byte) bool { return c <= ' ' || c > '~' || c == '"' || c == '%' }
