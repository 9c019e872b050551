package httpapi

import (
	"encoding/json"
	"net"
	"net/http"

	"github.com/tidemark/tidemark/internal/run"
)

type health struct {
	Status  string   `json:"status"`
	Waiting []string `json:"waiting,omitempty"`
	Detail  string   `json:"detail,omitempty"`
}

// readyz names what is not ready yet, so that whoever waits knows what for, and says what stands still though it was ready once. A server that stops says so before it does.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	if s.stopping.Load() {
		writeJSON(w, http.StatusServiceUnavailable, health{Status: "stopping"})
		return
	}
	if waiting := run.NotReady(s.cfg.ReadyParts()); len(waiting) > 0 {
		writeJSON(w, http.StatusServiceUnavailable, health{Status: "starting", Waiting: waiting})
		return
	}
	if err := run.Unwell(s.cfg.ReadyParts()); err != nil {
		writeJSON(w, http.StatusServiceUnavailable, health{Status: "failing", Detail: err.Error()})
		return
	}
	if s.cfg.Tokens != nil {
		if err := s.cfg.Tokens.Healthy(); err != nil {
			writeJSON(w, http.StatusServiceUnavailable, health{Status: "failing", Detail: err.Error()})
			return
		}
	}
	writeJSON(w, http.StatusOK, health{Status: "ready"})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the caller is gone; nothing to tell
}

// LoopbackOnly refuses callers from other machines, by the address of the connection and not by a header that a caller can write.
func LoopbackOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !loopback(r.RemoteAddr) {
			Problem(w, http.StatusForbidden, elsewhere)
			return
		}
		next.ServeHTTP(w, r)
	})
}

const problemType = "application/problem+json"

const elsewhere = "only answered on the machine itself"

func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return err == nil && ip != nil && ip.IsLoopback()
}

// Problem answers with problem+json (RFC 9457).
func Problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"title": http.StatusText(status), "status": status, "detail": detail})
}

// JSON answers with a value.
func JSON(w http.ResponseWriter, v any) { writeJSON(w, http.StatusOK, v) }
