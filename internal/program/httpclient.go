package program

import (
	"net/http"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"

	"github.com/tidemark/tidemark/internal/metered"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

// HTTPClient is a client for calls to outside systems: kept connections, no redirects, trace context passed on. Each call sets its own time limit.
func HTTPClient(tel bus.Telemetry) *http.Client {
	tel = tel.OrNothing()
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, MaxIdleConns: 256, MaxIdleConnsPerHost: 256, IdleConnTimeout: 90 * time.Second,
		TLSHandshakeTimeout: 5 * time.Second, ResponseHeaderTimeout: 30 * time.Second,
	}
	return &http.Client{
		Transport:     traced(transport, tel),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// traced is the transport with spans and metrics, as far as they are recorded.
func traced(transport *http.Transport, tel bus.Telemetry) http.RoundTripper {
	if metered.Enough(tel) {
		return metered.Transport(transport, tel)
	}
	return otelhttp.NewTransport(transport, otelhttp.WithTracerProvider(tel.Tracer), otelhttp.WithMeterProvider(tel.Meter), otelhttp.WithPropagators(tel.Propagator))
}
