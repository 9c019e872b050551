package events

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// ContentTypeStructured is the media type of one CloudEvent in JSON.
	ContentTypeStructured = "application/cloudevents+json"
	// ContentTypeBatch is the media type of a JSON array of CloudEvents.
	ContentTypeBatch = "application/cloudevents-batch+json"

	structuredPrefix = "application/cloudevents"

	memberData   = "data"
	memberBase64 = "data_base64"
)

func isStructured(contentType string) bool {
	return len(contentType) >= len(structuredPrefix) && strings.EqualFold(contentType[:len(structuredPrefix)], structuredPrefix)
}

// DecodeJSON reads one CloudEvent in JSON (structured mode). Trace context is taken from the attributes of the distributed
// tracing extension. Extension values that are numbers or booleans are kept as their text; a null is the same as an absent attribute. Data of a
// JSON type is the member's bytes; data of another type is the text of the member's string. The error wraps [ErrUndecodable] and names every
// member that breaks a rule.
func DecodeJSON(data []byte) (Event, error) {
	members, err := jsonMembers(data)
	if err != nil {
		return Event{}, fmt.Errorf("%w: %w", ErrUndecodable, err)
	}
	var e Event
	var errs []error
	if _, ok := members["specversion"]; !ok {
		errs = append(errs, errors.New("specversion: required, is missing"))
	}
	for name, raw := range members {
		if err := e.setJSON(name, raw); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	if err := e.setJSONData(members); err != nil {
		errs = append(errs, err)
	}
	if err := e.Validate(); err != nil {
		errs = append(errs, err)
	}
	for i, err := range errs {
		errs[i] = fmt.Errorf("%w: %w", ErrUndecodable, err)
	}
	sort.Slice(errs, func(i, j int) bool { return errs[i].Error() < errs[j].Error() }) // map order is random, error texts must not be
	return e, errors.Join(errs...)
}

// jsonMembers are the members of one JSON object. A name that stands twice is refused: readers differ in which of the two they take.
func jsonMembers(data []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	members := make(map[string]json.RawMessage)
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("not a JSON object: %w", err)
		}
		name, _ := t.(string)
		if _, twice := members[name]; twice {
			return nil, fmt.Errorf("%s: is there more than once", name)
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, fmt.Errorf("%s: not JSON: %w", name, err)
		}
		members[name] = raw
	}
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("not a JSON object: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("goes on after the JSON object")
	}
	return members, nil
}

func (e *Event) setJSON(name string, raw json.RawMessage) error {
	if name == memberData || name == memberBase64 || isNull(raw) {
		return nil
	}
	value, err := jsonScalar(raw)
	if err != nil {
		return err
	}
	if mustBeString(name) && raw[0] != '"' {
		return errors.New("must be a string")
	}
	switch name {
	case "specversion":
		if value != specVersion {
			return fmt.Errorf("is %q, must be %q", value, specVersion)
		}
	case "time":
		t, err := time.Parse(time.RFC3339Nano, value)
		if err != nil {
			return fmt.Errorf("%q is no RFC 3339 time", value)
		}
		e.Time = t.UTC()
	case "sequence":
		v, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is no number", value)
		}
		e.Version = v
	default:
		return e.setAttribute(name, escape(value))
	}
	return nil
}

// mustBeString tells the attributes of the CloudEvents core from extensions, which may be numbers and booleans too.
func mustBeString(name string) bool {
	switch name {
	case "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema":
		return true
	}
	return false
}

// jsonScalar is the text of a string, number or boolean; CloudEvents attributes are nothing else.
func jsonScalar(raw json.RawMessage) (string, error) {
	switch raw[0] {
	case '"':
		var s string
		err := json.Unmarshal(raw, &s)
		return s, err
	case '{', '[':
		return "", errors.New("must be a string, a number or a boolean")
	}
	return string(raw), nil
}

func isNull(raw json.RawMessage) bool { return string(raw) == "null" }

func (e *Event) setJSONData(members map[string]json.RawMessage) error {
	plain, isPlain := members[memberData]
	encoded, isEncoded := members[memberBase64]
	isEncoded = isEncoded && !isNull(encoded)
	switch {
	case isPlain && isEncoded:
		return errors.New("data and data_base64: only one of them may be there")
	case isEncoded:
		var s string
		if err := json.Unmarshal(encoded, &s); err != nil {
			return errors.New("data_base64: must be a string")
		}
		data, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return fmt.Errorf("data_base64: %w", err)
		}
		e.Data = data
	case isPlain && plain[0] == '"' && !isJSONType(e.DataContentType):
		var s string
		if err := json.Unmarshal(plain, &s); err != nil {
			return fmt.Errorf("data: %w", err)
		}
		e.Data = []byte(s)
	case isPlain:
		e.Data = plain
	}
	return nil
}

// isJSONType is the rule of the CloudEvents JSON format: without a content type, data is JSON.
func isJSONType(contentType string) bool {
	if contentType == "" {
		return true
	}
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false
	}
	_, subtype, _ := strings.Cut(media, "/")
	return subtype == "json" || strings.HasSuffix(subtype, "+json")
}

// EncodeJSON writes the event as one CloudEvent in JSON (structured mode). Data of a JSON type stands in it as JSON, other text as a string, and
// the rest in data_base64.
func EncodeJSON(e *Event) ([]byte, error) {
	if err := e.Validate(); err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	out := map[string]any{"specversion": specVersion, "id": e.ID, "source": e.Source, "type": e.Type}
	set := func(name, value string) {
		if value != "" {
			out[name] = value
		}
	}
	set("subject", e.Subject)
	set("datacontenttype", e.contentType())
	set("dataschema", e.DataSchema)
	set("correlationid", e.CorrelationID)
	set("causationid", e.CausationID)
	set("partitionkey", e.PartitionKey)
	set(HeaderTraceParent, traceHeader(e.TraceParent))
	set(HeaderTraceState, traceHeader(e.TraceState))
	if !e.Time.IsZero() {
		out["time"] = e.Time.UTC().Format(time.RFC3339Nano)
	}
	if e.Version > 0 {
		out["sequence"] = formatVersion(e.Version)
	}
	for name, value := range e.Extensions {
		out[name] = value
	}
	switch isJSON := isJSONType(e.DataContentType); {
	case len(e.Data) == 0:
	case isJSON && json.Valid(e.Data):
		out[memberData] = json.RawMessage(e.Data)
	case !isJSON && utf8.Valid(e.Data):
		out[memberData] = string(e.Data)
	default:
		out[memberBase64] = base64.StdEncoding.EncodeToString(e.Data)
	}
	return json.Marshal(out)
}

// DecodeBatch reads a JSON array of CloudEvents. The error of an event that can't be read stands at its place in errs, which is as
// long as the array; err is for the array itself.
func DecodeBatch(data []byte) (evs []Event, errs []error, err error) {
	var raws []json.RawMessage
	if err := json.Unmarshal(data, &raws); err != nil {
		return nil, nil, fmt.Errorf("%w: not a JSON array: %w", ErrUndecodable, err)
	}
	evs = make([]Event, len(raws))
	errs = make([]error, len(raws))
	for i, raw := range raws {
		evs[i], errs[i] = DecodeJSON(raw)
	}
	return evs, errs, nil
}
