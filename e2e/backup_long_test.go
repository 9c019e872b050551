//go:build long

package e2e_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/internal/client"
	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// TestBackupEachServiceByItself is the same with nats-server and the four services as processes of their own. The restore is killed in its middle while a service waits for its streams: it
// must not begin before the second restore has ended. Not every client sends its requests again, so payments are left that no order stands for.
func TestBackupEachServiceByItself(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/backup"
	natsURL, broker, _ := startBroker(t)
	services := []string{"inventory", "order", "notify", "analytics"}
	at := map[string]string{}
	args := []string{"--nats", natsURL, "--without", strings.Join(services, ",")}
	for _, name := range services {
		at[name] = freeAddr(t)
		args = append(args, "--at", name+"="+at[name])
	}
	u := startUp(t, args...)
	gateway, smtp := "http://"+u.args[4], u.args[6]
	running := map[string]*process{}
	run := func(name, nats string) {
		extra := []string{"--nats", nats, "--http", at[name]}
		switch name {
		case "order":
			extra = append(extra, "--gateway", gateway, "--order-deadline", "4s")
		case "notify":
			extra = append(extra, "--smtp", smtp)
		}
		running[name] = start(t, name, extra...)
	}
	for _, name := range services {
		run(name, natsURL)
	}
	awaitReady(t, at)
	s := newShop(t, u.url, 5*time.Millisecond, 1000) // enough for all: the last ones are paid, too
	s.receive()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.run(ctx) }()
	defer func() { stop(); <-done }()
	eventstest.Eventually(t, time.Minute, "orders are placed", func() bool { return s.count() >= 200 })
	before := s.ended()
	b := backup(t, dir, "--nats", natsURL)
	after := s.count()
	eventstest.Eventually(t, time.Minute, "more orders are placed", func() bool { return s.count() >= after+200 && len(s.ended()) > len(before)+50 })
	for _, p := range append([]*process{broker, u.process}, running["inventory"], running["order"], running["notify"], running["analytics"]) {
		p.kill()
	}
	stop()
	<-done
	if len(before) == 0 || b.messages(events.StreamOrders) < 2*len(before) {
		t.Errorf("the backup is %+v", b)
	}

	emptyURL, _, _ := startBroker(t)
	run("order", emptyURL) // it waits for its streams
	restore := start(t, "tidemark", "restore", dir, "--nats", emptyURL)
	restore.awaitLine(time.Minute, events.StreamOrders)
	restore.kill()
	if status := get(t, "http://"+at["order"]+"/readyz", nil); status == http.StatusOK {
		t.Error("the order service works on half a restore")
	}
	if _, status := verb(t, "topology", "apply", "--nats", emptyURL); status == 0 {
		t.Error("the topology is applied on half a restore")
	}
	if _, status := verb(t, "restore", dir, "--nats", emptyURL); status != 0 {
		t.Fatal("the second restore failed")
	}
	for i := range u.args {
		u.args[i] = strings.ReplaceAll(u.args[i], natsURL, emptyURL)
	}
	u.again(t)
	for _, name := range services {
		if name != "order" {
			run(name, emptyURL)
		}
	}
	awaitReady(t, at)
	kept := s.ended()
	for id, status := range before {
		if kept[id] != status {
			t.Errorf("order %s was %s before the backup and is %q now", id, status, kept[id])
		}
	}
	s.sent = s.sent[:after+(len(s.sent)-after)/2] // the others are never sent again
	s.repeat()

	eventstest.Eventually(t, time.Minute, "only payments are left that no order stands for", func() bool {
		out, _ := verb(t, "payments", "--to", u.url, "--gateway", gateway, "--json")
		return out != "" && !strings.Contains(out, client.StatusRejected)
	})
	out, status := verb(t, "check", "--to", u.url, "--json")
	if status != 1 || !strings.Contains(out, "captured for an order that was never placed") {
		t.Errorf("check: exit status %d", status)
	}
	out, status = verb(t, "payments", "--to", u.url, "--gateway", gateway, "--void", "--json")
	for line := range strings.Lines(out) {
		var o struct{ Order string }
		if err := json.Unmarshal([]byte(line), &o); err != nil || o.Order != "unknown" {
			t.Errorf("payments printed %q (%v)", line, err)
		}
	}
	if status != 0 {
		t.Errorf("payments --void: exit status %d", status)
	}
	eventuallyHolds(t, u.url, time.Minute)
	for key, n := range charged(t, u.url) {
		if n != 1 {
			t.Errorf("order %s was charged %d times", key, n)
		}
	}
}

func awaitReady(t *testing.T, at map[string]string) {
	t.Helper()
	for name, addr := range at {
		eventstest.Eventually(t, time.Minute, name+" is ready", func() bool { return get(t, "http://"+addr+"/readyz", nil) == http.StatusOK })
	}
}
