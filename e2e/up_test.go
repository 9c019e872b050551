package e2e_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

func decode(t *testing.T, line string) summary {
	t.Helper()
	var s summary
	if err := json.Unmarshal([]byte(line), &s); err != nil {
		t.Fatalf("load --json printed %q: %v", line, err)
	}
	return s
}

func count(t *testing.T, url string) int {
	t.Helper()
	var p struct {
		Count int `json:"count"`
	}
	get(t, url+"/v1/projections/orders", &p)
	return p.Count
}

func mustHold(t *testing.T, url string, flags ...string) {
	t.Helper()
	out, status := verb(t, append([]string{"check", "--to", url, "--json"}, flags...)...)
	if status != 0 {
		t.Errorf("check: exit status %d", status)
	}
	for line := range strings.Lines(out) {
		var r struct{ Invariant, Counted int }
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("check --json printed %q: %v", line, err)
		}
		if r.Counted == 0 {
			t.Errorf("invariant %d counted nothing", r.Invariant)
		}
	}
}

func TestUpStartsAndStops(t *testing.T) {
	t.Parallel()
	began := time.Now()
	u := startUp(t)
	t.Logf("ready after %s", time.Since(began))
	if took := time.Since(began); took > 10*time.Second { // 3 s on a machine that does nothing else; tests share two cores
		t.Errorf("ready after %s", took)
	}
	if status := get(t, u.url+"/readyz", nil); status != http.StatusOK {
		t.Errorf("/readyz says %d after up printed ready", status)
	}
	if took := u.stop(); took > 5*time.Second {
		t.Errorf("Ctrl-C took %s", took)
	}
}

// TestKillInTheMiddleOfALoad kills the whole system while a load runs, starts it again on what is on disk, and expects the loader to have lived through it, nothing lost and
// nothing done twice.
func TestKillInTheMiddleOfALoad(t *testing.T) {
	t.Parallel()
	file, good, bad := invoices(t, 1500)
	u := startUp(t)
	load := start(t, "tidemark", "load", "--csv", file, "--stock", "500", "--speed", "max", "--wait", "--json", "--to", u.url)
	for _, at := range []int{good / 4, good / 2} {
		eventstest.Eventually(t, time.Minute, "some orders are placed", func() bool { return count(t, u.url) >= at })
		u.kill()
		u.again(t)
	}
	select {
	case <-load.done:
	case <-time.After(2 * time.Minute):
		t.Fatal("the load has not ended")
	}
	if load.err != nil {
		t.Fatalf("load: %v\n%s", load.err, load.printed())
	}
	lines := strings.Split(strings.TrimSpace(load.printed()), "\n")
	s := decode(t, lines[len(lines)-1])
	if s.Invoices != good+bad || s.Placed+s.Duplicates != good || s.Refused != bad || s.Open != 0 || s.Confirmed+s.Rejected+s.Cancelled != good {
		t.Errorf("load says %+v, want %d good and %d refused", s, good, bad)
	}
	mustHold(t, u.url)

	out, status := verb(t, "load", "--csv", file, "--stock", "500", "--speed", "max", "--wait", "--json", "--to", u.url)
	second := decode(t, out)
	if status != 0 || second.Placed != 0 || second.Duplicates != good || second.Refused != bad || second.Confirmed != s.Confirmed || second.Open != 0 {
		t.Errorf("the second run says %+v (exit status %d), want %d duplicates", second, status, good)
	}
	mustHold(t, u.url)
	if took := u.stop(); took > 5*time.Second {
		t.Errorf("Ctrl-C took %s", took)
	}
}

// TestWithoutAService runs up without inventory, and inventory by the line that up prints.
func TestWithoutAService(t *testing.T) {
	t.Parallel()
	addr := freeAddr(t)
	u := startUp(t, "--without", "inventory", "--at", "inventory="+addr)
	line := ""
	for l := range strings.Lines(u.printed()) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(l), "go run ./cmd/"); ok {
			line = rest
		}
	}
	if !strings.HasPrefix(line, "inventory ") {
		t.Fatalf("up did not print how to run inventory:\n%s", u.printed())
	}
	if status := get(t, u.url+"/v1/stock/20000A", nil); status != http.StatusServiceUnavailable {
		t.Errorf("stock answers %d while inventory is away", status)
	}
	args := strings.Fields(line)
	inventory := start(t, args[0], args[1:]...)
	file, good, bad := invoices(t, 300)
	load := start(t, "tidemark", "load", "--csv", file, "--stock", "500", "--speed", "max", "--wait", "--json", "--to", u.url)
	eventstest.Eventually(t, time.Minute, "some orders are placed", func() bool { return count(t, u.url) >= good/3 })
	inventory.kill()
	eventstest.Eventually(t, time.Minute, "orders are placed without inventory", func() bool { return count(t, u.url) >= good })
	start(t, args[0], args[1:]...)
	select {
	case <-load.done:
	case <-time.After(time.Minute):
		t.Fatal("the load has not ended")
	}
	lines := strings.Split(strings.TrimSpace(load.printed()), "\n")
	if s := decode(t, lines[len(lines)-1]); s.Placed != good || s.Refused != bad || s.Open != 0 {
		t.Errorf("load says %+v, want %d placed, %d refused, 0 open", s, good, bad)
	}
	mustHold(t, u.url)
}
