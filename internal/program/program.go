// Package program is what the programs of cmd/ have in common: flags and variables of the same names, the connection to NATS, the HTTP side, the end on a
// signal. A service's main is then: its flags, its New.
package program

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/danielgtaylor/huma/v2"
	"github.com/nats-io/nats.go"

	"github.com/tidemark/tidemark/internal/httpapi"
	"github.com/tidemark/tidemark/internal/natsconn"
	"github.com/tidemark/tidemark/internal/run"
	"github.com/tidemark/tidemark/internal/telemetry"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

// Exit statuses of every program.
const (
	ExitDone  = 0
	ExitNotSo = 1 // the thing asked about is not so, or it failed
	ExitUsage = 2 // wrong use
)

// ErrUsage is wrapped by errors that are the caller's: the program ends with [ExitUsage].
var ErrUsage = errors.New("wrong use")

// Common are the flags of every service's program.
type Common struct {
	natsconn.Access `embed:""`

	NATS      string        `name:"nats" env:"TIDEMARK_NATS_URL" default:"nats://127.0.0.1:4222" help:"NATS server to connect to."`
	LogLevel  string        `env:"TIDEMARK_LOG_LEVEL" default:"info" enum:"debug,info,warn,error" help:"Least important log line that is written: ${enum}."`
	LogFormat string        `env:"TIDEMARK_LOG_FORMAT" default:"auto" enum:"auto,text,json" help:"Form of log lines: ${enum}; auto is text on a terminal, else json."`
	Admin     string        `env:"TIDEMARK_ADMIN" help:"Address of the machine itself that serves profiles (pprof), such as 127.0.0.1:6060; empty: none."`
	StopDelay time.Duration `env:"TIDEMARK_STOP_DELAY" default:"2s" help:"At SIGTERM, go on for so long with /readyz saying no, until nobody sends requests here any more. Ctrl-C does not wait."`
	StopTime  time.Duration `env:"TIDEMARK_STOP_TIME" default:"4s" help:"How long what is in flight may take at the end."`
	MaxIdle   time.Duration `env:"TIDEMARK_MAX_IDLE" default:"0s" help:"Leave, with status 0, after so long without an event, a request, or anything that waits; 0: never."`

	Healthcheck bool `help:"Only ask the one that runs here, at the address of --http, whether it is ready: status 0 if it is."`

	TokenFlags `embed:""`
}

// Service is one of the four services as a program runs it.
type Service interface {
	run.Component
	worker
	Routes(api huma.API)
}

// Env is what a service is made of.
type Env struct {
	NATS      *nats.Conn
	Topology  events.Topology
	Registry  *events.Registry
	Telemetry bus.Telemetry
}

// Parse reads flags and variables into cli, a pointer to a kong struct. It ends the process on --help (status 0) and on wrong use (status 2).
func Parse(name, description string, cli any) *kong.Context {
	clearEmpty()
	parser, err := kong.New(cli, kong.Name(name), kong.Description(description), kong.UsageOnError(), kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		os.Exit(ExitUsage)
	}
	ctx, err := parser.Parse(os.Args[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v (see %s --help)\n", name, err, name)
		os.Exit(ExitUsage)
	}
	return ctx
}

// clearEmpty makes an empty variable count as unset.
func clearEmpty() {
	for _, entry := range os.Environ() {
		if key, value, _ := strings.Cut(entry, "="); value == "" && (strings.HasPrefix(key, "TIDEMARK_") || strings.HasPrefix(key, "OTEL_")) {
			_ = os.Unsetenv(key) // fails for impossible names only
		}
	}
}

// Exit is the status for an error; it is printed, too.
func Exit(name string, err error) int {
	if err == nil {
		return ExitDone
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	if errors.Is(err, ErrUsage) {
		return ExitUsage
	}
	return ExitNotSo
}

// Version is the version of the build, as far as the toolchain knows it.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// ServiceSpec says how one service runs as a program of its own.
type ServiceSpec struct {
	Name   string
	Common Common
	HTTP   string
	Role   string // default: [RoleAll]
	Make   func(Env) (Service, error)
}

// RunService connects, waits for its streams, makes the service and runs it with its HTTP side until a signal.
func RunService(spec ServiceSpec) error {
	ctx, cancel := SignalContext()
	defer cancel()
	if spec.Common.Healthcheck {
		return Healthcheck(ctx, spec.HTTP)
	}
	SpendMemory()
	provider, err := telemetry.New(telemetry.Config{LogLevel: spec.Common.LogLevel, LogFormat: spec.Common.LogFormat, Output: os.Stderr, Getenv: os.Getenv})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUsage, err)
	}
	provider.OwnProcess()
	tel, err := provider.Service(ctx, spec.Name)
	if err != nil {
		return err
	}
	defer Flush(provider)

	tokens, keys, err := spec.Common.Tokens(tel.Logger)
	if err != nil {
		return err
	}
	nc, err := natsconn.Connect(natsconn.Config{URL: spec.Common.NATS, Name: spec.Name, Access: spec.Common.Access, Log: tel.Logger, Patient: true})
	if err != nil {
		return err
	}
	defer nc.Close()

	var server *httpapi.Server
	var standing func(context.Context) ([]bus.Standing, error) // set before the service is ready
	service := run.Part{Name: spec.Name, Component: run.NewBoot(func(ctx context.Context) (run.Component, error) {
		env, err := environment(ctx, nc, spec.Name, tel)
		if err != nil {
			return nil, err
		}
		s, err := spec.Make(env)
		if err != nil {
			return nil, err
		}
		standing = s.Standing
		time.AfterFunc(settleTime, debug.FreeOSMemory) // what the start alone needed
		if spec.Role == RoleWorker {
			server.Open()
			tel.Logger.Info("started", "role", spec.Role, "http", server.URL(), "nats", nc.ConnectedUrlRedacted())
			return s, nil
		}
		s.Routes(server.API())
		if _, _, err := desk(env, server.API(), spec.Name); err != nil {
			return nil, err
		}
		server.Open()
		tel.Logger.Info("started", "http", server.URL(), "nats", nc.ConnectedUrlRedacted())
		return s, nil
	})}
	server, err = httpapi.Listen(ctx, httpapi.Config{
		Addr: spec.HTTP, Version: Version(), Metrics: provider.Metrics(), Telemetry: tel,
		ReadyParts: func() []run.Part { return []run.Part{service} }, Tokens: tokens, RateLimit: spec.Common.RateLimit,
		StopDelay: func() time.Duration {
			if errors.Is(context.Cause(ctx), ErrTerminated) && spec.Role != RoleWorker { // nobody sends a worker requests
				return spec.Common.StopDelay
			}
			return 0
		},
	})
	if errors.Is(err, httpapi.ErrNoKeys) {
		return fmt.Errorf("%w: --http: %w", ErrUsage, err)
	}
	if err != nil {
		return err
	}
	parts := append(keys, service)
	if spec.Common.MaxIdle > 0 {
		parts = append(parts, run.Part{Name: "idle", Component: &idle{
			after: spec.Common.MaxIdle, ready: service.Ready, requests: server.Requests, leave: cancel, log: tel.Logger,
			standing: func(ctx context.Context) ([]bus.Standing, error) { return standing(ctx) },
		}})
	}
	if spec.Common.Admin != "" {
		admin, err := httpapi.ListenAdmin(ctx, spec.Common.Admin)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUsage, err)
		}
		parts = append(parts, run.Part{Name: "admin", Component: admin})
	}
	// Requests first: they need the service. Then the service leaves its groups, whose partitions move at once.
	return run.Front(ctx, run.Part{Name: "http", Component: server}, spec.Common.StopDelay+spec.Common.StopTime, spec.Common.StopTime, parts...)
}

func environment(ctx context.Context, nc *nats.Conn, service string, tel bus.Telemetry) (Env, error) {
	topology := events.DefaultTopology(0)
	if err := AwaitTopology(ctx, nc, topology, service, tel.Logger); err != nil {
		return Env{}, err
	}
	registry, err := events.NewRegistry()
	if err != nil {
		return Env{}, err
	}
	return Env{NATS: nc, Topology: topology, Registry: registry, Telemetry: tel}, nil
}

// Flush sends what spans are still here, in a second at most.
func Flush(provider *telemetry.Provider) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := provider.Stop(ctx); err != nil {
		provider.Logger().Warn("telemetry was not flushed", "error", err)
	}
}
