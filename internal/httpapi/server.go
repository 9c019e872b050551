// Package httpapi is the HTTP side of every program: one huma API on net/http that services register their operations on, with the
// limits, the health pages, the metrics and the OpenAPI document that all programs share.
//
// It also decides who is let in. An operation declares the scopes that open it (Security, with [access.Any]); one that declares none can't be registered. A request passes,
// in this order: the Host header where there are no tokens, the gate (is everything registered?), the origin that a browser names, the token, the caller's rate, the scopes.
package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tidemark/tidemark/internal/run"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

// Config configures a server.
type Config struct {
	Addr    string // host:port; port 0 takes any free one
	Version string // shown in the OpenAPI document
	Metrics http.Handler
	// ReadyParts are what /readyz asks.
	ReadyParts func() []run.Part
	Telemetry  bus.Telemetry
	// Owner names the telemetry of the service that a request is for, where several share the address: its spans and metrics are the service's. Default: Telemetry.
	Owner func(*http.Request) bus.Telemetry
	// StopDelay is asked when the server is to stop: for so long it goes on serving while /readyz says that it stops, so that those who pass requests on send them elsewhere.
	// Default: not at all.
	StopDelay func() time.Duration
	// DrainTime is how long open requests may take when the server stops. Default 3 s.
	DrainTime time.Duration
	// Tokens says who callers are. Without it everybody is [access.Local], and the address must be the machine's own.
	Tokens Tokens
	// RateLimit is how many requests a second one caller may send for long, and twice as many at once. 0: no limit. Without Tokens there is one caller and no limit.
	RateLimit float64
}

const (
	headerTimeout = 5 * time.Second
	readTimeout   = 15 * time.Second
	writeTimeout  = 60 * time.Second // longer than Prefer: wait allows
	idleTimeout   = 2 * time.Minute
	maxHeader     = 64 << 10
)

// Server serves one address.
type Server struct {
	cfg      Config
	mux      *http.ServeMux
	api      huma.API
	listener net.Listener
	log      *slog.Logger
	open     atomic.Bool
	stopping atomic.Bool
	begun    atomic.Uint64 // requests that are not of health pages or metrics
	busy     atomic.Int64  // of these, those that are being answered

	routes   []Route
	public   map[string]bool // patterns that need no token
	document document
}

// Listen takes the address at once, so that a busy port is known before anything else starts; Run serves.
func Listen(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.DrainTime <= 0 {
		cfg.DrainTime = 3 * time.Second
	}
	cfg.Telemetry = cfg.Telemetry.OrNothing()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", cfg.Addr, err)
	}
	if cfg.Tokens == nil && !loopback(listener.Addr().String()) {
		return nil, errors.Join(fmt.Errorf("%s %w", cfg.Addr, ErrNoKeys), listener.Close())
	}
	s := &Server{cfg: cfg, mux: http.NewServeMux(), listener: listener, log: cfg.Telemetry.Logger, public: make(map[string]bool)}
	s.api = s.newAPI(cfg.Version)
	s.HandlePublic("GET /livez", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, health{Status: "ok"}) }))
	s.HandlePublic("GET /readyz", http.HandlerFunc(s.readyz))
	if cfg.Metrics != nil {
		s.HandlePublic("GET /metrics", cfg.Metrics)
	}
	return s, nil
}

// API is where services register their operations.
func (s *Server) API() huma.API { return s.api }

// Open lets requests in. Before, only the health pages answer, and everything else is told to come back: operations are still being registered then.
func (s *Server) Open() { s.open.Store(true) }

// URL is the server's address as a URL.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() }

// Ready holds at once: the address is taken when the server is made.
func (s *Server) Ready() <-chan struct{} { return run.Closed() }

// Run serves until ctx ends, then lets open requests finish.
func (s *Server) Run(ctx context.Context) error {
	// Requests carry a context of their own: when the program is asked to stop, those that are being answered may finish.
	var fresh unused
	server := &http.Server{
		ConnState: fresh.watch,
		Handler:   s.ownHost(s.Handler()), ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(s.listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve http: %w", err)
	case <-ctx.Done():
	}
	if err := s.sayNo(failed); err != nil {
		return err
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.DrainTime)
	defer cancel()
	defer time.AfterFunc(unusedGrace, fresh.close).Stop()
	if err := server.Shutdown(drain); err != nil {
		return errors.Join(fmt.Errorf("stop http: %w", err), server.Close())
	}
	return nil
}

// sayNo lets it be known that the server stops, while it still serves.
func (s *Server) sayNo(failed <-chan error) error {
	s.stopping.Store(true)
	if s.cfg.StopDelay == nil {
		return nil
	}
	delay := time.NewTimer(s.cfg.StopDelay())
	defer delay.Stop()
	select {
	case err := <-failed:
		return fmt.Errorf("serve http: %w", err)
	case <-delay.C:
		return nil
	}
}

// Handler is what the address serves, for callers in the same process.
func (s *Server) Handler() http.Handler {
	h := secure(s.gate(sameOrigin(s.guarded(s.mux))))
	if s.cfg.Owner == nil {
		return traced(h, s.cfg.Telemetry)
	}
	return newOwned(h, s.cfg.Owner)
}

func (s *Server) gate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.stopping.Load() {
			// Whoever keeps connections open opens the next one elsewhere. Those without a request are left alone until the end: closing one just when a request is sent loses the request.
			w.Header().Set("Connection", "close")
		}
		if !s.open.Load() && notHealth(r) {
			w.Header().Set("Retry-After", "1")
			Problem(w, http.StatusServiceUnavailable, "starting")
			return
		}
		if notHealth(r) {
			s.begun.Add(1)
			s.busy.Add(1)
			defer s.busy.Add(-1)
		}
		next.ServeHTTP(w, r)
	})
}

// Requests is how many requests have come, and how many of them are being answered. Health pages and metrics don't count: machines ask for them all the time.
func (s *Server) Requests() (begun uint64, open int64) { return s.begun.Load(), s.busy.Load() }

func notHealth(r *http.Request) bool {
	switch r.URL.Path {
	case "/livez", "/readyz", "/metrics":
		return false
	}
	return true
}
