package eventstest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// Proxy stands between clients and a server, and loses what it is told to: so a test can take the broker's answer away after the broker has
// stored what was sent.
type Proxy struct {
	tb       testing.TB
	listener net.Listener
	server   string

	mu     sync.Mutex
	links  map[*link]struct{}
	armed  []byte // lose what the server answers after a client has sent this
	cut    bool   // and close the connection then
	lost   chan struct{}
	closed bool
	wg     sync.WaitGroup
}

// NewProxy starts a proxy to the first node of the server. It ends with the test.
func (s *Server) NewProxy() *Proxy {
	s.tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.tb.Fatalf("proxy: %v", err)
	}
	p := &Proxy{tb: s.tb, listener: listener, server: s.servers[0].Addr().String(), links: make(map[*link]struct{})}
	p.wg.Go(p.accept)
	s.tb.Cleanup(p.close)
	return p
}

// Connect opens a connection through the proxy that ends with the test.
func (p *Proxy) Connect() *nats.Conn {
	p.tb.Helper()
	nc, err := nats.Connect("nats://"+p.listener.Addr().String(), nats.MaxReconnects(-1), nats.ReconnectWait(time.Millisecond), nats.ReconnectJitter(0, 0), nats.IgnoreDiscoveredServers())
	if err != nil {
		p.tb.Fatalf("connect through proxy: %v", err)
	}
	p.tb.Cleanup(nc.Close)
	return nc
}

// LoseAnswer makes the proxy lose the acknowledgement of the next publish that contains sent: the server gets and stores it, the client never hears.
// With cut the connection breaks at that moment, otherwise it stays open and silent for ever, as behind a firewall that forgot it. The
// channel is closed when the acknowledgement has been lost.
func (p *Proxy) LoseAnswer(sent string, cut bool) (lost <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed, p.cut, p.lost = []byte(sent), cut, make(chan struct{})
	return p.lost
}

// Cut breaks all connections; clients may come back.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.close()
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed with the test
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil {
			_ = client.Close() // the server is away: so is the proxy
			continue
		}
		p.add(&link{proxy: p, client: client, server: server})
	}
}

func (p *Proxy) add(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		l.close()
		return
	}
	p.links[l] = struct{}{}
	p.wg.Go(func() { l.pump(l.server, l.client, l.sent) })
	p.wg.Go(func() { l.pump(l.client, l.server, l.answered) })
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.listener.Close()
	p.Cut()
	p.wg.Wait()
}

// link is one client's connection.
type link struct {
	proxy          *Proxy
	client, server net.Conn

	mu    sync.Mutex
	deaf  bool          // what the server says is lost
	cut   bool          // and then the link breaks
	lost  chan struct{} // closed at the first acknowledgement that is lost
	tail  []byte        // the last bytes that the client sent: what is looked for may come in two pieces
	heard []byte        // what was lost until now
}

func (l *link) close() {
	_ = l.client.Close()
	_ = l.server.Close()
}

func (l *link) pump(to, from net.Conn, see func([]byte) bool) {
	defer func() {
		l.close()
		l.proxy.mu.Lock()
		delete(l.proxy.links, l)
		l.proxy.mu.Unlock()
	}()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && see(buffer[:n]) {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				l.proxy.tb.Logf("proxy: %v", err)
			}
			return
		}
	}
}

// sent looks at what the client sends, before it is forwarded.
func (l *link) sent(b []byte) bool {
	p := l.proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	l.tail = append(l.tail, b...)
	if len(p.armed) > 0 && bytes.Contains(l.tail, p.armed) {
		l.mu.Lock()
		l.deaf, l.cut, l.lost = true, p.cut, p.lost
		l.mu.Unlock()
		p.armed = nil
	}
	if keep := 4 << 10; len(l.tail) > keep {
		l.tail = append([]byte(nil), l.tail[len(l.tail)-keep:]...)
	}
	return true
}

// answered looks at what the server sends, and reports whether the client may have it.
func (l *link) answered(b []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.deaf {
		return true
	}
	l.heard = append(l.heard, b...)
	if l.lost != nil && bytes.Contains(l.heard, []byte(`"seq":`)) {
		close(l.lost)
		l.lost = nil
		if l.cut {
			l.close()
		}
	}
	return false
}
