package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/telemetry"
)

// stay is a session's use of a lease, from asking the pool to giving back.
//
// A WATCH and CLIENT TRACKING hold the lease. Without them it goes back with the last reply that it
// owes: that of a blocking command, of a long request, of a transaction.
//
// Owned by the session's loop.
type stay struct {
	s          *session
	addr       string
	state      stayState
	reason     pool.Reason
	identity   backend.Identity // what the lease has been turned to
	lease      *pool.Lease
	waiter     *pool.Waiter
	err        error      // why there is no lease: for the request that asked
	owed       []stayOwed // replies the lease owes, oldest first
	redirected *request   // to be sent as soon as attached: it was redirected
	asking     bool       // with ASKING first
	sentAt     int64      // when something was last put on the lease, unix nanoseconds
	movedAt    int64      // when a part of a long reply last came, unix nanoseconds
	slot       int        // of the watched keys
	watching   bool       // between WATCH and EXEC, DISCARD, UNWATCH
	broken     bool       // what was watched is lost: EXEC answers nil
	dirty      bool       // in loop.staying
	leaseWait  *leaseWait // the blocking command that waits for the lease
	told       int        // commands of the client's CLIENT TRACKING that the node was told
	ear        *ear       // of a client that redirects its invalidations; else nil
	late       int        // bytes of invalidations in owed
	flushed    bool       // the node has said that all keys are gone, which the client is not told yet
}

// stayOwed is a request on a lease and how many replies it is still owed; a nil request swallows
// them.
type stayOwed struct {
	r    *request
	left int
	must telemetry.Reason // why the session ends if one of them is an error; NotClosed: it goes on
	then func()           // called after the last reply
	late [][]byte         // invalidations that the ear has heard meanwhile: they follow the last reply
}

// stayState is where a stay is.
//
//	new ─▶ asking ◀───── another node ─────┐
//	        │  └──────────▶ attached ──────┤◀─▶ kept (pool off, or the client tracks at several nodes)
//	        ▼                  │ └─▶ ended │
//	      failed ──▶ ended     ▼           │
//	        └────────────────▶ lost ───────┘ (a WATCH is broken: its EXEC answers nil)
type stayState uint8

const (
	stayNew      stayState = iota
	stayAsking             // the pool has no lease yet
	stayAttached           // there is a lease
	stayKept               // there is one, which the session does not use now
	stayFailed             // the pool had none: err says why
	stayLost               // the lease was lost, or taken back
	stayEnded              // the lease was given back, or is not wanted any more
)

// stayMoves lists where each state leads.
var stayMoves = [...][]stayState{
	stayNew:      {stayAsking, stayAttached},
	stayAsking:   {stayAsking, stayAttached, stayFailed, stayLost, stayEnded},
	stayAttached: {stayAsking, stayAttached, stayKept, stayLost, stayEnded},
	stayKept:     {stayAttached, stayLost, stayEnded},
	stayFailed:   {stayAsking, stayAttached, stayLost, stayEnded},
	stayLost:     {stayAsking, stayAttached, stayEnded},
	stayEnded:    {},
}

// move is the only write of a stay's state.
func (st *stay) move(to stayState) {
	if !slices.Contains(stayMoves[st.state], to) {
		panic(fmt.Sprintf("a stay went from state %d to %d", st.state, to))
	}
	st.state = to
	if to == stayLost || to == stayEnded {
		st.dropEar()
	}
}

// owes reports whether replies are to come of the lease, or of the one that a redirected request
// waits for.
func (st *stay) owes() bool { return len(st.owed) > 0 || st.redirected != nil }

// leaves reports whether the lease goes back as soon as it owes nothing.
func (st *stay) leaves() bool {
	return st.state == stayAttached && !st.watching && !st.tracks() && st.s.pause != pauseBlocked
}

// leaseAnswer is what stayAt says.
type leaseAnswer uint8

const (
	leaseReady   leaseAnswer = iota
	leaseWaiting             // for the pool
	leaseBusy                // for the replies of a lease to another node
	leaseFailed              // stay.err says why
)

// goesOnLease reports whether ordinary commands for addr must use the lease. They must while WATCH
// is unanswered, so that they cannot overtake it. Afterwards the pipe is cheaper and just as safe:
// WATCH has run, so EXEC checks what they read.
func (st *stay) goesOnLease(addr string) bool {
	return st != nil && st.lease != nil && st.addr == addr && st.watching && len(st.owed) > 0
}

// stayAt gets the session a lease to a node, or reports that it has to wait for one.
func (s *session) stayAt(addr string, reason pool.Reason) leaseAnswer {
	if st := s.stay; st != nil && st.addr != addr && !st.watching {
		switch {
		case st.owes():
			return leaseBusy
		case st.tracks() && st.lease != nil:
			st.keep()
		default:
			st.endWatch()
		}
	}
	st := s.stay
	switch {
	case st != nil:
	case s.kept[addr] != nil:
		st = s.kept[addr]
		delete(s.kept, addr)
		s.stay = st
		if st.state == stayKept {
			st.move(stayAttached)
		}
		if st.lease != nil {
			st.rebind(s.pipes.Identity())
		}
	default:
		st = &stay{s: s, addr: addr, reason: reason, slot: noSlot}
		s.stay = st
		st.ask()
	}
	switch st.state {
	case stayAttached:
		return leaseReady
	case stayFailed:
		return leaseFailed
	}
	return leaseWaiting
}

// gone reports that there is no lease for the stay at a node, and none on the way: what it watched
// is lost, but its client does not know yet.
func (st *stay) gone(addr string) bool {
	return st.addr != addr || st.state == stayLost
}

// replaced reports that another node is the primary now, where there are no slots. Nobody will say
// MOVED: the old one would execute what it is sent, but what the session reads, and what others
// write, is with the new one.
func (st *stay) replaced(t *router.Topology) bool {
	return !t.Sharded() && st.lease != nil && st.addr != t.Primary(0)
}

// goTo gives up the lease, with what it watches, for one to another node.
func (st *stay) goTo(addr string) {
	switch {
	case st.waiter != nil:
		st.waiter.Cancel()
	case st.lease != nil:
		st.lease.Detach()
		st.forget()
	}
	if other := st.s.kept[addr]; other != nil { // the client needs one lease to a node, no more
		other.closeKept("attached again")
		delete(st.s.kept, addr)
	}
	st.addr, st.lease, st.waiter, st.err = addr, nil, nil, nil
	st.ask()
}

// ask asks the pool for a lease.
func (st *stay) ask() {
	s := st.s
	st.identity = s.pipes.Identity()
	pool := s.loop.srv.pools.For(st.addr, st.identity)
	st.lease, st.waiter = pool.Get(st, s.loop.inbox, st.identity, st.reason)
	if st.lease == nil {
		st.move(stayAsking)
	} else {
		st.move(stayAttached)
	}
}

// Owner is where the client is.
func (st *stay) Owner() netip.Addr { return backend.HostOf(st.s.conn.RemoteAddr()) }

// Attached is the pool's late answer.
func (st *stay) Attached(l *pool.Lease, err error) {
	st.lease, st.waiter = l, nil
	if st.s.kept[st.addr] == st {
		st.attachedAside(err)
		return
	}
	r := st.redirected
	st.redirected = nil
	switch {
	case err != nil && r != nil:
		st.fail(r, err)
	case err != nil:
		st.err = err
		st.move(stayFailed)
	default:
		st.move(stayAttached)
		if id := st.s.pipes.Identity(); st.identity != id { // it was asked for aside, before the client changed
			st.rebind(id)
		}
		if r != nil {
			st.resend(r)
		}
	}
	st.s.resumeFrom(pauseLeasing)
}

// endWatch ends the WATCH. A lease that nothing else holds goes back when it owes nothing; its
// ledger knows what to undo.
func (st *stay) endWatch() {
	st.watching = false
	switch {
	case st.tracks() && st.lease != nil:
		st.unwatchNode()
	case !st.owes():
		st.detach()
	}
}

// unwatchNode has the node forget a WATCH that its client has ended, on a lease that is used
// further.
func (st *stay) unwatchNode() {
	if st.lease != nil && !st.watching && st.lease.Has(pool.DirtWatch) {
		st.send(nil, unwatchCommand, 1)
		st.lease.Clear(pool.DirtWatch)
	}
}

// detach gives the lease back. With the pool switched off the client keeps it until it goes.
func (st *stay) detach() {
	s := st.s
	if s.stay == st {
		s.stay = nil
	}
	lease := st.lease
	switch {
	case lease == nil:
		if st.waiter != nil {
			st.waiter.Cancel()
			st.waiter = nil
		}
		st.move(stayEnded)
	case s.loop.srv.config().PoolEnabled:
		st.lease = nil
		lease.Detach()
		st.move(stayEnded)
	default:
		lease.Clear(pool.DirtWatch)
		st.send(nil, unwatchCommand, 1) // whether it watches or not: it is the client's own connection
		st.keep()
	}
}

// keep sets the lease aside: with the pool switched off it is the client's own, and a client that
// tracks has one to each node.
func (st *stay) keep() {
	s := st.s
	if s.kept == nil {
		s.kept = map[string]*stay{}
	}
	st.move(stayKept)
	s.kept[st.addr] = st
	if s.stay == st {
		s.stay = nil
	}
}

// lose says that the lease is gone, and returns what it owed. A WATCH on it is broken; nothing else
// is left to do.
func (st *stay) lose() (owed []stayOwed) {
	s := st.s
	owed = st.owed
	st.lease, st.owed = nil, nil
	st.told, st.late, st.flushed = 0, 0, false
	st.move(stayLost)
	switch {
	case s.kept[st.addr] == st:
		delete(s.kept, st.addr)
	case st.watching:
		st.broken = true
	case s.stay == st:
		s.stay = nil
	}
	return owed
}

var unwatchCommand = codec.AppendCommandString(nil, "UNWATCH")

// leaveStay gives back all that the session holds or waits for, because the client is gone. A lease
// that owes something is closed at once, so that the node sees the client leave before the next
// element arrives.
func (s *session) leaveStay(why string) {
	s.dropKept(why)
	if t := s.tracking; t != nil && t.asks != nil {
		s.loop.dropRequest(t.asks)
		t.asks, t.opens = nil, nil
	}
	st := s.stay
	if st == nil {
		return
	}
	s.stay = nil
	st.dropEar()
	switch {
	case st.waiter != nil:
		st.waiter.Cancel()
		if st.redirected != nil {
			s.loop.dropRequest(st.redirected)
		}
	case st.lease == nil:
	case len(st.owed) == 0 && s.loop.srv.config().PoolEnabled:
		st.lease.Detach()
	default:
		st.lease.Close(why)
		for _, o := range st.owed {
			if o.r != nil {
				s.loop.dropRequest(o.r)
			}
		}
	}
}

// attach readies the session to send on a lease to the owner of the request's keys. ready false:
// the request was answered (taken), or has to wait (not taken).
func (s *session) attach(cmd *router.Command, args [][]byte, reason pool.Reason) (ready, taken bool) {
	t := s.loop.srv.nodes.Topology()
	shard, text := s.place(t, cmd, args)
	if text != "" {
		return false, s.refuse(cmd, text)
	}
	if !s.turnTo(onLease, t) {
		return false, false
	}
	addr := t.Shards()[shard].Primary
	if st := s.stay; st != nil && st.watching && st.gone(addr) {
		switch {
		case !st.broken && t.Sharded() && (st.slot == noSlot || st.slot != s.slotOf(cmd, args)):
			return false, s.refuse(cmd, errCrossSlot)
		case st.owes():
			return false, s.hold(pauseDraining)
		}
		st.broken = true
		st.goTo(addr)
	}
	return s.attachTo(cmd, addr, reason)
}

// attachTo is attach for a node that is known already.
func (s *session) attachTo(cmd *router.Command, addr string, reason pool.Reason) (ready, taken bool) {
	switch s.stayAt(addr, reason) {
	case leaseWaiting:
		return false, s.hold(pauseLeasing)
	case leaseBusy:
		return false, s.hold(pauseDraining)
	case leaseFailed:
		st := s.stay // giveUpAsking may end it
		why := st.giveUpAsking()
		return false, s.refuse(cmd, st.failure(why))
	}
	return s.track(cmd)
}

// giveUpAsking ends a stay for which the pool had no lease, and returns why. A WATCH is remembered:
// EXEC must answer nil.
func (st *stay) giveUpAsking() (why error) {
	why, st.err = st.err, nil
	if st.watching {
		st.move(stayLost)
	} else {
		st.move(stayEnded)
		st.s.stay = nil
	}
	return why
}

// dropKept closes the connections that the client kept because the pool was off.
func (s *session) dropKept(why string) {
	for _, st := range s.kept {
		st.closeKept(why)
	}
	s.kept = nil
}

// closeKept ends a stay that the session does not use now.
func (st *stay) closeKept(why string) {
	if st.waiter != nil {
		st.waiter.Cancel()
		st.waiter = nil
	} else if st.lease != nil {
		st.lease.Close(why)
	}
	st.move(stayEnded)
}

// rebind takes a lease along when its client changes protocol, database or user, for what it
// watches. One that has changed its user is not pooled again.
func (st *stay) rebind(id backend.Identity) {
	old := st.identity
	st.identity = id
	anotherUser := old.User != id.User
	password, known := st.s.loop.srv.pipeSettings.Logins.Password(id)
	switch {
	case st.lease == nil:
	case anotherUser && !known: // nobody can become the default user on a connection without a password
		st.lease.Close("another user")
		st.lose() // the client is owed nothing
	default:
		if anotherUser {
			st.lease.Mark(pool.DirtOther)
			st.lease.Send(backend.AppendAuth(nil, st.s.user(), password), 1)
			st.owed = append(st.owed, stayOwed{left: 1, must: telemetry.UserRefused}) // else what follows runs as the old user
			st.touch()
		}
		if old.RESP != id.RESP {
			st.send(nil, codec.AppendCommandString(nil, "HELLO", strconv.Itoa(id.RESP)), 1)
			st.lease.SetRESP(id.RESP)
		}
		if old.DB != id.DB {
			st.send(nil, codec.AppendCommandString(nil, "SELECT", strconv.Itoa(id.DB)), 1)
			st.lease.SetDB(id.DB)
		}
	}
}
