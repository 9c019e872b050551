//go:build long

package e2e_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tidemark/tidemark/pkg/events"
)

// cutFor is how long a node is cut off: longer than the broker needs to see it (4 to 9 s for a new leader, 10 s for the old one to step down).
const cutFor = 20 * time.Second

// TestCutOff cuts one node off from the other two, with a service on its side and with clients of the other side that were connected to it and are told nothing, since their packets are
// lost. The service must not promise what the majority does not have; everything else must go on.
func TestCutOff(t *testing.T) {
	t.Parallel()
	for _, leads := range []bool{true, false} {
		t.Run(map[bool]string{true: "leader of ORDERS", false: "not the leader of ORDERS"}[leads], func(t *testing.T) {
			t.Parallel()
			c := startCuttableCluster(t)
			ways := c.clientRelays()
			u := c.up(urlsOf(ways))
			stockUp(t, u.url)
			w := &witness{t: t, c: c, js: c.jetStream(), shop: startShopper(t, "shop", u.url, 6, 100*time.Millisecond)}
			w.shop.more(60)
			victim := c.leader(w.js, events.StreamOrders)
			if !leads {
				victim = (victim + 1) % len(c.nodes)
			}

			lonely := freeAddr(t)
			start(t, "order", "--nats", "nats://"+c.nodes[victim].client, "--http", lonely, "--gateway", "http://"+u.gateway(t), "--nats-nkey", c.nkey(events.ServiceOrder))
			shop := startShopper(t, "lonely-shop", "http://"+lonely, 2, 100*time.Millisecond)
			shop.more(20)

			var cut, healed time.Time
			w.during(c.nodes[victim].name+", cut off", func() string {
				cut = time.Now()
				c.cutOff(victim)
				ways[victim].cut()
				w.shop.more(60)
				pauseFor(t.Context(), time.Until(cut.Add(cutFor)))
				healed = time.Now()
				c.heal(victim)
				ways[victim].heal()
				shop.more(20)
				return ""
			})
			for _, a := range shop.promises() {
				if a.at.After(cut.Add(time.Second)) && a.at.Before(healed) {
					t.Errorf("order %s was accepted on the cut-off side %s after the cut", a.id, a.at.Sub(cut))
				}
			}
			t.Logf("on the cut-off side orders were accepted again %s after healing", shop.first(healed).Sub(healed))
			shop.end()
			w.testify(u.url)
			shop.mustKeep()
		})
	}
}

// TestOnlyRoutesCut cuts a node off from the other two, but not from its clients: they see a broker that answers pings and nothing else, and must go to another one.
func TestOnlyRoutesCut(t *testing.T) {
	t.Parallel()
	c := startCuttableCluster(t)
	u := startApart(t, c)
	stockUp(t, u.url)
	w := &witness{t: t, c: c, js: c.jetStream(), shop: startShopper(t, "shop", u.url, 6, 100*time.Millisecond)}
	w.shop.more(60)
	victim := c.nodeOf("tidemark-order")
	w.during(c.nodes[victim].name+", cut off from its peers alone", func() string {
		cut := time.Now()
		c.cutOff(victim)
		w.shop.more(60) // the order service is connected to it: no order would be accepted before it is healed
		w.t.Logf("orders are accepted again %.1f s after the cut", w.shop.gap(cut, time.Now()).Seconds())
		c.heal(victim)
		return ""
	})
	w.testify(u.url)
}

// nodeOf is the node that a client is connected to.
func (c *cluster) nodeOf(client string) int {
	c.t.Helper()
	for i, n := range c.nodes {
		var conns struct {
			Connections []struct {
				Name string `json:"name"`
			} `json:"connections"`
		}
		get(c.t, "http://"+n.monitor+"/connz", &conns)
		for _, conn := range conns.Connections {
			if conn.Name == client {
				return i
			}
		}
	}
	c.t.Fatalf("%s is connected nowhere", client)
	return -1
}

// clientRelays are ways to the nodes for clients.
func (c *cluster) clientRelays() []*relay {
	c.t.Helper()
	var ways []*relay
	for _, n := range c.nodes {
		ways = append(ways, startRelay(c.t, n.client))
	}
	return ways
}

func urlsOf(ways []*relay) string {
	var urls []string
	for _, w := range ways {
		urls = append(urls, "nats://"+w.addr())
	}
	return strings.Join(urls, ",")
}

// first is when the first order after a time was accepted.
func (s *shopper) first(after time.Time) time.Time {
	var first time.Time
	for _, a := range s.promises() {
		if a.at.After(after) && (first.IsZero() || a.at.Before(first)) {
			first = a.at
		}
	}
	return first
}

// gateway is the address of the payment gateway that up brings along.
func (u *up) gateway(t *testing.T) string {
	t.Helper()
	for i, arg := range u.args {
		if arg == "--gateway" {
			return u.args[i+1]
		}
	}
	t.Fatal("up has no --gateway")
	return ""
}
