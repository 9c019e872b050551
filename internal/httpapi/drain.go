package httpapi

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// unused keeps the connections on which no request has come yet. Clients open some ahead of need, and net/http's Shutdown takes each for one that is about to ask,
// for 5 s: longer than a stop may take.
type unused struct {
	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// unusedGrace is how long such a connection may still bring its request when the server stops.
const unusedGrace = 250 * time.Millisecond

func (u *unused) watch(c net.Conn, state http.ConnState) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if state != http.StateNew {
		delete(u.conns, c)
		return
	}
	if u.conns == nil {
		u.conns = make(map[net.Conn]struct{})
	}
	u.conns[c] = struct{}{}
}

func (u *unused) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for c := range u.conns {
		_ = c.Close() // nothing was sent on it
	}
}
