package events

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"
)

const (
	// ContentTypeStructured is the media type of one CloudEvent in JSON.
	ContentTypeStructured = "application/cloudevents+json"
	// ContentTypeBatch is the media type of a JSON array of CloudEvents.
	ContentTypeBatch = "application/cloudevents-batch+json"

	structuredPrefix = "application/cloudevents"
)

func isStructured(h Header) bool {
	for name, values := range h {
		if strings.EqualFold(name, HeaderContentType) && len(values) > 0 {
			return strings.HasPrefix(strings.ToLower(values[0]), structuredPrefix)
		}
	}
	return false
}

// DecodeJSON reads one CloudEvent in JSON (structured mode). Trace context is taken from the attributes of the distributed
// tracing extension. Extension values that are numbers or booleans are kept as their text.
func DecodeJSON(data []byte) (Event, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return Event{}, fmt.Errorf("%w: not a JSON object: %w", ErrUndecodable, err)
	}
	var e Event
	var errs []error
	if _, ok := fields["specversion"]; !ok {
		errs = append(errs, fmt.Errorf("%w: specversion: required, is missing", ErrUndecodable))
	}
	for name, raw := range fields {
		if err := e.setJSON(name, raw); err != nil {
			errs = append(errs, err)
		}
	}
	if err := e.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("%w: %w", ErrUndecodable, err))
	}
	sort.Slice(errs, func(i, j int) bool { return errs[i].Error() < errs[j].Error() })
	return e, errors.Join(errs...)
}

func (e *Event) setJSON(name string, raw json.RawMessage) error {
	switch name {
	case "data":
		e.Data = raw
		return nil
	case "data_base64":
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return fmt.Errorf("%w: data_base64: must be a string", ErrUndecodable)
		}
		data, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return fmt.Errorf("%w: data_base64: %w", ErrUndecodable, err)
		}
		e.Data = data
		return nil
	}
	value, err := jsonScalar(raw)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUndecodable, name, err)
	}
	switch name {
	case HeaderTraceParent:
		e.TraceParent = value
	case HeaderTraceState:
		e.TraceState = value
	case "specversion", "sequence", "time":
		return e.setAttribute(name, value)
	default:
		return e.setAttribute(name, escape(value))
	}
	return nil
}

// jsonScalar is the text of a string, number or boolean; CloudEvents attributes are nothing else.
func jsonScalar(raw json.RawMessage) (string, error) {
	raw = bytes.TrimSpace(raw)
	if len(raw) > 0 && raw[0] == '"' {
		var s string
		err := json.Unmarshal(raw, &s)
		return s, err
	}
	if s := string(raw); s != "null" && len(raw) > 0 && raw[0] != '{' && raw[0] != '[' {
		return s, nil
	}
	return "", errors.New("must be a string, a number or a boolean")
}

// EncodeJSON writes the event as one CloudEvent in JSON (structured mode). Data that is no JSON goes into data_base64.
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
	set(HeaderTraceParent, e.TraceParent)
	set(HeaderTraceState, e.TraceState)
	if !e.Time.IsZero() {
		out["time"] = e.Time.UTC().Format(time.RFC3339Nano)
	}
	if e.Version > 0 {
		out["sequence"] = formatVersion(e.Version)
	}
	for name, value := range e.Extensions {
		out[name] = value
	}
	switch {
	case len(e.Data) == 0:
	case json.Valid(e.Data):
		out["data"] = json.RawMessage(e.Data)
	default:
		out["data_base64"] = base64.StdEncoding.EncodeToString(e.Data)
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
