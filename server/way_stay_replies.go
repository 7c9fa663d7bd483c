package main

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/lane"
	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/eventlog"
	"github.com/berth-proxy/berth/server/telemetry"
)

// send puts a request on the lease.
func (st *stay) send(r *request, raw []byte, replies int) {
	if r != nil {
		st.sendCaching()
	}
	st.lease.Send(raw, replies)
	st.owed = append(st.owed, stayOwed{r: r, left: replies})
	st.touch()
}

// sendParts puts a long request on the lease: r.parts.
func (st *stay) sendParts(r *request, replies int) {
	st.sendCaching()
	st.lease.SendParts(r.parts, replies)
	st.owed = append(st.owed, stayOwed{r: r, left: replies})
	st.touch()
}

// touch has what was just put on the lease written in this turn.
func (st *stay) touch() {
	st.sentAt = st.s.loop.clock
	if !st.dirty {
		st.dirty = true
		st.s.loop.staying = append(st.s.loop.staying, st)
		st.s.loop.Wake()
	}
}

// flush writes what the turn has put on the lease.
func (st *stay) flush() {
	st.dirty = false
	if st.lease != nil {
		st.lease.Flush()
	}
}

// sendOnStay sends a request on the session's lease, in its turn.
func (s *session) sendOnStay(cmd *router.Command, raw []byte, args [][]byte) bool {
	if !s.turnTo(onLease, s.topology) {
		return false
	}
	r := s.newRequest(cmd)
	r.apart = cmd.Learned() && s.apart(cmd, args) // a module's that blocks
	r.sent = append([]byte(nil), raw...)
	s.charge(r, len(raw))
	s.countClients(r, args, s.stay.addr)
	s.stay.send(r, raw, 1)
	return true
}

// LeasePart takes the beginning of a long reply.
func (st *stay) LeasePart(_ *pool.Lease, part []byte) bool {
	if len(st.owed) == 0 || st.owed[0].left != 1 {
		return false
	}
	st.movedAt = st.s.loop.clock
	if r := st.owed[0].r; r != nil && !r.Part(part, nil, 0) {
		return false
	}
	if !st.s.closed && !st.s.hasRoom() {
		st.lease.Hold()
		st.s.loop.slowReaders.wait(st.s.loop, st)
	}
	return true
}

// LeaseReply takes one whole reply of the lease, or the end of one that came in parts.
func (st *stay) LeaseReply(l *pool.Lease, reply []byte) {
	streams := len(st.owed) > 0 && st.owed[0].r != nil && st.owed[0].r.streams
	if !streams && reply[0] == '>' {
		st.pushed(reply)
		return
	}
	if len(st.owed) == 0 {
		return // the lease ends a connection that sends what nobody asked for
	}
	first := &st.owed[0]
	first.left--
	if first.must != telemetry.NotClosed && reply[0] == '-' && !st.s.failTracking(slices.Clone(reply)) {
		st.s.end(first.must)
	}
	r, left, late, then := first.r, first.left, first.late, first.then
	if left > 0 {
		if r != nil {
			r.ends.queued(reply)
		}
		return
	}
	*first = stayOwed{}
	st.owed = st.owed[1:] // append moves what is left when it needs the room
	if r != nil {
		st.answer(r, reply)
	}
	if late != nil {
		st.release(late)
	}
	if then != nil {
		then()
	}
	if len(st.owed) > 0 {
		return
	}
	if st.leaves() {
		st.detach()
	}
	st.s.leaseIsQuiet()
}

// leaseIsQuiet has a session go on that waited for a lease to owe nothing. The last reply may have
// been to berth's own words (UNWATCH, SELECT, CLIENT TRACKING): no request ends with it.
func (s *session) leaseIsQuiet() {
	s.openedTracking()
	if s.waiting == 0 && !s.closed {
		s.resumeFrom(pauseDraining)
	}
}

// answer ends a request with the lease's reply, unless the node sends it elsewhere.
func (st *stay) answer(r *request, reply []byte) {
	st.noteReply(r)
	sent := r.sent
	if r.parts != nil {
		sent = r.parts[0]
	}
	r.watch(st.addr, sent)
	r.sawLong(reply, sent)
	if breaks := r.mayBreakLine(reply); breaks || r.cmd.Learned() && reply[0] == '-' {
		st.lease.Mark(pool.DirtOther)
		st.broken = st.broken || breaks && st.watching
	}
	b := r.blob()
	if b != nil {
		st.lease.Clear(pool.DirtMulti)
	}
	switch {
	case r.streams:
		r.done(reply)
		return
	case r.parts != nil && reply[0] == '-': // it may have to be sent again
		r.sent = bytes.Join(r.parts, nil)
	case r.parts != nil:
		st.s.foundLight(r.cmd, r.parts[0])
	}
	if b != nil {
		moved := isRedirect(reply) || b.abortedByRedirect(reply)
		switch {
		case b.turns && moved: // not onto a pipe
			reply = []byte("-TRYAGAIN berth: the slot has moved, transaction not executed\r\n")
		case !b.watched && reply[0] == '-' && r.redirect(reply, r.sent):
			return
		case moved: // what was watched has gone elsewhere: nothing was executed
			l := st.s.loop
			l.scratch = codec.AppendNullArray(l.scratch[:0], st.s.resp())
			reply = l.scratch
		case reply[0] == '-' && !bytes.HasPrefix(reply, execAbort): // perhaps MULTI was refused, and EXEC with it
			st.lease.Mark(pool.DirtOther)
		}
	} else if reply[0] == '-' {
		if st.blocks(r) && time.Duration(st.s.loop.clock-st.sentAt) > lane.Rested {
			r.hops = 0
		}
		if st.redirect(r, reply) {
			return
		}
		if r.watches && len(st.owed) == 0 { // the node watches nothing, and perhaps lets the user say no UNWATCH
			st.watching = false
			st.lease.Clear(pool.DirtWatch)
		}
	}
	r.deliver(reply)
}

var execAbort = []byte("-EXECABORT")

// blocks reports whether the request is the blocking command that its client waits for: no other
// request comes after it.
func (st *stay) blocks(r *request) bool { return st.s.pause == pauseBlocked && st.s.tail == r }

// redirect follows a redirect of a request that is no transaction.
func (st *stay) redirect(r *request, reply []byte) bool {
	if !isRedirect(reply) {
		r.doubtScript(reply, r.sent)
		return false
	}
	return st.s.redirected(reply, reply, r.sent, detour{
		r: r, slot: slotOfRedirected(st.s, r, r.sent), hops: &r.hops,
		send: func(to router.Redirect, _ []byte) { st.follow(r, to) },
		keep: r.deliver,
	})
}

// follow sends a redirected request to its new node. The first WATCH and a blocking command take
// the stay along, if the lease owes nothing else; anything else travels on a pipe, and what is
// watched is lost. The request may have waited for the node to become known, and the lease may be
// gone since.
func (st *stay) follow(r *request, to router.Redirect) {
	s := st.s
	alone := len(st.owed) == 0 && s.stay == st && st.state == stayAttached
	switch {
	case alone && st.watching && r.watches:
		st.lease.Clear(pool.DirtWatch)
	case alone && st.blocks(r):
		st.broken = st.watching
	case r.apart:
		r.done([]byte("-TRYAGAIN berth: the slot has moved, command not executed\r\n"))
		return
	case st.blocks(r): // it must not be sent on a pipe, where others would wait after it
		r.lost(&backend.LostError{Addr: st.addr, Err: backend.ErrHungUp})
		return
	case r.cmd.Is(router.Watch): // its client has sent more already, which it cannot take along
		st.broken = st.watching
		r.done(okReply)
		return
	default:
		st.broken = st.watching
		if err := s.sendTo(to, r.sent, 1, r); err != nil {
			r.lost(err)
		}
		return
	}
	st.redirected, st.asking = r, to.Ask
	st.goTo(to.Addr)
	if st.lease != nil {
		st.redirected = nil
		st.resend(r)
	}
}

// resend sends a redirected request on the lease at its new node.
func (st *stay) resend(r *request) {
	st.tell() // without an ear there the client's next command does it
	if st.asking {
		st.lease.Send(backend.AskingCommand, 1)
		st.owed = append(st.owed, stayOwed{left: 1})
		st.asking = false
	}
	raw := r.sent
	if r.watches {
		st.lease.Mark(pool.DirtWatch)
	} else {
		raw = st.s.shortened(r)
	}
	st.send(r, raw, 1)
}

// LeaseLost says that the connection is gone, and with it all that it owed.
func (st *stay) LeaseLost(_ *pool.Lease, err error) {
	s := st.s
	s.loop.srv.nodes.Lost()
	tracks := st.tracks()
	owed := st.lose()
	left := s.loop.srv.moves.Load() > 0 && !isPrimary(s.loop.srv.nodes.Topology(), st.addr) // for another backend
	if tracks && !s.spreads() && !left {
		s.kill(telemetry.TrackingLost, "error", err)
		for _, o := range owed {
			if o.r != nil {
				s.loop.dropRequest(o.r)
			}
		}
		return
	}
	lost := backend.AsLost(st.addr, err)
	if tracks {
		s.failTracking(appendLost(nil, lost))
		s.forgetAll()
	}
	for _, o := range owed {
		if o.r != nil {
			o.r.lost(lost)
		}
		if o.then != nil {
			o.then()
		}
	}
	s.resumeFrom(pauseLeasing) // it may have waited for the ear
	s.leaseIsQuiet()
}

// owesWatch reports whether a WATCH is not answered.
func (st *stay) owesWatch() bool {
	return slices.ContainsFunc(st.owed, func(o stayOwed) bool { return o.r != nil && o.r.cmd.Is(router.Watch) })
}

// owedFor is for how long the oldest request on the lease has been waiting, or the client for the
// reply to what berth says itself.
func (st *stay) owedFor(now int64) time.Duration {
	if len(st.owed) == 0 {
		return 0
	}
	since := st.sentAt
	for _, o := range st.owed {
		if o.r != nil {
			since = o.r.start
			break
		}
	}
	return time.Duration(now - max(since, st.movedAt))
}

// checkStays gives up the leases, and the ears, of which a reply has been waited for too long, which
// at a node that serves no slot any more is soon.
func (s *session) checkStays(patience time.Duration, t *router.Topology) {
	now := s.loop.clock
	s.eachStay(func(st *stay) {
		overdue := func(waited time.Duration) bool {
			return patience > 0 && waited > patience || waited > pipe.RetiredPatience && !t.Serves(st.addr)
		}
		if e := st.ear; e != nil && overdue(e.owedFor(now)) {
			e.giveUp()
		}
		switch {
		case s.closed, st.lease == nil: // given up with another one
		case s.stay == st && s.pause == pauseBlocked:
		case (s.stay == st || s.kept[st.addr] == st) && overdue(st.owedFor(now)):
			st.giveUp()
		}
	})
}

// giveUp ends a lease that does not answer.
func (st *stay) giveUp() {
	lease := st.lease
	lease.Close("backend-timeout-ms")
	st.LeaseLost(lease, errNoReply)
}

var errNoReply = errors.New("no reply within backend-timeout-ms")

// fail answers a request for which there is no lease. A WATCH before it is lost, which EXEC must
// still learn.
func (st *stay) fail(r *request, err error) {
	if st.broken {
		st.move(stayLost)
	} else {
		st.move(stayEnded)
		st.s.stay = nil
	}
	l := st.s.loop
	l.scratch = codec.AppendError(l.scratch[:0], st.failure(err))
	r.done(l.scratch)
}

// failure words why no lease was attached.
func (st *stay) failure(err error) string { return st.s.noLease(st.addr, err) }

// noLease words for a client why it has no lease to a node, and says in the log if it has waited for too
// long.
func (s *session) noLease(addr string, err error) string {
	if errors.Is(err, pool.ErrTimeout) {
		s.loop.srv.logLeaseTimeout(addr, s)
	}
	return s.loop.srv.noLease(addr, err)
}

// logLeaseTimeout says that a client has waited too long for a lease to a node.
func (srv *server) logLeaseTimeout(addr string, who slog.LogValuer) {
	slog.Warn("no exclusive connection in time", "", who, "why", eventlog.Cause("pool-wait-timeout"), "node", addr, "limit", srv.config().PoolWaitTimeout)
}

// noLease words why no lease to a node was attached, as appendLost does of a pipe. Nothing was sent:
// clients may try again.
func (srv *server) noLease(addr string, err error) string {
	if lost, ok := errors.AsType[*backend.LostError](err); ok && lost.Refusal != "" {
		return lost.Refusal
	}
	if errors.Is(err, pool.ErrTimeout) {
		return "TRYAGAIN berth: no backend connection within " +
			srv.config().PoolWaitTimeout.String() + ", command not executed"
	}
	if why := errors.Unwrap(err); why != nil { // without the address, which comes first
		err = why
	}
	return "TRYAGAIN berth: no connection to " + addr + " (" + err.Error() + "), command not executed"
}
