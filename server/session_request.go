package main

import (
	"math"

	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/telemetry"
)

// request is one command in flight. It is in its session's queue from when it is sent, or when
// berth's own answer has to wait for its turn, until its reply is in the session's output. A reply
// that comes early waits in it.
//
// Owned by the session's loop. When the client leaves, its waiting requests live on until their
// replies came.
type request struct {
	s      *session
	number uint64   // in the client's order: see session.numbered
	next   *request // the one after it in the client's order
	cmd    *router.Command
	start  int64  // loop clock, unix nanoseconds; of a parked one, since when it is parked
	moment uint64 // loop.moment when it was sent
	held   int64  // nanoseconds for which it had waited in berth by then
	slot   int16  // if the client may read from replicas: see ownWrites
	state  requestState
	mute   bool       // CLIENT REPLY: its reply is not written
	hops   uint8      // redirects followed and retries made
	piped  bool       // its cost is in loop.load
	cost   int        // bytes: of the request and the reply it is expected to get; of the reply once that is parked
	reply  []byte     // parked: came before its turn
	pipe   *pipe.Pipe // on which it was sent last; nil: on none, or on several

	sent    []byte   // on a lease: its bytes, to be sent again when the slot has moved
	parts   [][]byte // the same of a long one, in pieces; then there is no sent
	passed  uint32   // bytes of its reply that were passed on in parts; of more than 4 GB, that many
	streams bool     // the beginning of its reply is with the client
	apart   bool     // its reply may be more than one
	watches bool     // the WATCH that began a stay
	away    bool     // a read that a replica owes

	passes   bool  // counted in session.passing
	cold     bool  // it was of no hot key when it was sent
	fromLink bool  // its reply comes from a fetch
	lent     bool  // reply is not the request's own, and nobody changes it
	ends     ender // takes the reply instead of the client; nil: the client gets it
}

// ender takes the reply to a request instead of the client.
type ender interface {
	// replies is how many replies the request's bytes are owed.
	replies() int
	// queued takes one reply, but not the last.
	queued(reply []byte)
	// end takes the last reply and ends the request.
	end(r *request, reply []byte)
	// whole reports whether end needs the last reply in one piece.
	whole() bool
	// again reports whether a request that no node has answered may be sent again, which it then
	// is.
	again() bool
}

// settle is an ender for a command that berth runs itself with a node's help.
type settle func(r *request, reply []byte)

func (settle) replies() int                   { return 1 }
func (settle) queued([]byte)                  {}
func (f settle) end(r *request, reply []byte) { f(r, reply) }
func (settle) whole() bool                    { return true }
func (settle) again() bool                    { return false }

type requestState uint8

const (
	requestWaiting requestState = iota // a node owes its reply
	requestParked                      // its reply is in reply
)

// enqueue appends the request to its session's queue.
func (s *session) enqueue(r *request) {
	if s.tail == nil {
		s.head = r
	} else {
		s.tail.next = r
	}
	s.tail = r
	s.queued++
	s.numbered++
	r.number = s.numbered
}

// newRequest queues a request for which a node will owe a reply.
func (s *session) newRequest(cmd *router.Command) *request { return s.newRequestOf(cmd, everySlot) }

// newRequestOf is newRequest for a request whose keys lie in a slot.
func (s *session) newRequestOf(cmd *router.Command, slot int) *request {
	r := s.loop.request()
	r.s, r.cmd, r.start, r.moment, r.mute = s, cmd, s.loop.clock, s.loop.moment, s.muteThis
	if s.heldSince != 0 {
		r.held = r.start - s.heldSince
		s.loop.stats.Waited(telemetry.WaitHeld, r.held)
	}
	r.cost = requestCost + int(s.expect)
	s.owed += r.cost
	s.enqueue(r)
	s.waiting++
	if s.loop.near != nil && cmd.Way != router.Local {
		r.passes = true
		s.passing++
	}
	if !isPlainRead(cmd) {
		s.writing++
		s.wrote(r, slot)
	}
	return r
}

// isPlainRead reports whether a command may be run twice. So may those that berth could answer itself:
// PING.
func isPlainRead(cmd *router.Command) bool {
	return cmd.Flags.Has(router.Readonly) || cmd.Way == router.Local
}

// answer gives the client a reply that berth makes itself, in the client's order.
func (s *session) answer(cmd *router.Command, reply []byte) {
	s.loop.stats.Answered(cmd, 0, reply)
	s.loop.replied += len(reply)
	s.tally.countError(reply)
	if s.muteThis {
		return
	}
	if s.head == nil {
		s.numbered++ // as if it had been in the queue, which is empty
		s.write(reply)
		return
	}
	r := s.loop.request()
	r.s, r.cmd = s, cmd
	r.park(reply)
	s.enqueue(r)
}

// lend gives the client a reply that nobody changes, in the client's order. It is not copied while it waits.
func (s *session) lend(cmd *router.Command, reply []byte) {
	if s.muteThis || s.head == nil {
		s.answer(cmd, reply)
		return
	}
	s.loop.stats.Answered(cmd, 0, reply)
	s.loop.replied += len(reply)
	s.tally.countError(reply)
	r := s.loop.request()
	r.s, r.cmd, r.reply, r.lent = s, cmd, reply, true
	r.state, r.start = requestParked, s.loop.clock
	r.cost = len(reply)
	s.owed += r.cost
	s.weighLater()
	s.enqueue(r)
}

// dropReply gives up a parked reply.
func (r *request) dropReply() {
	if !r.lent {
		r.s.loop.drop(r.reply)
	}
	r.reply = nil
}

func (r *request) park(reply []byte) {
	s := r.s
	r.state, r.start = requestParked, s.loop.clock
	s.loop.unload(r)
	s.owed += len(reply) - r.cost
	r.cost = len(reply)
	s.weighLater()
	r.reply = append(s.loop.buf(), reply...)
}

// done ends the request with the reply its client gets. The bytes are copied.
func (r *request) done(reply []byte) {
	s := r.s
	l := s.loop
	if s.closed {
		l.dropRequest(r)
		return
	}
	s.learned(r, reply)
	if r.streams {
		if e, ok := r.ends.(*evaluation); ok {
			e.accepted(r)
		}
		s.learn(clientWindow)
		if s.mailbox != nil {
			l.Post(s.mailbox.deliver)
		}
		l.stats.Answered(r.cmd, l.clock-r.start, nil) // what begins the last part says nothing
	} else {
		s.learn(len(reply))
		l.stats.Answered(r.cmd, l.clock-r.start, reply)
		s.tally.countError(reply)
	}
	s.waiting--
	if !isPlainRead(r.cmd) {
		s.writing--
		s.writes.answered(r)
	}
	for _, part := range r.parts {
		l.srv.memory.drop(len(part))
	}
	if r.mute {
		reply = nil
	}
	if s.head == r {
		s.write(reply)
		s.dequeue()
		s.drain()
	} else {
		r.park(reply)
	}
	s.answered()
	if l.stranded.of[s] != nil {
		l.settleAll(s)
	}
}

// Part takes the beginning of a long reply if the reply is the client's next: the client gets it as
// it comes. A reply that the client does not want is dropped as it comes.
func (r *request) Part(part, sent []byte, left int) bool {
	s := r.s
	switch {
	case s.closed:
		r.streams = true
		return true
	case r.ends != nil && r.ends.whole():
		return false
	case r.mute:
		r.streams = true
		return true
	case s.head != r || s.sub != nil || s.tracking != nil || s.mailbox != nil: // a push would come in the midst of it
		return false
	}
	if !r.streams && len(part)+left > maxOnPipe && r.parts == nil && r.cmd.Flags.Has(router.Readonly) {
		s.foundHeavy(r.cmd, sent)
	}
	r.streams = true
	s.loop.srv.memory.pass(len(part), s.loop.clock)
	r.passed = uint32(min(int(r.passed)+len(part), math.MaxUint32))
	s.write(part)
	return true
}

// drain writes the parked replies whose turn has come.
func (s *session) drain() {
	for r := s.head; r != nil && r.state == requestParked; r = s.head {
		s.loop.stats.Waited(telemetry.WaitTurn, s.loop.clock-r.start)
		s.write(r.reply)
		r.dropReply()
		s.dequeue()
	}
}

// dequeue removes the oldest request and frees it.
func (s *session) dequeue() {
	r := s.head
	s.head = r.next
	if s.head == nil {
		s.tail = nil
	}
	s.queued--
	s.owed -= r.cost
	s.loop.dropRequest(r)
}

// abandon empties the queue of a session whose client is gone. Requests that wait for a node are
// freed when it answers.
func (s *session) abandon() {
	for r := s.head; r != nil; {
		next := r.next
		r.next = nil
		switch {
		case r.state == requestParked:
			r.dropReply()
			s.loop.dropRequest(r)
		case s.execReply != nil && s.execReply.r == r: // the node has answered it
			s.loop.dropRequest(r)
		}
		r = next
	}
	s.execReply = nil
	s.head, s.tail, s.queued, s.waiting, s.writing, s.owed = nil, nil, 0, 0, 0, 0
	s.passing, s.fetching = 0, 0
}
