package pool

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-proxy/berth/backend"
)

// connState says who owns an exclusive connection.
//
//	      dialled
//	         │
//	         ▼    put: into the stack
//	┌──── held ◀───────────────────────▶ idle ────┐
//	│           take: out of the stack            │
//	│ lost, unfit, not wanted                     │ too long, hung up, too many
//	└──────────────────▶ closed ◀─────────────────┘
type connState int32

const (
	connHeld   connState = iota // by a lease, or by the goroutine that carries it in or out
	connIdle                    // by the pool's stack
	connClosed                  // by nothing
)

// errIdle is why an idle connection that the node spoke on was closed.
var errIdle = errors.New("the node sent bytes on an idle connection")

// conn is an exclusive connection to a node: it serves one session at a time.
type conn struct {
	pool     *Pool
	wire     wire
	nodeID   int64      // the node's number for the connection; 0: the node did not say
	password string     // with which it was let in
	local    netip.Addr // where the connection comes from; invalid: a unix socket
	epoch    uint32     // the pool's when the dial began

	// While the connection is idle, state is raced for: a Get takes the connection (idle → held);
	// the wheel, a hang-up or a smaller setting closes it (idle → closed). The winner owns the
	// connection and keeps the pool's accounts, the loser goes on to another. Only the owner leads
	// the state out of held.
	state     atomic.Int32 // a connState
	idleSince atomic.Int64 // clock() at the latest put; read by the wheel

	// Owned by the connection's owner.
	ledger  ledger
	used    bool // it has been leased
	watched bool // its alarm was set once

	alarm alarm[*conn] // guarded by evictor.mu
	seat  int          // in nodeLimit.conns, guarded by nodeLimit.mu

	// quiet is clock() when a revocable lease was last owed nothing, 0 while it is owed something.
	// The holder's loop writes it and the revoker reads it. The revoker may see an old value, so
	// the loop checks again before it asks the holder.
	quiet atomic.Int64

	mu     sync.Mutex // guards what follows; only awaitRoom blocks under it, and that releases it
	lease  *Lease     // gets the received bytes; nil: the connection is idle
	in     *buffer    // received bytes that the lease has not taken; nil: none
	hint   int        // at least so many bytes are missing from the next reply; 0: unknown
	lost   error      // why the connection is gone, or must go; nil: it is sound
	posted bool       // the lease is in its holder's inbox
	taken  int        // the descriptor that Take has made of the socket; 0: none
	probe  probe
	slow   bool       // the lease passes on a long reply: at most maxAhead of it is kept in in
	room   *sync.Cond // on mu; slow, lease or in has changed; nil: no reply was ever slow
}

// maxAhead is how many bytes of a long reply are received ahead of its client.
const maxAhead = 512 << 10

// awaitRoom makes netpoll's goroutine wait while a long reply arrives faster than its client reads.
// What the node sends meanwhile stays with netpoll. Called with c.mu locked.
func (c *conn) awaitRoom() {
	for c.slow && c.lease != nil && c.in != nil && len(c.in.b) >= maxAhead {
		c.room.Wait()
	}
}

// setSlow records whether a long reply is being passed on. Called with c.mu locked.
func (c *conn) setSlow(slow bool) {
	if slow && c.room == nil {
		c.room = sync.NewCond(&c.mu)
	}
	c.slow = slow
	if c.room != nil {
		c.room.Signal()
	}
}

// move changes the state. It returns false when another goroutine was faster, which may happen to an
// idle connection only.
func (c *conn) move(from, to connState) bool {
	if c.state.CompareAndSwap(int32(from), int32(to)) {
		return true
	}
	if from == connHeld {
		panic("an exclusive connection was taken from its owner")
	}
	return false
}

// outdated reports whether the pool was told to replace its connections since this one was dialled.
func (c *conn) outdated() bool { return c.epoch != c.pool.epoch.Load() }

// isLost reports whether the connection has hung up or has misbehaved. Its owner must close it then.
func (c *conn) isLost() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost != nil
}

// attach gives the received bytes to l. It returns false when the connection is lost. posted is true
// if l is in its holder's inbox already.
func (c *conn) attach(l *Lease, posted bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost != nil {
		return false
	}
	c.lease, c.posted = l, posted
	if c.probe.sent != 0 { // its reply comes before all that the holder will be owed
		c.probe.sent = 0
		l.skip = 1
		if c.probe.undoes {
			l.undoing = 1
		} else {
			l.probed = true
		}
	}
	return true
}

// detach is the opposite of attach. The lease has taken the first taken bytes of in; rest is how many
// bytes are left. The buffer becomes the caller's.
func (c *conn) detach(taken int) (in *buffer, rest int, lost error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	in = c.in
	if in != nil {
		rest = len(in.b) - taken
	}
	c.lease, c.in, c.hint, c.posted = nil, nil, 0, false
	c.setSlow(false)
	return in, rest, c.lost
}

// received takes bytes from the node, in a goroutine of netpoll's.
func (c *conn) received(b []byte) {
	c.mu.Lock()
	l := c.lease
	if l == nil {
		if c.probeAnswered(b) {
			c.mu.Unlock()
			return
		}
		if c.lost == nil {
			c.lost = errIdle
		}
		c.mu.Unlock()
		c.closeIdle("unexpected bytes")
		c.wire.shutdown()
		return
	}
	if c.in == nil {
		c.in = newBuffer()
	}
	c.in.append(b, c.hint)
	c.hint = max(0, c.hint-len(b))
	tell := !c.posted && c.hint == 0 // do not wake a loop for bytes that cannot complete a reply
	c.posted = c.posted || tell
	if tell {
		l.inbox.post(l)
	}
	c.awaitRoom()
	c.mu.Unlock()
}

// hungUp runs in a goroutine of netpoll's, after received was called for all that has arrived.
func (c *conn) hungUp() {
	c.mu.Lock()
	l := c.lease
	if c.taken != 0 {
		c.mu.Unlock()
		if l == nil { // over before netpoll let go
			_ = unix.Close(c.taken)
		} else {
			l.inbox.post(&takeover{l, c.taken})
		}
		return
	}
	if c.lost == nil {
		c.lost = backend.ErrHungUp
	}
	tell := l != nil && !c.posted
	c.posted = c.posted || tell
	c.mu.Unlock()
	if tell {
		l.inbox.post(l)
	}
	c.closeIdle("hung up")
}

// closeIdle closes the connection if it is idle, and reports whether it did.
func (c *conn) closeIdle(why string) bool {
	if !c.move(connIdle, connClosed) {
		return false
	}
	c.pool.closedIdle()
	c.pool.closed(c, why)
	return true
}

// start is when clock was 0.
var start = time.Now()

// clock returns the time since start: cheap to read, and it fits into an atomic.
func clock() time.Duration { return time.Since(start) }
