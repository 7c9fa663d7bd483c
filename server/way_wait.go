package main

import (
	"bytes"
	"net/netip"
	"strconv"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/lane"
	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// replicaCount is a WAIT on its way. The replication offset that WAIT compares belongs to a
// connection: it is the one after the latest command that ran there. So WAIT goes on a lease to
// every primary, each time after a command that moves the connection's offset to the node's own.
// Everything that the client has written has been answered before. The client gets the smallest
// count.
//
// Owned by the session's loop.
type replicaCount struct {
	s     *session
	r     *request
	words [2]string // numreplicas, timeout
	since int64     // when WAIT came, unix nanoseconds
	parts []*replicaCountPart
	left  int    // parts that have not answered
	least int64  // replicas, of those parts that have
	wrong []byte // the first error
}

// replicaCountPart is one primary's share of a WAIT. It is a pool.Holder.
type replicaCountPart struct {
	a      *replicaCount
	addr   string
	first  []byte // what goes before WAIT
	lease  *pool.Lease
	waiter *pool.Waiter
	owed   int
	fresh  []byte // the answer to the command before it
}

// waitChannel is where what propagated returns is published, or the beginning of it.
const waitChannel = "berth:wait"

// propagated is a command that a shard's replicas see and that changes nothing. From 7.2 on only
// such a one moves the offset of a connection; before, each command does, and PING is enough. Over
// a Cluster the channel must be one of the shard's own. A shard without slots has none, and no
// writes.
func propagated(t *router.Topology, shard int) []byte {
	channel := waitChannel
	for i := 0; t.Sharded() && t.Shard(router.Slot([]byte(channel))) != shard; i++ {
		if channel = waitChannel + ":" + strconv.Itoa(i); i == 1<<18 {
			return pingCommand
		}
	}
	return codec.AppendCommandString(nil, "SPUBLISH", channel, "")
}

// offsetMoves reports whether every command moves its connection's replication offset.
func (srv *server) offsetMoves() bool { return srv.isBefore(7, 2) }

// waitInMulti says why WAIT cannot be queued, "" if it can.
func waitInMulti(s *session, _ [][]byte) (refusal string) {
	if s.loop.srv.offsetMoves() {
		return ""
	}
	return "ERR berth: WAIT inside MULTI is not available over Redis " + s.loop.srv.redisVersion()
}

// waitForReplicas runs WAIT.
func waitForReplicas(s *session, cmd *router.Command, _ []byte, args [][]byte) bool {
	t := s.loop.srv.nodes.Topology()
	if len(t.Shards()) == 0 {
		return s.refuse(cmd, errNotServed)
	}
	if s.waiting > 0 {
		return s.hold(pauseDraining)
	}
	a := &replicaCount{s: s, words: [2]string{string(args[1]), string(args[2])}, since: s.loop.clock, left: len(t.Shards()), least: -1}
	a.r = s.newRequest(cmd)
	s.replicaCount = a
	s.pauseFor(pauseBlocked)
	id := s.pipes.Identity()
	if srv := s.loop.srv; !srv.rights.of(s.user()).free.Load() {
		// WAIT is what the user may run, by the node's word. The command before it the user perhaps
		// may not. All that the client has written is answered, so the count is the same on any
		// connection.
		id = srv.asker(id.DB)
	}
	for i := range t.Shards() {
		p := &replicaCountPart{a: a, addr: t.Shards()[i].Primary, first: pingCommand}
		if !s.loop.srv.offsetMoves() {
			p.first = propagated(t, i)
		}
		a.parts = append(a.parts, p)
	}
	for _, p := range a.parts {
		p.lease, p.waiter = s.loop.srv.pools.For(p.addr, id).Get(p, s.loop.inbox, id, pool.ReasonBlock)
		if p.lease != nil {
			p.send()
		}
	}
	return true
}

// Owner is where the client is.
func (p *replicaCountPart) Owner() netip.Addr { return backend.HostOf(p.a.s.conn.RemoteAddr()) }

// Attached is the pool's late answer.
func (p *replicaCountPart) Attached(l *pool.Lease, err error) {
	p.lease, p.waiter = l, nil
	if err != nil {
		p.answer(codec.AppendError(nil, p.a.s.noLease(p.addr, err)))
		return
	}
	p.send()
}

// send sends WAIT. The time that its client has waited for the connection is taken off the timeout.
func (p *replicaCountPart) send() {
	a := p.a
	timeout := []byte(a.words[1])
	if t := router.ParseTimeout([][]byte{timeout}, 0, time.Millisecond); t.Asked > 0 {
		timeout = t.AppendLeft(nil, t.Asked-time.Duration(a.s.loop.clock-a.since))
	}
	p.owed = 2
	p.lease.Send(p.first, 1)
	p.lease.Send(codec.AppendCommandString(nil, "WAIT", a.words[0], string(timeout)), 1)
	p.lease.Flush()
}

// LeaseReply takes the answers to both.
func (p *replicaCountPart) LeaseReply(l *pool.Lease, reply []byte) {
	if reply[0] == '>' {
		return
	}
	p.owed--
	if p.owed == 1 {
		switch {
		case bytes.HasPrefix(reply, []byte("-NOPERM")): // the client asked for WAIT, and not for this
			p.fresh = codec.AppendError(nil, "ERR berth: replicas are not counted at "+p.addr+": the backend's user gets "+
				string(reply[1:len(reply)-2]))
		case bytes.HasPrefix(reply, []byte("-MOVED")): // the client has no use for it
			p.fresh = codec.AppendError(nil, "TRYAGAIN berth: slots of "+p.addr+" move, replicas not counted")
		case reply[0] == '-':
			p.fresh = append(p.fresh, reply...)
		}
		return
	}
	if p.fresh != nil { // without it the count would say nothing
		reply = p.fresh
	}
	p.answer(reply)
	if lane.IsDemoted(reply) {
		l.Close("node demoted")
	} else {
		l.Detach()
	}
	p.lease = nil
}

// LeaseLost says that the connection is gone.
func (p *replicaCountPart) LeaseLost(_ *pool.Lease, err error) {
	p.lease = nil
	p.answer(codec.AppendError(nil, "ERR berth: connection to "+p.addr+" lost ("+err.Error()+"), replicas not counted"))
}

// answer takes one primary's answer and, with the last one, gives the client its own.
func (p *replicaCountPart) answer(reply []byte) {
	a := p.a
	n, err := integer(reply)
	switch {
	case err == nil && (a.least < 0 || n < a.least):
		a.least = n
	case err != nil && a.wrong == nil:
		a.wrong = append(a.wrong, reply...)
	}
	if a.left--; a.left > 0 || a.s.replicaCount != a {
		return
	}
	a.s.replicaCount = nil
	if a.wrong != nil {
		a.r.done(a.wrong)
		return
	}
	a.r.done(codec.AppendInt(nil, a.least))
}

// leaveReplicaCount ends a WAIT whose client is gone, or no longer waits.
func (s *session) leaveReplicaCount(why string) {
	a := s.replicaCount
	if a == nil {
		return
	}
	s.replicaCount = nil
	for _, p := range a.parts {
		switch {
		case p.waiter != nil:
			p.waiter.Cancel()
			p.waiter = nil
		case p.lease != nil:
			p.lease.Close(why)
			p.lease = nil
		}
	}
}

// unblock ends a WAIT early: its client gets the counts as they are, or an error. What a primary
// does not say counts as no replica.
func (a *replicaCount) unblock(by backend.Identity, withError bool) {
	s := a.s
	if withError {
		s.leaveReplicaCount("client unblocked")
		a.r.done(codec.AppendError(nil, lane.ErrUnblocked))
		return
	}
	for _, p := range a.parts {
		switch {
		case p.waiter != nil:
			p.waiter.Cancel()
			p.waiter = nil
			p.answer(noReplica)
		case p.lease != nil:
			lease := p.lease
			s.loop.lanes.UnblockLease(lease, by, false, func() bool { return s.replicaCount == a && p.lease == lease }, func() {
				lease.Close("client unblocked")
				p.lease = nil
				p.answer(noReplica)
			})
		}
	}
}

var noReplica = codec.AppendInt(nil, 0)
