// Package telemetry makes what a program reports through: a logger, a tracer and a meter for each service. Traces leave the process only when an OTLP endpoint or
// OTEL_TRACES_EXPORTER is set in the standard OpenTelemetry variables; metrics wait at /metrics until somebody asks.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/tidemark/tidemark/pkg/events/bus"
)

// Config configures a process's telemetry.
type Config struct {
	LogLevel  string // debug, info (default), warn, error
	LogFormat string // auto (default): text on a terminal, else json; text; json
	Output    io.Writer
	Getenv    func(string) string // the OTEL_* variables; an empty one counts as unset
}

// Provider makes the telemetry of each service in the process and flushes it at the end.
type Provider struct {
	logger   *slog.Logger
	registry *prometheus.Registry
	settings settings

	mu    sync.Mutex
	made  map[string]bus.Telemetry
	stops []func(context.Context) error
}

// New checks the configuration.
func New(cfg Config) (*Provider, error) {
	var level slog.Level
	if cfg.LogLevel != "" {
		if err := level.UnmarshalText([]byte(cfg.LogLevel)); err != nil {
			return nil, fmt.Errorf("log level %q: must be debug, info, warn or error", cfg.LogLevel)
		}
	}
	options := &slog.HandlerOptions{Level: level}
	handler, err := logHandler(cfg, options)
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	settings, err := readSettings(cfg.Getenv)
	if err != nil {
		return nil, err
	}
	return &Provider{logger: slog.New(withTrace{handler}), registry: registry, settings: settings, made: make(map[string]bus.Telemetry)}, nil
}

// OwnProcess lets what the SDK has to complain about, such as a collector that does not answer, come out as log lines. It is for programs, since the SDK has one place for that in a
// process.
func (p *Provider) OwnProcess() {
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { p.logger.Warn("telemetry", "error", err) }))
}

// Logger is the process's logger.
func (p *Provider) Logger() *slog.Logger { return p.logger }

// Service is the telemetry of one service: its name is the resource's service.name, in `up` too, where four services share a process. Asked again for the same name, it
// returns the same.
func (p *Provider) Service(ctx context.Context, name string) (bus.Telemetry, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t, ok := p.made[name]; ok {
		return t, nil
	}
	t, err := p.make(ctx, name)
	if err == nil {
		p.made[name] = t
	}
	return t, err
}

func (p *Provider) make(ctx context.Context, name string) (bus.Telemetry, error) {
	if p.settings.disabled {
		return bus.Telemetry{Logger: p.logger.With("service", name), Propagator: p.settings.propagator}, nil
	}
	res, err := resource.Merge(resource.Default(), resource.NewSchemaless(semconv.ServiceName(name)))
	if err != nil {
		return bus.Telemetry{}, fmt.Errorf("telemetry of %s: %w", name, err)
	}
	reader, err := otelprometheus.New(otelprometheus.WithRegisterer(prometheus.WrapRegistererWith(prometheus.Labels{"service": name}, p.registry)),
		otelprometheus.WithoutTargetInfo())
	if err != nil {
		return bus.Telemetry{}, fmt.Errorf("metrics of %s: %w", name, err)
	}
	meters := metric.NewMeterProvider(metric.WithReader(reader), metric.WithResource(res), metric.WithView(httpViews()...))
	out := bus.Telemetry{Logger: p.logger.With("service", name), Meter: meters, Propagator: p.settings.propagator}
	p.stops = append(p.stops, meters.Shutdown)
	if !p.settings.export {
		return out, nil
	}
	exporter, err := p.settings.exporter(ctx)
	if err != nil {
		return bus.Telemetry{}, fmt.Errorf("traces of %s: %w", name, err)
	}
	tracers := trace.NewTracerProvider(trace.WithBatcher(exporter), trace.WithResource(res))
	out.Tracer = tracers
	p.stops = append(p.stops, tracers.Shutdown)
	return out, nil
}

// httpViews keep of the HTTP instruments what an operator asks for: how long, which route, which status. The sizes and the address of the one server that there
// is would be thousands of lines that say nothing.
func httpViews() []metric.View {
	keep := attribute.NewAllowKeysFilter("http.request.method", "http.route", "http.response.status_code", "error.type")
	duration := metric.Stream{AttributeFilter: keep, ExemplarReservoirProviderSelector: traceOnly}
	drop := metric.Stream{Aggregation: metric.AggregationDrop{}}
	return []metric.View{
		metric.NewView(metric.Instrument{Name: "http.server.request.duration"}, duration),
		metric.NewView(metric.Instrument{Name: "http.client.request.duration"}, duration),
		metric.NewView(metric.Instrument{Name: "http.*.body.size"}, drop),
	}
}

// Metrics serves the Prometheus text format.
func (p *Provider) Metrics() http.Handler {
	return promhttp.HandlerFor(p.registry, promhttp.HandlerOpts{Registry: p.registry})
}

// Stop flushes what is still here.
func (p *Provider) Stop(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, stop := range p.stops {
		errs = append(errs, stop(ctx))
	}
	p.stops = nil
	return errors.Join(errs...)
}
