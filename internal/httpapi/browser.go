package httpapi

import (
	"net"
	"net/http"
	"strings"
)

// secure writes the headers that keep browsers from doing more with an answer than showing it.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// sameOrigin refuses what a page of another origin would change: a page in the user's browser must not place orders on the user's machine. There is no CORS either, so
// such a page can't read an answer.
func sameOrigin(next http.Handler) http.Handler {
	p := http.NewCrossOriginProtection()
	p.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		Problem(w, http.StatusForbidden, "a page of another origin can't change anything here")
	}))
	return p.Handler(next)
}

// ownHost refuses requests that were meant for another host, where no token protects the address: a page can let its own name point to 127.0.0.1 (DNS rebinding), and is
// of the same origin then. Its name stays in the Host header.
func (s *Server) ownHost(next http.Handler) http.Handler {
	if s.cfg.Tokens != nil {
		return next
	}
	own, _, _ := net.SplitHostPort(s.cfg.Addr)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		host = strings.Trim(host, "[]")
		ip := net.ParseIP(host)
		if host != "" && !strings.EqualFold(host, "localhost") && !strings.EqualFold(host, own) && (ip == nil || !ip.IsLoopback()) {
			Problem(w, http.StatusForbidden, "without tokens only requests to this machine's own address are answered, such as 127.0.0.1 or localhost")
			return
		}
		next.ServeHTTP(w, r)
	})
}
