package mailsink

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"
)

// Config configures a sink. Zero fields take their defaults.
type Config struct {
	Addr string // host:port; default 127.0.0.1:0, any free port on loopback
	Dir  string // directory of the ledger; required, made if it is not there

	MaxConnections int           // default 64; one more is told 421
	ReadTimeout    time.Duration // silence that ends a connection, and the time a mail may take to come; default 1 min
	WriteTimeout   time.Duration // default 10 s
	Logger         *slog.Logger  // default: none
}

const (
	maxMessageBytes = 1 << 20
	maxRecipients   = 10
	ledgerFile      = "mails.jsonl"
)

func (c Config) withDefaults() Config {
	if c.Addr == "" {
		c.Addr = "127.0.0.1:0"
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = 64
	}
	if c.ReadTimeout == 0 {
		c.ReadTimeout = time.Minute
	}
	if c.WriteTimeout == 0 {
		c.WriteTimeout = 10 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate reports every field that breaks a rule, joined.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		errs = append(errs, fmt.Errorf("Addr: %q is no host:port", c.Addr))
	}
	if c.Dir == "" {
		errs = append(errs, errors.New("mail sink: Dir: required, is empty"))
	}
	if c.MaxConnections < 1 {
		errs = append(errs, fmt.Errorf("MaxConnections: is %d, must be at least 1", c.MaxConnections))
	}
	if c.ReadTimeout < 0 || c.WriteTimeout < 0 {
		errs = append(errs, errors.New("ReadTimeout, WriteTimeout: must not be negative"))
	}
	return errors.Join(errs...)
}
