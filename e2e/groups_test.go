package e2e_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

type groupLine struct {
	Group      string   `json:"group"`
	Lag        uint64   `json:"lag"`
	Pending    uint64   `json:"pending"`
	Parked     uint64   `json:"parked"`
	StandingBy []string `json:"standing_by"`
	Members    []struct {
		Name string `json:"name"`
	} `json:"members"`
	Partitions []struct {
		Owner  string `json:"owner"`
		Offset uint64 `json:"offset"`
	} `json:"partitions"`
}

// listGroups is what `tidemark groups --json` says, by group.
func listGroups(t *testing.T, url string) map[string]groupLine {
	t.Helper()
	out, status := verb(t, "groups", "--to", url, "--json")
	if status != 0 {
		t.Fatalf("groups: exit status %d", status)
	}
	all := make(map[string]groupLine)
	for line := range strings.Lines(out) {
		var g groupLine
		if err := json.Unmarshal([]byte(line), &g); err != nil {
			t.Fatalf("groups --json printed %q: %v", line, err)
		}
		all[g.Group] = g
	}
	return all
}

// outbox are the ids of the mails that were sent, in order.
func outbox(t *testing.T, url string) string {
	t.Helper()
	var body json.RawMessage
	if status := get(t, url+"/v1/outbox?limit=1000", &body); status != 200 {
		t.Fatalf("the outbox answers %d", status)
	}
	return string(body)
}

// TestReplayChangesNothing moves the group of each service back to the beginning: every handler is called again for all that ever happened. No mail is sent again, no
// payment made, no stock moved, no event stored, and the invariants hold.
func TestReplayChangesNothing(t *testing.T) {
	t.Parallel()
	u := startUp(t)
	file, good, _ := invoices(t, 250)
	if _, status := verb(t, "load", "--csv", file, "--stock", "500", "--speed", "max", "--wait", "--json", "--to", u.url); status != 0 {
		t.Fatalf("load: exit status %d", status)
	}
	mustHold(t, u.url)
	mails, before := outbox(t, u.url), ends(t, u)
	if !strings.Contains(mails, "@") {
		t.Fatalf("no mails in %s", mails)
	}

	for _, group := range []string{"inventory", "order-stock", "order-deadlines", "notify", "analytics"} {
		args := []string{"replay", "--to", u.url, "--group", group, "--from-seq", "1", "--json"}
		var dry, done struct {
			Events  uint64 `json:"events"`
			Again   uint64 `json:"again"`
			Moved   bool   `json:"moved"`
			Reading bool   `json:"reading"`
			Note    string `json:"note"`
		}
		out, status := verb(t, append(args, "--dry-run")...)
		if err := json.Unmarshal([]byte(out), &dry); err != nil || status != 0 || dry.Moved {
			t.Errorf("dry run: exit status %d, %v, %+v", status, err, dry)
		}
		if out, status := verb(t, args...); status != 2 || out != "" {
			t.Errorf("without --yes and without a terminal: exit status %d, want 2", status)
		}
		out, status = verb(t, append(args, "--yes", "--wait")...)
		if err := json.Unmarshal([]byte(out), &done); err != nil || status != 0 || !done.Moved || !done.Reading || done.Events != dry.Events {
			t.Errorf("replay: exit status %d, %v, %+v; the dry run said %+v", status, err, done, dry)
		}
		switch {
		case group == "analytics" && done.Note == "":
			t.Error("it is not said that analytics keeps its own place")
		case (group == "inventory" || group == "notify") && done.Again < uint64(2*good):
			t.Errorf("%s handles %d events again, want all, at least %d", group, done.Again, 2*good)
		}
	}
	mustHold(t, u.url)
	if now := outbox(t, u.url); now != mails {
		t.Error("the outbox has changed")
	}
	for stream, end := range ends(t, u) {
		if end != before[stream] {
			t.Errorf("%s ended at %d and ends at %d: a replay has stored events", stream, before[stream], end)
		}
	}
	if out, status := verb(t, "replay", "--to", u.url, "--group", "nobody", "--from-seq", "1", "--yes"); status != 2 {
		t.Errorf("replay of an unknown group: exit status %d, %s", status, out)
	}
	if out, status := verb(t, "groups", "show", "nobody", "--to", u.url); status != 1 {
		t.Errorf("show of an unknown group: exit status %d, %s", status, out)
	}
}

// ends are the last sequences of what services write, by stream, as far as groups have read them.
func ends(t *testing.T, u *up) map[string]uint64 {
	t.Helper()
	all := listGroups(t, u.url)
	out := make(map[string]uint64)
	for _, g := range []string{"inventory", "order-stock", "notify"} {
		if all[g].Lag != 0 {
			t.Fatalf("group %s is %d behind", g, all[g].Lag)
		}
		for _, p := range all[g].Partitions {
			out[g] = max(out[g], p.Offset)
		}
	}
	return out
}

// TestSecondMembers runs a second inventory and a second notify beside the system: one stands by, the other takes half of the partitions; both are seen.
func TestSecondMembers(t *testing.T) {
	t.Parallel()
	u := startUp(t)
	notify := start(t, "notify", "--nats", u.nats, "--http", freeAddr(t), "--smtp", freeAddr(t))
	inventory := start(t, "inventory", "--nats", u.nats, "--http", freeAddr(t))
	shares := func(g groupLine) map[string]int {
		has := make(map[string]int)
		for _, p := range g.Partitions {
			has[p.Owner]++
		}
		return has
	}
	eventstest.Eventually(t, time.Minute, "notify is shared by two, and a second inventory stands by", func() bool {
		all := listGroups(t, u.url)
		n, i := all["notify"], all["inventory"]
		return len(n.Members) == 2 && len(shares(n)) == 2 && shares(n)[n.Members[0].Name] == 4 && len(i.Members) == 2 && len(i.StandingBy) == 1 && len(shares(i)) == 1
	})
	notify.kill()
	inventory.stop()
	eventstest.Eventually(t, time.Minute, "the system has its partitions back", func() bool {
		all := listGroups(t, u.url)
		return len(all["notify"].Members) == 1 && len(shares(all["notify"])) == 1 && len(all["inventory"].Members) == 1
	})
}
