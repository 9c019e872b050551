package natskeys_test

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/tidemark/tidemark/internal/natskeys"
	"github.com/tidemark/tidemark/pkg/events"
)

func update() bool { f := flag.Lookup("update"); return f != nil && f.Value.String() == "true" }

func TestMain(m *testing.M) {
	flag.Bool("update", false, "write the golden file")
	os.Exit(m.Run())
}

// knownKeys are seeds that are the same at each run, made of the users' names.
func knownKeys(t *testing.T, users []events.User) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, u := range users {
		raw := sha256.Sum256([]byte(u.Name))
		pair, err := nkeys.FromRawSeed(nkeys.PrefixByteUser, raw[:])
		if err != nil {
			t.Fatal(err)
		}
		seed, err := pair.Seed()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(natskeys.File(dir, u.Name), append(seed, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func configuration(t *testing.T, dir string, users []events.User) string {
	t.Helper()
	var b bytes.Buffer
	if err := natskeys.Configuration(&b, dir, users); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestGolden shows each change of what somebody may do, as a change of this file. Run with -update when it is meant.
func TestGolden(t *testing.T) {
	t.Parallel()
	topology := events.DefaultTopology(0)
	got := configuration(t, knownKeys(t, topology.Users()), topology.Users())
	const golden = "testdata/nats-users.conf"
	if update() {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what the topology says; if that is meant: go test ./internal/natskeys -update", golden)
	}
}

// TestKeysStay: a second run makes nothing new, and two that run at the same time agree.
func TestKeysStay(t *testing.T) {
	t.Parallel()
	topology := events.DefaultTopology(0)
	users := topology.Users()
	dir := filepath.Join(t.TempDir(), "data", natskeys.Dir)
	printed := make([]string, 9)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { printed[i] = configuration(t, dir, users) })
	}
	wg.Wait()
	printed[8] = configuration(t, dir, users)
	for _, one := range printed {
		if one != printed[0] {
			t.Fatal("two runs print different keys")
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(users) {
		t.Errorf("%d files for %d users: %v", len(entries), len(users), entries)
	}
	for _, u := range users {
		info, err := os.Stat(natskeys.File(dir, u.Name))
		if err != nil {
			t.Fatal(err)
		}
		seed, err := os.ReadFile(natskeys.File(dir, u.Name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 || strings.Contains(printed[0], strings.TrimSpace(string(seed))) {
			t.Errorf("seed of %s: mode %v, or it is in the configuration", u.Name, info.Mode())
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory: %v, %v", info.Mode(), err)
	}
}

// TestForeignSeed: a file that is no seed is named, and left alone.
func TestForeignSeed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := natskeys.File(dir, "order")
	if err := os.WriteFile(path, []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := natskeys.Ensure(dir, "order"); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a file that is no seed: %v", err)
	}
	if kept, err := os.ReadFile(path); err != nil || string(kept) != "nonsense\n" {
		t.Errorf("it was changed: %q %v", kept, err)
	}
}

// TestIncluded: a server's configuration, a cluster's too, includes the file, and the server reads from it what the topology says.
func TestIncluded(t *testing.T) {
	t.Parallel()
	topology := events.DefaultTopology(0)
	users := topology.Users()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file("users.conf", configuration(t, knownKeys(t, users), users))
	opts, err := server.ProcessConfigFile(file("nats.conf", "server_name: n1\njetstream { store_dir: js }\ncluster { name: c, listen: \"127.0.0.1:-1\" }\ninclude users.conf\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(opts.Nkeys) != len(users) || len(opts.Users) > 0 {
		t.Fatalf("%d users with keys and %d without, want %d and none", len(opts.Nkeys), len(opts.Users), len(users))
	}
	for i, u := range users {
		got := opts.Nkeys[i].Permissions
		for what, pair := range map[string][2][]string{
			"publish": {got.Publish.Allow, u.Publish}, "deny": {got.Publish.Deny, u.Deny}, "subscribe": {got.Subscribe.Allow, u.Subscribe}, "deny subscribe": {got.Subscribe.Deny, nil},
		} {
			if strings.Join(pair[0], "\n") != strings.Join(pair[1], "\n") {
				t.Errorf("%s, %s: the server reads %q, want %q", u.Name, what, pair[0], pair[1])
			}
		}
	}
}
