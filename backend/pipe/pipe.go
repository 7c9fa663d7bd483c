package pipe

import (
	"slices"
	"time"

	"github.com/panjf2000/gnet/v2"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/secure"
	"github.com/berth-proxy/berth/codec"
)

// Pipe is a shared, pipelined connection to a node, of one identity.
//
// Owned by one event loop.
//
//	Send ─▶ journal ─flush─▶ socket ─▶ node
//	  └──▶ owed (ring) ◀──pop── Traffic ◀── socket
//	                     └──▶ Receiver
type Pipe struct {
	set        *Set
	link       backend.Link
	conn       gnet.Conn // while the link is shaking or up
	figures    *Figures  // of the node
	journal    journal
	owed       backend.Ring[owed]
	unsent     int    // how many of owed, the newest ones, have no byte on the socket
	expired    int    // how many of owed, the oldest ones, were given up
	dirty      bool   // it is in pipes.dirty
	slow       bool   // the node has owed a reply for long
	retired    bool   // the node serves no slot any more
	leaving    bool   // the node is one of another backend than the present one
	outdated   bool   // the connection is to be replaced: see Reconnect
	second     *Pipe  // to the same node, for when one of the two is stopped up; nil: there is none
	probing    bool   // the second one owes the reply to a probe
	looksAfter bool   // a look at the scripts is on its way
	turn       uint32 // the set's turns when it became the current one last

	scanner codec.ReplyScanner
	in      []byte // a reply that has not wholly arrived
	passing bool   // the beginning of that reply has been handed out
	cutting bool   // the beginning of that reply, a line, has been dropped
	begun   int    // how many of its bytes were handed out or dropped
	long    bool   // it has longReply bytes

	lastUse int64 // when a request was queued last, unix nanoseconds
	heardAt int64 // when bytes came last, or else the connection, unix nanoseconds
}

// owed is one place in the queue of replies that a node owes on a pipe.
type owed struct {
	to       backend.Receiver
	left     int   // replies still to come for this place
	queuedAt int64 // unix nanoseconds; later, when the reply's latest part came
	request  place
}

// Addr is the node's address.
func (p *Pipe) Addr() string { return p.link.Addr() }

// Set returns the pipes of the same identity.
func (p *Pipe) Set() *Set { return p.set }

// Send queues a request that is owed so many replies. The bytes are copied, and written at the end
// of the loop's turn. An error means that nothing was queued and Lost will not be called.
func (p *Pipe) Send(request []byte, replies int, to backend.Receiver) *backend.LostError {
	if p.link.State() == backend.Down {
		if q := p.wellAgain(); q != nil {
			return q.Send(request, replies, to)
		}
		if p.leaving {
			return &backend.LostError{Addr: p.Addr(), Err: backend.ErrRetired}
		}
		if !p.link.MayBegin(p.set.pipes.loop.Now()) {
			err, _ := p.link.Err()
			return err
		}
		if err := p.set.pipes.settings.Logins.Refused(p.set.identity, p.Addr()); err != nil {
			return err
		}
		p.dial()
	}
	p.owed.Push(owed{to: to, left: replies, queuedAt: p.set.pipes.loop.Now(), request: p.journal.append(request)})
	p.unsent++
	p.touch()
	return nil
}

// Ready dials a pipe that is down, so that the next Send need not wait for the dial.
func (p *Pipe) Ready() {
	if !p.leaving && p.link.MayBegin(p.set.pipes.loop.Now()) {
		p.lastUse = p.set.pipes.loop.Now()
		p.dial()
	}
}

// SendAsking is Send with ASKING before the request, for a slot that is being moved. ASKING's reply
// is swallowed.
func (p *Pipe) SendAsking(request []byte, replies int, to backend.Receiver) *backend.LostError {
	if err := p.Send(backend.AskingCommand, 1, swallow{}); err != nil {
		return err
	}
	return p.Send(request, replies, to)
}

// swallow is the Receiver of replies that no request waits for.
type swallow struct{}

func (swallow) Reply(_, _ []byte, _ int)            {}
func (swallow) Part(_, _ []byte, _ int) bool        { return true }
func (swallow) Lost(_ *backend.LostError, _ []byte) {}

// touch lists the pipe for the next Flush.
func (p *Pipe) touch() {
	p.lastUse = p.set.pipes.loop.Now()
	if !p.dirty {
		p.dirty = true
		p.set.pipes.touch(p)
	}
}

// dial begins a connection.
func (p *Pipe) dial() {
	p.link.Begin()
	ps := p.set.pipes
	ps.stats.Dials++
	ps.settings.Dial(ps.loop, p.Addr(), p, p.lost)
}

// Opened is called by the loop when it has the connected socket.
func (p *Pipe) Opened(c gnet.Conn) {
	ps := p.set.pipes
	first, opened, err := p.link.Opened(ps.settings.Logins.Handshake(p.Addr(), p.set.identity), ps.loop.Now())
	if !opened {
		secure.Close(c)
		return
	}
	p.conn, p.heardAt = c, ps.loop.Now()
	switch {
	case err != nil:
		p.end(err)
		return
	case len(first) > 0:
		_, _ = c.Write(first) // a failed write ends in Closed
		return
	}
	p.flush()
}

// flush writes what was queued since the last flush, in one system call if there are at most 1024
// chunks.
func (p *Pipe) flush() {
	p.dirty = false
	if p.link.State() != backend.Up {
		return
	}
	ps := p.set.pipes
	ps.iov = p.journal.unwritten(ps.iov[:0])
	if len(ps.iov) == 0 {
		return
	}
	p.journal.wrote()
	p.unsent = 0
	var err error
	for iov := ps.iov; len(iov) > 0 && err == nil; {
		part := iov[:min(len(iov), maxIOV)]
		iov = iov[len(part):]
		n := 0
		if len(part) == 1 {
			n, err = p.conn.Write(part[0])
		} else {
			n, err = p.conn.Writev(part)
		}
		ps.stats.BytesOut += int64(n)
	}
	clear(ps.iov)
}

// maxIOV is IOV_MAX of Linux: writev with more slices fails.
const maxIOV = 1024

// Traffic takes the replies that have arrived.
func (p *Pipe) Traffic() {
	ps := p.set.pipes
	now := ps.loop.Enter()
	buf, err := p.conn.Next(-1)
	ps.stats.BytesIn += int64(len(buf))
	p.checkHold(now)
	p.heardAt = now
	p.read(buf)
	if err != nil && p.conn != nil {
		p.end(backend.HangUp(err))
	}
	ps.loop.After()
}

// read hands out the whole replies that buf completes and keeps the rest.
func (p *Pipe) read(buf []byte) {
	if len(p.in) == 0 {
		n := p.take(buf)
		if n += p.pass(buf[n:]); p.conn != nil && n < len(buf) {
			p.in = append(p.in, buf[n:]...)
		}
		return
	}
	if cap(p.in)-len(p.in) < len(buf) {
		p.in = slices.Grow(p.in, max(len(buf), min(p.scanner.Need(), maxGrowth*len(p.in))))
	}
	p.in = append(p.in, buf...)
	n := p.take(p.in)
	if p.conn == nil { // a reply has ended the pipe, and p.in is no more
		return
	}
	n += p.pass(p.in[n:])
	switch {
	case p.link.State() == backend.Shaking && len(p.in) > backend.MaxHandshake:
		p.end(backend.ErrHandshake)
	case n == len(p.in):
		p.in = backend.Keep(p.in)
	case n > 0: // what is left arrived with this read: it is small
		p.in = append(p.in[:0], p.in[n:]...)
	}
}

// maxGrowth is how many times its own length a buffer grows by, for bytes that were announced and
// have not arrived.
const maxGrowth = 8

// pass hands out the beginning of a long reply that has not wholly arrived, or drops that of a line
// that is too long, and returns how many bytes that was.
func (p *Pipe) pass(rest []byte) (n int) {
	if p.conn == nil || p.link.State() == backend.Shaking || p.owed.Len() == 0 || len(rest) == 0 || !p.scanner.Partial() {
		return 0
	}
	first := p.owed.At(0)
	if n = p.scanner.Settled(rest); n == 0 {
		return 0
	}
	switch {
	case !p.cutting && p.hands(first, rest, n):
		p.passing = true
	case p.cutting || !p.passing && backend.Cuts(rest, &p.scanner):
		p.cutting = true
	default:
		return 0
	}
	p.begun += n
	first.queuedAt = p.set.pipes.loop.Now() // a reply that keeps arriving is not late
	if !p.long && p.begun+len(rest)-n+p.scanner.Need() >= longReply {
		p.long = true
		p.relieve()
	}
	p.scanner.Shift(n)
	return n
}

// hands hands out the first n bytes of rest, if they may be and the receiver takes them.
func (p *Pipe) hands(first *owed, rest []byte, n int) bool {
	if !p.passing && !backend.Streamable(rest, p.scanner.Need()) {
		return false
	}
	to, streams := first.to.(backend.Streamer)
	return streams && first.left == 1 && to.Part(rest[:n], first.request.bytes(), len(rest)-n+p.scanner.Need())
}

// take hands out every whole reply in buf and returns how many bytes they were.
func (p *Pipe) take(buf []byte) (taken int) {
	for taken < len(buf) {
		n, err := p.scanner.Scan(buf[taken:])
		if err != nil {
			p.end(err)
			return taken
		}
		if n == 0 {
			return taken
		}
		reply := buf[taken : taken+n]
		taken += n
		if err := p.answer(reply); err != nil {
			p.end(err)
			return taken
		}
	}
	return taken
}

// answer gives a reply to the receiver that it is owed to.
func (p *Pipe) answer(reply []byte) error {
	if p.link.State() == backend.Shaking {
		return p.shaken(reply)
	}
	isPush := reply[0] == '>' && !p.cutting && !p.passing // no script can make a push
	if p.cutting {
		reply = backend.CutLine
	}
	p.passing, p.cutting, p.begun, p.long = false, false, 0, false
	if isPush {
		if p.set.listener == nil {
			return backend.ErrPush
		}
		p.set.listener.Pushed(p, reply)
		return nil
	}
	if p.owed.Len() == 0 {
		return backend.ErrUnowed
	}
	first := p.owed.At(0)
	first.left--
	to, left, request := first.to, first.left, first.request
	if left > 0 {
		to.Reply(reply, request.bytes(), left)
		return nil
	}
	p.figures.Answers.observe(p.heardAt - first.queuedAt)
	p.owed.Pop()
	if p.expired > 0 {
		p.expired--
	}
	to.Reply(reply, request.bytes(), 0)
	p.journal.answered(request)
	if p.isOver() {
		return backend.ErrRetired
	}
	return nil
}

// shaken takes one reply of the handshake, and goes on with it. After the last one it writes what
// has queued.
func (p *Pipe) shaken(reply []byte) error {
	next, err := p.link.Shaken(reply, p.set.pipes.loop.Now())
	switch {
	case err != nil:
		return err
	case len(next) > 0:
		_, _ = p.conn.Write(next) // a failed write ends in Closed
	case p.link.State() == backend.Up:
		p.flush()
	}
	return nil
}

// end closes the connection for a reason of berth's.
func (p *Pipe) end(err error) {
	conn := p.conn
	p.lost(err)
	if conn != nil {
		secure.Close(conn)
	}
}

// close is end for a pipe that may be down.
func (p *Pipe) close(why error) {
	if p.link.State() != backend.Down {
		p.end(why)
	}
}

// idle reports whether nothing has been asked of the pipe for long.
func (p *Pipe) idle(now int64) bool {
	patience := pipeIdle
	if p.leaving {
		patience = leavingIdle
	}
	return p.owed.Len() == 0 && p.link.State() != backend.Dialing && now-p.lastUse > int64(patience)
}

// Closed is called by the loop when the socket is gone.
func (p *Pipe) Closed(c gnet.Conn, err error) {
	if secure.Raw(p.conn) != c { // end closed it
		return
	}
	p.set.pipes.loop.Enter()
	defer p.set.pipes.loop.After()
	p.lost(backend.HangUp(err))
}

// lost ends this connection, however far it had come, and tells every receiver that is owed a
// reply. The first Send after the back-off dials anew.
func (p *Pipe) lost(err error) {
	ps := p.set.pipes
	if p.set.listener != nil {
		p.set.listener.Down(p)
	}
	worked := p.link.State() == backend.Up
	refused := p.link.Lost(err, worked, ps.loop.Now(), "unanswered", p.owed.Len())
	p.conn, p.in, p.passing, p.cutting, p.begun, p.long, p.outdated = nil, nil, false, false, 0, false, false
	p.scanner = codec.ReplyScanner{}
	switch {
	case backend.EndedByBerth(err):
		ps.stats.Retired++
	case worked:
		ps.stats.Lost++
	default:
		ps.stats.Lost++
		ps.stats.DialErrors++
	}
	p.noteSlow(false)
	if worked && ps.OnLost != nil && p.set.carriesCommands() {
		ps.OnLost(p.Addr())
	}

	// Receivers may send again at once, into the fresh queue.
	queue, unsent, expired := p.owed, p.unsent, p.expired
	p.owed, p.journal, p.unsent, p.expired = backend.Ring[owed]{}, journal{}, 0, 0
	sentErr := *refused
	sentErr.Sent = true
	var heir *Pipe
	if !worked {
		heir = p.heir(refused)
	}
	for queue.Len() > 0 {
		why := &sentErr
		if queue.Len() <= unsent {
			why = refused
		}
		place := queue.Pop()
		if expired > 0 {
			expired--
			continue
		}
		if heir != nil && heir.Send(place.request.bytes(), place.left, place.to) == nil {
			continue
		}
		place.to.Lost(why, place.request.bytes())
	}
	if refused.Login && ps.OnRefused != nil && p.set.speaksFor() && !p.set.live() {
		ps.OnRefused(p.set, refused)
	}
}

// expire gives up replies that have been owed for longer than timeout. Their places stay in the
// queue: if the replies arrive after all, they are swallowed.
func (p *Pipe) expire(now int64, timeout time.Duration) {
	for p.expired < p.owed.Len() {
		place := p.owed.At(p.expired)
		if now-place.queuedAt < int64(timeout) {
			return
		}
		to := place.to
		place.to = swallow{}
		p.expired++
		p.figures.Timeouts++
		// A request that still waits for the connection counts as sent as well: it will be sent
		// once the pipe is up.
		to.Lost(&backend.LostError{Addr: p.Addr(), Sent: true, Err: backend.ErrTimeout}, place.request.bytes())
	}
}
