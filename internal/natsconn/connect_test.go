package natsconn_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/tidemark/tidemark/internal/natsconn"
	"github.com/tidemark/tidemark/internal/natskeys"
	"github.com/tidemark/tidemark/internal/testca"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// serve runs nats-server with the users' configuration and more.
func serve(t *testing.T, more string) (url, keys string) {
	t.Helper()
	dir := t.TempDir()
	keys = filepath.Join(dir, "keys")
	topology := events.DefaultTopology(0)
	var users bytes.Buffer
	if err := natskeys.Configuration(&users, keys, topology.Users()); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "nats.conf")
	if err := os.WriteFile(conf, append(users.Bytes(), "listen: \"127.0.0.1:-1\"\n"+more...), 0o600); err != nil {
		t.Fatal(err)
	}
	opts, err := server.ProcessConfigFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	opts.NoSigs, opts.NoLog = true, true
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(15 * time.Second) {
		t.Fatal("not ready")
	}
	return "nats://" + s.Addr().(*net.TCPAddr).String(), keys
}

func tlsBlock(ca, cert, key string, verify bool) string {
	return fmt.Sprintf("tls { ca_file: %q, cert_file: %q, key_file: %q, verify: %t }\n", ca, cert, key, verify)
}

// TestWhoIsRefused: each refusal comes at once, also to a program that would wait for a server that is away, and says what is wrong.
func TestWhoIsRefused(t *testing.T) {
	t.Parallel()
	ca, foreign := testca.New(t), testca.New(t)
	hour, past := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	cert, key := ca.Issue("server", hour)
	client, clientKey := ca.Issue("client", hour)
	old, oldKey := ca.Issue("old", past)
	other, otherKey := foreign.Issue("other", hour)

	plain, plainKeys := serve(t, "")
	oneWay, oneWayKeys := serve(t, tlsBlock(ca.File(), cert, key, false))
	mutual, mutualKeys := serve(t, tlsBlock(ca.File(), cert, key, true))
	expired, expiredKeys := serve(t, tlsBlock(ca.File(), old, oldKey, false))
	seed := func(keys string) string { return natskeys.File(keys, events.UserProducer) }

	for name, c := range map[string]struct {
		url    string
		access natsconn.Access
		want   string // in the error; empty: is let in
	}{
		"a key": {url: plain, access: natsconn.Access{NKey: seed(plainKeys)}},
		"TLS":   {url: oneWay, access: natsconn.Access{NKey: seed(oneWayKeys), CA: ca.File()}},
		"mTLS":  {url: mutual, access: natsconn.Access{NKey: seed(mutualKeys), CA: ca.File(), Cert: client, Key: clientKey}},

		"no key":                                   {url: plain, want: "--nats-nkey"},
		"another server's key":                     {url: plain, access: natsconn.Access{NKey: seed(oneWayKeys)}, want: "does not know this user's key"},
		"a certificate without a key":              {url: mutual, access: natsconn.Access{CA: ca.File(), Cert: client, Key: clientKey}, want: "--nats-nkey"},
		"no authority is named":                    {url: oneWay, access: natsconn.Access{NKey: seed(oneWayKeys)}, want: "--nats-ca"},
		"another authority":                        {url: oneWay, access: natsconn.Access{NKey: seed(oneWayKeys), CA: foreign.File()}, want: "--nats-ca"},
		"the server's certificate has expired":     {url: expired, access: natsconn.Access{NKey: seed(expiredKeys), CA: ca.File()}, want: "has expired"},
		"TLS where the server has none":            {url: plain, access: natsconn.Access{NKey: seed(plainKeys), CA: ca.File()}, want: "the server has none"},
		"no certificate":                           {url: mutual, access: natsconn.Access{NKey: seed(mutualKeys), CA: ca.File()}, want: "--nats-cert"},
		"a certificate of another authority":       {url: mutual, access: natsconn.Access{NKey: seed(mutualKeys), CA: ca.File(), Cert: other, Key: otherKey}, want: "--nats-cert"},
		"a certificate that has expired":           {url: mutual, access: natsconn.Access{NKey: seed(mutualKeys), CA: ca.File(), Cert: old, Key: oldKey}, want: "--nats-cert"},
		"a seed that is not there":                 {url: plain, access: natsconn.Access{NKey: seed(plainKeys) + "x"}, want: "nats-nkey"},
		"a certificate without its private key":    {url: plain, access: natsconn.Access{Cert: client}, want: "give both or none"},
		"an authority's file without certificates": {url: plain, access: natsconn.Access{CA: seed(plainKeys)}, want: "holds no certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nc, err := natsconn.Connect(natsconn.Config{URL: c.url, Name: events.UserProducer, Access: c.access, Patient: true})
			if c.want != "" {
				if err == nil {
					nc.Close()
				}
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error %v, want one with %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if c.access.CA != "" {
				if state, err := nc.TLSConnectionState(); err != nil || state.Version < tls.VersionTLS12 {
					t.Errorf("TLS %x %v", state.Version, err)
				}
			}
		})
	}
}

// TestOldTLS: a client that knows nothing newer than TLS 1.1 is refused by the server.
func TestOldTLS(t *testing.T) {
	t.Parallel()
	ca := testca.New(t)
	cert, key := ca.Issue("server", time.Now().Add(time.Hour))
	url, keys := serve(t, tlsBlock(ca.File(), cert, key, false))
	nkey, err := nats.NkeyOptionFromSeed(natskeys.File(keys, events.UserProducer))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(url, nkey, nats.RootCAs(ca.File()), nats.Secure(&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})) //nolint:gosec // it must be refused
	if err == nil {
		nc.Close()
		t.Error("TLS 1.1 is taken")
	}
}

type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestDeniedEndsWaiting: what the broker does not allow ends a request at once, with the subject and the user in its error and in the log, long before its answer is overdue.
func TestDeniedEndsWaiting(t *testing.T) {
	t.Parallel()
	url, keys := serve(t, "")
	ctx, denied, why := natsconn.EndWhenDenied(t.Context())
	out := &logged{}
	nc, err := natsconn.Connect(natsconn.Config{
		URL: url, Name: events.UserProducer, Access: natsconn.Access{NKey: natskeys.File(keys, events.UserProducer)}, Denied: denied, Log: slog.New(slog.NewTextHandler(out, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	began := time.Now()
	_, err = nc.RequestWithContext(ctx, "$JS.API.INFO", nil)
	err = why(err)
	var reason *natsconn.DeniedError
	if !errors.As(err, &reason) || reason.User != events.UserProducer || !strings.Contains(err.Error(), "$JS.API.INFO") {
		t.Errorf("a denied request: %v", err)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
	if why(nil) != nil {
		t.Error("what was done before has failed")
	}
	eventstest.Eventually(t, 10*time.Second, "it is logged", func() bool {
		return strings.Contains(out.String(), "level=ERROR") && strings.Contains(out.String(), "$JS.API.INFO") && strings.Contains(out.String(), "user=producer")
	})
}

// TestKeyIsReplaced: a server that is told other keys ends the old one's connection. Its program says so and goes on trying; with the old key's return it is in again, and the
// new seed is let in at once.
func TestKeyIsReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	topology := events.DefaultTopology(0)
	conf := filepath.Join(dir, "nats.conf")
	write := func(keys string) *server.Options {
		var users bytes.Buffer
		if err := natskeys.Configuration(&users, filepath.Join(dir, keys), topology.Users()); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(conf, append(users.Bytes(), "listen: \"127.0.0.1:-1\"\n"...), 0o600); err != nil {
			t.Fatal(err)
		}
		opts, err := server.ProcessConfigFile(conf)
		if err != nil {
			t.Fatal(err)
		}
		opts.NoSigs, opts.NoLog = true, true
		return opts
	}
	s, err := server.NewServer(write("old"))
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(15 * time.Second) {
		t.Fatal("not ready")
	}
	url := "nats://" + s.Addr().(*net.TCPAddr).String()
	connect := func(keys string, out *logged) (*nats.Conn, error) {
		return natsconn.Connect(natsconn.Config{
			URL: url, Name: events.UserProducer, Access: natsconn.Access{NKey: natskeys.File(filepath.Join(dir, keys), events.UserProducer)}, Patient: true, Log: slog.New(slog.NewTextHandler(out, nil)),
		})
	}
	out := &logged{}
	old, err := connect("old", out)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if err := s.ReloadOptions(write("new")); err != nil {
		t.Fatal(err)
	}
	eventstest.Eventually(t, 30*time.Second, "the old key is out, and it is said", func() bool {
		return !old.IsConnected() && strings.Contains(out.String(), "does not let us in") && strings.Contains(out.String(), "--nats-nkey")
	})
	renewed, err := connect("new", &logged{})
	if err != nil {
		t.Fatal(err)
	}
	renewed.Close()
	if err := s.ReloadOptions(write("old")); err != nil {
		t.Fatal(err)
	}
	eventstest.Eventually(t, 30*time.Second, "the old key is in again", old.IsConnected)
}
