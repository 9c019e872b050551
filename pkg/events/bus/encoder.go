package bus

import (
	"context"
	"fmt"

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
	header, data, err := events.Encode(&ev)
	if err != nil {
		return nil, fmt.Errorf("encode for %s: %w", subject, err)
	}
	header[nats.MsgIdHdr] = []string{MessageID(&ev)}
	return &nats.Msg{Subject: subject, Header: nats.Header(header), Data: data}, nil
}

// MessageID is the Nats-Msg-Id of an event. Our own ids are unique by themselves. What others number is unique only together with its source:
// two producers that both count from 1 would otherwise hide each other's events.
func MessageID(ev *events.Event) string {
	if events.ValidID(ev.ID) {
		return ev.ID
	}
	return ev.Source + "#" + ev.ID
}
