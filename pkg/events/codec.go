package events

import (
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
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
	h := make(Header, 14+len(e.Extensions))
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

// Decode reads what [Encode] wrote, and what any other producer wrote in binary mode. Header names are read without regard to case:
// NATS keeps the case that a producer chose, and the binding calls names case-insensitive. Headers that are no attributes are ignored.
// The data is not copied.
func Decode(h Header, data []byte) (Event, error) {
	e := Event{Data: data}
	var errs []error
	seenVersion, contentType := false, ""
	for name, values := range h { // once: walking a map is what costs here
		if len(values) == 0 {
			continue
		}
		value := values[0]
		if usualName(name) { // as Encode spells it: no other spelling is looked for, since that one reports it
			name = name[len(attributePrefix):]
			seenVersion = seenVersion || name == "specversion"
			if len(values) > 1 {
				errs = append(errs, fmt.Errorf("%w: header ce-%s: is there more than once", ErrUndecodable, name))
			} else if err := e.setAttribute(name, value); err != nil {
				errs = append(errs, err)
			}
			continue
		}
		attribute, ok := attributeName(name)
		if !ok {
			if strings.EqualFold(name, HeaderContentType) {
				contentType = value
			}
			e.setTrace(name, value)
			continue
		}
		if attribute == "specversion" {
			seenVersion = true
		}
		if len(values) > 1 || spelledTwice(h, name, attribute) {
			errs = append(errs, fmt.Errorf("%w: header ce-%s: is there more than once", ErrUndecodable, attribute))
			continue
		}
		if err := e.setAttribute(attribute, value); err != nil {
			errs = append(errs, err)
		}
	}
	if isStructured(contentType) {
		return DecodeJSON(data)
	}
	if e.DataContentType == "" && contentType != "" {
		if e.DataContentType = contentType; !utf8.ValidString(contentType) { // no attribute, so nobody has looked at it
			errs = append(errs, fmt.Errorf("%w: header content-type: is not valid UTF-8", ErrUndecodable))
		}
	}
	if !seenVersion {
		errs = append(errs, fmt.Errorf("%w: header ce-specversion: required, is missing", ErrUndecodable))
	}
	if err := errors.Join(e.checkRequired(), e.checkExtensions()); err != nil { // all that is left of Validate: unescape has looked at the texts
		errs = append(errs, fmt.Errorf("%w: %w", ErrUndecodable, err))
	}
	if len(errs) > 0 {
		sort.Slice(errs, func(i, j int) bool { return errs[i].Error() < errs[j].Error() }) // map order is random, error texts must not be
		return e, errors.Join(errs...)
	}
	return e, nil
}

// usualName reports whether a header is an attribute that has a field, spelled as [Encode] does. Nearly all are.
func usualName(header string) bool {
	switch header {
	case "ce-specversion", "ce-id", "ce-source", "ce-type", "ce-subject", "ce-time", "ce-datacontenttype", "ce-dataschema",
		"ce-correlationid", "ce-causationid", "ce-partitionkey", "ce-sequence":
		return true
	}
	return false
}

func attributeName(header string) (string, bool) {
	if len(header) <= len(attributePrefix) || !strings.EqualFold(header[:len(attributePrefix)], attributePrefix) {
		return "", false
	}
	return strings.ToLower(header[len(attributePrefix):]), true
}

// spelledTwice finds one attribute under several spellings: which of them is meant must not hang on the order of a map.
func spelledTwice(h Header, name, attribute string) bool {
	if name[:len(attributePrefix)] == attributePrefix && name[len(attributePrefix):] == attribute {
		return false // another spelling, if there is one, reports it
	}
	spellings := 0
	for other := range h {
		if a, ok := attributeName(other); ok && a == attribute {
			spellings++
		}
	}
	return spellings > 1
}

func (e *Event) setTrace(name, value string) {
	switch {
	case strings.EqualFold(name, HeaderTraceParent):
		e.TraceParent = value
	case strings.EqualFold(name, HeaderTraceState):
		e.TraceState = value
	}
}

func (e *Event) setAttribute(name, raw string) error {
	value, err := unescape(raw)
	if err != nil {
		return fmt.Errorf("%w: header ce-%s: %w", ErrUndecodable, name, err)
	}
	switch name {
	case "specversion":
		if value != specVersion {
			return fmt.Errorf("%w: header ce-specversion: is %q, must be %q", ErrUndecodable, value, specVersion)
		}
	case "id":
		e.ID = value
	case "source":
		e.Source = value
	case "type":
		e.Type = value
	case "subject":
		e.Subject = value
	case "time":
		t, err := time.Parse(time.RFC3339Nano, value)
		if err != nil {
			return fmt.Errorf("%w: header ce-time: %q is no RFC 3339 time", ErrUndecodable, value)
		}
		e.Time = t.UTC()
	case "datacontenttype":
		e.DataContentType = value
	case "dataschema":
		e.DataSchema = value
	case HeaderTraceParent: // the distributed tracing extension as an attribute; the header of the hop goes before it
		if e.TraceParent == "" {
			e.TraceParent = value
		}
	case HeaderTraceState:
		if e.TraceState == "" {
			e.TraceState = value
		}
	case "correlationid":
		e.CorrelationID = value
	case "causationid":
		e.CausationID = value
	case "partitionkey":
		e.PartitionKey = value
	case "sequence":
		v, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return fmt.Errorf("%w: header ce-sequence: %q is no number", ErrUndecodable, value)
		}
		e.Version = v
	default:
		if e.Extensions == nil {
			e.Extensions = make(map[string]string)
		}
		e.Extensions[name] = value
	}
	return nil
}

func knownAttribute(name string) bool {
	switch name {
	case "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema",
		"correlationid", "causationid", "partitionkey", "sequence", HeaderTraceParent, HeaderTraceState:
		return true
	}
	return false
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

// unescape reads percent-encoding; upper and lower case hexadecimal digits are the same (the binding asks for that).
func unescape(s string) (string, error) {
	if strings.IndexByte(s, '%') < 0 {
		if !utf8.ValidString(s) {
			return "", errors.New("is not valid UTF-8")
		}
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", fmt.Errorf("%q ends inside of a percent-encoding", s)
		}
		v, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", fmt.Errorf("%q is no percent-encoding", s[i:i+3])
		}
		b.WriteByte(byte(v))
		i += 2
	}
	if out := b.String(); utf8.ValidString(out) {
		return out, nil
	}
	return "", errors.New("is not valid UTF-8 after percent-decoding")
}
