package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
)

// Upcast is one step of an event type's evolution: it makes the payload of the next version from the payload of the one before. What is stored stays as it
// was; readers see the newest version, however old the event is.
type Upcast struct {
	From, To string // event types, such as "bank.account.deposited.v1" and "bank.account.deposited.v2"
	// Payload reads the JSON of From and returns the JSON of To. It must depend on nothing but its argument, and keep the fields that it does not
	// know: [Fields] helps. An error says that no event of this type can look like that.
	Payload func(data []byte) ([]byte, error)
}

// ErrUnsupportedVersion is wrapped, together with [ErrUnknownType], where other versions of an event's type are in the catalogue, and its own is not: whoever
// published it is newer than we are.
var ErrUnsupportedVersion = errors.New("unsupported version of an event type")

// Evolving returns a registry that also knows the steps. Each leads from one version of a type to the next one, both in the catalogue; steps of one type are
// taken one after the other, v1 to v2 to v3. The error reports every step that breaks a rule.
func (r *Registry) Evolving(steps ...Upcast) (*Registry, error) {
	next := *r
	next.upcasts = maps.Clone(r.upcasts)
	if next.upcasts == nil {
		next.upcasts = make(map[string]Upcast, len(steps))
	}
	var errs []error
	for _, step := range steps {
		if err := next.checkStep(step); err != nil {
			errs = append(errs, fmt.Errorf("upcast %q to %q: %w", step.From, step.To, err))
			continue
		}
		next.upcasts[step.From] = step
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return &next, nil
}

func (r *Registry) checkStep(step Upcast) error {
	name, from, ok1 := splitVersion(step.From)
	nameTo, to, ok2 := splitVersion(step.To)
	var errs []error
	if !ok1 || !ok2 || name != nameTo || to != from+1 {
		errs = append(errs, errors.New("must lead from one version of a type to its next one"))
	}
	for _, eventType := range []string{step.From, step.To} {
		if _, known := r.raw[eventType]; !known {
			errs = append(errs, fmt.Errorf("%w: %q: the schema of every version stays in the catalogue", ErrUnknownType, eventType))
		}
	}
	if _, twice := r.upcasts[step.From]; twice {
		errs = append(errs, errors.New("there is such a step already"))
	}
	if step.Payload == nil {
		errs = append(errs, errors.New("payload: required, is nil"))
	}
	return errors.Join(errs...)
}

// Upcast returns the event in the newest version of its type: with that type, schema and payload, and all else as it came. An event that is the newest already,
// or unknown, is returned as it is. The error wraps [ErrUndecodable].
func (r *Registry) Upcast(e Event) (Event, error) {
	err := r.upcast(&e)
	return e, err
}

func (r *Registry) upcast(e *Event) error {
	if r == nil || len(r.upcasts) == 0 {
		return nil
	}
	eventType, schema, data := e.Type, e.DataSchema, e.Data
	for {
		step, older := r.upcasts[eventType]
		if !older {
			e.Type, e.DataSchema, e.Data = eventType, schema, data
			return nil
		}
		var err error
		if data, err = step.Payload(data); err != nil {
			return fmt.Errorf("%w: upcast %s to %s: %w", ErrUndecodable, step.From, step.To, err)
		}
		eventType, schema = step.To, SchemaURI(step.To)
	}
}

// Decode reads a message as [Decode] does, and upcasts. With an error, the event holds what could be read, in the version that was stored.
func (r *Registry) Decode(h Header, data []byte) (e Event, err error) {
	err = r.decode(&e, h, data)
	return e, err
}

func (r *Registry) decode(e *Event, h Header, data []byte) error {
	if err := decode(e, h, data); err != nil {
		return err
	}
	return r.upcast(e)
}

// Read is Decode for those who must understand what they read, as consumer groups do: the error wraps [ErrUnsupportedVersion] where the event's version is newer
// than the catalogue. A type of which no version is known is no error: it may be meant for others.
func (r *Registry) Read(h Header, data []byte) (e Event, err error) {
	err = r.ReadInto(&e, h, data)
	return e, err
}

// ReadInto is Read into e, which is the zero value, for those who read many events.
func (r *Registry) ReadInto(e *Event, h Header, data []byte) error {
	if err := r.decode(e, h, data); err != nil || r == nil {
		return err
	}
	if err := r.Supports(e.Type); errors.Is(err, ErrUnsupportedVersion) {
		return err
	}
	return nil
}

// Newest is the version of an event type that readers see.
func (r *Registry) Newest(eventType string) string {
	for {
		step, older := r.upcasts[eventType]
		if !older {
			return eventType
		}
		eventType = step.To
	}
}

// Supports says why an event of this type can't be understood: the error wraps [ErrUnknownType], and [ErrUnsupportedVersion] where only the version is unknown.
func (r *Registry) Supports(eventType string) error {
	if _, ok := r.raw[eventType]; ok {
		return nil
	}
	if name, _, ok := splitVersion(eventType); ok && r.names[name] {
		return fmt.Errorf("%w: %w: %q", ErrUnsupportedVersion, ErrUnknownType, eventType)
	}
	return fmt.Errorf("%w: %q", ErrUnknownType, eventType)
}

// splitVersion takes "shop.order.placed.v1" apart into "shop.order.placed" and 1.
func splitVersion(eventType string) (name string, major int, ok bool) {
	i := strings.LastIndex(eventType, ".v")
	if i < 0 {
		return eventType, 0, false
	}
	major, err := strconv.Atoi(eventType[i+2:])
	return eventType[:i], major, err == nil && major > 0
}

// Fields makes an [Upcast.Payload] of a change to a JSON object's fields. What the change does not touch keeps its value to the last digit, known or not.
func Fields(change func(fields map[string]json.RawMessage) error) func([]byte) ([]byte, error) {
	return func(data []byte) ([]byte, error) {
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(data, &fields); err != nil {
			return nil, fmt.Errorf("payload is no JSON object: %w", err)
		}
		if fields == nil { // null
			return nil, errors.New("payload is no JSON object")
		}
		if err := change(fields); err != nil {
			return nil, err
		}
		var out bytes.Buffer
		encoder := json.NewEncoder(&out)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(fields); err != nil {
			return nil, err
		}
		return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
	}
}
