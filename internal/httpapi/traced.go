package httpapi

import (
	"net/http"
	"sync"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/tidemark/tidemark/pkg/events/bus"
)

// traced is the handler with a server's span and its metrics. The answer says which trace it belongs to, in the header traceparent.
func traced(h http.Handler, tel bus.Telemetry) http.Handler {
	tel = tel.OrNothing()
	if tel.Silent() { // a trace that the caller began is carried on all the same
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			tell(h).ServeHTTP(w, r.WithContext(tel.Propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header))))
		})
	}
	return otelhttp.NewHandler(tell(h), "http", otelhttp.WithTracerProvider(tel.Tracer), otelhttp.WithMeterProvider(tel.Meter),
		otelhttp.WithPropagators(tel.Propagator), otelhttp.WithFilter(notHealth),
		otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return spanName(r) }))
}

// spanName is the method and the pattern of the route, which [http.ServeMux] writes with the method before it.
func spanName(r *http.Request) string {
	if r.Pattern == "" {
		return r.Method
	}
	if len(r.Pattern) > 0 && r.Pattern[0] != '/' {
		return r.Pattern
	}
	return r.Method + " " + r.Pattern
}

// tell writes the trace's context into the answer. Where there is no trace, it writes nothing.
func tell(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if trace.SpanContextFromContext(r.Context()).IsValid() {
			propagation.TraceContext{}.Inject(r.Context(), propagation.HeaderCarrier(w.Header()))
		}
		next.ServeHTTP(w, r)
	})
}

// owned gives each request the telemetry of the service that it is for.
type owned struct {
	next  http.Handler
	owner func(*http.Request) bus.Telemetry

	mu       sync.Mutex
	handlers map[[2]any]http.Handler // by the owner's providers
}

func newOwned(next http.Handler, owner func(*http.Request) bus.Telemetry) *owned {
	return &owned{next: next, owner: owner, handlers: make(map[[2]any]http.Handler)}
}

func (o *owned) ServeHTTP(w http.ResponseWriter, r *http.Request) { o.of(o.owner(r)).ServeHTTP(w, r) }

func (o *owned) of(tel bus.Telemetry) http.Handler {
	o.mu.Lock()
	defer o.mu.Unlock()
	providers := [2]any{tel.Tracer, tel.Meter}
	h, ok := o.handlers[providers]
	if !ok {
		h = traced(o.next, tel)
		o.handlers[providers] = h
	}
	return h
}
