package main

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/panjf2000/gnet/v2"

	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// pause is why a session takes no further request for now. What the client sends meanwhile waits in its input.
type pause uint8

const (
	goOn           pause = iota
	pauseBarrier         // until every reply owed elsewhere has come
	pausePipeline        // until fewer requests than client-pipeline-limit are unanswered
	pauseLease           // until a lease is attached
	pauseBlocked         // until the blocking command's reply
	pauseHandshake       // until the node has checked an AUTH or SELECT
	pauseSubscribe       // until the confirmations of a SUBSCRIBE have come
	pauseSplit           // until all parts of a request with very many keys are sent
	pauseByCommand       // CLIENT PAUSE
)

// side is where a session's unanswered requests went. It goes from one to the other only when none is left: otherwise
// replies, and the commands themselves, would overtake each other.
type side uint8

const (
	onPipes side = iota
	onLease
)

// session is our side of one client. Owned by its event loop.
//
//	bytes ─▶ take ─▶ dispatch ─▶ pipe or lease ─▶ node
//	             request queue (head … tail) │
//	client ◀─ out ◀── in the client's order ◀┘
type session struct {
	loop *loop
	conn gnet.Conn
	id   int64

	// input
	in     []byte // not taken yet: from inPos on
	inPos  int
	given  bool                 // in is somebody else's from now on: see give
	parser *codec.RequestParser // while a request is partly read, else nil
	large  *large               // the parts of that request that are kept apart, or a whole one that waits; else nil
	pause  pause

	// requests and replies
	head, tail *request
	queued     int // requests in the queue
	waiting    int // of them, those a node owes a reply
	writing    int // of those, the ones that are no plain reads
	out        []byte
	side       side
	topology   *router.Topology // by which the unanswered requests were routed

	// who the client is
	pipes         *pipe.Set
	authenticated bool

	// what the client is in the middle of
	txn  *transaction
	stay *stay
	kept map[string]*stay // with the pool switched off, and of one that tracks: what it once attached, by node
	sub  *subscriber

	tracking *tracking

	acks     *acks     // WAIT, while it waits
	splicing *splicing // EXEC's reply, while it is put together
	blocked  *waiter   // its blocking command, when that waits with others

	verdict *verdict // whether the user may run the request at hand, once a node has been asked

	muteAll          bool  // CLIENT REPLY OFF
	muteNext         uint8 // CLIENT REPLY SKIP: 2 at itself, 1 at the request behind it
	muteThis         bool  // the request at hand gets no reply
	isReady, isDirty bool  // in loop.ready or loop.slicing, loop.dirty
	isHeld           bool  // in loop.held
	closing          bool  // no further input is read; closed when the queue is empty and written
	closed           bool
	half             *halfClosed // the client has closed its sending side
	reason           string      // why closing, for log and metric

	prev, next *session // in loop.first
	born, seen int64    // unix nanoseconds
	overSoft   int64    // since when the output is above the soft limit, else 0
	label      *label   // names the client gave itself
	noEvict    bool     // CLIENT NO-EVICT
	readonly   bool     // READONLY, over a Cluster
	lastCmd    *router.Command
}

// label is how a client has named itself.
type label struct{ name, libName, libVer string }

// resp is the protocol version of the client's replies.
func (s *session) resp() int { return s.pipes.Identity().RESP }

// opened is the loop's word that the client's socket is ours.
func (s *session) opened(l *loop, c gnet.Conn) {
	s.loop, s.conn = l, c
	s.born, s.seen = l.clock, l.clock
	s.pipes = l.pipes.Attach(l.srv.newcomer())
	s.authenticated = !l.srv.nodes.Info().AuthRequired
	s.topology = l.srv.nodes.Topology()
	s.next = l.first
	if l.first != nil {
		l.first.prev = s
	}
	l.first = s
	l.sessions++
	l.stats.opened++
}

// traffic takes what the client has sent.
func (s *session) traffic(c gnet.Conn) {
	buf, _ := c.Next(-1)
	l := s.loop
	l.alone.visit(l.clock)
	l.stats.bytesIn += int64(len(buf))
	s.seen = l.clock
	switch {
	case s.closing || s.closed: // QUIT: the rest is ignored
	case s.large != nil && s.large.missing > 0:
		l.srv.memory.pass(len(buf), l.clock)
		if n := s.large.fill(buf); n < len(buf) {
			s.keep(buf[n:])
			s.takeKept()
		} else {
			s.checkInput()
		}
	case s.pause == goOn && s.inPos == len(s.in) && !s.isReady:
		if n := s.take(buf); n < len(buf) && !s.closing {
			s.keep(buf[n:])
			s.setAside()
		}
	default:
		s.keep(buf)
		s.takeKept()
	}
	l.After()
}

// keep adds to the input that waits.
func (s *session) keep(b []byte) {
	if s.in == nil {
		s.in = s.loop.buf()
	}
	if cap(s.in)-len(s.in) < len(b) {
		if s.inPos > 0 {
			s.in = s.in[:copy(s.in, s.in[s.inPos:])]
			s.inPos = 0
		}
		announced := 0
		if s.parser != nil && s.pause == goOn {
			announced = min(s.parser.Need(), maxGrowth*len(s.in))
		}
		s.in = slices.Grow(s.in, max(len(b), len(s.in), announced))
	}
	s.in = append(s.in, b...)
	s.checkInput()
}

// maxGrowth is by how much the input grows for bytes that were announced and have not come.
const maxGrowth = 8

// checkInput ends a client of whom berth would have to hold too much.
func (s *session) checkInput() {
	if held := len(s.in) - s.inPos + s.large.held(); held > s.loop.srv.config().QueryBufferLimit {
		s.loop.stats.limits["client-query-buffer-limit"]++
		s.kill("query buffer limit")
	}
}

// takeKept takes what it can of the input that waited.
func (s *session) takeKept() {
	for s.pause == goOn && !s.closing && !s.isReady && (s.inPos < len(s.in) || s.large.waits()) {
		if s.large.waits() {
			if !s.takeLarge() {
				break
			}
			continue
		}
		n := s.take(s.in[s.inPos:])
		s.inPos += n
		if s.given {
			rest := s.in[s.inPos:]
			s.in, s.inPos, s.given = nil, 0, false
			if len(rest) > 0 {
				s.keep(rest)
			}
		}
		if n == 0 {
			break
		}
	}
	if s.in != nil && (s.closing || s.inPos == len(s.in)) {
		s.loop.drop(s.in)
		s.in, s.inPos = nil, 0
	}
	s.setAside()
	if s.half != nil {
		s.touch()
	}
}

// give is the request at hand in memory that stays what it is: a long one with the input that it lies in, which is the
// session's no more, others in a copy.
func (s *session) give(raw []byte) []byte {
	if s.inPos < len(s.in) && &raw[0] == &s.in[s.inPos] && len(raw) > maxOnPipe {
		s.given = true
		return raw
	}
	return bytes.Clone(raw)
}

// take dispatches the whole requests in buf until one has to wait, and returns how many bytes they were.
func (s *session) take(buf []byte) (taken int) {
	l := s.loop
	p := s.parser
	if p == nil {
		p = l.parser()
	}
	limits := l.srv.limits(s.authenticated)
	for slice := sliceWork; taken < len(buf) && s.pause == goOn && !s.closing && !s.given; {
		if slice <= 0 {
			s.goOnLater()
			break
		}
		n, err := p.Parse(buf[taken:], limits)
		if err != nil {
			s.protocolError(err)
			taken = len(buf)
			break
		}
		if n == 0 {
			if p.Begun() {
				s.goOnLater()
			}
			break
		}
		if s.large != nil {
			s.large.complete(buf[taken:taken+n], p.Args())
			p.Reset()
			taken += n
			if !s.takeLarge() {
				break
			}
			continue
		}
		slice -= workPerRequest + len(p.Args()) + n/workBytes
		if args := p.Args(); len(args) > 0 {
			raw := buf[taken : taken+n]
			if p.Inline() {
				l.scratch = codec.AppendCommand(l.scratch[:0], args...)
				raw = l.scratch
			}
			if !s.dispatch(raw, args) {
				p.Reset()
				break
			}
			limits = l.srv.limits(s.authenticated)
		}
		if s.muteNext > 0 { // by an empty request, too
			s.muteNext--
		}
		p.Reset()
		taken += n
	}
	if p.Partial() && !s.closing {
		s.parser = p
	} else {
		l.dropParser(p)
		s.parser = nil
	}
	return taken
}

// hold pauses the session in front of the request at hand, which is dispatched again when it resumes.
func (s *session) hold(why pause) bool {
	s.pause = why
	return false
}

// answered is called when a reply has come: a session that waited for it may go on.
func (s *session) answered() {
	switch {
	case s.splicing != nil:
		s.splicing.run()
	case s.closing:
		s.touch()
	case s.pause == pauseHandshake,
		(s.pause == pauseBarrier || s.pause == pauseBlocked) && s.waiting == 0,
		s.pause == pausePipeline && s.queued < s.loop.srv.config().PipelineLimit:
		s.release()
	}
}

// release ends a pause; the session goes on in this loop's next turn.
func (s *session) release() {
	if s.splicing == nil {
		s.pause = goOn
	}
	if !s.isReady {
		s.isReady = true
		s.loop.ready = append(s.loop.ready, s)
		s.loop.Wake()
	}
}

// resume goes on with the input that waited.
func (s *session) resume() {
	s.isReady = false
	switch {
	case s.closed:
	case s.splicing != nil:
		s.splicing.run()
	default:
		s.takeKept()
	}
}

// write adds to the output; it goes to the socket when the loop has the session's turn.
func (s *session) write(b []byte) {
	if len(b) == 0 {
		s.touch()
		return
	}
	if s.out == nil {
		s.out = s.loop.buf()
	}
	s.out = append(s.out, b...)
	s.touch()
}

// touch lists the session for flush.
func (s *session) touch() {
	if !s.isDirty {
		s.isDirty = true
		s.loop.dirty = append(s.loop.dirty, s)
	}
}

// flushComplete writes the output if the client is owed nothing more. What would come later goes out with the next write:
// a batch of replies for thousands of clients needs one buffer, not thousands.
func (s *session) flushComplete() {
	if s.head == nil && len(s.out) > 0 && !s.isReady {
		s.flush()
	}
}

// flush writes the output, and closes a session that has nothing left to say.
func (s *session) flush() {
	s.isDirty = false
	if s.closed {
		return
	}
	if s.half != nil {
		s.flushHalf()
		return
	}
	switch out := s.out; {
	case len(out) == 0:
	case s.holdsBack():
		if !s.isHeld {
			s.isHeld = true
			s.loop.held = append(s.loop.held, s)
		}
	default:
		s.out = nil
		s.loop.stats.bytesOut += int64(len(out))
		_, err := s.conn.Write(out) // a failure has closed the session when it returns
		s.loop.drop(out)
		if err != nil || s.closed {
			return
		}
		s.checkOutput()
	}
	if s.closing && s.head == nil {
		if s.conn.OutboundBuffered() > 0 {
			s.loop.linger = append(s.loop.linger, s)
			return
		}
		s.close()
	}
}

// holdsBack tells that the output may wait for the reply behind it: a client that has sent EXEC has +OK and +QUEUED to come
// with it, in one write. A node that takes its time does not hold them up beyond the next tick.
func (s *session) holdsBack() bool {
	return s.head != nil && s.head.blob != nil && len(s.out) < minBuf && s.loop.clock-s.head.start < maxHoldBack
}

// maxHoldBack is how long, in nanoseconds.
const maxHoldBack = int64(20 * time.Millisecond)

// checkOutput ends a client that does not read what it asked for.
func (s *session) checkOutput() {
	buffered := s.conn.OutboundBuffered()
	if buffered == 0 {
		s.overSoft = 0
		return
	}
	limit := s.loop.srv.outputLimit(s)
	switch {
	case limit.Hard > 0 && buffered > limit.Hard:
		s.loop.stats.limits["client-output-buffer-limit"]++
		s.kill("output buffer hard limit")
	case limit.Soft > 0 && buffered > limit.Soft:
		if s.overSoft == 0 {
			s.overSoft = s.loop.clock
		}
		if time.Duration(s.loop.clock-s.overSoft) > limit.SoftFor {
			s.loop.stats.limits["client-output-buffer-limit"]++
			s.kill("output buffer soft limit")
		}
	default:
		s.overSoft = 0
	}
}

// protocolError answers input that is no request and ends the session.
func (s *session) protocolError(err error) {
	s.loop.scratch = codec.AppendError(s.loop.scratch[:0], "ERR "+err.Error())
	s.muteThis = s.muteAll || s.muteNext == 1
	s.answer(nil, s.loop.scratch)
	s.end("protocol error")
}

// end reads no further input and closes the session when all that it is owed has been written.
func (s *session) end(reason string) {
	if s.closing {
		return
	}
	s.closing, s.reason = true, reason
	s.touch()
}

// kill closes the session at once: what it is owed is dropped.
func (s *session) kill(reason string) {
	if !s.closed {
		s.reason = reason
		s.close()
	}
}

// close has the loop close the socket, which ends in gone.
func (s *session) close() {
	if s.half != nil {
		_ = s.half.file.Close()
		s.gone(s.half, nil)
		return
	}
	_ = s.loop.el.Close(s.conn)
}

// gone is the loop's word that the socket is closed, whoever closed it. Everything the session held is given back.
func (s *session) gone(c gnet.Conn, err error) {
	if s.closed {
		return
	}
	if s.reason == "" && s.mayLinger(c, err) && s.lingerHalf(c) {
		return
	}
	s.closed, s.closing = true, true
	l := s.loop
	if s.reason == "" {
		s.reason = "client closed"
		if err != nil && !errors.Is(err, io.EOF) {
			s.reason = "connection error"
		}
	}
	l.stats.closed(s.reason)
	if s.reason != "client closed" && s.reason != "quit" {
		slog.Debug("client closed", "id", s.id, "addr", s.conn.RemoteAddr(), "why", s.reason)
	}
	s.abandon()
	s.leaveGroup()
	s.unlisten("client left")
	s.leaveStay("client left")
	s.leaveAcks("client left")
	s.pipes.Detach()
	s.txn, s.in, s.out, s.large = nil, nil, nil, nil
	if s.parser != nil {
		l.dropParser(s.parser)
		s.parser = nil
	}
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		l.first = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	}
	l.gone = append(l.gone, c)
	l.srv.clients.Add(-1)
	if l.rota == s {
		l.rota = s.next
	}
	l.sessions--
	s.prev, s.next = nil, nil
	l.wakeIfBusy() // not After: this may run inside a flush of After's or the turn's
}
