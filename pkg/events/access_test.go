package events_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tidemark/tidemark/pkg/events"
)

// TestPermissionsPage holds the reference page to the declaration.
func TestPermissionsPage(t *testing.T) {
	t.Parallel()
	samePage(t, "permissions.md", permissionsPage(events.DefaultTopology(0)))
}

func permissionsPage(topology events.Topology) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Permissions at the broker")
	line("")
	line("<!-- Made from pkg/events (access.go, topology.go) by: go test ./pkg/events -update -->")
	line("")
	line("Which subjects each user of NATS may publish to and subscribe to; JetStream's API is subjects, too. `tidemark topology nats-conf` prints the same as nats-server's configuration. What is not here is denied.")
	line("`*` is one token, `>` all that follow; `{p}` stands for each partition, 0 to %d. [How to](../how-to/who-may-do-what.md) use it, and what it does [not protect from](../limits.md).", topology.Partitions-1)
	for _, u := range topology.Users() {
		line("")
		line("## %s", u.Name)
		line("")
		line("%s%s.", strings.ToUpper(u.Description[:1]), u.Description[1:])
		line("")
		line("| may | subjects |")
		line("|---|---|")
		api := func(subject string) bool { return strings.HasPrefix(subject, "$JS.API.") }
		of := func(subjects []string, which func(string) bool) string {
			return cells(slices.DeleteFunc(slices.Clone(subjects), func(s string) bool { return !which(s) }))
		}
		row := func(what, subjects string) {
			if subjects != "" {
				line("| %s | %s |", what, subjects)
			}
		}
		row("publish", of(u.Publish, func(s string) bool { return !api(s) }))
		row("ask of the API (`$JS.API.`…)", strings.ReplaceAll(of(u.Publish, api), "$JS.API.", ""))
		row("but not", strings.ReplaceAll(cells(u.Deny), "$JS.API.", ""))
		row("subscribe", cells(u.Subscribe))
	}
	return b.String()
}

// cells writes what differs in the partition alone once.
func cells(subjects []string) string {
	partition := regexp.MustCompile(`-\d(\.|$)`)
	var out []string
	for _, s := range subjects {
		cell := "`" + partition.ReplaceAllString(s, "-{p}$1") + "`"
		if !slices.Contains(out, cell) {
			out = append(out, cell)
		}
	}
	return strings.Join(out, ", ")
}

// TestUsersAreKept: every service, and nobody else, has the right to its own inbox and to no other; the broker's own subjects are nobody's.
func TestUsersAreKept(t *testing.T) {
	t.Parallel()
	topology := events.DefaultTopology(0)
	var names []string
	for _, u := range topology.Users() {
		names = append(names, u.Name)
		for _, subject := range slices.Concat(u.Publish, u.Subscribe) {
			if strings.HasPrefix(subject, "_INBOX") && subject != events.Inbox(u.Name)+".>" || strings.HasPrefix(subject, "$SYS") || subject == ">" || strings.HasPrefix(subject, "*") {
				t.Errorf("%s may use %s", u.Name, subject)
			}
		}
	}
	if want := []string{"order", "inventory", "notify", "analytics", "operator", "producer"}; !slices.Equal(names, want) {
		t.Errorf("users %v, want %v", names, want)
	}
}
