package mailsink

import (
	"net"
	"sync"
	"time"
)

// listener hands out at most max connections at a time and can end them gently: a connection that is being answered gets its answer, and
// ends when it would read the next command.
type listener struct {
	net.Listener
	max int

	mu     sync.Mutex
	open   map[*conn]struct{}
	ending bool
}

func newListener(inner net.Listener, limit int) *listener {
	return &listener{Listener: inner, max: limit, open: make(map[*conn]struct{})}
}

// Accept returns the next connection. One too many is told so, in the words of SMTP, and is closed.
func (l *listener) Accept() (net.Conn, error) {
	for {
		inner, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := l.admit(inner); c != nil {
			return c, nil
		}
		_ = inner.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = inner.Write([]byte("421 4.3.2 Too many connections, try again later\r\n"))
		_ = inner.Close() // it never was ours
	}
}

func (l *listener) admit(inner net.Conn) *conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ending || len(l.open) >= l.max {
		return nil
	}
	c := &conn{Conn: inner, owner: l}
	l.open[c] = struct{}{}
	return c
}

// end lets every connection finish what it is answering. It can be called more than once.
func (l *listener) end() {
	l.mu.Lock()
	l.ending = true
	conns := make([]*conn, 0, len(l.open))
	for c := range l.open {
		conns = append(conns, c)
	}
	l.mu.Unlock()
	for _, c := range conns {
		c.endReading()
	}
}

type conn struct {
	net.Conn
	owner *listener

	mu     sync.Mutex
	ending bool
}

// past is a deadline that has gone by.
func past() time.Time { return time.Unix(1, 0) }

func (c *conn) endReading() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ending = true
	_ = c.Conn.SetReadDeadline(past()) // a closed connection has ended anyway
}

// SetReadDeadline is what the SMTP server calls before each command; once the connection is to end, no new time is granted.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending {
		t = past()
	}
	return c.Conn.SetReadDeadline(t)
}

func (c *conn) Close() error {
	c.owner.mu.Lock()
	delete(c.owner.open, c)
	c.owner.mu.Unlock()
	return c.Conn.Close()
}
