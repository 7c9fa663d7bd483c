package backend

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-proxy/berth/router"
)

// Loop is the event loop that owns pipes and feeds. All methods but Post and Enroll run on it.
type Loop interface {
	Enter() int64  // begins an entry into the loop's code: it reads the clock and returns what Now does
	Now() int64    // returns the clock, unix nanoseconds
	After()        // ends an entry: replies have been handed out
	Wake()         // asks for a Flush at the end of this turn
	Post(f func()) // runs f on the loop; any goroutine may call it

	// Enroll gives the loop a connected socket and passes the socket's events to owner. Any
	// goroutine but the loop's own may call it. It waits for the loop, so it must not be called
	// once the loop may have ended: see LinkSettings.Dial.
	Enroll(conn net.Conn, owner any) error
}

// LinkSettings are what pipes and feeds look up while berth runs. All loops share them.
type LinkSettings struct {
	Dialer *Dialer // set before the first loop begins, like the hooks of Logins
	Logins Logins

	dialTimeout atomic.Int64
	timeout     atomic.Int64

	loops sync.RWMutex // guards ended; read-locked while a loop is given a socket, which blocks
	ended bool         // the loops end, or have ended: they get no more sockets
}

// SetDialTimeout bounds how long connecting to a node may take.
func (s *LinkSettings) SetDialTimeout(d time.Duration) { s.dialTimeout.Store(int64(d)) }

// SetTimeout bounds how long a node may owe a reply; 0: no bound.
func (s *LinkSettings) SetTimeout(d time.Duration) { s.timeout.Store(int64(d)) }

// Timeout returns what SetTimeout set.
func (s *LinkSettings) Timeout() time.Duration { return time.Duration(s.timeout.Load()) }

// DialTimeout returns what SetDialTimeout set.
func (s *LinkSettings) DialTimeout() time.Duration { return time.Duration(s.dialTimeout.Load()) }

// Places knows which node serves which slot. nodes.Nodes is one.
type Places interface {
	Topology() *router.Topology
	Refresh() // asks the nodes for the topology again, soon
	Lost()    // is Refresh after a connection was lost or refused: another node may be taking over
}
