package telemetry

import (
	"context"
	"fmt"
	"strings"

	"go.opentelemetry.io/contrib/propagators/autoprop"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/trace"
)

// settings are what the OTEL_* variables say that the SDK does not read by itself. What it reads: the sampler (OTEL_TRACES_SAMPLER), the resource
// (OTEL_RESOURCE_ATTRIBUTES), limits (OTEL_SPAN_…), batches (OTEL_BSP_…), and all of the exporter (OTEL_EXPORTER_OTLP_…).
type settings struct {
	disabled   bool // nothing is recorded, neither spans nor metrics
	export     bool
	grpc       bool
	propagator propagation.TextMapPropagator
}

// readSettings reports every variable that says something which we can't do: traces that go nowhere without a word would be looked for in vain.
func readSettings(getenv func(string) string) (settings, error) {
	if getenv == nil {
		getenv = func(string) string { return "" }
	}
	s := settings{}
	if err := s.readExporter(getenv); err != nil {
		return s, err
	}
	names := strings.FieldsFunc(getenv("OTEL_PROPAGATORS"), func(r rune) bool { return r == ',' || r == ' ' })
	if len(names) == 0 {
		names = []string{"tracecontext", "baggage"}
	}
	var err error
	if s.propagator, err = autoprop.TextMapPropagator(names...); err != nil {
		return s, fmt.Errorf("OTEL_PROPAGATORS: %w", err)
	}
	return s, nil
}

func (s *settings) readExporter(getenv func(string) string) error {
	switch exporter := strings.ToLower(getenv("OTEL_TRACES_EXPORTER")); exporter {
	case "":
		s.export = getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
	case "otlp":
		s.export = true
	case "none":
	default:
		return fmt.Errorf("OTEL_TRACES_EXPORTER: is %q, must be otlp or none", exporter)
	}
	if strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") {
		s.disabled, s.export = true, false
	}
	protocol := getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
	if protocol == "" {
		protocol = getenv("OTEL_EXPORTER_OTLP_PROTOCOL")
	}
	switch protocol {
	case "", "http/protobuf":
	case "grpc":
		s.grpc = true
	default:
		return fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL: is %q, must be http/protobuf or grpc", protocol)
	}
	return nil
}

func (s *settings) exporter(ctx context.Context) (trace.SpanExporter, error) {
	if s.grpc {
		return otlptracegrpc.New(ctx)
	}
	return otlptracehttp.New(ctx)
}
