package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/bytedance/gopkg/util/gopool"
	"github.com/panjf2000/gnet/v2"

	"github.com/berth-proxy/berth/codec"
)

// Receiver is owed replies by a pipe. Its methods run on the pipe's loop, never inside Send.
type Receiver interface {
	// Reply delivers one whole reply. sent is the request it answers, as it was given to Send; more is how many
	// replies the same Send is still owed. Both slices are valid during the call only.
	Reply(reply, sent []byte, more int)
	// Lost says that this reply and those behind it of the same Send will not come. sent is as in Reply.
	Lost(err *LostError, sent []byte)
}

// Streamer is a Receiver that may take a long reply as it comes, instead of having it gathered.
type Streamer interface {
	Receiver
	// Part offers the next bytes of a reply that has begun, valid during the call. If it takes them, all that follows
	// comes the same way and the last bytes as Reply, or Lost tells that there is no end. If not, they are offered
	// again with the bytes behind them. sent is as in Reply; left is how many bytes are known to be missing behind the
	// part. A reply that begins with an error's or a push's first byte is never offered.
	Part(part, sent []byte, left int) bool
}

// streamFrom is how long a reply is known to be before it is offered in parts: for a shorter one the many small writes cost
// more than gathering it.
const streamFrom = 1 << 20

// streamable tells whether a reply that begins so may be handed out before its end is seen.
func streamable(first byte) bool { return first != '-' && first != '>' && first != '|' && first != '!' }

// LostError is why a reply will not come.
type LostError struct {
	Addr    string
	Sent    bool   // the node may have executed the request
	Begun   bool   // of a lease: a reply had begun to come
	Refusal string // the node's own error when it refused the connection's AUTH or SELECT, else ""
	Err     error
}

func (e *LostError) Error() string {
	if e.Refusal != "" {
		return fmt.Sprintf("%s refused the connection: %s", e.Addr, e.Refusal)
	}
	return fmt.Sprintf("connection to %s: %v", e.Addr, e.Err)
}

func (e *LostError) Unwrap() error { return e.Err }

// Timeout tells that berth gave up the reply; the connection is there still.
func (e *LostError) Timeout() bool { return errors.Is(e.Err, errTimeout) }

// Reasons for which berth itself ends a pipe or gives up a reply.
var (
	errUnowed   = errors.New("the node sent a reply that no request is owed")
	errPush     = errors.New("the node sent a push on a shared connection")
	errTimeout  = errors.New("no reply within backend-timeout")
	errRetired  = errors.New("no longer used")
	errShutdown = errors.New("berth is shutting down")
)

type pipeState uint8

// A pipe's life. Requests queue in the journal while it is dialled; only pipeUp writes them.
//
//	pipeDown ──Send──▶ pipeDialing ──connected──▶ pipeShaking ──+OK──▶ pipeUp
//	   ▲                    │                         │                  │
//	   └────────────────────┴──────── lost ───────────┴──────────────────┘
const (
	pipeDown    pipeState = iota // no connection; the next Send dials, unless it is too early
	pipeDialing                  // net.Dial runs in a goroutine
	pipeShaking                  // HELLO, AUTH, SELECT are sent
	pipeUp
)

// owed is one place in the queue of replies a node owes on a pipe.
type owed struct {
	to      Receiver
	left    int   // replies still to come for this place
	at      int64 // when it was queued, unix nanoseconds
	request place
}

// Pipe is a shared, pipelined connection to a node, of one identity.
//
// Owned by one event loop.
//
//	Send ─▶ journal ─flush─▶ socket ─▶ node
//	  └──▶ owed (ring) ◀──pop── Traffic ◀── socket
//	                     └──▶ Receiver
type Pipe struct {
	set     *PipeSet
	addr    string
	state   pipeState
	conn    gnet.Conn
	journal journal
	owed    ring[owed]
	unsent  int  // the newest places in owed whose bytes are not on the socket
	expired int  // the oldest places in owed that were given up
	dirty   bool // in pipes.dirty
	retired bool // the node serves no slot any more

	shake   int // handshake replies to come
	scanner codec.ReplyScanner
	in      []byte // a reply that has not wholly arrived
	passing bool   // the beginning of that reply has been handed out

	lastUse int64         // unix nanoseconds
	retryAt int64         // not dialled again before, unix nanoseconds
	backOff time.Duration // of the next failure
	lastErr *LostError
	lostAt  int64 // when lastErr was, unix nanoseconds
	since   int64 // when it went up, or down from there; 0: it never was either. Unix nanoseconds
	wasUp   bool  // since the last failure was logged
}

// The first and the longest pause before a node that failed is dialled again; each failure doubles it and a
// random half is taken off, so that many pipes do not come back in one instant.
const (
	backOffMin = 50 * time.Millisecond
	backOffMax = 2 * time.Second
)

// Addr is the node's address.
func (p *Pipe) Addr() string { return p.addr }

// Set is the identity's pipes this one belongs to.
func (p *Pipe) Set() *PipeSet { return p.set }

// Send queues a request that is owed so many replies; the bytes are copied. It is written at the end of the loop's
// turn. An error means that nothing was queued and Lost will not be called.
func (p *Pipe) Send(request []byte, replies int, to Receiver) *LostError {
	if p.state == pipeDown {
		if p.set.pipes.loop.Now() < p.retryAt {
			return p.lastErr
		}
		p.dial()
	}
	p.owed.push(owed{to: to, left: replies, at: p.set.pipes.loop.Now(), request: p.journal.append(request)})
	p.unsent++
	p.touch()
	return nil
}

// Ready dials a pipe that is down, so that a Send soon to come need not wait for it.
func (p *Pipe) Ready() {
	if p.state == pipeDown && p.set.pipes.loop.Now() >= p.retryAt {
		p.lastUse = p.set.pipes.loop.Now()
		p.dial()
	}
}

// SendAsking is Send with ASKING in front, whose reply is swallowed: for a slot that is being moved.
func (p *Pipe) SendAsking(request []byte, replies int, to Receiver) *LostError {
	if err := p.Send(asking, 1, swallow{}); err != nil {
		return err
	}
	return p.Send(request, replies, to)
}

var asking = codec.AppendCommandString(nil, "ASKING")

// swallow takes replies that nobody wants.
type swallow struct{}

func (swallow) Reply(_, _ []byte, _ int)     {}
func (swallow) Part(_, _ []byte, _ int) bool { return true }
func (swallow) Lost(_ *LostError, _ []byte)  {}

func (p *Pipe) touch() {
	p.lastUse = p.set.pipes.loop.Now()
	if !p.dirty {
		p.dirty = true
		p.set.pipes.touch(p)
	}
}

// dial connects in a goroutine: a node that does not answer must not hold the loop.
func (p *Pipe) dial() {
	p.state = pipeDialing
	ps := p.set.pipes
	ps.stats.Dials++
	timeout := ps.settings.DialTimeout()
	gopool.Go(func() {
		err := dialInto(ps.loop.Net(), p, p.addr, timeout)
		if err != nil {
			ps.loop.Post(func() { p.lost(err) })
		}
	})
}

// dialInto connects to addr and enrols the socket in the loop with owner as its context.
func dialInto(loop gnet.EventLoop, owner any, addr string, timeout time.Duration) error {
	conn, err := net.DialTimeout(network(addr), addr, timeout)
	if err != nil {
		return dialError(err)
	}
	enrolled, err := loop.Enroll(gnet.NewContext(context.Background(), owner), conn)
	if err != nil {
		_ = conn.Close()
		return err
	}
	return (<-enrolled).Err
}

// network is the name net.Dial wants for a node's address: a path is a unix socket.
func network(addr string) string {
	if len(addr) > 0 && addr[0] == '/' {
		return "unix"
	}
	return "tcp"
}

// dialError takes off what net puts around the reason, since the address is said once by LostError.
func dialError(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// Opened is the loop's word that the socket is connected and enrolled.
func (p *Pipe) Opened(c gnet.Conn) {
	if p.state != pipeDialing { // retired while it was dialled
		_ = p.set.pipes.loop.Net().Close(c)
		return
	}
	p.conn = c
	hello, replies := handshake(p.set.identity)
	p.shake = replies
	p.state = pipeShaking
	if replies == 0 {
		p.ready()
		return
	}
	_, _ = c.Write(hello) // a failed write ends in Closed
}

// handshake is what makes a fresh connection one of the identity, and how many replies it is owed.
func handshake(id Identity) (b []byte, replies int) {
	if id.authenticated() {
		if id.User != "" {
			b = codec.AppendCommandString(b, "AUTH", id.User, id.Password)
		} else {
			b = codec.AppendCommandString(b, "AUTH", id.Password)
		}
		replies++
	}
	if id.RESP == 3 {
		b = codec.AppendCommandString(b, "HELLO", "3")
		replies++
	}
	if id.DB > 0 {
		b = codec.AppendCommandString(b, "SELECT", strconv.Itoa(id.DB))
		replies++
	}
	return b, replies
}

// ready ends the handshake and writes what queued meanwhile.
func (p *Pipe) ready() {
	p.state = pipeUp
	p.since = p.set.pipes.loop.Now()
	p.backOff = 0
	if !p.wasUp {
		p.wasUp = true
		slog.Info("pipe up", "node", p.addr)
	}
	p.flush()
}

// flush writes what was queued since the last flush, in one system call if there are at most 1024 chunks.
func (p *Pipe) flush() {
	p.dirty = false
	if p.state != pipeUp {
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

// maxIOV is Linux' IOV_MAX: writev with more slices fails.
const maxIOV = 1024

// Traffic takes the replies that have arrived.
func (p *Pipe) Traffic(c gnet.Conn) {
	ps := p.set.pipes
	ps.loop.Enter()
	buf, _ := c.Next(-1)
	ps.stats.BytesIn += int64(len(buf))
	p.read(buf)
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
	n += p.pass(p.in[n:])
	switch {
	case p.conn == nil:
	case n == len(p.in):
		p.in = keep(p.in)
	case n > 0: // what is left arrived with this read: it is small
		p.in = append(p.in[:0], p.in[n:]...)
	}
}

// maxGrowth is by how much a buffer grows for bytes that were announced and have not come.
const maxGrowth = 8

// pass hands out the beginning of a long reply that has not wholly arrived, and returns how many bytes that was.
func (p *Pipe) pass(rest []byte) (n int) {
	if p.conn == nil || p.shake > 0 || p.owed.len() == 0 || len(rest) == 0 || !p.scanner.Partial() {
		return 0
	}
	if !p.passing && (len(rest)+p.scanner.Need() < streamFrom || !streamable(rest[0])) {
		return 0
	}
	first := p.owed.at(0)
	to, streams := first.to.(Streamer)
	if n = p.scanner.Settled(rest); n == 0 || first.left != 1 || !streams {
		return 0
	}
	if !to.Part(rest[:n], first.request.bytes(), len(rest)-n+p.scanner.Need()) {
		return 0
	}
	p.scanner.Shift(n)
	p.passing = true
	first.at = p.set.pipes.loop.Now() // it is not late as long as it comes
	return n
}

// keep empties a buffer and lets go of one that has grown large.
func keep(buf []byte) []byte {
	if cap(buf) > chunkSize {
		return nil
	}
	return buf[:0]
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

// answer gives a reply to whom it is owed.
func (p *Pipe) answer(reply []byte) error {
	if p.shake > 0 {
		return p.shaken(reply)
	}
	if reply[0] == '>' && !p.passing {
		return errPush
	}
	p.passing = false
	if p.owed.len() == 0 {
		return errUnowed
	}
	first := p.owed.at(0)
	first.left--
	to, left, request := first.to, first.left, first.request
	if left > 0 {
		to.Reply(reply, request.bytes(), left)
		return nil
	}
	p.owed.pop()
	if p.expired > 0 {
		p.expired--
	}
	to.Reply(reply, request.bytes(), 0)
	p.journal.answered(request)
	return nil
}

// shaken takes one reply of the handshake.
func (p *Pipe) shaken(reply []byte) error {
	if reply[0] == '-' {
		return &LostError{Addr: p.addr, Refusal: string(reply[1 : len(reply)-2])}
	}
	p.shake--
	if p.shake == 0 {
		p.ready()
	}
	return nil
}

// end closes the connection for a reason of ours.
func (p *Pipe) end(err error) {
	conn := p.conn
	p.lost(err)
	if conn != nil {
		_ = p.set.pipes.loop.Net().Close(conn)
	}
}

// Closed is the loop's word that the socket is gone.
func (p *Pipe) Closed(c gnet.Conn, err error) {
	if p.conn != c { // we ended it ourselves
		return
	}
	p.set.pipes.loop.Enter()
	defer p.set.pipes.loop.After()
	if err == nil || errors.Is(err, io.EOF) {
		err = errors.New("closed by the node")
	}
	p.lost(err)
}

// lost ends this connection, however far it had come, and tells all who are owed. The next Send after the back-off
// dials anew.
func (p *Pipe) lost(err error) {
	ps := p.set.pipes
	refused, _ := errors.AsType[*LostError](err)
	if refused == nil {
		refused = &LostError{Addr: p.addr, Err: err}
	}
	wasUp := p.state == pipeUp
	if p.wasUp && !errors.Is(err, errRetired) && !errors.Is(err, errShutdown) {
		slog.Warn("pipe down", "node", p.addr, "why", refused, "unanswered", p.owed.len())
	}
	p.wasUp = false
	p.state, p.conn, p.in, p.shake, p.passing = pipeDown, nil, nil, 0, false
	p.scanner = codec.ReplyScanner{}
	p.lastErr, p.lostAt = refused, ps.loop.Now()
	if wasUp || p.since == 0 {
		p.since = p.lostAt
	}
	if !wasUp { // a connection that worked is dialled again at once
		p.backOff = min(max(2*p.backOff, backOffMin), backOffMax)
		p.retryAt = ps.loop.Now() + int64(p.backOff)/2 + rand.Int64N(int64(p.backOff)/2)
		ps.stats.DialErrors++
	}
	ps.stats.Lost++

	// Receivers may send again at once, into the fresh queue.
	queue, unsent, expired := p.owed, p.unsent, p.expired
	p.owed, p.journal, p.unsent, p.expired = ring[owed]{}, journal{}, 0, 0
	sentErr := *refused
	sentErr.Sent = true
	for queue.len() > 0 {
		why := &sentErr
		if queue.len() <= unsent {
			why = refused
		}
		place := queue.pop()
		if expired > 0 {
			expired--
			continue
		}
		place.to.Lost(why, place.request.bytes())
	}
}

// expire gives up replies that are owed for longer than timeout. Their places stay: the replies, should they come,
// are swallowed.
func (p *Pipe) expire(now int64, timeout time.Duration) {
	for p.expired < p.owed.len() {
		place := p.owed.at(p.expired)
		if now-place.at < int64(timeout) {
			return
		}
		to := place.to
		place.to = swallow{}
		p.expired++
		p.set.pipes.stats.Timeouts++
		// Also what still waits for a connection counts as sent: it will be, when the connection comes.
		to.Lost(&LostError{Addr: p.addr, Sent: true, Err: errTimeout}, place.request.bytes())
	}
}
