package e2e_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// cause is a line of `dlq groups --json`.
type cause struct {
	Group, Reason, Fingerprint, Error string
	Count                             int
	BlockedKeys                       int `json:"blocked_keys"`
}

func causes(t *testing.T, url string) map[string][]cause {
	t.Helper()
	out, status := verb(t, "dlq", "groups", "--to", url, "--json")
	if status != 0 {
		t.Fatalf("dlq groups: exit status %d", status)
	}
	by := make(map[string][]cause)
	for line := range strings.Lines(out) {
		var c cause
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatalf("dlq groups --json printed %q: %v", line, err)
		}
		by[c.Group] = append(by[c.Group], c)
	}
	return by
}

func put(t *testing.T, url, body string) {
	t.Helper()
	send(t, http.MethodPut, url, body, http.StatusOK)
}

type poisoned struct {
	Placed, Clicks int
	Seconds        float64
	PoisonMail     int `json:"poison_mail"`
	PoisonClicks   int `json:"poison_clicks"`
}

func loadPoison(t *testing.T, url string, args ...string) poisoned {
	t.Helper()
	out, status := verb(t, append([]string{"load", "--to", url, "--wait", "--json"}, args...)...)
	var s poisoned
	if err := json.Unmarshal([]byte(out), &s); err != nil || status != 0 {
		t.Fatalf("load: exit status %d, %v", status, err)
	}
	return s
}

// poison is the way from poison to nothing left: a load with poison of two causes, one line a cause, the cause repaired outside, a replay that empties it, and the rest discarded.
func poison(t *testing.T, url string, args ...string) poisoned {
	t.Helper()
	sent := loadPoison(t, url, args...)
	if sent.PoisonMail == 0 || sent.PoisonClicks == 0 {
		t.Fatalf("load says %+v: no poison of one cause", sent)
	}
	var by map[string][]cause
	eventstest.Eventually(t, time.Minute, "as many letters as poison was sent, of one cause each", func() bool {
		by = causes(t, url)
		return len(by) == 2 && len(by["notify"]) == 1 && len(by["analytics"]) == 1 && by["notify"][0].Count == sent.PoisonMail && by["analytics"][0].Count == sent.PoisonClicks
	})
	mail, clicks := by["notify"][0], by["analytics"][0]
	if mail.Reason != "permanent" || !strings.Contains(mail.Error, "554") || clicks.BlockedKeys != 0 {
		t.Errorf("causes %+v and %+v", mail, clicks)
	}
	if out, status := verb(t, "check", "--to", url); status != 0 {
		t.Errorf("check with letters: exit status %d\n%s", status, out)
	}
	if _, status := verb(t, "dlq", "replay", "--to", url, "--fingerprint", mail.Fingerprint); status != 2 {
		t.Errorf("a replay without --yes and without a terminal: exit status %d, want 2", status)
	}
	put(t, url+"/v1/outbox/faults", "{}")
	if _, status := verb(t, "dlq", "replay", "--to", url, "--fingerprint", mail.Fingerprint, "--yes", "--why", "the provider is back"); status != 0 {
		t.Errorf("replay: exit status %d", status)
	}
	if _, status := verb(t, "dlq", "discard", "--to", url, "--fingerprint", clicks.Fingerprint, "--yes", "--why", "cut off for good"); status != 0 {
		t.Errorf("discard: exit status %d", status)
	}
	if left := causes(t, url); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
	mustHold(t, url)
	return sent
}
