package e2e_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/e2e/suite"
	"github.com/tidemark/tidemark/internal/testca"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// TestSecured runs the core of the suite where each program is a user of the broker of its own and talks TLS to it, and where the broker asks for the programs' certificates,
// too. The second time acknowledgements have the form that a later server will use.
func TestSecured(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		verify bool
		more   string
	}{"TLS": {}, "mTLS, acknowledgements v2": {verify: true, more: "feature_flags { js_ack_fc_v2: true }\n"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca := testca.New(t)
			cert, key := ca.Issue("nats", time.Now().Add(time.Hour))
			url, keys, broker, again := startSecuredBroker(t, fmt.Sprintf("tls { ca_file: %q, cert_file: %q, key_file: %q, verify: %t, timeout: 10 }\n", ca.File(), cert, key, c.verify)+c.more)
			env := []string{"TIDEMARK_NATS_CA=" + ca.File()}
			if c.verify {
				client, clientKey := ca.Issue("tidemark", time.Now().Add(time.Hour))
				env = append(env, "TIDEMARK_NATS_CERT="+client, "TIDEMARK_NATS_KEY="+clientKey)
			}
			at := inProcessesAt(t, env, place{url: url, broker: broker, again: again, flags: []string{"--keys", keys}})
			at.Name = name
			suite.Only(t, at, "an order is confirmed", "it is paid once and told once", "a click counts once", "poison, dead letter, repair, replay", "parts are killed under load", "the invariants hold")
		})
	}
}

// startSecuredBroker runs nats-server in a process of its own, with the users that the program prints.
func startSecuredBroker(t *testing.T, more string) (url, keys string, p *process, again func() *process) {
	t.Helper()
	addr, dir := freeAddr(t), t.TempDir()
	keys = filepath.Join(dir, "keys")
	users, status := verb(t, "topology", "nats-conf", "--keys", keys)
	if second, _ := verb(t, "topology", "nats-conf", "--keys", keys); status != 0 || second != users {
		t.Fatalf("nats-conf: exit status %d, or a second run prints something else", status)
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("users.conf", users)
	conf := write("nats.conf", fmt.Sprintf("listen: %q\njetstream { store_dir: %q }\ninclude users.conf\n%s", addr, filepath.Join(dir, "js"), more))
	again = func() *process { return start(t, "nats-server", "-c", conf) }
	p = again()
	eventstest.Eventually(t, time.Minute, "the broker listens", func() bool {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return "nats://" + addr, keys, p, again
}

// TestDeniedFromTheShell: a verb with a key that is not the operator's says at once what the broker does not allow, and to whom.
func TestDeniedFromTheShell(t *testing.T) {
	t.Parallel()
	u := startUp(t)
	began := time.Now()
	_, said, status := verbSays(t, "groups", "--nats", u.nats, "--nats-nkey", u.seed(t, "producer"))
	if status != 1 || !strings.Contains(said, "does not allow") || strings.Contains(said, "deadline exceeded") {
		t.Errorf("exit status %d, %q", status, said)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
	if _, said, status := verbSays(t, "groups", "--nats", u.nats); status != 1 || !strings.Contains(said, "--nats-nkey") {
		t.Errorf("without a key: exit status %d, %q", status, said)
	}
	if out, status := verb(t, "groups", "--to", u.url); status != 0 || !strings.Contains(out, "inventory") {
		t.Errorf("with the URL alone: exit status %d", status)
	}
}
