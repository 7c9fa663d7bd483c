package main

import (
	"bytes"
	"slices"
	"time"

	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// CLIENT TRACKING over a Cluster. With BCAST every primary tracks, from the reply to CLIENT
// TRACKING on. When a connection is lost, and when a primary comes or goes, the client is told to
// forget all; the check of each second has later primaries track, and the client forgets all again
// then. Otherwise nodes track as the client comes to read from them, and the client is closed
// instead.
//
// Each node says by itself that all of its keys are gone. What FLUSHALL does at all nodes is one
// invalidation for the client: it waits until all nodes have said it, or for flushPatience. For
// the client that has called FLUSHALL it follows the reply.

// flushPatience is for how long the invalidation of all keys of one node waits for those of the
// others, in nanoseconds. Ticks look.
const flushPatience = int64(50 * time.Millisecond)

// eachStay calls visit for each node of which the client has a lease, or has asked for one.
func (s *session) eachStay(visit func(st *stay)) {
	if s.stay != nil {
		visit(s.stay)
	}
	for _, st := range s.kept {
		visit(st)
	}
}

// spreads reports whether every primary is to track for the client.
func (s *session) spreads() bool {
	return !s.closed && s.tracking != nil && s.tracking.bcast && (s.loop.srv.sharded() || s.loop.srv.moves.Load() > 0)
}

// spread asks for a lease to every primary that does not track yet.
func (s *session) spread(t *router.Topology) {
	for _, shard := range t.Shards() {
		addr := shard.Primary
		if s.stay != nil && s.stay.addr == addr || s.kept[addr] != nil {
			continue
		}
		st := &stay{s: s, addr: addr, reason: pool.ReasonPin, slot: noSlot}
		if s.kept == nil {
			s.kept = map[string]*stay{}
		}
		s.kept[addr] = st
		st.ask()
	}
	for _, st := range s.kept {
		st.joinAside()
	}
}

// joinAside has the node of a stay that the session does not use now track, once there is all that
// it takes.
func (st *stay) joinAside() {
	s := st.s
	switch t := s.tracking; {
	case s.kept[st.addr] != st || st.lease == nil || !s.spreads():
		return
	case t.target == nil:
	case st.ear == nil:
		st.askEar()
		return
	case st.ear.err != nil:
		st.failAside(st.ear.err)
		return
	case st.ear.id == 0:
		return
	}
	st.tell()
	if st.state == stayAttached {
		st.move(stayKept)
	}
}

// attachedAside is the pool's late answer for such a stay.
func (st *stay) attachedAside(err error) {
	if err != nil {
		st.failAside(err)
		return
	}
	st.move(stayAttached)
	st.rebind(st.s.pipes.Identity())
	st.joinAside()
}

// failAside ends such a stay. CLIENT TRACKING is in vain then; later the next check tries again.
func (st *stay) failAside(err error) {
	s := st.s
	delete(s.kept, st.addr)
	st.closeKept("not to be tracked on")
	s.failTracking(codec.AppendError(nil, st.failure(err)))
}

// failTracking ends a CLIENT TRACKING that not every node has agreed to, and reports whether there
// is one.
func (s *session) failTracking(reply []byte) bool {
	t := s.tracking
	if t == nil || t.opens == nil {
		return false
	}
	if t.failed {
		return true
	}
	t.failed = true
	s.loop.Post(func() { // the leases that are closed may be at work
		if !s.closed && s.tracking == t {
			s.endTracking("not everywhere")
			t.asks.done(reply)
		}
	})
	return true
}

// openTracking ends a CLIENT TRACKING that a node has agreed to, when all others have.
func (s *session) openTracking(r *request, reply []byte) {
	if reply[0] != '+' || !s.spreads() {
		r.done(reply)
		return
	}
	s.tracking.asks, s.tracking.opens = r, bytes.Clone(reply)
	s.spread(s.loop.srv.nodes.Topology())
	s.openedTracking()
}

// openedTracking answers it if all have.
func (s *session) openedTracking() {
	t := s.tracking
	if t == nil || t.opens == nil || t.failed {
		return
	}
	for _, st := range s.kept {
		if st.told < len(t.commands) || len(st.owed) > 0 {
			return
		}
	}
	r, reply := t.asks, t.opens
	t.asks, t.opens = nil, nil
	r.done(reply)
}

// forgotten tells that a node has begun to track only now.
func (st *stay) forgotten() {
	if st.tracks() && !st.s.closed {
		st.s.forgetAll()
	}
}

// checkTracking follows the primaries that there are now. stale: a node is no primary any more, and
// the client has to be closed, because what it has cached would go stale without a word.
func (s *session) checkTracking(t *router.Topology) (stale bool) {
	switch {
	case s.closed, s.tracking == nil:
		return false
	case !s.spreads() && s.loop.srv.moves.Load() == 0:
		return s.tracksElsewhere(t)
	case !s.spreads():
		s.leaveElsewhere(t)
	case s.tracking.asks == nil:
		s.leaveElsewhere(t)
		s.spread(t)
	}
	return false
}

// leaveElsewhere ends the leases to nodes that are no primaries any more. One that is in use stays:
// the node hears of changes from its primary.
func (s *session) leaveElsewhere(t *router.Topology) {
	left := false
	for addr, st := range s.kept {
		if !isPrimary(t, addr) && len(st.owed) == 0 {
			delete(s.kept, addr)
			st.closeKept("no primary any more")
			left = true
		}
	}
	if st := s.stay; st != nil && st.lease != nil && !st.watching && !st.owes() && !isPrimary(t, st.addr) {
		st.lease.Close("no primary any more")
		st.lose()
		left = true
	}
	if left {
		s.forgetAll()
	}
}

// heard tells an invalidation, unless it is one of several of the same.
func (st *stay) heard(what []byte) {
	s := st.s
	t := s.tracking
	switch {
	case !isAllKeys(what) || len(s.kept) == 0:
		s.invalidate(what)
		return
	case t.flushing: // it is told after the reply
		return
	case st.flushed: // of one before
		s.endFlush()
	}
	st.flushed = true
	all := true
	s.eachStay(func(st *stay) { all = all && (st.flushed || st.told == 0) })
	switch {
	case all:
		s.endFlush()
	case t.flushedAt == 0:
		t.flushedAt = s.loop.clock
		if !t.listed {
			t.listed = true
			s.loop.flushed = append(s.loop.flushed, s)
		}
	}
}

// endFlush tells that all keys are gone.
func (s *session) endFlush() {
	s.forgetFlush()
	s.forgetAll()
}

func (s *session) forgetFlush() {
	s.tracking.flushedAt = 0
	s.eachStay(func(st *stay) { st.flushed = false })
}

// waitsForFlush ends a wait for nodes that say nothing, and reports whether the wait goes on.
func (s *session) waitsForFlush(now int64) bool {
	t := s.tracking
	switch {
	case s.closed || t == nil:
		return false
	case t.flushedAt != 0 && now-t.flushedAt < flushPatience:
		return true
	case t.flushedAt != 0:
		s.endFlush()
	}
	t.listed = false
	return false
}

// beginFlush readies a client that tracks for its own FLUSHALL to all primaries. false: it has to
// wait.
func (s *session) beginFlush(cmd *router.Command) bool {
	if s.tracking == nil || !cmd.Is(router.Flushes) {
		return true
	}
	if s.waiting > 0 {
		return s.hold(pauseDraining)
	}
	s.tracking.flushing = true
	s.pauseFor(pauseDraining)
	return true
}

// endOwnFlush answers a client's own FLUSHALL, when all that the nodes have pushed because of it
// has come, and tells it then that all keys are gone.
func (s *session) endOwnFlush(r *request, reply []byte) {
	t := s.tracking
	reply = slices.Clone(reply)
	t.asks = r
	left := 1
	done := func() {
		if left--; left > 0 || s.closed || t.asks != r {
			return
		}
		t.asks, t.flushing = nil, false
		s.forgetFlush()
		r.done(reply)
		s.forgetAll()
	}
	s.eachStay(func(st *stay) {
		if st.lease != nil && st.told > 0 {
			left++
			st.sync(done)
		}
	})
	done()
}

// sync calls then when all that the node has pushed by now has come.
func (st *stay) sync(then func()) {
	if e := st.ear; e != nil && e.id != 0 {
		e.lease.Send(pingCommand, 1)
		e.lease.Flush()
		e.askedAt = st.s.loop.clock
		e.synced = append(e.synced, then)
		return
	}
	st.lease.Send(pingCommand, 1)
	st.owed = append(st.owed, stayOwed{left: 1, then: then})
	st.touch()
}
