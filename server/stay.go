package main

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/pipe"
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
	if st.s.pause == pauseLease {
		st.s.release()
	}
}

// send puts a request on the lease.
func (st *stay) send(r *request, raw []byte, replies int) {
	if r != nil {
		st.sendCaching()
	}
	st.lease.Send(raw, replies)
	st.sentAt = st.s.loop.clock
	st.owed = append(st.owed, stayOwed{r: r, left: replies})
	st.touch()
}

// sendParts puts a long request on the lease: r.parts.
func (st *stay) sendParts(r *request, replies int) {
	st.sendCaching()
	st.lease.SendParts(r.parts, replies)
	st.sentAt = st.s.loop.clock
	st.owed = append(st.owed, stayOwed{r: r, left: replies})
	st.touch()
}

func (st *stay) touch() {
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
func (s *session) sendOnStay(cmd *router.Command, raw []byte, replies int) bool {
	if !s.turnTo(onLease, s.topology) {
		return false
	}
	r := s.newRequest(cmd)
	r.sent = append([]byte(nil), raw...)
	s.hearFirst(r)
	s.stay.send(r, raw, replies)
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
		st.s.loop.pour.wait(st.s.loop, st)
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
	if first.must && reply[0] == '-' {
		st.s.end("tracking refused")
	}
	r, left := first.r, first.left
	if left > 0 {
		if r != nil && r.blob != nil {
			r.blob.queued(reply)
		}
		return
	}
	*first = stayOwed{}
	st.owed = st.owed[1:] // append moves what is left when it needs the room
	if r != nil {
		st.answer(r, reply)
	}
	if st.leaving && len(st.owed) == 0 && st.lease != nil {
		st.detach()
	}
}

// answer ends a request with the lease's reply, unless the node sends it elsewhere.
func (st *stay) answer(r *request, reply []byte) {
	if r.blob != nil {
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
	if r.blob != nil {
		_, moved := router.ParseRedirect(reply, "")
		switch {
		case r.blob.turns && (moved || r.blob.moved != nil): // not onto a pipe
			reply = []byte("-TRYAGAIN berth: the slot has moved, transaction not executed\r\n")
		case !r.blob.watched && reply[0] == '-' && r.redirect(reply, r.sent):
			return
		case moved || r.blob.moved != nil: // what was watched has gone elsewhere: nothing was executed
			l := st.s.loop
			l.scratch = codec.AppendNullArray(l.scratch[:0], st.s.resp())
			reply = l.scratch
		case reply[0] == '-' && !bytes.HasPrefix(reply, execAbort): // perhaps MULTI was refused, and EXEC with it
			st.lease.Mark(pool.DirtOther)
		}
	} else if reply[0] == '-' {
		if st.s.pause == pauseBlocked && time.Duration(st.s.loop.clock-st.sentAt) > rested {
			r.hops = 0
		}
		if to, ok := st.s.mayFollow(reply, &r.hops); ok {
			st.follow(r, to)
			return
		}
	}
	r.deliver(reply)
}

var execAbort = []byte("-EXECABORT")

// follow sends a redirected request to its new node. The first WATCH and a blocking command take the stay along, if the
// lease owes nothing else; anything else travels on a pipe, and what is watched is lost.
func (st *stay) follow(r *request, to router.Redirect) {
	s := st.s
	alone := len(st.owed) == 0
	switch {
	case alone && st.watching && r.watches:
		st.lease.Clear(pool.DirtWatch)
	case alone && s.pause == pauseBlocked:
		st.broken = st.watching
	case r.cmd.Name == "watch": // its client has sent more already, which it cannot take along
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
	st.again, st.asking = r, to.Ask
	st.move(to.Addr)
	if st.lease != nil {
		st.again = nil
		st.resend(r)
	}
}

// resend sends a redirected request on the lease at its new node.
func (st *stay) resend(r *request) {
	if st.asking {
		st.lease.Send(askingCommand, 1)
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

var askingCommand = codec.AppendCommandString(nil, "ASKING")

// LeaseLost says that the connection is gone, and with it all that it owed.
func (st *stay) LeaseLost(_ *pool.Lease, err error) {
	s := st.s
	owed := st.owed
	st.lease, st.owed = nil, nil
	if st.tracks() {
		s.kill("tracking connection lost")
		for _, o := range owed {
			if o.r != nil {
				s.loop.dropRequest(o.r)
			}
		}
		return
	}
	switch {
	case s.kept[st.addr] == st:
		delete(s.kept, st.addr)
	case st.watching:
		st.broken = true
	case s.stay == st:
		s.stay = nil
	}
	lost := asLost(st.addr, err)
	for _, o := range owed {
		if o.r != nil {
			o.r.lost(lost)
		}
	}
}

// asLost is why a lease was lost, in the form that says whether anything was sent.
func asLost(addr string, err error) *backend.LostError {
	if lost, ok := errors.AsType[*backend.LostError](err); ok {
		return lost
	}
	return &backend.LostError{Addr: addr, Sent: true, Err: err}
}

// owesWatch tells whether a WATCH is not answered.
func (st *stay) owesWatch() bool {
	return slices.ContainsFunc(st.owed, func(o stayOwed) bool { return o.r != nil && o.r.cmd.Name == "watch" })
}

// owedFor is for how long the oldest request on the lease has been waiting.
func (st *stay) owedFor(now int64) time.Duration {
	for _, o := range st.owed {
		if o.r != nil {
			return time.Duration(now - max(o.r.start, st.movedAt))
		}
	}
	return 0
}

// overdue tells that a reply has been waited for too long, which at a node that serves no slot any more is soon.
func (st *stay) overdue(now int64, patience time.Duration, t *router.Topology) bool {
	waited := st.owedFor(now)
	return patience > 0 && waited > patience || waited > pipe.RetiredPatience && !t.Serves(st.addr)
}

// giveUp ends a lease that does not answer.
func (st *stay) giveUp() {
	lease := st.lease
	lease.Close("backend-timeout-ms")
	st.LeaseLost(lease, errNoReply)
}

var errNoReply = errors.New("no reply within backend-timeout-ms")

// fail answers a request for which there is no lease. A WATCH before it is lost, which EXEC must still learn.
func (st *stay) fail(r *request, err error) {
	if !st.broken {
		st.s.stay = nil
	}
	l := st.s.loop
	l.scratch = codec.AppendError(l.scratch[:0], st.failure(err))
	r.done(l.scratch)
}

// failure words why no lease was attached.
func (st *stay) failure(err error) string { return st.s.noLease(st.addr, err) }

func (s *session) noLease(addr string, err error) string { return s.loop.srv.noLease(addr, err) }

// noLease words why no lease to a node was attached. Nothing was sent: clients may try again.
func (srv *server) noLease(addr string, err error) string {
	if lost, ok := errors.AsType[*backend.LostError](err); ok && lost.Refusal != "" {
		return lost.Refusal
	}
	if errors.Is(err, pool.ErrTimeout) {
		return "TRYAGAIN berth: no backend connection within " +
			srv.config().PoolWaitTimeout.String() + ", command not executed"
	}
	return "TRYAGAIN berth: no backend connection to " + addr + " (" + err.Error() + "), command not executed"
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
			return false, s.hold(pauseBarrier)
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
		return false, s.hold(pauseLease)
	case stayBusy:
		return false, s.hold(pauseBarrier)
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

// blockAlone sends a blocking command on the session's own lease and takes no further request until its reply.
func (s *session) blockAlone(cmd *router.Command, raw []byte, args [][]byte) bool {
	ready, taken := s.attach(cmd, args, pool.ReasonBlock)
	switch {
	case !ready && taken: // refused
		if s.stay != nil {
			s.stay.wait = nil
		}
		return true
	case !ready:
		if s.pause == pauseLease {
			s.beginWait(cmd, args)
		}
		return false
	}
	if w := s.stay.wait; w != nil {
		if w.asking {
			return s.hold(pauseLease)
		}
		s.stay.wait = nil
		raw = w.rewritten(cmd, raw, args, s.loop.clock)
	}
	s.sendOnStay(cmd, raw, 1)
	s.pause = pauseBlocked
	s.stay.leaving = !s.stay.watching && !s.stay.tracks()
	return true
}
