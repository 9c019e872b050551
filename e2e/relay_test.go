package e2e_test

import (
	"net"
	"strconv"
	"sync"
	"testing"
	"time"
)

// relay stands for a network between a program and an address: it passes bytes on until it is cut. A cut here is that of a network, not that of a program: connections stay open on both
// sides, what is sent is neither delivered nor refused, and after healing it goes on, as TCP does when it sends lost packets again.
type relay struct {
	listener net.Listener
	target   string

	mu    sync.Mutex
	open  chan struct{} // closed while bytes pass
	conns map[net.Conn]struct{}
	over  bool
	wg    sync.WaitGroup
}

func startRelay(t *testing.T, target string) *relay {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: listener, target: target, open: make(chan struct{}), conns: make(map[net.Conn]struct{})}
	close(r.open)
	r.wg.Go(r.accept)
	t.Cleanup(r.close)
	return r
}

func (r *relay) addr() string { return r.listener.Addr().String() }

// cut stops everything on its way.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open = make(chan struct{})
}

// heal lets it go on.
func (r *relay) heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.open)
}

// passes waits until bytes pass, and reports false at the end.
func (r *relay) passes() bool {
	for {
		r.mu.Lock()
		open, over := r.open, r.over
		r.mu.Unlock()
		if over {
			return false
		}
		select {
		case <-open:
			return true
		case <-time.After(100 * time.Millisecond): // to see the end
		}
	}
}

func (r *relay) accept() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return
		}
		if r.add(client) {
			r.wg.Go(func() { r.serve(client) })
		}
	}
}

func (r *relay) add(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		_ = c.Close()
		return false
	}
	r.conns[c] = struct{}{}
	return true
}

func (r *relay) drop(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = c.Close()
	delete(r.conns, c)
}

func (r *relay) serve(client net.Conn) {
	defer r.drop(client)
	if !r.passes() {
		return
	}
	server, err := net.Dial("tcp", r.target)
	if err != nil || !r.add(server) {
		return // nobody there: the client sees it end
	}
	defer r.drop(server)
	both := sync.WaitGroup{}
	both.Go(func() { r.pump(server, client) })
	both.Go(func() { r.pump(client, server) })
	both.Wait()
}

func (r *relay) pump(to, from net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if !r.passes() {
			return
		}
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				_ = from.Close()
				return
			}
		}
		if err != nil {
			_ = to.Close()
			return
		}
	}
}

func (r *relay) close() {
	r.mu.Lock()
	r.over = true
	for c := range r.conns {
		_ = c.Close()
	}
	r.mu.Unlock()
	_ = r.listener.Close()
	r.wg.Wait()
}

// link is the way of one node to another.
type link struct {
	*relay

	from, to int
}

// nowhere is an address where nobody listens: what a node of a cluster with relays tells the others of itself. Or they would tell each other the ways around the relays.
func nowhere(node int) string { return "127.0.0.1:" + strconv.Itoa(1+node) }

// relay makes the ways of one node to the others, and returns its routes.
func (c *cluster) relay(from int) []string {
	c.t.Helper()
	var routes []string
	for to, n := range c.nodes {
		if to == from {
			continue
		}
		l := &link{relay: startRelay(c.t, n.route), from: from, to: to}
		c.links = append(c.links, l)
		routes = append(routes, "nats://route:"+routePassword+"@"+l.addr())
	}
	return routes
}

// cutOff separates a node from the other two.
func (c *cluster) cutOff(node int) {
	for _, l := range c.links {
		if l.from == node || l.to == node {
			l.cut()
		}
	}
}

// heal joins it to them again.
func (c *cluster) heal(node int) {
	for _, l := range c.links {
		if l.from == node || l.to == node {
			l.heal()
		}
	}
}
