// Package system is the whole of Tidemark in one process: broker, payment gateway, mail sink and the four services, on one HTTP address. It is what `tidemark up` runs and
// what the end-to-end tests start. The services don't know: each gets a connection, as it would by itself.
package system

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/tidemark/tidemark/internal/natsconn"
	"github.com/tidemark/tidemark/internal/natskeys"
	"github.com/tidemark/tidemark/internal/program"
	"github.com/tidemark/tidemark/internal/telemetry"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/services/analytics"
)

// Config configures the system. The zero value of a field means its default.
type Config struct {
	HTTP string // address of the API; default 127.0.0.1:8080
	Dir  string // data directory; default ./.tidemark

	NATSURL  string          // an outside broker; empty: one of our own, inside of the process
	NATSAddr string          // where our own broker listens; default 127.0.0.1:4222 if free, else any port
	Keys     string          // directory of the seeds of the broker's users, <user>.nk; default: keys in the data directory, but none with an outside broker, which has no users then
	Access   natsconn.Access // TLS to an outside broker
	Replicas int             // copies of each stream; default 1; 3 on an outside cluster

	GatewayAddr string // the payment gateway; default 127.0.0.1:8090 if free, else any port
	MailAddr    string // the mail sink's SMTP; default 127.0.0.1:1025 if free, else any port

	AdminAddr string // where profiles are served, on the machine itself; default none

	Tokens program.TokenFlags // whose tokens are accepted; required where HTTP or GatewayAddr is not an address of this machine alone

	Without []string          // services that run elsewhere; their part of the API is passed on
	At      map[string]string // where those are, HOST:PORT, several instances with commas; default: each service's usual address

	OrderDeadline time.Duration // default 2 minutes
	Analytics     analytics.Config
	AnalyticsLine string        // flags that say the same to the program cmd/analytics
	StopTime      time.Duration // each stage of the stop; default 2 s
	WebhookURL    string        // where notify posts order events; empty: nowhere
	WebhookSecret string        // whsec_… of Standard Webhooks

	Version  string
	Out      io.Writer // what a person reads
	Provider *telemetry.Provider
}

// ServiceAddr is where a service's program listens unless told otherwise.
func ServiceAddr(service string) string {
	switch service {
	case events.ServiceOrder:
		return "127.0.0.1:8081"
	case events.ServiceInventory:
		return "127.0.0.1:8082"
	case events.ServiceNotify:
		return "127.0.0.1:8083"
	default:
		return "127.0.0.1:8084"
	}
}

// Services are the four, in the order in which they start.
func Services() []string {
	return []string{events.ServiceInventory, events.ServiceOrder, events.ServiceNotify, events.ServiceAnalytics}
}

// paths are the parts of the API by service: whose span a request belongs to.
func paths(service string) []string {
	switch service {
	case events.ServiceOrder:
		return []string{"/v1/orders", "/v1/orders/", "/v1/projections", "/v1/projections/"}
	case events.ServiceInventory:
		return []string{"/v1/stock", "/v1/stock/", "/v1/projections/stock"}
	case events.ServiceNotify:
		return []string{"/v1/notices", "/v1/notices/"}
	default:
		return []string{"/v1/clicks", "/v1/windows", "/v1/windows/", "/v1/lateness", "/v1/backfills", "/v1/backfills/", "/v1/projections/windows"}
	}
}

func (c Config) withDefaults() Config {
	if c.HTTP == "" {
		c.HTTP = "127.0.0.1:8080"
	}
	if c.Dir == "" {
		c.Dir = ".tidemark"
	}
	if c.Keys == "" && c.NATSURL == "" {
		c.Keys = filepath.Join(c.Dir, natskeys.Dir)
	}
	if c.Replicas == 0 {
		c.Replicas = 1
	}
	if c.StopTime == 0 {
		c.StopTime = 2 * time.Second
	}
	if c.Out == nil {
		c.Out = io.Discard
	}
	return c
}

// absolute makes the files that verbs are told of, which run elsewhere, absolute.
func (c *Config) absolute() error {
	for _, file := range []*string{&c.Keys, &c.Access.CA, &c.Access.Cert, &c.Access.Key} {
		if *file == "" {
			continue
		}
		path, err := filepath.Abs(*file)
		if err != nil {
			return err
		}
		*file = path
	}
	return nil
}

// Validate reports every setting that breaks a rule.
func (c Config) Validate() error {
	var errs []error
	for _, name := range c.Without {
		if !slices.Contains(Services(), name) {
			errs = append(errs, fmt.Errorf("without: %q is no service; they are %v", name, Services()))
		}
	}
	for name := range c.At {
		if !slices.Contains(c.Without, name) {
			errs = append(errs, fmt.Errorf("at: %q runs in this process; name it under without, too", name))
		}
	}
	if c.NATSURL != "" && c.NATSAddr != "" {
		errs = append(errs, errors.New("nats and nats-addr: give one; the second is for the broker inside"))
	}
	if c.Provider == nil {
		errs = append(errs, errors.New("provider: required"))
	}
	return errors.Join(errs...)
}
