package system

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tidemark/tidemark/internal/httpapi"
	"github.com/tidemark/tidemark/internal/natsconn"
	"github.com/tidemark/tidemark/internal/natsd"
	"github.com/tidemark/tidemark/internal/natskeys"
	"github.com/tidemark/tidemark/internal/program"
	"github.com/tidemark/tidemark/internal/run"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/access"
)

// System is the whole system. Make one with [New], run it once.
type System struct {
	cfg      Config
	log      *slog.Logger
	topology events.Topology
	registry *events.Registry
	ready    chan struct{}
	began    time.Time

	tokens  httpapi.Tokens // nil: none are asked for
	keys    []run.Part
	server  *httpapi.Server
	broker  *natsd.Server // nil with an outside one
	outside outside
	conns   []*nats.Conn

	services atomic.Pointer[[]run.Part] // once they are made
}

// New checks the configuration.
func New(cfg Config) (*System, error) {
	cfg = cfg.withDefaults()
	if err := errors.Join(cfg.Validate(), cfg.absolute()); err != nil {
		return nil, err
	}
	registry, err := events.NewRegistry()
	if err != nil {
		return nil, err
	}
	return &System{
		cfg: cfg, log: cfg.Provider.Logger(), topology: events.DefaultTopology(0), registry: registry,
		ready: make(chan struct{}),
	}, nil
}

// Ready is closed when all services serve and read.
func (s *System) Ready() <-chan struct{} { return s.ready }

// URL is the API's address, valid once the system is ready.
func (s *System) URL() string { return s.server.URL() }

// Handler is the API for callers in the same process, valid once the system is ready.
func (s *System) Handler() http.Handler { return s.server.Handler() }

// NATSURL is the broker's address, valid once the system is ready.
func (s *System) NATSURL() string {
	if s.broker != nil {
		return s.broker.URL()
	}
	return s.cfg.NATSURL
}

// Healthy says what stands still though it was ready once, or nil.
func (s *System) Healthy() error {
	if parts := s.services.Load(); parts != nil {
		return run.Unwell(*parts)
	}
	return nil
}

// Run runs the system until ctx ends. It stops in this order: HTTP (no new requests), the services (what is in flight is settled), the outside systems, the broker.
func (s *System) Run(ctx context.Context) (err error) {
	s.began = time.Now()
	s.say("tidemark %s: starting, data in %s\n", s.cfg.Version, s.cfg.Dir)
	var parts []run.Part
	tel, err := s.cfg.Provider.Service(ctx, "tidemark")
	if err != nil {
		return err
	}
	if s.tokens, s.keys, err = s.cfg.Tokens.Tokens(tel.Logger); err != nil {
		return err
	}
	s.server, err = httpapi.Listen(ctx, httpapi.Config{
		Addr: s.cfg.HTTP, Version: s.cfg.Version, Metrics: s.cfg.Provider.Metrics(), Telemetry: tel, Owner: s.owner(tel),
		ReadyParts: func() []run.Part { return []run.Part{{Name: "tidemark", Component: s}} }, Tokens: s.tokens, RateLimit: s.cfg.Tokens.RateLimit,
	})
	if errors.Is(err, httpapi.ErrNoKeys) {
		return fmt.Errorf("%w: --http: %w", program.ErrUsage, err)
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w: another program, or another tidemark, listens there; give this one an address of its own with --http", err)
	}
	if err != nil {
		return err
	}
	httpCtx, stopHTTP := context.WithCancel(ctx)
	defer stopHTTP()
	httpDone := make(chan error, 1)
	go func() { httpDone <- s.server.Run(httpCtx) }()

	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	httpErr := make(chan error, 1)
	go func() {
		httpErr <- <-httpDone
		stopWork()
	}()
	parts, err = s.prepare(ctx)
	if err == nil {
		s.services.Store(&parts)
		err = run.Stages(work, s.cfg.StopTime, s.announce, append(s.outside.parts(), s.keys...), parts)
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = nil // stopped while it started
	}
	stopHTTP()
	return errors.Join(err, <-httpErr, s.close())
}

// prepare starts the broker, makes the topology real and makes every part; nothing runs yet.
func (s *System) prepare(ctx context.Context) ([]run.Part, error) {
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := checkDir(s.cfg.Dir); err != nil {
		return nil, err
	}
	if err := s.startBroker(ctx); err != nil {
		return nil, err
	}
	if err := markDir(s.cfg.Dir, s.cfg.Version); err != nil {
		return nil, err
	}
	s.say("  broker is up, applying the topology\n")
	nc, err := s.connect("topology", events.UserOperator)
	if err != nil {
		return nil, err
	}
	if err := s.apply(ctx, nc); err != nil {
		return nil, err
	}
	if err := s.makeOutside(ctx); err != nil {
		return nil, err
	}
	parts, err := s.makeServices(ctx)
	if err != nil {
		return nil, err
	}
	operator, err := s.makeOperator(ctx)
	if err != nil {
		return nil, err
	}
	parts = append(parts, operator)
	elsewhere, err := s.mountElsewhere(ctx)
	if err != nil {
		return nil, err
	}
	parts = append(parts, elsewhere...)
	s.mountSystem()
	s.server.Open()
	return parts, nil
}

func (s *System) startBroker(ctx context.Context) error {
	if s.cfg.NATSURL != "" {
		return nil
	}
	users, err := s.writeUsers()
	if err != nil {
		return err
	}
	broker, err := natsd.Start(ctx, natsd.Config{Dir: s.cfg.Dir, Addr: s.cfg.NATSAddr, Users: users, Logger: s.log})
	if errors.Is(err, natsd.ErrInUse) {
		return fmt.Errorf("%w; stop it, or give this one a directory of its own with --data", err)
	}
	s.broker = broker
	return err
}

// writeUsers makes the keys that are missing and writes the configuration of our own broker's users, the same that `tidemark topology nats-conf` prints.
func (s *System) writeUsers() (file string, err error) {
	file = s.dir(UsersFile)
	var conf bytes.Buffer
	if err := natskeys.Configuration(&conf, s.cfg.Keys, s.topology.Users()); err != nil {
		return "", err
	}
	if err := os.WriteFile(file, conf.Bytes(), 0o600); err != nil {
		return "", fmt.Errorf("users of the broker: %w", err)
	}
	return file, nil
}

// UsersFile is the configuration of our own broker's users, in the data directory.
const UsersFile = "nats-users.conf"

// connect opens a connection for one part of us, as one of the broker's users. Inside of the process no socket is needed.
func (s *System) connect(name, user string) (*nats.Conn, error) {
	cfg := natsconn.Config{URL: s.cfg.NATSURL, Name: name, User: user, Access: s.access(user), Log: s.log, Patient: true}
	if s.broker != nil {
		cfg.Through = s.broker
	}
	nc, err := natsconn.Connect(cfg)
	if err != nil {
		return nil, err
	}
	s.conns = append(s.conns, nc)
	return nc, nil
}

// access is how a program that is this user reaches the broker.
func (s *System) access(user string) natsconn.Access {
	access := s.cfg.Access
	if s.cfg.Keys != "" {
		access.NKey = natskeys.File(s.cfg.Keys, user)
	}
	return access
}

// apply makes the topology real.
func (s *System) apply(ctx context.Context, nc *nats.Conn) error {
	return program.Apply(ctx, nc, s.topology, s.cfg.Replicas, func(err error) { s.say("  waiting for NATS at %s: %v\n", s.NATSURL(), err) })
}

func (s *System) close() error {
	for _, nc := range s.conns {
		nc.Close()
	}
	if s.broker == nil {
		return nil
	}
	return s.broker.Stop()
}

func (s *System) say(format string, args ...any) { fmt.Fprintf(s.cfg.Out, format, args...) }

// announce says what opens where, once everything is ready.
func (s *System) announce() {
	s.say("\n")
	line := func(what, where string) { s.say("  %-16s %s\n", what, where) }
	line("API", s.URL()+"/v1/orders    (its description: /openapi.json)")
	line("mails", s.URL()+"/v1/outbox")
	line("metrics, health", s.URL()+"/metrics /livez /readyz")
	line("payment gateway", s.outside.gateway.URL()+"/v1/payments")
	line("mail sink", "smtp://"+s.outside.sink.Addr())
	line("NATS", s.NATSURL())
	if s.outside.admin != nil {
		line("profiles", s.outside.admin.URL())
	}
	for _, name := range s.cfg.Without {
		s.say("\n%s is left out. It runs by itself with:\n  %s\n", name, s.commandOf(name))
	}
	s.say("\nready (%.1f s). Ctrl-C stops it; what is stored stays in %s\n", time.Since(s.began).Seconds(), s.cfg.Dir)
	close(s.ready)
}

func (s *System) has(service string) bool { return !slices.Contains(s.cfg.Without, service) }

func (s *System) dir(name string) string { return filepath.Join(s.cfg.Dir, name) }

// preferred is the address that was asked for, else the usual one when it is free, else any free port.
func preferred(ctx context.Context, asked, usual string) string {
	if asked != "" {
		return asked
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", usual)
	if err != nil {
		return "127.0.0.1:0"
	}
	_ = l.Close() // it was only a question
	return usual
}

// info is what verbs on this machine need to reach the parts behind the API.
type info struct {
	NATSURL           string   `json:"nats_url"`
	OperatorCredsFile string   `json:"operator_creds_file"`
	ProducerCredsFile string   `json:"producer_creds_file"`
	NATSCA            string   `json:"nats_ca,omitempty"`
	NATSCert          string   `json:"nats_cert,omitempty"`
	NATSKey           string   `json:"nats_key,omitempty"`
	GatewayURL        string   `json:"gateway_url"`
	SMTPAddr          string   `json:"smtp_addr"`
	Without           []string `json:"without,omitempty"`
	OrderDeadline     string   `json:"order_deadline"`
	PID               int      `json:"pid"`
}

func (s *System) mountSystem() {
	operator := s.access(events.UserOperator)
	s.server.Handle("GET /v1/system", access.Any(access.Operator), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		httpapi.JSON(w, info{
			NATSURL: s.NATSURL(), OperatorCredsFile: operator.NKey, ProducerCredsFile: s.access(events.UserProducer).NKey,
			NATSCA: operator.CA, NATSCert: operator.Cert, NATSKey: operator.Key, GatewayURL: s.outside.gateway.URL(), SMTPAddr: s.outside.sink.Addr(),
			Without: s.cfg.Without, OrderDeadline: s.cfg.OrderDeadline.String(), PID: os.Getpid(),
		})
	}))
}
