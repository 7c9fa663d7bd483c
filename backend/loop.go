package backend

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-proxy/berth/router"
)

// Loop is the event loop that owns Pipes. All methods but Post and Enroll run on it.
type Loop interface {
	Enter()        // a visit begins: the clock is read
	Now() int64    // the clock, unix nanoseconds
	After()        // a visit ends: replies have been handed out
	Wake()         // asks for a Flush at the end of this turn
	Post(f func()) // runs f on the loop; any goroutine may call it

	// Enroll gives the loop a connected socket, whose events are owner's. Any goroutine but the
	// loop's may call it. It waits for the loop, and must not be called when the loop may have
	// ended.
	Enroll(conn net.Conn, owner any) error
}

// LinkSettings are what pipes and feeds look up while berth runs; shared by all loops.
type LinkSettings struct {
	dialTimeout atomic.Int64
	timeout     atomic.Int64

	loops sync.RWMutex // read-locked while a socket is enrolled; guards ended
	ended bool         // the loops end, or have ended
}

// SetDialTimeout bounds connecting to a node.
func (s *LinkSettings) SetDialTimeout(d time.Duration) { s.dialTimeout.Store(int64(d)) }

// SetTimeout bounds the wait for a reply on a pipe; 0: no bound.
func (s *LinkSettings) SetTimeout(d time.Duration) { s.timeout.Store(int64(d)) }

// Timeout is what SetTimeout set.
func (s *LinkSettings) Timeout() time.Duration { return time.Duration(s.timeout.Load()) }

// DialTimeout is what SetDialTimeout set.
func (s *LinkSettings) DialTimeout() time.Duration { return time.Duration(s.dialTimeout.Load()) }

// Places is who knows which node serves which slot. *Nodes is one.
type Places interface {
	Topology() *router.Topology
	Moved(slot uint16, addr string)
	Refresh()
}
