package order

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

// Config configures the order service. Zero fields take the default.
type Config struct {
	// GatewayURL is where the payment gateway answers, such as http://127.0.0.1:8090. Required.
	GatewayURL string
	// Deadline is how long an order may stay open. 1 s to 12 h; default 2 min. Schedules have whole seconds, so an order may have up to a second more.
	Deadline time.Duration
	// PaymentTimeout is how long one call of the gateway may take. Default 5 s, at most 20 s: a handler has 30.
	PaymentTimeout time.Duration
	// MaxRequests is how many POST /v1/orders are worked on at once; the next one is answered 429. A request that only waits for an outcome (Prefer: wait) is not
	// counted. Default 256.
	MaxRequests int
	// MaxOpen is how many orders may be open (not ended) before new ones are answered 429. It counts what the read model has seen, so it can be passed by
	// MaxRequests at most. Default 10,000.
	MaxOpen int
	// APIOnly: this instance serves the API and reads no events; others do.
	APIOnly bool
	// SnapshotEvery is after how many events the read model is stored. Default 10,000; negative: never.
	SnapshotEvery int
}

// The defaults and bounds of [Config].
const (
	DefaultDeadline       = 2 * time.Minute
	MinDeadline           = time.Second
	MaxDeadline           = 12 * time.Hour
	DefaultPaymentTimeout = 5 * time.Second
	MaxPaymentTimeout     = 20 * time.Second
	DefaultMaxRequests    = 256
	DefaultMaxOpen        = 10_000
	DefaultSnapshotEvery  = 10_000
)

func (c Config) withDefaults() Config {
	set := func(v *int, byDefault int) {
		if *v == 0 {
			*v = byDefault
		}
	}
	set(&c.MaxRequests, DefaultMaxRequests)
	set(&c.MaxOpen, DefaultMaxOpen)
	set(&c.SnapshotEvery, DefaultSnapshotEvery)
	if c.Deadline == 0 {
		c.Deadline = DefaultDeadline
	}
	if c.PaymentTimeout == 0 {
		c.PaymentTimeout = DefaultPaymentTimeout
	}
	return c
}

// Validate reports every error of the configuration, joined.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	wrong := func(field, rule string, args ...any) {
		errs = append(errs, fmt.Errorf("order: %s: %s", field, fmt.Sprintf(rule, args...)))
	}
	if u, err := url.Parse(c.GatewayURL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		wrong("GatewayURL", "must be an http or https address, is %q", c.GatewayURL)
	}
	if c.Deadline < MinDeadline || c.Deadline > MaxDeadline {
		wrong("Deadline", "must be from %s to %s, is %s", MinDeadline, MaxDeadline, c.Deadline)
	}
	if c.PaymentTimeout < 0 || c.PaymentTimeout > MaxPaymentTimeout {
		wrong("PaymentTimeout", "must be above 0 and at most %s, is %s", MaxPaymentTimeout, c.PaymentTimeout)
	}
	if c.MaxRequests < 1 {
		wrong("MaxRequests", "must be 1 or more, is %d", c.MaxRequests)
	}
	if c.MaxOpen < 1 {
		wrong("MaxOpen", "must be 1 or more, is %d", c.MaxOpen)
	}
	return errors.Join(errs...)
}

// Deps are what the order service needs.
type Deps struct {
	NATS      *nats.Conn
	Topology  events.Topology
	Registry  *events.Registry
	Telemetry bus.Telemetry
	// HTTP asks the gateway. Default: a client with as many idle connections as there are payments at once, which the client of net/http has not.
	HTTP *http.Client
}

func (d Deps) validate() error {
	var errs []error
	if d.NATS == nil {
		errs = append(errs, errors.New("order: Deps.NATS: required, is nil"))
	}
	if d.Registry == nil {
		errs = append(errs, errors.New("order: Deps.Registry: required, is nil"))
	}
	for _, name := range []string{events.GroupOrderStock, events.GroupOrderDeadlines} {
		if _, ok := d.Topology.Group(name); !ok {
			errs = append(errs, fmt.Errorf("order: Deps.Topology: has no group %s", name))
		}
	}
	return errors.Join(errs...)
}
