package main

import (
	"bytes"
	"net/netip"
	"strconv"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/telemetry"
)

// CLIENT TRACKING ON REDIRECT: another client of berth, perhaps of another loop, hears what was
// changed. Each node that the client reads from is given two connections: the client's lease, on
// which the node tracks, and an ear, to which the node redirects.

// ear is the connection to a node, in RESP3, on which the node says what a client that redirects
// would hear. It belongs to the client's stay at the node. It is a pool.Holder.
type ear struct {
	st      *stay
	lease   *pool.Lease
	waiter  *pool.Waiter
	err     error    // why there is none: for the request that asked
	id      int64    // the node's number for it; 0: the node has not said it
	askedAt int64    // when the node was last asked something, unix nanoseconds
	synced  []func() // called with the replies to its PINGs
}

// redirectTarget is the client to which CLIENT TRACKING is to redirect.
type redirectTarget struct {
	id  int64
	box *mailbox // nil: there is no such client
}

var clientIDCommand = codec.AppendCommandString(nil, "CLIENT", "ID")

// seek asks all loops for a client. The session is paused until it is known.
func (s *session) seek(id int64) {
	home := s.loop
	loops := home.srv.eachLoop()
	found, left := &redirectTarget{id: id}, len(loops) // touched by home only
	for _, l := range loops {
		l.Post(func() {
			var box *mailbox
			l.walk(func(c *session) {
				if c.id == id {
					box = c.hears()
				}
			}, func() {
				home.Post(func() {
					if box != nil {
						found.box = box
					}
					if left--; left == 0 && !s.closed {
						s.wanted = found
						s.resumeFrom(pauseAnswering)
					}
				})
			})
		})
	}
}

// listen readies the stay's ear. ready false: the request was answered (taken), or has to wait (not
// taken).
func (st *stay) listen(cmd *router.Command) (ready, taken bool) {
	s := st.s
	if st.ear == nil {
		st.askEar()
	}
	switch e := st.ear; {
	case e.err != nil:
		st.dropEar()
		if st.leaves() && !st.owes() {
			st.detach()
		}
		return false, s.refuse(cmd, st.failure(e.err))
	case e.id == 0:
		return false, s.hold(pauseLeasing)
	}
	return true, true
}

func (st *stay) askEar() {
	id := st.s.pipes.Identity()
	id.RESP = 3
	e := &ear{st: st}
	st.ear = e
	e.lease, e.waiter = st.s.loop.srv.pools.For(st.addr, id).Get(e, st.s.loop.inbox, id, pool.ReasonPin)
	if e.lease != nil {
		e.begin()
	}
}

// begin asks for the node's number. Its answer also says that the connection speaks RESP3.
func (e *ear) begin() {
	e.lease.Mark(pool.DirtTracking)
	e.lease.Send(clientIDCommand, 1)
	e.lease.Flush()
	e.askedAt = e.st.s.loop.clock
}

// Owner is where the client is.
func (e *ear) Owner() netip.Addr { return e.st.Owner() }

// Attached is the pool's late answer.
func (e *ear) Attached(l *pool.Lease, err error) {
	e.lease, e.waiter, e.err = l, nil, err
	if err == nil {
		e.begin()
		return
	}
	e.known()
}

// LeaseReply takes the node's number, and then invalidations.
func (e *ear) LeaseReply(_ *pool.Lease, reply []byte) {
	switch {
	case reply[0] == '>':
		e.st.overheard(invalidated(reply))
		return
	case e.id != 0: // to a PING
		if len(e.synced) > 0 {
			then := e.synced[0]
			e.synced = e.synced[1:]
			then()
		}
		return
	case reply[0] == '-':
		e.err = &backend.LostError{Addr: e.st.addr, Refusal: string(bytes.TrimRight(reply[1:], "\r\n"))}
	default:
		e.id, _ = strconv.ParseInt(string(bytes.Trim(reply, ":\r\n")), 10, 64)
	}
	e.known()
}

// known has the stay go on that waited for its ear.
func (e *ear) known() {
	e.st.joinAside()
	e.st.s.resumeFrom(pauseLeasing)
}

// overheard takes an invalidation from the ear. It may be older than the replies that the lease
// owes, or newer. So it follows them: no reply with a key that it names comes after it. It does not
// wait for the reply to a command that blocks, which may take for ever.
func (st *stay) overheard(what []byte) {
	s := st.s
	switch {
	case what == nil || !st.tracks() || s.closed:
	case len(st.owed) == 0 || s.pause == pauseBlocked:
		st.heard(what)
	default:
		last := &st.owed[len(st.owed)-1]
		if st.late += len(what) + mailCost; st.late > maxMail {
			last.late = [][]byte{codec.AppendNull(nil, s.resp())}
			return
		}
		last.late = append(last.late, bytes.Clone(what))
	}
}

// release tells what has waited for a reply.
func (st *stay) release(late [][]byte) {
	for _, what := range late {
		st.late -= len(what) + mailCost
		if st.tracks() && !st.s.closed {
			st.heard(what)
		}
	}
	if len(st.owed) == 0 {
		st.late = 0 // some were dropped
	}
}

// LeaseLost says that the node tells nothing more.
func (e *ear) LeaseLost(_ *pool.Lease, err error) {
	e.lease, e.id, e.err = nil, 0, err
	st, synced := e.st, e.synced
	e.synced = nil
	s := st.s
	switch {
	case !st.tracks() || st.told == 0:
	case s.spreads():
		lease := st.lease
		lease.Close("its ear was lost")
		st.LeaseLost(lease, err)
	default:
		s.kill(telemetry.TrackingLost, "error", err)
		return
	}
	for _, then := range synced {
		then()
	}
	e.known()
}

// owedFor is for how long the node has owed the ear a reply.
func (e *ear) owedFor(now int64) time.Duration {
	if e.lease == nil || e.id != 0 && len(e.synced) == 0 {
		return 0
	}
	return time.Duration(now - e.askedAt)
}

// giveUp ends an ear at which the node is silent.
func (e *ear) giveUp() {
	e.lease.Close("backend-timeout-ms")
	e.LeaseLost(e.lease, errNoReply)
}

// dropEar gives the stay's ear up.
func (st *stay) dropEar() {
	e := st.ear
	if e == nil {
		return
	}
	st.ear = nil
	switch {
	case e.waiter != nil:
		e.waiter.Cancel()
	case e.lease != nil:
		e.lease.Close("not redirected any more")
	}
	for _, then := range e.synced {
		then()
	}
}

// Inside MULTI the node answers, which knows no client of berth.
const errTrackingInExec = "ERR berth: inside MULTI this is not available while invalidations are redirected"

// askTrackingRefusal is why a question about tracking may not be queued; "" if it may.
func (s *session) askTrackingRefusal([][]byte) string {
	if s.tracking != nil && s.tracking.target != nil {
		return errTrackingInExec
	}
	return ""
}

// askTracking passes on what a client asks about its tracking: the connection it travels on knows,
// but for the client to which invalidations are redirected. Without tracking any does.
func askTracking(s *session, cmd *router.Command, raw []byte, args [][]byte) bool {
	t := s.tracking
	if t == nil || t.target == nil {
		return s.share(cmd, raw, args)
	}
	ready, taken := s.attach(cmd, args, pool.ReasonPin)
	if !ready {
		return taken
	}
	r := s.newRequest(cmd)
	redirect, broken := t.redirect, t.broken
	r.ends = settle(func(r *request, reply []byte) { r.done(trackingInfoOf(reply, redirect, broken)) })
	s.stay.send(r, raw, 1)
	return true
}

// askRedirect answers CLIENT GETREDIR, which the node answers unless invalidations are redirected.
func askRedirect(s *session, cmd *router.Command, raw []byte, args [][]byte) bool {
	t := s.tracking
	if t == nil || t.target == nil {
		return s.share(cmd, raw, args)
	}
	l := s.loop
	l.scratch = codec.AppendInt(l.scratch[:0], t.redirect)
	s.answer(cmd, l.scratch)
	return true
}

// trackingInfoOf puts berth's number of the client in a node's reply to CLIENT TRACKINGINFO, and
// whether the client is gone.
func trackingInfoOf(reply []byte, redirect int64, broken bool) []byte {
	before, after, ok := bytes.Cut(reply, []byte("$8\r\nredirect\r\n:")) // after the flags, which are the node's own words
	if !ok {
		return reply
	}
	out := bytes.Clone(before)
	_, flags, ok := bytes.Cut(out, []byte("$5\r\nflags\r\n"))
	if at := len(out) - len(flags) + len("*"); broken && ok && at < len(out) && '0' <= out[at] && out[at] < '9' {
		out[at]++
		out = append(out, "$15\r\nbroken_redirect\r\n"...)
	}
	out = append(out, "$8\r\nredirect\r\n"...)
	out = codec.AppendInt(out, redirect)
	return append(out, after[bytes.IndexByte(after, '\n')+1:]...)
}
