package admin

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// MaxConns is how many connections the endpoint has at one time, over all listeners. Whoever reaches
// the port is trusted with what it serves, and with no more: it may not take the descriptors that
// clients and nodes need.
const MaxConns = 64

// crowd is the connections of the endpoint. When there are too many, the one that has been without a
// request for longest is closed, so that connections that are kept open for nothing lock nobody out.
// With a request on each, the newest is closed.
type crowd struct {
	mu    sync.Mutex             // guards conns
	conns map[net.Conn]time.Time // since when the connection has no request; the zero time: it has one
}

// changed follows a connection through its states. It is a server's ConnState.
func (c *crowd) changed(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		c.makeRoom(conn)
	case http.StateActive:
		c.conns[conn] = time.Time{}
	case http.StateIdle:
		c.conns[conn] = time.Now()
	default:
		delete(c.conns, conn)
	}
}

// awaitEnd returns when no connection is left, or after so long.
func (c *crowd) awaitEnd(most time.Duration) {
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for late := time.Now().Add(most); time.Now().Before(late); <-poll.C {
		c.mu.Lock()
		left := len(c.conns)
		c.mu.Unlock()
		if left == 0 {
			return
		}
	}
}

// makeRoom lets a new connection in. Called with mu locked.
func (c *crowd) makeRoom(conn net.Conn) {
	if c.conns == nil {
		c.conns = map[net.Conn]time.Time{}
	}
	if len(c.conns) >= MaxConns {
		leaves := conn
		var idle time.Time
		for other, since := range c.conns {
			if !since.IsZero() && (leaves == conn || since.Before(idle)) {
				leaves, idle = other, since
			}
		}
		_ = leaves.Close() // the server says so again, when it notices
		delete(c.conns, leaves)
		if leaves == conn {
			return
		}
	}
	c.conns[conn] = time.Now()
}
