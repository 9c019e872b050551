package bus

import (
	"log/slog"

	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// Telemetry is where a component says what it does. Every zero field is replaced by one that does nothing, W3C trace context
// for Propagator.
type Telemetry struct {
	Logger     *slog.Logger
	Tracer     trace.TracerProvider
	Meter      metric.MeterProvider
	Propagator propagation.TextMapPropagator
}

// OrNothing fills the zero fields.
func (t Telemetry) OrNothing() Telemetry {
	if t.Logger == nil {
		t.Logger = slog.New(slog.DiscardHandler)
	}
	if t.Tracer == nil {
		t.Tracer = tracenoop.NewTracerProvider()
	}
	if t.Meter == nil {
		t.Meter = metricnoop.NewMeterProvider()
	}
	if t.Propagator == nil {
		t.Propagator = propagation.TraceContext{}
	}
	return t
}

// Silent reports whether nothing is recorded: neither spans nor metrics.
func (t Telemetry) Silent() bool {
	_, noTracer := t.Tracer.(tracenoop.TracerProvider)
	_, noMeter := t.Meter.(metricnoop.MeterProvider)
	return (noTracer || t.Tracer == nil) && (noMeter || t.Meter == nil)
}

// eventCarrier carries the trace context in the event's own fields, which the codec writes in the exact spelling of W3C: NATS headers are
// case-sensitive.
type eventCarrier struct {
	parent, state *string
	extensions    map[string]string
}

func (c eventCarrier) Get(key string) string {
	switch key {
	case "traceparent":
		return *c.parent
	case "tracestate":
		return *c.state
	}
	return c.extensions[key]
}

func (c eventCarrier) Set(key, value string) {
	switch key {
	case "traceparent":
		*c.parent = value
	case "tracestate":
		*c.state = value
	}
}

func (c eventCarrier) Keys() []string { return []string{"traceparent", "tracestate"} }

var _ propagation.TextMapCarrier = eventCarrier{}
