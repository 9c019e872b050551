package natsconn

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tidemark/tidemark/pkg/events"
)

// Config says how one connection is made.
type Config struct {
	URL    string
	Name   string // of the connection, as the broker's lists show it
	User   string // whose inbox answers come to; empty: Name
	Access Access
	Log    *slog.Logger

	// Patient connections stay for as long as the server is away, also at the start: those of programs that run for long.
	Patient bool
	// Denied, where it is set, hears of everything that the broker does not allow. A request that is denied gets no answer, so without it nothing but a time-out is seen.
	Denied func(error)
	// Through, where it is set, makes the connection inside of the process.
	Through nats.InProcessConnProvider
}

// ErrRefused is wrapped where the broker does not let us in, or where we don't trust it. Trying again does not help.
var ErrRefused = errors.New("refused")

// Connect connects. A server that refuses us is an error at once; one that is not there is waited for, where the configuration says so.
func Connect(cfg Config) (*nats.Conn, error) {
	if cfg.User == "" {
		cfg.User = cfg.Name
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	opts, err := cfg.options()
	if err != nil {
		return nil, err
	}
	nc, err := try(cfg.URL, opts)
	if err == nil {
		return cfg.kept(nc)
	}
	if why := refusal(err); why != "" {
		return nil, fmt.Errorf("connect to NATS at %s as %s: %w: %w: %s", cfg.URL, cfg.User, ErrRefused, err, why)
	}
	if !cfg.Patient {
		return nil, fmt.Errorf("connect to NATS at %s: %w", cfg.URL, err)
	}
	nc, err = nats.Connect(cfg.URL, append(opts, nats.RetryOnFailedConnect(true))...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w", cfg.URL, err)
	}
	return cfg.kept(nc)
}

// kept is a connection that is watched over, where it is one for long.
func (c Config) kept(nc *nats.Conn) (*nats.Conn, error) {
	if !c.Patient {
		return nc, nil
	}
	if err := keepUseful(nc, c.Log); err != nil {
		nc.Close()
		return nil, fmt.Errorf("connect to NATS at %s: %w", c.URL, err)
	}
	return nc, nil
}

// try connects once, and again where the server broke off without a word: one that does not take our certificate says so after we believe to be in, and what it says is lost
// where we write first.
func try(url string, opts []nats.Option) (nc *nats.Conn, err error) {
	const tries, pause = 10, 50 * time.Millisecond
	for range tries {
		nc, err = nats.Connect(url, opts...)
		var op *net.OpError
		away := errors.Is(err, nats.ErrNoServers) || errors.Is(err, nats.ErrTimeout) || errors.As(err, &op) && op.Op == "dial"
		if err == nil || away || refusal(err) != "" {
			break
		}
		<-time.After(pause)
	}
	return nc, err
}

func (c Config) options() ([]nats.Option, error) {
	access, err := c.Access.options()
	if err != nil {
		return nil, err
	}
	complaints := &complaints{log: c.Log}
	opts := append(access,
		nats.Name("tidemark-"+c.Name), nats.CustomInboxPrefix(events.Inbox(c.User)), nats.ReconnectWait(250*time.Millisecond),
		nats.PingInterval(pingEvery), nats.MaxPingsOutstanding(pingsLost),
		nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(), // a server whose keys are being changed lets us in again
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				c.Log.Warn("NATS connection lost, connecting again", "error", err)
			}
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { complaints.refused(c.User, err) }),
		nats.ReconnectHandler(func(nc *nats.Conn) { c.Log.Info("NATS connection is back", "url", nc.ConnectedUrlRedacted()) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { c.heard(complaints, err) }),
	)
	if c.Through != nil {
		opts = append(opts, nats.InProcessServer(c.Through))
	}
	return opts, nil
}

// heard passes on what the broker says without being asked.
func (c Config) heard(complaints *complaints, err error) {
	switch {
	case errors.Is(err, nats.ErrPermissionViolation):
		complaints.denied(c.User, err)
		if c.Denied != nil {
			c.Denied(&DeniedError{User: c.User, Err: err})
		}
	case refusal(err) != "":
		complaints.refused(c.User, err)
	default:
		c.Log.Warn("NATS reports an error", "error", err)
	}
}

// refusal says in words what to do about an error that trying again does not cure; empty for any other.
func refusal(err error) string {
	var (
		unknown  x509.UnknownAuthorityError
		invalid  x509.CertificateInvalidError
		hostname x509.HostnameError
		remote   *net.OpError
	)
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked), errors.Is(err, nats.ErrAccountAuthExpired),
		errors.Is(err, nats.ErrNkeysNotSupported):
		return "the server does not know this user's key: give the seed with --nats-nkey, and see that the server's configuration has its public key (`tidemark topology nats-conf`)"
	case errors.As(err, &unknown):
		return "the server's certificate is not from an authority that --nats-ca names"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the server's certificate has expired, or is not valid yet"
	case errors.As(err, &invalid), errors.As(err, &hostname):
		return "the server's certificate is not good for it"
	case errors.As(err, &remote) && remote.Op == "remote error": // an alert of TLS
		return "the server does not take this program's certificate (--nats-cert, --nats-key): it is missing, has expired, or is from an authority that the server does not know"
	case errors.Is(err, nats.ErrSecureConnRequired), errors.Is(err, nats.ErrSecureConnWanted):
		return "--nats-ca asks for TLS, and the server has none"
	}
	return ""
}

// complaints are log lines that would come again and again.
type complaints struct {
	log  *slog.Logger
	mu   sync.Mutex
	said map[string]time.Time
}

const complainEvery = 10 * time.Second

// due reports whether a line has not been said for a while.
func (c *complaints) due(line string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if last, ok := c.said[line]; ok && now.Sub(last) < complainEvery {
		return false
	}
	if c.said == nil || len(c.said) > 1000 {
		c.said = make(map[string]time.Time)
	}
	c.said[line] = now
	return true
}

func (c *complaints) denied(user string, err error) {
	if c.due(err.Error()) {
		c.log.Error("the broker does not allow this; what waits for its answer will time out", "user", user, "error", err)
	}
}

func (c *complaints) refused(user string, err error) {
	if why := refusal(err); why != "" && c.due(why) {
		c.log.Error("the broker does not let us in, trying again", "user", user, "error", err, "why", why)
	}
}
