package notify

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

// How the connection to the mail server is encrypted.
const (
	TLSOpportunistic = "opportunistic" // STARTTLS where the server offers it
	TLSMandatory     = "mandatory"     // STARTTLS, or no mail
	TLSImplicit      = "implicit"      // TLS from the first byte, usually port 465
	TLSNone          = "none"
)

// Config configures the service. Zero fields take their defaults.
type Config struct {
	SMTPAddr     string // mail server, host:port; required
	SMTPUsername string // empty: no login
	SMTPPassword string // never logged. Sent in clear text only over TLS
	SMTPTLS      string // one of the TLS constants; default opportunistic
	// SMTPConnections is how many mails are sent at once. Connections are kept. Default 4.
	SMTPConnections int
	From            string // sender of the mails; default "Tidemark Shop <shop@tidemark.example>"

	WebhookURL    string // where order events are posted; empty: nowhere
	WebhookSecret string // "whsec_" and 24 to 64 bytes in base64; required with a URL, never logged

	// SendTimeout bounds one attempt to send over one channel, the wait for a free connection not counted. Default 10 s.
	SendTimeout time.Duration
	// Lanes is how many orders one partition handles at once. More than the mail server takes at once only wait for a connection, within their
	// time limit. Default 8.
	Lanes int
	// Retries are the waits between attempts; see [bus.GroupConfig].
	Retries []time.Duration
	// APIOnly: this instance answers what was sent, and sends nothing; others do.
	APIOnly bool
}

// DefaultFrom is the sender where none is configured.
const DefaultFrom = "Tidemark Shop <shop@tidemark.example>"

func (c Config) withDefaults() Config {
	if c.SMTPTLS == "" {
		c.SMTPTLS = TLSOpportunistic
	}
	if c.SMTPConnections == 0 {
		c.SMTPConnections = 4
	}
	if c.From == "" {
		c.From = DefaultFrom
	}
	if c.SendTimeout == 0 {
		c.SendTimeout = 10 * time.Second
	}
	if c.Lanes == 0 {
		c.Lanes = 8
	}
	return c
}

// Validate reports every field that breaks a rule, joined. It repeats no secret.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	add := func(field, rule string) { errs = append(errs, fmt.Errorf("notify: %s: %s", field, rule)) }
	if _, port, err := net.SplitHostPort(c.SMTPAddr); err != nil || port == "" {
		add("SMTPAddr", "must be host:port")
	}
	if (c.SMTPUsername == "") != (c.SMTPPassword == "") {
		add("SMTPUsername, SMTPPassword", "both or none")
	}
	switch c.SMTPTLS {
	case TLSOpportunistic, TLSMandatory, TLSImplicit, TLSNone:
	default:
		add("SMTPTLS", fmt.Sprintf("must be opportunistic, mandatory, implicit or none, is %q", c.SMTPTLS))
	}
	if c.SMTPConnections < 1 || c.SMTPConnections > 256 {
		add("SMTPConnections", fmt.Sprintf("must be 1 to 256, is %d", c.SMTPConnections))
	}
	if _, err := mail.ParseAddress(c.From); err != nil {
		add("From", "must be an address such as Shop <shop@example.org>")
	}
	if c.SendTimeout < 0 {
		add("SendTimeout", "must not be negative")
	}
	if c.Lanes < 1 {
		add("Lanes", fmt.Sprintf("must be 1 or more, is %d", c.Lanes))
	}
	return errors.Join(append(errs, c.validateWebhook()...)...)
}

func (c Config) validateWebhook() []error {
	if c.WebhookURL == "" {
		if c.WebhookSecret != "" {
			return []error{errors.New("notify: WebhookURL: required with a WebhookSecret, is empty")}
		}
		return nil
	}
	var errs []error
	if u, err := url.Parse(c.WebhookURL); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
		errs = append(errs, errors.New("notify: WebhookURL: must be an http or https URL without a user")) // not repeated: it may carry a token
	}
	secret, found := strings.CutPrefix(c.WebhookSecret, "whsec_")
	key, err := base64.StdEncoding.DecodeString(secret)
	if !found || err != nil || len(key) < 24 || len(key) > 64 {
		errs = append(errs, errors.New("notify: WebhookSecret: must be whsec_ and 24 to 64 bytes in base64"))
	}
	return errs
}

// Deps are what the service needs.
type Deps struct {
	NATS      *nats.Conn       // required; whoever starts the service closes it
	Topology  events.Topology  // required, and applied already
	Registry  *events.Registry // required
	Telemetry bus.Telemetry
}

func (d Deps) validate() error {
	var errs []error
	if d.NATS == nil {
		errs = append(errs, errors.New("notify: NATS: required, is nil"))
	}
	if d.Registry == nil {
		errs = append(errs, errors.New("notify: Registry: required, is nil"))
	}
	if _, ok := d.Topology.Group(events.GroupNotify); !ok {
		errs = append(errs, fmt.Errorf("notify: Topology: has no group %q", events.GroupNotify))
	}
	return errors.Join(errs...)
}
