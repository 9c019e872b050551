package metered

import (
	"net/http"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/tidemark/tidemark/pkg/events/bus"
)

// client measures requests to others.
type client struct {
	*http.Transport

	propagator propagation.TextMapPropagator
	durations  *durations
}

// Transport is the transport with the metric http.client.request.duration: until the head of the answer is there.
func Transport(next *http.Transport, tel bus.Telemetry) http.RoundTripper {
	tel = tel.OrNothing()
	d := newDurations(tel, "http.client.request.duration", "Duration of HTTP client requests.")
	return client{Transport: next, propagator: tel.Propagator, durations: d}
}

// RoundTrip sends the request, with the trace of its context.
func (c client) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	if trace.SpanContextFromContext(ctx).IsValid() {
		r = r.Clone(ctx) // the caller's is the caller's
		c.propagator.Inject(ctx, propagation.HeaderCarrier(r.Header))
	}
	l, began := labels{method: methodOf(r)}, time.Now()
	res, err := c.Transport.RoundTrip(r)
	if err != nil {
		l.failure = failureOf(err)
	} else {
		l.status = res.StatusCode
	}
	c.durations.record(ctx, began, l)
	return res, err
}
