package pool

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-proxy/berth/backend"
)

// exclusiveState says to whom an exclusive connection belongs.
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
	connHeld   connState = iota // one owner: a lease, or the goroutine that carries it in or out
	connIdle                    // the pool's stack
	connClosed                  // of no owner
)

// errIdle is why an idle connection that the node spoke on was closed.
var errIdle = errors.New("the node sent bytes on an idle connection")

// exclusive is a connection that serves one session at a time.
type conn struct {
	pool   *Pool
	wire   wire
	nodeID int64 // by which the node knows it; 0: the node would not say

	// state is raced for by whoever wants the connection while it is idle: a Get takes it (idle →
	// held), the wheel, a hang-up or a smaller setting closes it (idle → closed). The winner owns
	// it and keeps the pool's accounts; the loser walks on. Out of held only the owner leads.
	state     atomic.Int32
	idleSince atomic.Int64 // clock() when it was put last; read by the wheel

	// Owned by whoever owns the connection.
	ledger  ledger
	used    bool // it has been leased
	watched bool // its alarm was set once

	alarm alarm[*conn] // guarded by the pool's evictor
	seat  int          // in the allowance's list, guarded by its mu

	// quiet is clock() when the holder of a revocable lease was last owed nothing, 0 while it is
	// owed something. Written on the holder's loop; the revoker, which reads it, has the holder
	// look again.
	quiet atomic.Int64

	mu     sync.Mutex // guards what follows; nothing blocks under it
	lease  *Lease     // whom received bytes are for
	in     *buffer    // received bytes the lease has not taken; nil: none
	hint   int        // bytes that are missing at least until the lease has anything to do; 0: unknown
	lost   error      // the connection is gone, or must be, and why
	posted bool       // the lease is in its holder's inbox
	probe  probe
	slow   bool       // the lease passes a long reply on: no more than maxAhead of it is kept here
	room   *sync.Cond // signalled when any of that changes; nil: nothing was ever slow
}

// maxAhead is how much of a long reply is received ahead of its client.
const maxAhead = 512 << 10

// awaitRoom has a goroutine of netpoll's wait while a slow client's reply comes faster than it
// reads. What the node sends meanwhile stays with netpoll. Called with c.mu locked.
func (c *conn) awaitRoom() {
	for c.slow && c.lease != nil && c.in != nil && len(c.in.b) >= maxAhead {
		c.room.Wait()
	}
}

// setSlow enters whether a long reply is being passed on. Called with c.mu locked.
func (c *conn) setSlow(slow bool) {
	if slow && c.room == nil {
		c.room = sync.NewCond(&c.mu)
	}
	c.slow = slow
	if c.room != nil {
		c.room.Signal()
	}
}

// move changes the state. It reports false when another goroutine was faster, which only an idle
// connection allows.
func (c *conn) move(from, to connState) bool {
	if c.state.CompareAndSwap(int32(from), int32(to)) {
		return true
	}
	if from == connHeld {
		panic("an exclusive connection left its owner behind its back")
	}
	return false
}

// isLost says whether the connection has hung up or has misbehaved. The owner closes it then.
func (c *conn) isLost() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost != nil
}

// attach makes l the one that received bytes are for. It reports false when the connection is lost.
// told: l is in its holder's inbox already.
func (c *conn) attach(l *Lease, told bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost != nil {
		return false
	}
	c.lease, c.posted = l, told
	if c.probe.sent != 0 { // its answer comes before all that the holder will be owed
		c.probe.sent = 0
		l.skip, l.probed = 1, true
	}
	return true
}

// detach ends what attach began. rest is how many received bytes nobody took beyond the first taken
// ones; the buffer with them all becomes the caller's.
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

// received runs in a goroutine of netpoll's.
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
	tell := !c.posted && c.hint == 0 // a loop is not woken for bytes that cannot make a whole reply
	c.posted = c.posted || tell
	if tell {
		l.inbox.post(l)
	}
	c.awaitRoom()
	c.mu.Unlock()
}

// hungUp runs in a goroutine of netpoll's, when everything that was received has been handed over.
func (c *conn) hungUp() {
	c.mu.Lock()
	if c.lost == nil {
		c.lost = backend.ErrHungUp
	}
	l := c.lease
	tell := l != nil && !c.posted
	c.posted = c.posted || tell
	c.mu.Unlock()
	if tell {
		l.inbox.post(l)
	}
	c.closeIdle("hung up")
}

// closeIdle closes the connection if it is idle. It reports whether it was.
func (c *conn) closeIdle(why string) bool {
	if !c.move(connIdle, connClosed) {
		return false
	}
	c.pool.closedIdle()
	c.pool.closed(c, why)
	return true
}

// start is the zero of clock.
var start = time.Now()

// clock is the time in the form that is cheapest to read and to keep in an atomic.
func clock() time.Duration { return time.Since(start) }
