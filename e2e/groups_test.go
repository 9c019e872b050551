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

// TestSecondMembers runs a second inventory and a second notify beside the system: one stands by, the other takes half of the partitions; both are seen.
func TestSecondMembers(t *testing.T) {
	t.Parallel()
	u := startUp(t)
	notify := start(t, "notify", "--nats", u.nats, "--nats-nkey", u.seed(t, "notify"), "--http", freeAddr(t), "--smtp", freeAddr(t))
	inventory := start(t, "inventory", "--nats", u.nats, "--nats-nkey", u.seed(t, "inventory"), "--http", freeAddr(t))
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
