// Package natsconn is how every program connects to NATS: as which user, over which TLS, with an inbox of its own, and with an error that says so where
// the broker does not let it in or does not allow something.
package natsconn

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats.go"
)

// Access is who a program is at the broker, and whom it trusts. Every program has these flags.
type Access struct {
	NKey string `name:"nats-nkey" env:"TIDEMARK_NATS_NKEY" help:"File with the seed of the NATS user that this program is (see tidemark topology nats-conf)."`
	CA   string `name:"nats-ca" env:"TIDEMARK_NATS_CA" help:"Certificates (PEM) of who may vouch for the NATS server; with it, TLS is required."`
	Cert string `name:"nats-cert" env:"TIDEMARK_NATS_CERT" help:"This program's certificate (PEM), where the NATS server asks for one."`
	Key  string `name:"nats-key" env:"TIDEMARK_NATS_KEY" help:"The private key (PEM) of --nats-cert."`
}

// Flags repeats an access as flags, for a line that another program is started with.
func (a Access) Flags() string {
	var line strings.Builder
	for _, f := range []struct{ flag, value string }{{"--nats-nkey", a.NKey}, {"--nats-ca", a.CA}, {"--nats-cert", a.Cert}, {"--nats-key", a.Key}} {
		if f.value != "" {
			line.WriteString(" " + f.flag + " " + f.value)
		}
	}
	return line.String()
}

// Else is the access of other where this one says nothing.
func (a Access) Else(other Access) Access {
	if a == (Access{}) {
		return other
	}
	return a
}

// As is the same access for another user, whose seed lies beside this one's.
func (a Access) As(user string) Access {
	if a.NKey != "" {
		a.NKey = filepath.Join(filepath.Dir(a.NKey), user+".nk")
	}
	return a
}

// options says what of it can't be read before anything connects.
func (a Access) options() ([]nats.Option, error) {
	var opts []nats.Option
	if a.NKey != "" {
		nkey, err := nats.NkeyOptionFromSeed(a.NKey)
		if err != nil {
			return nil, fmt.Errorf("nats-nkey: %s: %w", a.NKey, err)
		}
		opts = append(opts, nkey)
	}
	if (a.Cert == "") != (a.Key == "") {
		return nil, errors.New("nats-cert and nats-key: give both or none")
	}
	if a.CA == "" && a.Cert == "" {
		return opts, nil
	}
	config, err := a.tls()
	if err != nil {
		return nil, err
	}
	return append(opts, nats.Secure(config)), nil
}

func (a Access) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.CA != "" {
		pem, err := os.ReadFile(a.CA)
		if err != nil {
			return nil, fmt.Errorf("nats-ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("nats-ca: %s holds no certificate in PEM", a.CA)
		}
	}
	if a.Cert == "" {
		return config, nil
	}
	if _, err := tls.LoadX509KeyPair(a.Cert, a.Key); err != nil {
		return nil, fmt.Errorf("nats-cert, nats-key: %w", err)
	}
	// Read anew for each connection: a certificate is replaced long before a program is started again.
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(a.Cert, a.Key)
		return &pair, err
	}
	return config, nil
}
