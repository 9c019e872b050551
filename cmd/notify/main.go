// Command notify runs the notify service by itself: it tells customers what became of their orders.
package main

import (
	"os"

	"github.com/tidemark/tidemark/internal/program"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/services/notify"
)

type cli struct {
	program.Common `embed:""`
	program.Role   `embed:""`
	HTTP           string `name:"http" env:"TIDEMARK_HTTP" default:"127.0.0.1:8083" help:"Address of the API."`
	SMTP           string `env:"TIDEMARK_SMTP_ADDR" default:"127.0.0.1:1025" help:"Mail server, host:port."`
	SMTPUser       string `env:"TIDEMARK_SMTP_USERNAME" help:"User at the mail server; empty: none."`
	SMTPTLS        string `name:"smtp-tls" env:"TIDEMARK_SMTP_TLS" default:"opportunistic" enum:"opportunistic,mandatory,implicit,none" help:"Encryption to the mail server: ${enum}."`
	SMTPPassword   string `env:"TIDEMARK_SMTP_PASSWORD" help:"Password at the mail server."`
	From           string `env:"TIDEMARK_MAIL_FROM" default:"Tidemark Shop <shop@tidemark.example>" help:"Sender of the mails."`
	WebhookURL     string `env:"TIDEMARK_WEBHOOK_URL" help:"Where order events are posted (Standard Webhooks); empty: nowhere."`
	WebhookSecret  string `env:"TIDEMARK_WEBHOOK_SECRET" help:"Secret that signs them: whsec_ and base64."`
}

func main() {
	var c cli
	program.Parse("notify", "The notify service: one message an order event and channel.", &c)
	os.Exit(program.Exit("notify", program.RunService(program.ServiceSpec{
		Name: events.ServiceNotify, Common: c.Common, HTTP: c.HTTP, Role: c.Role.Role,
		Make: func(env program.Env) (program.Service, error) {
			return notify.New(notify.Config{
				SMTPAddr: c.SMTP, SMTPUsername: c.SMTPUser, SMTPPassword: c.SMTPPassword, SMTPTLS: c.SMTPTLS, From: c.From,
				WebhookURL: c.WebhookURL, WebhookSecret: c.WebhookSecret, APIOnly: c.APIOnly(),
			}, notify.Deps{NATS: env.NATS, Topology: env.Topology, Registry: env.Registry, Telemetry: env.Telemetry})
		},
	})))
}
