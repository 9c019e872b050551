package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/eventstest"
)

// cluster is the production broker: three nats-server processes with the configuration that deploy/nats ships, on this machine's loopback.
type cluster struct {
	t     *testing.T
	keys  string // directory of the seeds of the broker's users
	nodes []*node
	links []*link // where the routes go through relays
}

// node is one of them.
type node struct {
	*process

	name                   string
	client, monitor, route string // addresses
	store                  string // directory
	args, env              []string
}

const routePassword = "secret"

// startCluster starts three nodes and waits until they agree on a leader.
func startCluster(t *testing.T) *cluster {
	t.Helper()
	return newCluster(t, false)
}

// startCuttableCluster is startCluster with a relay on every way between two nodes.
func startCuttableCluster(t *testing.T) *cluster {
	t.Helper()
	return newCluster(t, true)
}

func newCluster(t *testing.T, relays bool) *cluster {
	t.Helper()
	const nodes = 3
	c := &cluster{t: t}
	for i := range nodes {
		c.nodes = append(c.nodes, &node{name: fmt.Sprintf("nats-%d", i+1), client: freeAddr(t), monitor: freeAddr(t), route: freeAddr(t), store: t.TempDir()})
	}
	conf := c.configuration()
	for i, n := range c.nodes {
		var routes []string
		if relays {
			routes = c.relay(i)
		} else {
			for _, other := range c.nodes {
				routes = append(routes, "nats://route:"+routePassword+"@"+other.route)
			}
		}
		n.env = []string{
			"NATS_NAME=" + n.name, "NATS_STORE=" + n.store, "NATS_ROUTE_PASSWORD=" + routePassword, "NATS_ROUTES=[" + strings.Join(routes, ", ") + "]",
		}
		n.args = []string{
			"-c", conf, "-a", "127.0.0.1", "-p", portOf(n.client), "-m", portOf(n.monitor),
			"--cluster", "nats://route:" + routePassword + "@" + n.route, "--no_advertise",
		}
		if relays {
			n.args = append(n.args, "--cluster_advertise", nowhere(i))
		}
	}
	for i := range c.nodes {
		c.start(i)
	}
	c.awaitMeta(-1)
	return c
}

func portOf(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

// configuration is a copy of the shipped one, with the users that it includes.
func (c *cluster) configuration() string {
	c.t.Helper()
	shipped, err := os.ReadFile("../deploy/nats/cluster.conf")
	if err != nil {
		c.t.Fatal(err)
	}
	dir := c.t.TempDir()
	c.keys = filepath.Join(dir, "keys")
	users, err := exec.CommandContext(c.t.Context(), filepath.Join(bin, "tidemark"), "topology", "nats-conf", "--keys", c.keys).Output()
	if err != nil {
		c.t.Fatalf("topology nats-conf: %v", err)
	}
	conf := filepath.Join(dir, "nats", "cluster.conf")
	for path, content := range map[string][]byte{conf: shipped, filepath.Join(dir, "nats-users", "users.conf"): users} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			c.t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
	return conf
}

// start starts a node, again with what it has on disk.
func (c *cluster) start(i int) {
	c.t.Helper()
	n := c.nodes[i]
	n.process = startWith(c.t, n.env, "nats-server", n.args...)
}

// url is what clients are given: all nodes.
func (c *cluster) url() string {
	urls := make([]string, 0, len(c.nodes))
	for _, n := range c.nodes {
		urls = append(urls, "nats://"+n.client)
	}
	return strings.Join(urls, ",")
}

// lameDuck takes a node out of service as an operator does, and waits for its end.
func (c *cluster) lameDuck(i int) {
	c.t.Helper()
	n := c.nodes[i]
	if err := n.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		c.t.Fatal(err)
	}
	select {
	case <-n.done:
	case <-time.After(time.Minute):
		c.t.Fatalf("%s has not left a minute after it was asked to", n.name)
	}
}

// metaState is what a node says of the cluster's own group, which places streams.
type metaState struct {
	Meta struct {
		Leader   string `json:"leader"`
		Replicas []struct {
			Name    string `json:"name"`
			Current bool   `json:"current"`
		} `json:"replicas"`
	} `json:"meta_cluster"`
}

// metaLeader asks the nodes but one who leads the cluster; -1 where they don't agree yet.
func (c *cluster) metaLeader(but int) int {
	leader := ""
	for i, n := range c.nodes {
		if i == but {
			continue
		}
		var state metaState
		if get(c.t, "http://"+n.monitor+"/jsz", &state) != http.StatusOK || state.Meta.Leader == "" {
			return -1
		}
		if leader != "" && leader != state.Meta.Leader {
			return -1
		}
		leader = state.Meta.Leader
	}
	i := c.byName(leader)
	if i == but {
		return -1
	}
	return i
}

func (c *cluster) byName(name string) int {
	return slices.IndexFunc(c.nodes, func(n *node) bool { return n.name == name })
}

// awaitMeta waits until the nodes, but one that is away (-1: none), agree on a leader.
func (c *cluster) awaitMeta(but int) {
	c.t.Helper()
	eventstest.Eventually(c.t, time.Minute, "the nodes agree on a leader", func() bool { return c.metaLeader(but) >= 0 })
}

// nkey is the file with the seed of a user.
func (c *cluster) nkey(user string) string { return filepath.Join(c.keys, user+".nk") }

// up runs `tidemark up` on the cluster.
func (c *cluster) up(urls string, extra ...string) *up {
	c.t.Helper()
	return startUp(c.t, append([]string{"--nats", urls, "--keys", c.keys, "--replicas", strconv.Itoa(len(c.nodes))}, extra...)...)
}

// jetStream connects to all nodes, as an operator.
func (c *cluster) jetStream() jetstream.JetStream {
	c.t.Helper()
	seed, err := nats.NkeyOptionFromSeed(c.nkey(events.UserOperator))
	if err != nil {
		c.t.Fatal(err)
	}
	nc, err := nats.Connect(c.url(), seed, nats.CustomInboxPrefix(events.Inbox(events.UserOperator)), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond), nats.RetryOnFailedConnect(true))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		c.t.Fatal(err)
	}
	return js
}

// leader is the node that leads a stream.
func (c *cluster) leader(js jetstream.JetStream, stream string) int {
	c.t.Helper()
	at := -1
	eventstest.Eventually(c.t, time.Minute, stream+" has a leader", func() bool {
		s, err := js.Stream(c.t.Context(), stream)
		if err != nil || s.CachedInfo().Cluster == nil {
			return false
		}
		at = c.byName(s.CachedInfo().Cluster.Leader)
		return at >= 0
	})
	return at
}

// awaitWhole waits until every node has all that the others have, and says how long that took.
func (c *cluster) awaitWhole() time.Duration {
	c.t.Helper()
	began := time.Now()
	eventstest.Eventually(c.t, 2*time.Minute, "every node is healthy and current", func() bool {
		for _, n := range c.nodes {
			var health struct {
				Status string `json:"status"`
			}
			if get(c.t, "http://"+n.monitor+"/healthz", &health) != http.StatusOK || health.Status != "ok" {
				return false
			}
		}
		return true
	})
	return time.Since(began)
}

// dump is what a node knows of the streams, for a test that failed.
func (n *node) dump(t *testing.T) {
	t.Helper()
	var v json.RawMessage
	get(t, "http://"+n.monitor+"/healthz?details=true", &v)
	t.Logf("%s: %s", n.name, v)
}
