package pool

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
)

// class says how long leases are held. When there are not enough, each class has a queue of its own.
type class uint8

const (
	brief     class = iota // WATCH … EXEC, while a program thinks; long values, while they travel
	long                   // blocking commands, MONITOR, a client's own subscriptions: until the client ends them
	greedy                 // the same, of a user or an address that has its share of them: see shares
	greediest              // of both
	numClasses
)

func (r Reason) class() class {
	if r == ReasonTxn || r == ReasonLarge {
		return brief
	}
	return long
}

// nodeLimit bounds the exclusive connections to one node, those of all its pools together. Leases
// of class long may hold only a part of them, so that blocking commands never keep a transaction
// from its connection.
//
//	most ├──────── long, BlockingShare of it ────────┤── brief only ──┤
//
// When the limit is reached and a Waiter needs a connection, the idle connections of the node's
// other pools are closed first. Then the revoker asks for the WATCHes that have been idle longest.
type nodeLimit struct {
	settings *Settings

	total   atomic.Int32             // connections of all pools: idle, leased, being dialled; grows under mu only
	long    atomic.Int32             // leases of class long, greedy and greediest, of all pools
	shares  shares                   // whose these are
	waiting [numClasses]atomic.Int32 // queued Waiters of all pools; written under mu, read without
	derived atomic.Int32             // the limit if the settings have none; 0: unknown

	// mu guards what follows and, in other structs,
	//
	//	Pool     queue, dialing, deadline, of every pool of the node
	//	Waiter   node, dialed, lease, err, until the answer is posted
	//	conn     seat
	//
	// because the oldest Waiter of the node, in whichever pool, has the first claim to a connection.
	// Nothing blocks under it. A Get that hits, and a Detach without a Waiter, do not take it.
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

// most is how many connections there may be; 0: any number.
func (nl *nodeLimit) most(s *Values) int {
	if s.MaxTotal > 0 {
		return s.MaxTotal
	}
	return int(nl.derived.Load())
}

// mostLong is how many leases of class long there may be; 0: any number.
func (nl *nodeLimit) mostLong(s *Values) int {
	n := nl.most(s)
	if n == 0 {
		return 0
	}
	return max(1, n*s.BlockingShare/100)
}

// greedPart is the part of the leases of class long that a greedy class may not have: one in so many
// for each step of greed.
const greedPart = 16

// mostOf is how many leases of class long, greedy and greediest there may be for one more of class k
// to begin; 0: any number.
func (nl *nodeLimit) mostOf(k class, s *Values) int {
	n := nl.mostLong(s)
	return n - n*int(k-long)/greedPart
}

// full reports whether no connection may be added.
func (nl *nodeLimit) full(s *Values) bool {
	n := nl.most(s)
	return n > 0 && int(nl.total.Load()) >= n
}

// over reports whether there are too many connections.
func (nl *nodeLimit) over(s *Values) bool {
	n := nl.most(s)
	return n > 0 && int(nl.total.Load()) > n
}

// enter counts a lease that is about to begin. It returns false when its class may have no more.
func (nl *nodeLimit) enter(k class, s *Values) bool {
	if k == brief {
		return true
	}
	limit := nl.mostOf(k, s)
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
	if k != brief {
		nl.long.Add(-1)
	}
}

// leave takes what has ended, or was not to be had, out of the shares of its party.
func (nl *nodeLimit) leave(k class, who party) {
	if k != brief {
		nl.shares.leave(who)
	}
}

// room is how many more leases of a class may begin, if there are connections for them.
func (nl *nodeLimit) room(k class, s *Values) int {
	if k == brief || nl.mostLong(s) == 0 {
		return math.MaxInt
	}
	return max(0, nl.mostOf(k, s)-int(nl.long.Load()))
}

// The part of a node's maxclients that is left to clients yet to come.
const (
	marginShare = 10 // one in so many
	leastMargin = 8  // clients
)

// learn derives the limit from the node's maxclients: it takes off what others use now, and a
// margin. A node that does not say how many clients it takes gets no limit.
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

// remove is the opposite of add, for a pool that is closed. Its leases count until they end.
func (nl *nodeLimit) remove(p *Pool) {
	nl.mu.Lock()
	nl.pools = slices.DeleteFunc(nl.pools, func(other *Pool) bool { return other == p })
	nl.mu.Unlock()
}

// seat lists a connection that has been dialled.
func (nl *nodeLimit) seat(c *conn) {
	nl.mu.Lock()
	c.seat = len(nl.conns)
	nl.conns = append(nl.conns, c)
	nl.mu.Unlock()
}

// unseat is the opposite of seat, for a connection that is closed.
func (nl *nodeLimit) unseat(c *conn) {
	nl.mu.Lock()
	last := len(nl.conns) - 1
	nl.conns[c.seat] = nl.conns[last]
	nl.conns[c.seat].seat = c.seat
	nl.conns[last] = nil
	nl.conns = nl.conns[:last]
	nl.mu.Unlock()
}

// waiters is how many Waiters are queued in all pools.
func (nl *nodeLimit) waiters() int { return sum(&nl.waiting) }

// sum adds up the counts of all classes.
func sum(counts *[numClasses]atomic.Int32) (n int) {
	for k := range counts {
		n += int(counts[k].Load())
	}
	return n
}

// makeRoom serves the Waiters in every pool of the node, after a connection has been closed or a
// lease of class long has ended.
func (nl *nodeLimit) makeRoom() {
	if nl.waiters() == 0 {
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

// dialForWaiters starts a dial for each Waiter without one, the oldest first, within the limits.
func (nl *nodeLimit) dialForWaiters() {
	for nl.waiters() > 0 && nl.dialForOne() {
	}
}

// dialForOne starts a dial on behalf of the oldest Waiter without one. put decides which Waiter gets
// the connection. It returns false if there is no such Waiter, or no room.
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
	nl.revoker.arm(s, revokeAfter) // this may have been the last connection: others may have to give theirs back
	return true
}

// undialed returns the oldest Waiter of the node that needs a dial and could have it if there were
// room; nil: there is none. Called with mu locked.
func (nl *nodeLimit) undialed(s *Values) *Waiter {
	var oldest *Waiter
	for _, p := range nl.pools {
		if w := p.undialed(s); w != nil && (oldest == nil || w.since < oldest.since) {
			oldest = w
		}
	}
	return oldest
}

// yields reports whether a free connection of p must be closed for another user: another pool of the
// node has the oldest Waiter, and can dial for it only if a connection goes.
func (nl *nodeLimit) yields(p *Pool, s *Values) bool {
	waiting := nl.waiters()
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

// relieve closes an idle connection of another pool if a Waiter of p needs a dial and the limit is
// reached.
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
