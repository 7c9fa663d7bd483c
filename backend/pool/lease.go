package pool

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/codec"
)

// Holder waits for a lease, or holds one. Its methods run on its own loop, from Inbox.Drain, never
// inside its own call to Get, Send, Flush, Detach, Close or Cancel.
type Holder interface {
	// Attached answers a Get that missed, with a lease or with the reason why there is none:
	// ErrTimeout, ErrClosed, a *LostError whose Refusal is the node's own words, or the error of
	// the dial (dial 10.0.0.7:6379: connection refused). Nothing was sent then.
	Attached(l *Lease, err error)
	// LeaseReply delivers one whole reply, valid during the call. A push (first byte '>') answers
	// no command. Neither does anything on a lease marked DirtStream that is owed nothing.
	LeaseReply(l *Lease, reply []byte)
	// LeaseLost reports, once, that the connection is gone and nothing more comes. Every whole
	// reply that arrived before has been delivered, and the lease is over. err is a *LostError.
	LeaseLost(l *Lease, err error)
}

// StreamHolder is a Holder that may take a long reply in parts, as they arrive. LeasePart is like
// Part of backend.Streamer.
type StreamHolder interface {
	Holder
	LeasePart(l *Lease, part []byte) bool
}

// Lease is an exclusive connection while a session holds it. It is used on its holder's loop only.
// After Detach or Close nothing more is delivered, and a second call does nothing.
type Lease struct {
	conn   *conn
	holder Holder
	inbox  *Inbox
	reason Reason

	class     class
	party     party         // unless class is brief
	revocable Revocable     // the holder of a brief lease if it is Revocable, else nil
	since     time.Duration // clock() when it was attached

	db, resp int // what the holder wants

	out     *buffer  // sent by the holder and not flushed; nil: nothing
	parts   [][]byte // to be written after out: long requests, which are not copied
	passing bool     // the beginning of the reply that is arriving has been handed out
	cutting bool     // the beginning of that reply, a line, has been dropped
	scanner codec.ReplyScanner

	delivering bool    // scan runs
	taken      int     // bytes of conn.in that have been delivered
	lent       *buffer // conn.in, if the lease ended while scan ran: the holder may still read it

	owed     int             // replies to the holder's commands
	unsent   int             // of them, those whose commands are in out
	skip     int             // replies to the pool's own commands; they come before all of owed
	undoing  int             // how many of skip, from the first on, answer the undoing of what is inherited
	probed   bool            // the first reply to skip answers a PING to the idle connection
	prepared bool            // the commands that make the connection what the holder wants were sent
	paused   bool            // nothing is delivered until Resume
	gated    bool            // out must wait for the replies to skip: they tell which database is selected
	escort   *backend.Escort // the replies to skip answer its commands; nil: none do
	over     bool            // Detach or Close was called, or the connection was lost
}

func newLease(c *conn, h Holder, in *Inbox, want backend.Identity, reason Reason) *Lease {
	l := &Lease{conn: c, holder: h, inbox: in, reason: reason, since: clock(), db: want.DB, resp: want.RESP, class: reason.class()}
	if reason.class() == brief {
		l.revocable, _ = h.(Revocable)
	}
	return l
}

// Addr is the node's address.
func (l *Lease) Addr() string { return l.conn.pool.addr }

// NodeID is the node's number for the connection (CLIENT UNBLOCK); 0: the node did not say.
func (l *Lease) NodeID() int64 { return l.conn.nodeID }

// LocalHost is where the connection comes from; invalid: it is a unix socket.
func (l *Lease) LocalHost() netip.Addr { return l.conn.local }

// Outdated reports whether the connection is closed when it is given back: see Pool.Reconnect.
func (l *Lease) Outdated() bool { return l.conn.outdated() }

// Owed is how many replies the node still owes to the holder's commands.
func (l *Lease) Owed() int { return l.owed }

// Held is for how long the lease has been attached.
func (l *Lease) Held() time.Duration { return clock() - l.since }

// Reason is what the lease was asked for.
func (l *Lease) Reason() Reason { return l.reason }

// Send adds whole commands, which bring so many replies, to what the next Flush writes. cmd is
// copied. Before the first command go those that make the connection what the holder's Get wanted.
func (l *Lease) Send(cmd []byte, replies int) {
	if l.over {
		panic("a lease was sent to after it was given back")
	}
	if l.out == nil {
		l.out = newBuffer()
	}
	if !l.prepared {
		l.prepare()
	}
	if len(l.parts) > 0 {
		l.parts = append(l.parts, slices.Clone(cmd))
	} else {
		l.out.append(cmd, len(cmd))
	}
	if l.owed == 0 && l.revocable != nil {
		l.conn.quiet.Store(0)
	}
	l.owed += replies
	l.unsent += replies
}

// SendParts is Send for long commands. The pieces are not copied and must not change any more.
func (l *Lease) SendParts(cmd [][]byte, replies int) {
	l.Send(nil, replies)
	l.parts = append(l.parts, cmd...)
}

// prepare sends the commands that make the connection what its holder wants. If the node may refuse
// one of them, the holder's first byte waits for their replies, and a refusal ends the lease with
// nothing executed.
func (l *Lease) prepare() {
	l.prepared = true
	g, b := &l.conn.ledger, l.out.b
	b, undone := g.undo(b, l.conn.pool.logins.Naming.Name(kind))
	b, switched := g.prepare(b, l.db, l.resp)
	l.out.b = b
	l.skip += undone + switched
	l.undoing += undone
	if switched > 0 {
		l.write()
		l.gated = true
		l.out = newBuffer()
	}
}

// Flush writes what was sent. It never blocks: a goroutine writes what the socket does not take at
// once, in order.
func (l *Lease) Flush() {
	if l.over || l.gated || l.out == nil {
		return
	}
	l.unsent = 0
	l.write()
}

// write hands out and parts to the wire.
func (l *Lease) write() {
	if !l.conn.wire.write(l.out.b) {
		l.out.free()
	}
	l.out = nil
	for _, part := range l.parts {
		l.conn.wire.write(part)
	}
	l.parts = nil
}

// Mark records in the ledger what the holder has told the connection. Clear takes it out again when
// a reply has proven it gone. SetDB and SetRESP are for the database and the protocol. All four do
// nothing once the lease is over.
func (l *Lease) Mark(d Dirt) {
	if !l.over {
		l.conn.ledger.dirt |= d
	}
}

// Clear is the opposite of Mark.
func (l *Lease) Clear(d Dirt) {
	if !l.over {
		l.conn.ledger.dirt &^= d
	}
}

// Has reports whether all of d is marked.
func (l *Lease) Has(d Dirt) bool { return !l.over && l.conn.ledger.dirt&d == d }

// SetDB records that the holder's own SELECT has succeeded.
func (l *Lease) SetDB(n int) {
	if !l.over {
		l.conn.ledger.db = n
	}
}

// SetRESP records that the holder's own HELLO has succeeded.
func (l *Lease) SetRESP(n int) {
	if !l.over {
		l.conn.ledger.resp = n
	}
}

// Hold stops delivery until Resume, because the client reads more slowly than the node sends. It may
// be called from inside LeasePart.
func (l *Lease) Hold() { l.paused = true }

// Resume ends Hold and delivers at once what has arrived meanwhile.
func (l *Lease) Resume() {
	if l.paused {
		l.paused = false
		l.deliver()
	}
}

// Ahead returns how many bytes have arrived and are not delivered. netpoll goes on reading while its
// handler waits: of a reply that nobody takes, all of it.
func (l *Lease) Ahead() (n int) {
	c := l.conn
	c.mu.Lock()
	if c.in != nil {
		n = len(c.in.b)
	}
	c.mu.Unlock()
	return n + c.wire.nc.Reader().Len()
}

// deliver runs on the holder's loop. It delivers what conn.received has stored.
func (l *Lease) deliver() {
	if l.over || l.paused {
		return
	}
	c := l.conn
	c.mu.Lock()
	in, lost := c.in, c.lost
	var view []byte
	if in != nil {
		view = in.b // stays as it is: received only appends
	}
	c.posted = false
	c.mu.Unlock()

	l.delivering = true
	err := l.scan(view)
	l.delivering = false
	switch {
	case l.over:
		l.lent.free()
		l.lent = nil
	case err != nil:
		l.lose(err)
	default:
		l.consume(len(view))
		if lost != nil {
			l.lose(lost)
		}
	}
}

// scan delivers the whole replies of view.
func (l *Lease) scan(view []byte) error {
	for !l.over && l.taken < len(view) {
		n, err := l.scanner.Scan(view[l.taken:])
		if err != nil {
			return err
		}
		if n == 0 {
			l.taken += l.pass(view[l.taken:])
			return nil
		}
		reply := view[l.taken : l.taken+n]
		l.taken += n
		if err := l.reply(reply); err != nil {
			return err
		}
	}
	return nil
}

// pass hands out the beginning of a long reply that has not wholly arrived, or drops that of a line
// that is too long, and returns how many bytes that was.
func (l *Lease) pass(rest []byte) (n int) {
	if !l.scanner.Partial() {
		return 0
	}
	if n = l.scanner.Settled(rest); n == 0 {
		return 0
	}
	switch {
	case !l.cutting && l.hands(rest, n):
		l.passing = true
	case l.over:
		return 0
	case l.cutting || !l.passing && backend.Cuts(rest, &l.scanner):
		l.cutting = true
	default:
		return 0
	}
	l.scanner.Shift(n)
	return n
}

// hands hands out the first n bytes of rest, if they may be and the holder takes them.
func (l *Lease) hands(rest []byte, n int) bool {
	holder, streams := l.holder.(StreamHolder)
	if !streams || l.skip > 0 || l.owed == 0 || !l.passing && !backend.Streamable(rest, l.scanner.Need()) {
		return false
	}
	return holder.LeasePart(l, rest[:n]) && !l.over
}

// reply finds out which command a reply answers, and delivers or skips it.
func (l *Lease) reply(reply []byte) error {
	passing := l.passing
	if l.cutting {
		reply = backend.CutLine
	}
	l.passing, l.cutting = false, false
	switch {
	case passing:
		l.owed--
		l.holder.LeaseReply(l, reply)
	case reply[0] == '>':
		l.holder.LeaseReply(l, reply)
	case l.skip > 0:
		return l.skipped(reply)
	case l.owed > 0:
		l.owed--
		l.holder.LeaseReply(l, reply)
		if l.owed == 0 && l.revocable != nil && !l.over {
			l.conn.quiet.Store(int64(clock()))
		}
	case l.conn.ledger.dirt&DirtStream != 0:
		l.holder.LeaseReply(l, reply)
	default:
		return backend.ErrUnowed
	}
	return nil
}

// refusedToUndo learns from an error whether the user may not undo anything. BUSY passes.
func (p *Pool) refusedToUndo(reply []byte) {
	if bytes.HasPrefix(reply, []byte("-NOPERM")) {
		p.cannotUndo.Store(true)
	}
}

// skipped takes a reply to one of the pool's own commands. What cannot be undone is not the holder's
// fault: its commands go on, and the connection ends with the lease.
func (l *Lease) skipped(reply []byte) error {
	refused := reply[0] == '-' && !l.probed
	switch {
	case l.probed:
		l.probed = false
	case l.undoing > 0:
		l.undoing--
		if refused {
			l.Mark(dirtInherited)
			l.conn.pool.refusedToUndo(reply)
		}
	case l.escort != nil:
		next, lost := l.escort.Reply(reply)
		switch {
		case lost:
			return l.refusal(l.escort.Why)
		case next != nil:
			l.skip++
			l.conn.wire.write(next)
		}
	case refused:
		if why := string(reply[1 : len(reply)-2]); !l.escorted(why) {
			return l.refusal(why)
		}
	}
	l.skip--
	if l.skip == 0 && l.gated {
		l.gated = false
		l.Flush()
	}
	return nil
}

// refusal is the error for a lease whose connection the node does not want to be what it shall be.
func (l *Lease) refusal(why string) error {
	return &backend.LostError{Addr: l.Addr(), Sent: l.owed > l.unsent, Refusal: why}
}

// escorted has the connection brought to its database, if why says that the user may not SELECT it.
// Nothing of the holder's is written before.
func (l *Lease) escorted(why string) bool {
	if !l.gated || l.skip > 1 || !strings.HasPrefix(why, "NOPERM ") {
		return false
	}
	p := l.conn.pool
	own, _ := p.logins.Password(backend.Identity{User: p.user, Credential: p.credential})
	if p.credential != 0 && l.conn.password != own { // it needed a proof, and would need one again
		return false
	}
	escort, first := p.logins.Escort(p.user, l.conn.password, l.db, why)
	if escort == nil {
		return false
	}
	l.escort = escort
	l.skip++
	l.conn.wire.write(first)
	return true
}

// consume drops the bytes that scan has delivered, of the viewed ones, and sets the hint: how many
// bytes are missing from a reply that has begun. received may have appended bytes meanwhile. It has
// posted nothing if they were fewer than the hint before, so consume posts the lease if they may
// complete a reply after all.
func (l *Lease) consume(viewed int) {
	c := l.conn
	c.mu.Lock()
	in := c.in
	if in == nil {
		c.mu.Unlock()
		return
	}
	defer c.mu.Unlock()
	defer c.setSlow(l.passing)
	unseen := len(in.b) - viewed
	c.hint = 0
	switch {
	case l.taken == len(in.b):
		c.in = nil
		in.free()
		if l.passing {
			c.hint = min(l.scanner.Need(), maxAhead/4)
		}
	case l.taken > 0: // each byte moves at most once: only the one reply that has begun is left
		in.b = in.b[:copy(in.b, in.b[l.taken:])]
		fallthrough
	default:
		c.hint = max(0, l.scanner.Need()-unseen)
		if l.passing {
			c.hint = min(c.hint, maxAhead/4)
		}
	}
	l.taken = 0
	if !c.posted && c.hint == 0 && unseen > 0 && !l.paused {
		c.posted = true
		l.inbox.post(l)
	}
}

// Detach gives the connection back: to the oldest Waiter, else to the stack of idle ones. The
// connection is closed instead if it owes a reply, if the ledger has anything but known dirt, or if
// the settings do not want it.
func (l *Lease) Detach() {
	if l.over {
		return
	}
	why := l.unfit()
	rest, lost := l.leave()
	switch {
	case lost != nil:
		why = "hung up"
	case why == "" && rest > 0:
		why = "unexpected bytes"
	}
	p := l.conn.pool
	if why != "" {
		p.end(l.conn, why)
		return
	}
	l.conn.ledger.recycle()
	p.put(l.conn)
	if l.class != brief {
		p.limit.makeRoom() // another lease of its class may begin, perhaps in another pool
	}
}

// unfit says why the connection cannot go back to the pool; "": it can.
func (l *Lease) unfit() string {
	if l.owed > 0 || l.skip > 0 {
		return "reply owed"
	}
	return l.conn.ledger.unfit(!l.conn.pool.cannotUndo.Load())
}

// Close ends the connection at once. The node sees the end before anything that is pushed to its
// keys afterwards, so a blocked command takes no element any more. why is a short fixed text for the
// pool's counters.
func (l *Lease) Close(why string) {
	if l.over {
		return
	}
	l.leave()
	l.conn.pool.end(l.conn, why)
}

// lose ends the lease because the connection is gone, or because the node has sent nonsense.
func (l *Lease) lose(err error) {
	if l.over {
		return
	}
	lost, ok := err.(*backend.LostError)
	if !ok {
		lost = &backend.LostError{Addr: l.Addr(), Sent: l.owed > l.unsent, Begun: l.scanner.Partial(), Err: err}
	}
	l.leave()
	l.conn.pool.end(l.conn, "lost")
	l.holder.LeaseLost(l, lost)
}

// leave ends the lease, but not the connection. rest is how many received bytes were not delivered.
func (l *Lease) leave() (rest int, lost error) {
	l.over = true
	c := l.conn
	if l.revocable != nil {
		c.quiet.Store(0)
	}
	in, rest, lost := c.detach(l.taken)
	if l.delivering {
		l.lent = in // the holder may still read the reply that lies in it
	} else {
		in.free()
	}
	l.out.free()
	l.out, l.parts = nil, nil
	c.pool.leaseOver(l)
	return rest, lost
}
