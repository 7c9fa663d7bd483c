package pool

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
)

// class is what leases are told apart by when there are not enough: each class waits in an order of
// its own.
type class uint8

const (
	brief class = iota // WATCH … EXEC: while a program thinks; long values: while they travel
	long               // blocking commands, MONITOR, subscribers of their own: for as long as the client likes
	numClasses
)

func (r Reason) class() class {
	if r == ReasonTxn || r == ReasonLarge {
		return brief
	}
	return long
}

// allowance is how many exclusive connections a node is burdened with, by all its pools together.
// Leases of class long may hold a part of them only, so that those who block never keep a
// transaction from its connection.
//
//	limit ├──────── long, BlockingShare of it ────────┤── brief only ──┤
//
// When the limit is reached, and a pool needs a connection for somebody who waits, the idle
// connections of the node's other pools go first; then the revoker asks for the WATCHes that have
// been idle longest.
type nodeLimit struct {
	settings *Settings

	total   atomic.Int32             // of all pools: idle, leased and being dialled; grows under mu only
	long    atomic.Int32             // leases of class long
	waiting [numClasses]atomic.Int32 // Waiters of all pools, for those who only look
	derived atomic.Int32             // what the node is thought to bear if the settings do not say; 0: unknown

	// mu guards what follows, and the queues and dials of all the node's pools; nothing blocks
	// under it. The way of a Get that hits and of a Detach that nobody waits for does without it.
	mu      sync.Mutex
	pools   []*Pool
	conns   []*conn // of all pools, in no order
	revoker revoker
}

func newAllowance(settings *Settings) *nodeLimit {
	a := &nodeLimit{settings: settings}
	a.revoker.init(a)
	return a
}

// limit is how many connections there may be; 0: any number.
func (a *nodeLimit) limit(s *Values) int {
	if s.MaxTotal > 0 {
		return s.MaxTotal
	}
	return int(a.derived.Load())
}

// longLimit is how many leases of class long there may be; 0: any number.
func (a *nodeLimit) longLimit(s *Values) int {
	n := a.limit(s)
	if n == 0 {
		return 0
	}
	return max(1, n*s.BlockingShare/100)
}

// full says that no connection may be added.
func (a *nodeLimit) full(s *Values) bool {
	n := a.limit(s)
	return n > 0 && int(a.total.Load()) >= n
}

// over says that there is one too many.
func (a *nodeLimit) over(s *Values) bool {
	n := a.limit(s)
	return n > 0 && int(a.total.Load()) > n
}

// enter counts a lease that is about to begin. It reports false when its class may have no more.
func (a *nodeLimit) enter(k class, s *Values) bool {
	if k == brief {
		return true
	}
	limit := a.longLimit(s)
	for {
		n := a.long.Load()
		if limit > 0 && int(n) >= limit {
			return false
		}
		if a.long.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// exit is the opposite of enter.
func (a *nodeLimit) exit(k class) {
	if k == long {
		a.long.Add(-1)
	}
}

// room is how many leases of a class may begin now, connections permitting.
func (a *nodeLimit) room(k class, s *Values) int {
	limit := a.longLimit(s)
	if k == brief || limit == 0 {
		return math.MaxInt
	}
	return max(0, limit-int(a.long.Load()))
}

// Shares of maxclients.
const (
	marginShare = 10 // one part in so many is left to those who come besides
	leastMargin = 8
)

// learn derives the limit from what the node says: of its maxclients, what others use now and a
// margin are not ours. A node that does not say has no limit of berth's.
func (a *nodeLimit) learn(maxClients, connected int) {
	n := 0
	if maxClients > 0 {
		others := max(0, connected-int(a.total.Load()))
		n = max(1, maxClients-others-max(maxClients/marginShare, leastMargin))
	}
	if a.derived.Swap(int32(min(n, math.MaxInt32))) == int32(n) || a.settings.Load().MaxTotal > 0 {
		return
	}
	a.mu.Lock()
	pools := slices.Clone(a.pools)
	a.mu.Unlock()
	for _, p := range pools {
		p.trim()
	}
	a.makeRoom()
}

// add makes p one of the node's pools.
func (a *nodeLimit) add(p *Pool) {
	a.mu.Lock()
	a.pools = append(a.pools, p)
	a.mu.Unlock()
}

// remove is for a pool that is closed. Its leases count until they end.
func (a *nodeLimit) remove(p *Pool) {
	a.mu.Lock()
	a.pools = slices.DeleteFunc(a.pools, func(other *Pool) bool { return other == p })
	a.mu.Unlock()
}

// seat enters a connection that has been dialled.
func (a *nodeLimit) seat(c *conn) {
	a.mu.Lock()
	c.seat = len(a.conns)
	a.conns = append(a.conns, c)
	a.mu.Unlock()
}

// unseat takes out one that is closed.
func (a *nodeLimit) unseat(c *conn) {
	a.mu.Lock()
	last := len(a.conns) - 1
	a.conns[c.seat] = a.conns[last]
	a.conns[c.seat].seat = c.seat
	a.conns[last] = nil
	a.conns = a.conns[:last]
	a.mu.Unlock()
}

// makeRoom serves the waiters, in every pool of the node, with what has become free: a connection
// less, or a lease of class long less.
func (a *nodeLimit) makeRoom() {
	if a.waiting[brief].Load()+a.waiting[long].Load() == 0 {
		return
	}
	a.mu.Lock()
	var waiting []*Pool
	for _, p := range a.pools {
		if p.waiters() > 0 {
			waiting = append(waiting, p)
		}
	}
	a.mu.Unlock()
	for _, p := range waiting {
		p.match()
	}
	a.dialForWaiters()
}

// dialForWaiters starts as many dials as there are waiters without one, the oldest first, within
// the limits.
func (a *nodeLimit) dialForWaiters() {
	for a.waiting[brief].Load()+a.waiting[long].Load() > 0 && a.dialForOne() {
	}
}

// dialForOne starts a dial on behalf of the oldest waiter that has none. Whom the connection serves
// is put's decision.
func (a *nodeLimit) dialForOne() bool {
	s := a.settings.Load()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.full(s) {
		return false
	}
	w := a.undialed(s)
	if w == nil {
		return false
	}
	w.dialed = true
	w.pool.startDial(w, w.want)
	a.revoker.arm(s, revokeAfter) // for those whom this leaves without
	return true
}

// undialed is the oldest waiter of the node for whom a connection would have to be dialled, and
// could be if there were room; nil: there is none. Under mu.
func (a *nodeLimit) undialed(s *Values) *Waiter {
	var oldest *Waiter
	for _, p := range a.pools {
		if w := p.undialed(s); w != nil && (oldest == nil || w.since < oldest.since) {
			oldest = w
		}
	}
	return oldest
}

// yields says whether a connection of p's that is free is to be closed for the sake of another
// user: one of the node's other pools has the oldest waiter, and could only dial for it if a
// connection went.
func (a *nodeLimit) yields(p *Pool, s *Values) bool {
	waiting := int(a.waiting[brief].Load() + a.waiting[long].Load())
	if waiting == 0 || !a.full(s) || waiting == p.waiters() {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.undialed(s)
	if w == nil || w.pool == p {
		return false
	}
	own := p.oldest(s)
	return own == nil || w.since < own.since
}

// relieve closes an idle connection of another pool for a waiter of p's, if there are as many as
// there may be.
func (a *nodeLimit) relieve(p *Pool) {
	if p.waiters() == 0 || !a.full(a.settings.Load()) {
		return
	}
	a.mu.Lock()
	var others []*Pool
	if w := p.undialed(a.settings.Load()); w != nil {
		for _, other := range a.pools {
			if other != p && other.idle.Load() > 0 {
				others = append(others, other)
			}
		}
	}
	a.mu.Unlock()
	for _, other := range others {
		if c := other.take(); c != nil {
			other.discard(c, "for another user")
			return
		}
	}
}
