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

func newNodeLimit(settings *Settings) *nodeLimit {
	nl := &nodeLimit{settings: settings}
	nl.revoker.init(nl)
	return nl
}

// limit is how many connections there may be; 0: any number.
func (nl *nodeLimit) most(s *Values) int {
	if s.MaxTotal > 0 {
		return s.MaxTotal
	}
	return int(nl.derived.Load())
}

// longLimit is how many leases of class long there may be; 0: any number.
func (nl *nodeLimit) mostLong(s *Values) int {
	n := nl.most(s)
	if n == 0 {
		return 0
	}
	return max(1, n*s.BlockingShare/100)
}

// full says that no connection may be added.
func (nl *nodeLimit) full(s *Values) bool {
	n := nl.most(s)
	return n > 0 && int(nl.total.Load()) >= n
}

// over says that there is one too many.
func (nl *nodeLimit) over(s *Values) bool {
	n := nl.most(s)
	return n > 0 && int(nl.total.Load()) > n
}

// enter counts a lease that is about to begin. It reports false when its class may have no more.
func (nl *nodeLimit) enter(k class, s *Values) bool {
	if k == brief {
		return true
	}
	limit := nl.mostLong(s)
	for {
		n := nl.long.Load()
		if limit > 0 && int(n) >= limit {
			return false
		}
		if nl.long.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// exit is the opposite of enter.
func (nl *nodeLimit) exit(k class) {
	if k == long {
		nl.long.Add(-1)
	}
}

// room is how many leases of a class may begin now, connections permitting.
func (nl *nodeLimit) room(k class, s *Values) int {
	limit := nl.mostLong(s)
	if k == brief || limit == 0 {
		return math.MaxInt
	}
	return max(0, limit-int(nl.long.Load()))
}

// Shares of maxclients.
const (
	marginShare = 10 // one part in so many is left to those who come besides
	leastMargin = 8
)

// learn derives the limit from what the node says: of its maxclients, what others use now and a
// margin are not ours. A node that does not say has no limit of berth's.
func (nl *nodeLimit) learn(maxClients, connected int) {
	n := 0
	if maxClients > 0 {
		others := max(0, connected-int(nl.total.Load()))
		n = max(1, maxClients-others-max(maxClients/marginShare, leastMargin))
	}
	if nl.derived.Swap(int32(min(n, math.MaxInt32))) == int32(n) || nl.settings.Load().MaxTotal > 0 {
		return
	}
	nl.mu.Lock()
	pools := slices.Clone(nl.pools)
	nl.mu.Unlock()
	for _, p := range pools {
		p.trim()
	}
	nl.makeRoom()
}

// add makes p one of the node's pools.
func (nl *nodeLimit) add(p *Pool) {
	nl.mu.Lock()
	nl.pools = append(nl.pools, p)
	nl.mu.Unlock()
}

// remove is for a pool that is closed. Its leases count until they end.
func (nl *nodeLimit) remove(p *Pool) {
	nl.mu.Lock()
	nl.pools = slices.DeleteFunc(nl.pools, func(other *Pool) bool { return other == p })
	nl.mu.Unlock()
}

// seat enters a connection that has been dialled.
func (nl *nodeLimit) seat(c *conn) {
	nl.mu.Lock()
	c.seat = len(nl.conns)
	nl.conns = append(nl.conns, c)
	nl.mu.Unlock()
}

// unseat takes out one that is closed.
func (nl *nodeLimit) unseat(c *conn) {
	nl.mu.Lock()
	last := len(nl.conns) - 1
	nl.conns[c.seat] = nl.conns[last]
	nl.conns[c.seat].seat = c.seat
	nl.conns[last] = nil
	nl.conns = nl.conns[:last]
	nl.mu.Unlock()
}

// makeRoom serves the waiters, in every pool of the node, with what has become free: a connection
// less, or a lease of class long less.
func (nl *nodeLimit) makeRoom() {
	if nl.waiting[brief].Load()+nl.waiting[long].Load() == 0 {
		return
	}
	nl.mu.Lock()
	var waiting []*Pool
	for _, p := range nl.pools {
		if p.waiters() > 0 {
			waiting = append(waiting, p)
		}
	}
	nl.mu.Unlock()
	for _, p := range waiting {
		p.match()
	}
	nl.dialForWaiters()
}

// dialForWaiters starts as many dials as there are waiters without one, the oldest first, within
// the limits.
func (nl *nodeLimit) dialForWaiters() {
	for nl.waiting[brief].Load()+nl.waiting[long].Load() > 0 && nl.dialForOne() {
	}
}

// dialForOne starts a dial on behalf of the oldest waiter that has none. Whom the connection serves
// is put's decision.
func (nl *nodeLimit) dialForOne() bool {
	s := nl.settings.Load()
	nl.mu.Lock()
	defer nl.mu.Unlock()
	if nl.full(s) {
		return false
	}
	w := nl.undialed(s)
	if w == nil {
		return false
	}
	w.dialed = true
	w.pool.startDial(w, w.want)
	nl.revoker.arm(s, revokeAfter) // for those whom this leaves without
	return true
}

// undialed is the oldest waiter of the node for whom a connection would have to be dialled, and
// could be if there were room; nil: there is none. Under mu.
func (nl *nodeLimit) undialed(s *Values) *Waiter {
	var oldest *Waiter
	for _, p := range nl.pools {
		if w := p.undialed(s); w != nil && (oldest == nil || w.since < oldest.since) {
			oldest = w
		}
	}
	return oldest
}

// yields says whether a connection of p's that is free is to be closed for the sake of another
// user: one of the node's other pools has the oldest waiter, and could only dial for it if a
// connection went.
func (nl *nodeLimit) yields(p *Pool, s *Values) bool {
	waiting := int(nl.waiting[brief].Load() + nl.waiting[long].Load())
	if waiting == 0 || !nl.full(s) || waiting == p.waiters() {
		return false
	}
	nl.mu.Lock()
	defer nl.mu.Unlock()
	w := nl.undialed(s)
	if w == nil || w.pool == p {
		return false
	}
	own := p.oldest(s)
	return own == nil || w.since < own.since
}

// relieve closes an idle connection of another pool for a waiter of p's, if there are as many as
// there may be.
func (nl *nodeLimit) relieve(p *Pool) {
	if p.waiters() == 0 || !nl.full(nl.settings.Load()) {
		return
	}
	nl.mu.Lock()
	var others []*Pool
	if w := p.undialed(nl.settings.Load()); w != nil {
		for _, other := range nl.pools {
			if other != p && other.idle.Load() > 0 {
				others = append(others, other)
			}
		}
	}
	nl.mu.Unlock()
	for _, other := range others {
		if c := other.take(); c != nil {
			other.discard(c, "for another user")
			return
		}
	}
}
