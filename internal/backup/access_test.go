package backup

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/internal/natsconn"
	"github.com/tidemark/tidemark/internal/natsd"
	"github.com/tidemark/tidemark/internal/natskeys"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

// guarded is a broker with users, and connects as one of them.
func guarded(t *testing.T) func(user string) *world {
	t.Helper()
	dir := t.TempDir()
	keys, topology := filepath.Join(dir, "keys"), events.DefaultTopology(0)
	var conf bytes.Buffer
	if err := natskeys.Configuration(&conf, keys, topology.Users()); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "users.conf")
	if err := os.WriteFile(file, conf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	server, err := natsd.Start(t.Context(), natsd.Config{Dir: filepath.Join(dir, "data"), Addr: "127.0.0.1:0", Users: file, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return func(user string) *world {
		nc, err := natsconn.Connect(natsconn.Config{
			Name: user, Access: natsconn.Access{NKey: natskeys.File(keys, user)}, Through: server,
			Denied: func(err error) { t.Errorf("%s may not: %v", user, err) },
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		return &world{t: t, js: js, topology: topology, subjects: topology.Subjects()}
	}
}

// The operator's user may do all of it, also give a deadline to an order that lacks one.
func TestTheOperatorMay(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "backup")
	from := guarded(t)
	operator := from(events.UserOperator)
	if err := bus.Apply(t.Context(), operator.js, operator.topology, 1); err != nil {
		t.Fatal(err)
	}
	from(events.ServiceOrder).place("order-1")
	operator.take(dir)
	operator = guarded(t)(events.UserOperator)
	out, err := Restore(t.Context(), RestoreConfig{JS: operator.js, Topology: operator.topology}, dir)
	if err != nil || out.Deadlines != 1 {
		t.Errorf("restored %+v, %v", out, err)
	}
}
