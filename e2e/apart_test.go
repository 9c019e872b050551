package e2e_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// TestEachServiceByItself runs nats-server and the four services as processes of their own, stops one after the other while orders come in, and expects each to catch up.
func TestEachServiceByItself(t *testing.T) {
	t.Parallel()
	natsURL, _, _ := startBroker(t)
	services := []string{"order", "inventory", "notify", "analytics"}
	args := []string{"--nats", natsURL, "--without", strings.Join(services, ",")}
	at := map[string]string{}
	for _, name := range services {
		at[name] = freeAddr(t)
		args = append(args, "--at", name+"="+at[name])
	}
	u := startUp(t, args...)
	commands := map[string][]string{}
	for line := range strings.Lines(u.printed()) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "go run ./cmd/"); ok {
			fields := strings.Fields(rest)
			commands[fields[0]] = fields[1:]
		}
	}
	running := map[string]*process{}
	for _, name := range services {
		running[name] = start(t, name, commands[name]...)
	}
	file, good, bad := invoices(t, 800)
	load := start(t, "tidemark", "load", "--csv", file, "--stock", "500", "--speed", "max", "--wait", "--json", "--to", u.url)
	for i, name := range []string{"inventory", "notify", "analytics", "order"} {
		eventstest.Eventually(t, time.Minute, "orders come in", func() bool { return count(t, u.url) >= good*(i+1)/6 })
		if i%2 == 0 {
			running[name].kill()
		} else {
			running[name].stop()
		}
		running[name] = start(t, name, commands[name]...)
	}
	select {
	case <-load.done:
	case <-time.After(2 * time.Minute):
		t.Fatal("the load has not ended")
	}
	lines := strings.Split(strings.TrimSpace(load.printed()), "\n")
	if s := decode(t, lines[len(lines)-1]); s.Placed+s.Duplicates != good || s.Refused != bad || s.Open != 0 {
		t.Errorf("load says %+v, want %d placed, %d refused, 0 open", s, good, bad)
	}
	mustHold(t, u.url)
	for _, name := range services {
		if status := get(t, "http://"+at[name]+"/v1/deadletters", nil); status != http.StatusOK {
			t.Errorf("%s answers %d about dead letters", name, status)
		}
		running[name].stop()
	}
}
