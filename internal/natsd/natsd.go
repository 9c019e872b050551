// Package natsd runs nats-server inside of our own process: for `tidemark up`, where nothing has to be installed. Production runs
// nats-server by itself.
package natsd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// DefaultAddr is where the server listens when that is free.
const DefaultAddr = "127.0.0.1:4222"

// ErrInUse is wrapped where another process holds the data directory.
var ErrInUse = errors.New("data directory is in use by another process")

// Config configures the embedded server.
type Config struct {
	Dir    string // data directory; required
	Addr   string // host:port; empty: [DefaultAddr] if that is free, else any free port on 127.0.0.1
	Users  string // file with the part of nats-server's configuration that says who the users are; empty: everybody may do everything
	Logger *slog.Logger
	// StartTimeout bounds the start, recovery of the stored streams included. Default 60 s.
	StartTimeout time.Duration
}

// Server is an embedded nats-server with JetStream on the data directory.
type Server struct {
	srv  *server.Server
	lock *flock.Flock
}

// Start starts the server and waits until it takes connections.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Dir == "" {
		return nil, errors.New("start nats-server: Dir: required")
	}
	if cfg.StartTimeout <= 0 {
		cfg.StartTimeout = time.Minute
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("start nats-server: %w", err)
	}
	lock := flock.New(filepath.Join(cfg.Dir, "lock"))
	if ok, err := lock.TryLock(); err != nil {
		return nil, fmt.Errorf("lock %s: %w", cfg.Dir, err)
	} else if !ok {
		return nil, fmt.Errorf("%w: %s", ErrInUse, cfg.Dir)
	}
	srv, err := listen(ctx, cfg)
	if err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	s := &Server{srv: srv, lock: lock}
	if err := s.awaitReady(ctx, cfg.StartTimeout); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func listen(ctx context.Context, cfg Config) (*server.Server, error) {
	host, port, err := address(ctx, cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("start nats-server: %w", err)
	}
	opts := &server.Options{}
	if cfg.Users != "" {
		if opts, err = server.ProcessConfigFile(cfg.Users); err != nil {
			return nil, fmt.Errorf("start nats-server: %w", err)
		}
	}
	opts.ServerName, opts.Host, opts.Port, opts.JetStream, opts.StoreDir = "tidemark", host, port, true, filepath.Join(cfg.Dir, "nats")
	opts.NoSigs, opts.DisableJetStreamBanner = true, true
	srv, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("make nats-server: %w", err)
	}
	if cfg.Logger != nil {
		srv.SetLoggerV2(logger{cfg.Logger}, false, false, false)
	}
	go srv.Start()
	return srv, nil
}

// address takes the port that is asked for, or the usual one when it is free: two systems on one machine then don't collide.
func address(ctx context.Context, addr string) (host string, port int, err error) {
	if addr != "" {
		h, p, err := net.SplitHostPort(addr)
		if err != nil {
			return "", 0, fmt.Errorf("NATS address %q: %w", addr, err)
		}
		port, err := strconv.Atoi(p)
		if err != nil {
			return "", 0, fmt.Errorf("NATS address %q: port: %w", addr, err)
		}
		if port == 0 {
			port = server.RANDOM_PORT
		}
		return h, port, nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", DefaultAddr)
	if err != nil {
		return "127.0.0.1", server.RANDOM_PORT, nil //nolint:nilerr // taken: that was the question
	}
	if err := l.Close(); err != nil {
		return "", 0, err
	}
	return "127.0.0.1", server.DEFAULT_PORT, nil
}

func (s *Server) awaitReady(ctx context.Context, limit time.Duration) error {
	const step = 50 * time.Millisecond
	for waited := time.Duration(0); waited < limit; waited += step {
		if s.srv.ReadyForConnections(step) {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if !s.srv.Running() && waited > time.Second {
			return errors.New("nats-server stopped while it started: see its log lines above")
		}
	}
	return fmt.Errorf("nats-server is not ready after %s", limit)
}

// URL is where other processes connect.
func (s *Server) URL() string { return s.srv.ClientURL() }

// InProcessConn is a connection inside of the process, without a socket.
func (s *Server) InProcessConn() (net.Conn, error) { return s.srv.InProcessConn() }

// Connect opens a connection inside of the process.
func (s *Server) Connect(opts ...nats.Option) (*nats.Conn, error) {
	return nats.Connect("", append([]nats.Option{nats.InProcessServer(s)}, opts...)...)
}

// Stop stops the server, which writes what it holds to disk, and frees the data directory.
func (s *Server) Stop() error {
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
	return s.lock.Unlock()
}

// logger passes on what an operator must see; the server's own notices are noise here.
type logger struct{ log *slog.Logger }

func (l logger) Noticef(format string, v ...any) {
	l.log.Debug("nats-server: " + fmt.Sprintf(format, v...))
}
func (l logger) Warnf(format string, v ...any) {
	l.log.Warn("nats-server: " + fmt.Sprintf(format, v...))
}
func (l logger) Fatalf(format string, v ...any) {
	l.log.Error("nats-server: " + fmt.Sprintf(format, v...))
}
func (l logger) Errorf(format string, v ...any) {
	l.log.Error("nats-server: " + fmt.Sprintf(format, v...))
}
func (l logger) Debugf(string, ...any) {}
func (l logger) Tracef(string, ...any) {}
