package natskeys_test

import (
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/internal/natsconn"
	"github.com/tidemark/tidemark/internal/natskeys"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

// row is one subject and who may publish or subscribe to it.
type row struct {
	subscribe bool
	subject   string
	users     []string
}

// readMatrix reads testdata/matrix.txt.
func readMatrix(t *testing.T) (rows []row) {
	t.Helper()
	text, err := os.ReadFile("testdata/matrix.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] == "#" {
			continue
		}
		if len(fields) < 3 || fields[0] != "pub" && fields[0] != "sub" {
			t.Fatalf("matrix.txt: %q", line)
		}
		users := fields[2:]
		if users[0] == "-" {
			users = nil
		}
		for _, subject := range expand(fields[1]) {
			rows = append(rows, row{subscribe: fields[0] == "sub", subject: subject, users: users})
		}
	}
	return rows
}

// expand writes {a,b} out.
func expand(pattern string) []string {
	before, rest, ok := strings.Cut(pattern, "{")
	if !ok {
		return []string{pattern}
	}
	inside, after, _ := strings.Cut(rest, "}")
	choices := strings.Split(inside, ",")
	if inside == "p" {
		choices = strings.Split("01234567", "")
	}
	var out []string
	for _, choice := range choices {
		for _, tail := range expand(after) {
			out = append(out, before+choice+tail)
		}
	}
	return out
}

// broker is a server with the shipped configuration and the topology on it.
type broker struct {
	url  string
	keys string
}

func startBroker(t *testing.T, more string) broker {
	t.Helper()
	topology := events.DefaultTopology(0)
	dir := t.TempDir()
	b := broker{keys: filepath.Join(dir, "keys")}
	conf := filepath.Join(dir, "nats.conf")
	if err := os.WriteFile(conf, []byte("listen: \"127.0.0.1:-1\"\njetstream { store_dir: \""+dir+"/js\" }\ninclude users.conf\n"+more), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "users.conf"), []byte(configuration(t, b.keys, topology.Users())), 0o600); err != nil {
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
		t.Fatal("nats-server is not ready")
	}
	b.url = "nats://" + s.Addr().(*net.TCPAddr).String()
	js, err := jetstream.New(b.connect(t, events.UserOperator))
	if err != nil {
		t.Fatal(err)
	}
	if err := bus.Apply(t.Context(), js, topology, 1); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b broker) connect(t *testing.T, user string) *nats.Conn {
	t.Helper()
	nc, err := natsconn.Connect(natsconn.Config{URL: b.url, Name: user, Access: natsconn.Access{NKey: natskeys.File(b.keys, user)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// allowed asks the server: what it does not allow it answers with an error, before it answers the ping of Flush. The body is no request that anything would obey.
func allowed(t *testing.T, nc *nats.Conn, r row) bool {
	t.Helper()
	what := "Publish to \"" + r.subject + "\""
	if r.subscribe {
		what = "Subscription to \"" + r.subject + "\""
		sub, err := nc.SubscribeSync(r.subject)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = sub.Unsubscribe() }()
	} else if err := nc.Publish(r.subject, []byte("{")); err != nil {
		t.Fatal(err)
	}
	if err := nc.FlushTimeout(30 * time.Second); err != nil {
		t.Fatal(err)
	}
	err := nc.LastError()
	return err == nil || !strings.Contains(err.Error(), what)
}

// TestMatrix tries every user's key on every line of the table, and looks that the table speaks of everything that the configuration allows.
func TestMatrix(t *testing.T) {
	t.Parallel()
	b := startBroker(t, "")
	rows := readMatrix(t)
	topology := events.DefaultTopology(0)
	users := topology.Users()
	names := make(map[string]bool)
	for _, u := range users {
		names[u.Name] = true
		nc := b.connect(t, u.Name)
		untold := make(map[string]bool)
		for _, subject := range slices.Concat(u.Publish, u.Subscribe) {
			untold[subject] = true
		}
		for _, r := range rows {
			got, want := allowed(t, nc, r), slices.Contains(r.users, u.Name)
			if got != want {
				t.Errorf("%s, %+v: the server allows it: %t", u.Name, r, got)
			}
			if want {
				maps.DeleteFunc(untold, func(allow string, _ bool) bool { return matches(allow, r.subject) })
			}
		}
		if len(untold) > 0 {
			t.Errorf("%s may do what no line of matrix.txt speaks of: %q", u.Name, slices.Sorted(maps.Keys(untold)))
		}
	}
	for _, r := range rows {
		for _, name := range r.users {
			if !names[name] {
				t.Errorf("%s: there is no user %q", r.subject, name)
			}
		}
	}
	t.Logf("%d subjects, %d users", len(rows), len(users))
}

func matches(pattern, subject string) bool {
	p, s := strings.Split(pattern, "."), strings.Split(subject, ".")
	for i, token := range p {
		if token == ">" {
			return len(s) > i
		}
		if i >= len(s) || token != "*" && token != s[i] {
			return false
		}
	}
	return len(p) == len(s)
}
