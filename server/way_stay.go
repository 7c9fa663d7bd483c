package main

import (
	"strconv"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// stay is a session's time on a lease, from asking the pool to giving back. Owned by the session's loop.
//
//	ask ──hit──────────────▶ attached ──leave, nothing owed──▶ detached
//	 └──miss──▶ waiting ──▶    │  │                              ▲
//	               │           │  └─ pool off: kept for the client ┘ when it goes
//	               ▼           ▼
//	             failed       lost or revoked (a WATCH is broken: its EXEC answers nil)
type stay struct {
	s        *session
	addr     string
	reason   pool.Reason
	identity backend.Identity // what the lease has been turned to
	lease    *pool.Lease
	waiter   *pool.Waiter
	err      error      // why there is no lease: for the request that asked
	owed     []stayOwed // replies the lease owes, oldest first
	again    *request   // to be sent as soon as attached: it was redirected
	asking   bool       // with ASKING in front
	sentAt   int64      // when a request was last put on the lease, unix nanoseconds
	movedAt  int64      // when a part of a long reply last came, unix nanoseconds
	slot     int        // of the watched keys
	watching bool       // between WATCH and EXEC, DISCARD, UNWATCH
	broken   bool       // what was watched is lost: EXEC answers nil
	leaving  bool       // to be given back as soon as nothing is owed
	dirty    bool       // in loop.staying
	wait     *wait      // the blocking command that waits for the lease
	said     int        // commands of the client's CLIENT TRACKING that the node was told
}

// stayOwed is a request on a lease and how many replies it is still owed; a nil request swallows them.
type stayOwed struct {
	r    *request
	left int
	must bool // none of them may be an error
}

// What stayAt says.
type stayState uint8

const (
	stayReady   stayState = iota
	stayWaiting           // for the pool
	stayBusy              // for the replies of a lease to another node
	stayFailed            // stay.err says why
)

// carries tells that the session's shared commands for a node go on its lease: what was sent behind WATCH in one
// pipeline follows it there. Once WATCH is answered they may as well go on the pipe, which costs a fraction: they are
// executed behind WATCH all the same, so EXEC checks what they saw.
func (st *stay) carries(addr string) bool {
	return st != nil && st.lease != nil && st.addr == addr && st.watching && len(st.owed) > 0
}

// stayAt gets the session a lease to a node, or tells that it has to wait for one.
func (s *session) stayAt(addr string, reason pool.Reason) stayState {
	if st := s.stay; st != nil && st.addr != addr && !st.watching {
		switch {
		case len(st.owed) > 0:
			return stayBusy
		case st.tracks() && st.lease != nil:
			st.keep()
		default:
			st.leave()
		}
	}
	st := s.stay
	switch {
	case st != nil:
	case s.kept[addr] != nil:
		st = s.kept[addr]
		delete(s.kept, addr)
		st.leaving = false
		s.stay = st
		st.rebind(s.pipes.Identity())
	default:
		st = &stay{s: s, addr: addr, reason: reason, slot: noSlot}
		s.stay = st
		st.ask()
	}
	switch {
	case st.lease != nil:
		return stayReady
	case st.err != nil:
		return stayFailed
	}
	return stayWaiting
}

// gone tells that there is no lease for the stay at a node, and none on the way: what it watched is lost, but its
// client does not know yet.
func (st *stay) gone(addr string) bool {
	return st.addr != addr || st.lease == nil && st.waiter == nil && st.err == nil
}

// replaced tells that another node is the primary now, where there are no slots. Nobody will say MOVED: the old one would
// execute what it is sent, but what the session reads, and what others write, is with the new one.
func (st *stay) replaced(t *router.Topology) bool {
	return !t.Sharded() && st.lease != nil && st.addr != t.Primary(0)
}

// move gives up the lease, with what it watches, for one to another node.
func (st *stay) move(addr string) {
	switch {
	case st.waiter != nil:
		st.waiter.Cancel()
	case st.lease != nil:
		st.lease.Detach()
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
}

// Attached is the pool's late answer.
func (st *stay) Attached(l *pool.Lease, err error) {
	st.lease, st.waiter = l, nil
	r := st.again
	st.again = nil
	switch {
	case r == nil:
		st.err = err
	case err != nil:
		st.fail(r, err)
	default:
		st.resend(r)
	}
	st.s.resumeFrom(pauseLeasing)
}

// leave gives the lease back as soon as it owes nothing.
func (st *stay) leave() {
	if st.tracks() {
		st.watching, st.leaving = false, true
		st.endWatchBefore()
		st.leaving = false
		return
	}
	st.watching, st.leaving = false, true
	if len(st.owed) == 0 {
		st.detach()
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
	case st.waiter != nil:
		st.waiter.Cancel()
		st.waiter = nil
	case lease == nil:
	case s.loop.srv.config().PoolEnabled:
		st.lease = nil
		lease.Detach()
	default:
		st.leaving = false
		lease.Clear(pool.DirtWatch)
		st.send(nil, unwatchCommand, 1) // whether it watches or not: it is the client's own connection
		if s.kept == nil {
			s.kept = map[string]*stay{}
		}
		s.kept[st.addr] = st
	}
}

var unwatchCommand = codec.AppendCommandString(nil, "UNWATCH")

// leaveStay gives back all that the session holds or waits for, because the client is gone. A lease that owes
// something is closed at once, so that the node sees the client leave before the next element arrives.
func (s *session) leaveStay(why string) {
	s.dropKept(why)
	st := s.stay
	if st == nil {
		return
	}
	s.stay = nil
	switch {
	case st.waiter != nil:
		st.waiter.Cancel()
		if st.again != nil {
			s.loop.dropRequest(st.again)
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

// attach readies the session to send on a lease to the owner of the request's keys. ready false: the request was
// answered (taken), or has to wait (not taken).
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
		case len(st.owed) > 0:
			return false, s.hold(pauseDraining)
		}
		st.broken = true
		st.move(addr)
	}
	return s.attachTo(cmd, addr, reason)
}

// attachTo is attach for a node that is known already.
func (s *session) attachTo(cmd *router.Command, addr string, reason pool.Reason) (ready, taken bool) {
	switch s.stayAt(addr, reason) {
	case stayWaiting:
		return false, s.hold(pauseLeasing)
	case stayBusy:
		return false, s.hold(pauseDraining)
	case stayFailed:
		st := s.stay
		err := st.err
		if st.err = nil; !st.watching {
			s.stay = nil
		}
		return false, s.refuse(cmd, st.failure(err))
	}
	s.stay.track()
	return true, true
}

// dropKept closes the connections that the client kept because the pool was off.
func (s *session) dropKept(why string) {
	for _, st := range s.kept {
		st.lease.Close(why)
	}
	s.kept = nil
}

// rebind takes a lease along when its client changes protocol, database or user, for what it watches. One that has changed
// its user is not pooled again.
func (st *stay) rebind(id backend.Identity) {
	old := st.identity
	st.identity = id
	anotherUser := old.User != id.User || old.Password != id.Password
	switch {
	case st.lease == nil:
	case anotherUser && id.User == "" && id.Password == "": // nobody can become that on a connection
		st.lease.Close("another user")
		st.lease, st.owed, st.broken = nil, nil, true // the client is owed nothing
		if !st.watching && st.s.stay == st {
			st.s.stay = nil
		}
	default:
		if anotherUser {
			st.lease.Mark(pool.DirtOther)
			st.send(nil, authCommand(id.User, id.Password), 1)
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
