package program

import (
	"net/http"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/tidemark/tidemark/pkg/events/bus"
)

// carrying passes a trace on without recording anything.
type carrying struct {
	*http.Transport

	propagator propagation.TextMapPropagator
}

func (c carrying) RoundTrip(r *http.Request) (*http.Response, error) {
	if trace.SpanContextFromContext(r.Context()).IsValid() {
		r = r.Clone(r.Context())
		c.propagator.Inject(r.Context(), propagation.HeaderCarrier(r.Header))
	}
	return c.Transport.RoundTrip(r)
}

// HTTPClient is a client for calls to outside systems: kept connections, no redirects, trace context passed on. Each call sets its own time limit.
func HTTPClient(tel bus.Telemetry) *http.Client {
	tel = tel.OrNothing()
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, MaxIdleConns: 256, MaxIdleConnsPerHost: 256, IdleConnTimeout: 90 * time.Second,
		TLSHandshakeTimeout: 5 * time.Second, ResponseHeaderTimeout: 30 * time.Second,
	}
	var traced http.RoundTripper = carrying{transport, tel.Propagator}
	if !tel.Silent() {
		traced = otelhttp.NewTransport(transport, otelhttp.WithTracerProvider(tel.Tracer), otelhttp.WithMeterProvider(tel.Meter), otelhttp.WithPropagators(tel.Propagator))
	}
	return &http.Client{
		Transport:     traced,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
