//go:build long

package e2e_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
)

// startApart runs each service as a process of its own, all of them on the whole cluster.
func startApart(t *testing.T, c *cluster) *up {
	t.Helper()
	services := []string{"order", "inventory", "notify", "analytics"}
	args := []string{"--without", strings.Join(services, ",")}
	for _, name := range services {
		args = append(args, "--at", name+"="+freeAddr(t))
	}
	u := c.up(c.url(), args...)
	for line := range strings.Lines(u.printed()) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "go run ./cmd/"); ok {
			fields := strings.Fields(rest)
			start(t, fields[0], fields[1:]...)
		}
	}
	return u
}

// TestEveryNodeKill kills nodes by what they lead, and then each that has not been killed yet.
func TestEveryNodeKill(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	u := startApart(t, c)
	stockUp(t, u.url)
	w := &witness{t: t, c: c, js: c.jetStream(), shop: startShopper(t, "shop", u.url, 6, 100*time.Millisecond)}
	w.shop.more(60)
	killed := map[int]bool{}
	kill := func(what string, node int) {
		killed[node] = true
		w.kill(what, node)
	}
	for _, stream := range []string{events.StreamOrders, events.StreamStock, events.StreamTimeline} {
		kill("the leader of "+stream, c.leader(w.js, stream))
	}
	kill("no leader of ORDERS", (c.leader(w.js, events.StreamOrders)+1)%len(c.nodes))
	kill("the leader of the cluster", c.metaLeader(-1))
	for node := range c.nodes {
		if !killed[node] {
			kill("one more", node)
		}
	}
	w.testify(u.url)
}

// TestRollingRestart takes one node after the other out of service, as an upgrade does.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	u := startApart(t, c)
	stockUp(t, u.url)
	w := &witness{t: t, c: c, js: c.jetStream(), shop: startShopper(t, "shop", u.url, 6, 100*time.Millisecond)}
	w.shop.more(60)
	for node := range c.nodes {
		w.during(c.nodes[node].name+", lame duck", func() string {
			c.lameDuck(node)
			w.shop.more(30)
			c.start(node)
			return ""
		})
	}
	w.testify(u.url)
}

// TestReplaceNode starts a node with its name and an empty disk in the place of one that is lost.
func TestReplaceNode(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	u := c.up(c.url())
	stockUp(t, u.url)
	w := &witness{t: t, c: c, js: c.jetStream(), shop: startShopper(t, "shop", u.url, 6, 100*time.Millisecond)}
	w.shop.more(60)
	lost := c.leader(w.js, events.StreamOrders)
	w.during(c.nodes[lost].name+", replaced", func() string {
		c.nodes[lost].kill()
		if err := os.RemoveAll(c.nodes[lost].store); err != nil {
			t.Fatal(err)
		}
		w.shop.more(60)
		c.start(lost)
		return ""
	})
	// What the new disk has must be all: now it is one of the two that are there.
	w.kill("another one, with the new disk in the majority", (lost+1)%len(c.nodes))
	w.testify(u.url)
}
