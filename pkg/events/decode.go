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

// Decode reads what [Encode] wrote, and what any other producer wrote in binary mode. Header names are read without regard to case:
// NATS keeps the case that a producer chose, and the binding calls names case-insensitive. Headers that are no attributes are ignored.
// The data is not copied.
func Decode(h Header, data []byte) (e Event, err error) {
	err = decode(&e, h, data)
	return e, err
}

// decode is Decode into e, which is the zero value: an event is too large to be handed on by value from function to function.
func decode(e *Event, h Header, data []byte) error {
	if e.Data = data; e.decodeUsual(h) {
		return nil
	}
	*e = Event{Data: data}
	return e.decodeAny(h, data)
}

// decodeUsual reads headers as [Encode] writes them, with what the broker adds. false means: look closer. It goes over what nearly every event is in half of the time, since
// it looks at each name once, and has nothing to report.
func (e *Event) decodeUsual(h Header) bool {
	seenVersion := false
	for name, values := range h { // walking the map is what costs here: once
		if len(values) != 1 {
			return false
		}
		value := values[0]
		switch name {
		case "ce-specversion":
			seenVersion = value == specVersion
			continue
		case "ce-time":
			t, err := time.Parse(time.RFC3339Nano, value)
			if err != nil {
				return false
			}
			e.Time = t.UTC()
			continue
		case "ce-sequence":
			v, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				return false
			}
			e.Version = v
			continue
		case HeaderTraceParent:
			e.TraceParent = value
			continue
		case HeaderTraceState:
			e.TraceState = value
			continue
		}
		var field *string
		if attribute, ok := strings.CutPrefix(name, attributePrefix); ok {
			field = e.text(attribute)
		}
		if field == nil {
			if mayMatter(name) {
				return false
			}
			continue
		}
		if strings.IndexByte(value, '%') >= 0 || !utf8.ValidString(value) {
			return false
		}
		*field = value
	}
	y := e.Time.Year()
	return seenVersion && e.ID != "" && e.Source != "" && e.Type != "" && y >= 1 && y <= 9999
}

// mayMatter reports whether [Event.decodeAny] reads the header, in whatever spelling.
func mayMatter(header string) bool {
	_, attribute := attributeName(header)
	return attribute || strings.EqualFold(header, HeaderContentType) || strings.EqualFold(header, HeaderTraceParent) || strings.EqualFold(header, HeaderTraceState)
}

// text is the field of an attribute that is a text, or nil.
func (e *Event) text(attribute string) *string {
	switch attribute {
	case "id":
		return &e.ID
	case "source":
		return &e.Source
	case "type":
		return &e.Type
	case "subject":
		return &e.Subject
	case "datacontenttype":
		return &e.DataContentType
	case "dataschema":
		return &e.DataSchema
	case "correlationid":
		return &e.CorrelationID
	case "causationid":
		return &e.CausationID
	case "partitionkey":
		return &e.PartitionKey
	}
	return nil
}

// decodeAny reads headers in any spelling, and says what is wrong with them.
func (e *Event) decodeAny(h Header, data []byte) error {
	var errs []error
	seenVersion, contentType := false, ""
	for name, values := range h {
		if len(values) == 0 {
			continue
		}
		value := values[0]
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
		var err error
		*e, err = DecodeJSON(data)
		return err
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
		return errors.Join(errs...)
	}
	return nil
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
	if field := e.text(name); field != nil {
		*field = value
		return nil
	}
	switch name {
	case "specversion":
		if value != specVersion {
			return fmt.Errorf("%w: header ce-specversion: is %q, must be %q", ErrUndecodable, value, specVersion)
		}
	case "time":
		t, err := time.Parse(time.RFC3339Nano, value)
		if err != nil {
			return fmt.Errorf("%w: header ce-time: %q is no RFC 3339 time", ErrUndecodable, value)
		}
		e.Time = t.UTC()
	case HeaderTraceParent: // the distributed tracing extension as an attribute; the header of the hop goes before it
		if e.TraceParent == "" {
			e.TraceParent = value
		}
	case HeaderTraceState:
		if e.TraceState == "" {
			e.TraceState = value
		}
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
