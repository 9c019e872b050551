package e2e_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
)

// TestNodeKill kills the node that leads the order events while orders come in. TestEveryNodeKill, which is long, does the same to every node.
func TestNodeKill(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	u := c.up(c.url())
	stockUp(t, u.url)
	w := &witness{t: t, c: c, js: c.jetStream(), shop: startShopper(t, "shop", u.url, 6, 100*time.Millisecond)}
	w.shop.more(60)
	w.kill("the leader of ORDERS", c.leader(w.js, events.StreamOrders))
	w.testify(u.url)
}

// witness looks on while nodes are disturbed and orders come in, and says at the end what it has seen.
type witness struct {
	t    *testing.T
	c    *cluster
	js   jetstream.JetStream
	shop *shopper
	seen []disturbance
}

// disturbance is the time of one disturbance.
type disturbance struct {
	what     string
	from, to time.Time
	notes    string
}

// during disturbs the cluster, and waits until all is well again and orders come in.
func (w *witness) during(what string, disturb func() (notes string)) {
	w.t.Helper()
	began := time.Now()
	notes := disturb()
	w.c.awaitWhole()
	w.shop.more(30)
	w.seen = append(w.seen, disturbance{what: what, from: began, to: time.Now(), notes: notes})
}

// kill kills a node, waits until orders come in without it, and starts it again.
func (w *witness) kill(what string, node int) {
	w.t.Helper()
	name := w.c.nodes[node].name
	w.during(what+", "+name+", killed", func() string {
		w.c.nodes[node].kill()
		w.shop.more(60)
		w.c.start(node)
		return ""
	})
}

// testify ends the shopping and expects that nothing was lost and nothing done twice.
func (w *witness) testify(url string) {
	w.t.Helper()
	w.shop.end()
	ended := time.Now()
	mustHold(w.t, url, "--wait", "2m") // TIMELINE may be behind: its broker looks for sources that stand still every ten seconds
	w.t.Logf("everything was read %.1f s after the last order", time.Since(ended).Seconds())
	w.shop.mustKeep()
	p := readProgress(w.t, w.js)
	for _, s := range w.seen {
		w.t.Logf("%s: %.1f s without an accepted order; longest without progress: %s%s", s.what, w.shop.gap(s.from, s.to).Seconds(), p.gaps(s.from, s.to), s.notes)
	}
	if w.t.Failed() {
		for _, n := range w.c.nodes {
			n.dump(w.t)
		}
	}
}
