package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/tidemark/tidemark/internal/run"
)

// Admin serves the profiles of the process on an address of the machine itself: they show what is in memory.
type Admin struct{ listener net.Listener }

// ErrNotLoopback: a profile is for whoever is on the machine.
var ErrNotLoopback = errors.New("must be an address of the machine itself, such as 127.0.0.1:6060")

// ListenAdmin takes the address.
func ListenAdmin(ctx context.Context, addr string) (*Admin, error) {
	host, _, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("admin address %q: %w", addr, ErrNotLoopback)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("admin address: %w", err)
	}
	return &Admin{listener: listener}, nil
}

// URL is where the profiles are.
func (a *Admin) URL() string { return "http://" + a.listener.Addr().String() + "/debug/pprof/" }

// Ready holds at once.
func (a *Admin) Ready() <-chan struct{} { return run.Closed() }

// Run serves until ctx ends. A profile that is being taken ends with it.
func (a *Admin) Run(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	server := &http.Server{Handler: LoopbackOnly(mux), ReadHeaderTimeout: headerTimeout, WriteTimeout: 2 * time.Minute}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(a.listener); ctx.Err() == nil {
		return fmt.Errorf("serve the admin address: %w", err)
	}
	return nil
}
