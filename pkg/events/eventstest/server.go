// Package eventstest gives each test a real NATS server of its own, in the test's process and on a temporary directory. It starts in about
// 30 ms, so there is no reason to fake the bus.
package eventstest

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidemark/tidemark/pkg/events"
	"github.com/tidemark/tidemark/pkg/events/bus"
)

const startTimeout = 15 * time.Second

// Server is one embedded server, or three in one process that form a cluster. Its methods belong to the test's goroutine.
type Server struct {
	tb       testing.TB
	servers  []*server.Server
	options  []*server.Options // with the ports that the servers got, so that they come back under the same address
	replicas int
}

// Start starts one server with JetStream on a temporary directory and stops it with the test.
func Start(tb testing.TB) *Server {
	tb.Helper()
	s := &Server{tb: tb, replicas: 1}
	s.add(&server.Options{ServerName: "n1", StoreDir: tb.TempDir()})
	return s
}

// StartCluster starts three servers that replicate (R3) and waits until they have a leader.
func StartCluster(tb testing.TB) *Server {
	tb.Helper()
	const nodes = 3
	s := &Server{tb: tb, replicas: nodes}
	var routes []string
	for i := range nodes {
		s.add(&server.Options{
			ServerName: fmt.Sprintf("n%d", i+1), StoreDir: tb.TempDir(),
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: server.RANDOM_PORT},
			Routes:  server.RoutesFromStr(strings.Join(routes, ",")),
		})
		routes = append(routes, "nats://"+s.servers[i].ClusterAddr().String())
	}
	s.awaitPeers()
	return s
}

func (s *Server) awaitPeers() {
	s.tb.Helper()
	Eventually(s.tb, startTimeout, "the cluster has a leader and all peers", func() bool {
		for _, n := range s.servers {
			if n.JetStreamIsLeader() && len(n.JetStreamClusterPeers()) == len(s.servers) {
				return true
			}
		}
		return false
	})
}

func (s *Server) add(opts *server.Options) {
	s.tb.Helper()
	opts.Host, opts.Port = "127.0.0.1", server.RANDOM_PORT
	opts.JetStream, opts.NoLog, opts.NoSigs = true, true, true
	opts.DisableJetStreamBanner = true
	n := startServer(s.tb, opts.Clone())
	opts.Port = n.Addr().(*net.TCPAddr).Port
	if addr := n.ClusterAddr(); addr != nil {
		opts.Cluster.Port = addr.Port
	}
	s.servers, s.options = append(s.servers, n), append(s.options, opts)
	node := len(s.servers) - 1
	s.tb.Cleanup(func() { s.Stop(node) })
}

func startServer(tb testing.TB, opts *server.Options) *server.Server {
	tb.Helper()
	s, err := server.NewServer(opts)
	if err != nil {
		tb.Fatalf("make nats-server: %v", err)
	}
	s.Start()
	if !s.ReadyForConnections(startTimeout) {
		s.Shutdown()
		tb.Fatalf("nats-server is not ready after %s", startTimeout)
	}
	return s
}

// Stop stops one node (0 for a single server). What it holds in memory is lost.
func (s *Server) Stop(node int) {
	s.tb.Helper()
	s.servers[node].Shutdown()
	s.servers[node].WaitForShutdown()
}

// Restart stops a node and starts it again on the same address and directory.
func (s *Server) Restart(node int) {
	s.tb.Helper()
	s.Stop(node)
	s.servers[node] = startServer(s.tb, s.options[node].Clone())
	if s.replicas > 1 {
		s.awaitPeers()
	}
}

// StepDown makes the leader of a stream hand over to another node, and waits until there is one again.
func (s *Server) StepDown(stream string) {
	s.tb.Helper()
	before := s.leader(stream)
	if before == nil {
		s.tb.Fatalf("stream %s has no leader", stream)
	}
	if err := before.JetStreamStepdownStream(server.DEFAULT_GLOBAL_ACCOUNT, stream); err != nil {
		s.tb.Fatalf("step down %s: %v", stream, err)
	}
	Eventually(s.tb, startTimeout, "stream "+stream+" has a leader again", func() bool { return s.leader(stream) != nil })
}

func (s *Server) leader(stream string) *server.Server {
	for _, n := range s.servers {
		if n.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, stream) {
			return n
		}
	}
	return nil
}

// URL is where clients connect.
func (s *Server) URL() string { return s.servers[0].ClientURL() }

// Replicas is 1, or 3 for a cluster.
func (s *Server) Replicas() int { return s.replicas }

// Nodes are the servers, for tests that stop one or move a leader.
func (s *Server) Nodes() []*server.Server { return s.servers }

// Connect opens a connection that ends with the test.
func (s *Server) Connect() *nats.Conn {
	s.tb.Helper()
	var url strings.Builder
	url.WriteString(s.URL())
	for _, n := range s.servers[1:] {
		url.WriteString("," + n.ClientURL())
	}
	nc, err := nats.Connect(url.String(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectJitter(0, 0))
	if err != nil {
		s.tb.Fatalf("connect: %v", err)
	}
	s.tb.Cleanup(nc.Close)
	return nc
}

// JetStream opens a connection and returns its JetStream.
func (s *Server) JetStream() jetstream.JetStream {
	s.tb.Helper()
	js, err := jetstream.New(s.Connect())
	if err != nil {
		s.tb.Fatalf("jetstream: %v", err)
	}
	return js
}

// Apply makes the topology real on the server and returns it.
func (s *Server) Apply(t events.Topology) events.Topology {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := bus.Apply(ctx, s.JetStream(), t, s.replicas); err != nil {
		s.tb.Fatalf("apply topology: %v", err)
	}
	return t
}

// Eventually waits until done is true, looking every few milliseconds, and fails the test when the time is over.
func Eventually(tb testing.TB, limit time.Duration, what string, done func() bool) {
	tb.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			tb.Fatalf("not within %s: %s", limit, what)
		}
	}
}
