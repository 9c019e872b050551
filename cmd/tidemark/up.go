package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/tidemark/tidemark/internal/natsconn"
	"github.com/tidemark/tidemark/internal/natskeys"
	"github.com/tidemark/tidemark/internal/program"
	"github.com/tidemark/tidemark/internal/system"
	"github.com/tidemark/tidemark/internal/telemetry"
	"github.com/tidemark/tidemark/services/analytics"
)

type upCmd struct {
	HTTP               string `name:"http" env:"TIDEMARK_HTTP" default:"127.0.0.1:8080" help:"Address of the API."`
	Data               string `env:"TIDEMARK_DATA" default:".tidemark" help:"Data directory; kept between runs."`
	Fresh              bool   `help:"Empty the data directory first."`
	NATS               string `name:"nats" env:"TIDEMARK_NATS_URL" help:"Use this NATS server instead of one inside of the process."`
	NATSAddr           string `name:"nats-addr" env:"TIDEMARK_NATS_ADDR" help:"Where the NATS server inside listens (default: 127.0.0.1:4222 if free, else any port)."`
	natsconn.Access    `embed:""`
	Keys               string            `env:"TIDEMARK_KEYS" help:"Directory of the NATS users' seeds, <user>.nk (default: where --nats-nkey is, if that is given, else keys in the data directory; with --nats and neither, the broker has no users)."`
	Replicas           int               `env:"TIDEMARK_REPLICAS" default:"1" help:"Copies of each stream: 1, or 3 on a cluster (with --nats)."`
	Without            []string          `help:"Services to leave out, with commas; the line that runs each by itself is printed."`
	At                 map[string]string `help:"Where a service that is left out listens: NAME=HOST:PORT, several instances with commas: requests go to one that is ready."`
	Gateway            string            `env:"TIDEMARK_GATEWAY_ADDR" help:"Address of the payment gateway (default: 127.0.0.1:8090 if free, else any port)."`
	SMTP               string            `env:"TIDEMARK_SMTP_LISTEN" help:"Address of the mail sink (default: 127.0.0.1:1025 if free, else any port)."`
	Admin              string            `env:"TIDEMARK_ADMIN" help:"Address of the machine itself that serves profiles (pprof), such as 127.0.0.1:6060; empty: none."`
	OrderDeadline      time.Duration     `env:"TIDEMARK_ORDER_DEADLINE" default:"2m" help:"After this time an order that is still open is rejected."`
	analytics.Flags    `embed:""`
	program.TokenFlags `embed:""`
	WebhookURL         string `env:"TIDEMARK_WEBHOOK_URL" help:"Where notify posts order events (Standard Webhooks)."`
	WebhookSecret      string `env:"TIDEMARK_WEBHOOK_SECRET" help:"Secret that signs them: whsec_ and base64."`
	LogLevel           string `env:"TIDEMARK_LOG_LEVEL" default:"warn" enum:"debug,info,warn,error" help:"Least important log line that is written: ${enum}."`
	LogFormat          string `env:"TIDEMARK_LOG_FORMAT" default:"auto" enum:"auto,text,json" help:"Form of log lines: ${enum}; auto is text on a terminal, else json."`
}

// Run runs the system until a signal.
func (c *upCmd) Run(a *app) error {
	if c.Fresh {
		if err := empty(c.Data); err != nil {
			return err
		}
	}
	counting, err := c.Flags.Config()
	if err != nil {
		return fmt.Errorf("%w: %w", program.ErrUsage, err)
	}
	provider, err := telemetry.New(telemetry.Config{LogLevel: c.LogLevel, LogFormat: c.LogFormat, Output: a.stderr, Getenv: os.Getenv})
	if err != nil {
		return fmt.Errorf("%w: %w", program.ErrUsage, err)
	}
	provider.OwnProcess()
	defer program.Flush(provider)
	s, err := system.New(system.Config{
		HTTP: c.HTTP, Dir: c.Data, NATSURL: c.NATS, NATSAddr: c.NATSAddr, Replicas: c.Replicas, Keys: c.keys(), Access: c.Access,
		GatewayAddr: c.Gateway, AdminAddr: c.Admin, MailAddr: c.SMTP, Without: c.Without, At: c.At, OrderDeadline: c.OrderDeadline, Analytics: counting, AnalyticsLine: c.Flags.Line(),
		Tokens: c.TokenFlags, WebhookURL: c.WebhookURL, WebhookSecret: c.WebhookSecret,
		Version: program.Version(), Out: a.stdout, Provider: provider,
	})
	if err != nil {
		return fmt.Errorf("%w: %w", program.ErrUsage, err)
	}
	return s.Run(a.ctx)
}

// keys is where the seeds are. Each service in this process is a user of its own, so the operator's seed alone is not enough.
func (c *upCmd) keys() string {
	if c.Keys == "" && c.NKey != "" {
		return filepath.Dir(c.NKey)
	}
	return c.Keys
}

// empty removes a data directory, and refuses to remove anything that does not look like one.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("--fresh: %w", err)
	}
	known := map[string]bool{system.MarkerFile: true, system.MarkerFile + ".next": true, "lock": true, "nats": true, "gateway": true, "mails": true, natskeys.Dir: true, system.UsersFile: true}
	for _, e := range entries {
		if !known[e.Name()] {
			return fmt.Errorf("%w: --fresh: %s holds %q, which is not ours; remove it by hand", program.ErrUsage, dir, e.Name())
		}
	}
	for _, e := range entries {
		if e.Name() == natskeys.Dir { // who the users are is no data, and others may have been given their keys
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("--fresh: %w", err)
		}
	}
	return nil
}
