package bus

import (
	"context"
	"fmt"
	"maps"
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/tidemark/tidemark/pkg/events"
)

// Encoder makes NATS messages of events: payload checked against its schema, trace context of ctx written, headers in CloudEvents
// binary mode, Nats-Msg-Id set. Everything that publishes uses it. It is safe for use by many goroutines.
type Encoder struct {
	registry  *events.Registry
	telemetry Telemetry
}

// NewEncoder returns an encoder that validates with the registry.
func NewEncoder(registry *events.Registry, telemetry Telemetry) *Encoder {
	return &Encoder{registry: registry, telemetry: telemetry.OrNothing()}
}

// Registry is the catalogue that the encoder validates with; nil where there is no encoder.
func (e *Encoder) Registry() *events.Registry {
	if e == nil {
		return nil
	}
	return e.registry
}

// Encode makes the message that stores the event on the subject. The error wraps [events.ErrInvalidEvent], [events.ErrUnknownType] or
// [events.ErrSchema].
func (e *Encoder) Encode(ctx context.Context, subject string, ev events.Event) (*nats.Msg, error) {
	if err := e.registry.Validate(&ev); err != nil {
		return nil, fmt.Errorf("encode for %s: %w", subject, err)
	}
	e.telemetry.Propagator.Inject(ctx, eventCarrier{parent: &ev.TraceParent, state: &ev.TraceState})
	NoteAttempt(ctx, &ev)
	header, data, err := events.Encode(&ev)
	if err != nil {
		return nil, fmt.Errorf("encode for %s: %w", subject, err)
	}
	header[nats.MsgIdHdr] = []string{MessageID(&ev)}
	return &nats.Msg{Subject: subject, Header: nats.Header(header), Data: data}, nil
}

// ExtensionAttempt is a CloudEvents extension of an event that a handler stored at its second attempt or later: which one it was.
const ExtensionAttempt = "attempt"

type attemptKey struct{}

// NoteAttempt writes the attempt of the handler that ctx belongs to into the event, where it is not the first. [Encoder.Encode] does it; what is handed to another goroutine to be
// stored has it done with the handler's own context.
func NoteAttempt(ctx context.Context, ev *events.Event) {
	n, _ := ctx.Value(attemptKey{}).(int)
	if n < 2 {
		return
	}
	extensions := make(map[string]string, len(ev.Extensions)+1) // the caller's map is the caller's
	maps.Copy(extensions, ev.Extensions)
	extensions[ExtensionAttempt] = strconv.Itoa(n)
	ev.Extensions = extensions
}

// MessageID is the Nats-Msg-Id of an event. Our own ids are unique by themselves. What others number is unique only together with its source:
// two producers that both count from 1 would otherwise hide each other's events.
func MessageID(ev *events.Event) string {
	if events.ValidID(ev.ID) {
		return ev.ID
	}
	return ev.Source + "#" + ev.ID
}
