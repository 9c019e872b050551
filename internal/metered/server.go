package metered

import (
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"github.com/tidemark/tidemark/pkg/events/bus"
)

// Handler is the handler with the metric http.server.request.duration of the requests that count. It gives a request the trace that its headers have.
func Handler(next http.Handler, tel bus.Telemetry, counts func(*http.Request) bool) http.Handler {
	tel = tel.OrNothing()
	d := newDurations(tel, "http.server.request.duration", "Duration of HTTP server requests.")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !counts(r) {
			next.ServeHTTP(w, r)
			return
		}
		began := time.Now()
		if ctx := tel.Propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header)); ctx != r.Context() {
			r = r.WithContext(ctx)
		}
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(seen, r)
		d.record(r.Context(), began, labels{method: methodOf(r), route: routeOf(r), status: seen.status})
	})
}

// routeOf is the path of the pattern that [http.ServeMux] found, without the method before it.
func routeOf(r *http.Request) string {
	if i := strings.IndexByte(r.Pattern, '/'); i >= 0 {
		return r.Pattern[i:]
	}
	return ""
}

// statusWriter remembers the status. What else the writer can do, [http.ResponseController] finds behind it.
type statusWriter struct {
	http.ResponseWriter

	status int
	told   bool
}

// WriteHeader passes the status on. Those below 200 are not the last word.
func (w *statusWriter) WriteHeader(status int) {
	if !w.told && status >= http.StatusOK {
		w.status, w.told = status, true
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write tells that the status was not another one.
func (w *statusWriter) Write(p []byte) (int, error) {
	w.told = true
	return w.ResponseWriter.Write(p)
}

// Flush is for those who ask the writer itself.
func (w *statusWriter) Flush() {
	_ = http.NewResponseController(w.ResponseWriter).Flush() // where there is nothing to flush, there is no harm
}

// Unwrap is what http.ResponseController looks through.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
