package main

import (
	"errors"
	"io"

	"github.com/panjf2000/gnet/v2"

	"github.com/berth-proxy/berth/backend/lane"
	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/backend/secure"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/telemetry"
)

// session is our side of one client. Owned by its event loop.
//
//	bytes ─▶ take ─▶ dispatch ─▶ pipe, lane, feed or lease ─▶ node
//	             request queue (head … tail) │
//	client ◀─ out ◀── in the client's order ◀┘
type session struct {
	loop *loop
	conn gnet.Conn
	door *doorway
	id   int64

	// input
	in        []byte // not taken yet: from inPos on
	inPos     int
	heldSince int64                // since when input waits that was there before, loop clock; 0: none does
	parser    *codec.RequestParser // while a request is partly read, else nil
	large     *large               // the parts of that request that are kept apart, or a whole one that waits; else nil
	given     bool                 // in was given away: see give
	pause     pause
	reading   reading // of the socket: see steerReading
	side      side    // where the unanswered requests went
	tally     tally

	// requests and replies
	head, tail *request
	queued     int    // requests in the queue
	numbered   uint64 // requests that were ever in it, or were answered while it was empty: a request's number is what this was then
	waiting    int    // of them, those a node owes a reply
	writing    int    // of those, the ones that are no plain reads
	out        []byte
	unread     int              // bytes of output that waited for the socket when it was written last
	owed       int              // bytes that the queue stands for: see request.cost
	expect     int32            // bytes that a reply is taken to have
	pipeTurns  uint32           // of pipes, when the unanswered requests were sent
	topology   *router.Topology // by which the unanswered requests were routed

	detoured   router.Redirect // where the latest redirect led that was followed
	detouredAt uint64          // the number of the latest request then

	// of a client that may read from replicas
	writes   *ownWrites
	away     uint64 // the number of the latest request that went to a replica; 0: none did
	hasWrote bool

	// of a client while berth has a near cache: see way_near.go
	space    *nearSpace // where replies to it are kept
	spaceOf  *pipe.Set  // as whom
	saw      uint64     // when it last learned something by a pipe that may be of a hot key, loop.moment
	passing  int        // unanswered requests that went on a pipe and may be of a hot key
	fetching int        // unanswered requests that wait for a fetch
	fetchKey uint64     // of which key all of them are; 0: of several
	fetched  uint64     // the number of the latest of these fetches
	farOnly  bool       // CLIENT CACHING NO

	waitedNear bool // the MGET that it is about to send again has waited for what was missing

	// who the client is
	pipes         *pipe.Set
	authenticated bool  // it gave a password, or needed none when it came
	isTurnedAway  bool  // a node has said so of the current request: see vet
	admitted      int64 // since when authenticated is what it is, unix nanoseconds

	// what the client is in the middle of
	txn  *transaction
	stay *stay
	kept map[string]*stay // with the pool switched off, and of one that tracks: what it once attached, by node
	sub  *subscriber

	tunnel *tunnel // of a replica

	tracking *tracking
	mailbox  *mailbox        // of one that others redirect their invalidations to
	wanted   *redirectTarget // of the current CLIENT TRACKING, once the loops have been asked

	replicaCount *replicaCount // WAIT, while it waits
	execReply    *execReply    // EXEC's reply, while it is put together
	blocked      *lane.Waiter  // its blocking command, when that waits with others

	verdict *verdict // whether the user may run the current request, once a node has been asked

	muteAll          bool  // CLIENT REPLY OFF
	muteNext         uint8 // CLIENT REPLY SKIP: 2 at itself, 1 at the request after it
	muteThis         bool  // the current request gets no reply
	isReady, isDirty bool  // in loop.ready or loop.slicing, loop.dirty
	isHeld           bool  // in loop.held
	isWatched        bool  // in loop.slowReaders
	isWeighed        bool  // in loop.weights
	closing          bool  // no further input is read; closed when the queue is empty and written
	closed           bool
	speaksTLS        bool
	saidAll          bool             // the client has said, by TLS, that it says no more
	halfClosed       *halfClosed      // the client has closed its sending side
	reason           telemetry.Reason // why closing, for log and metric
	isParting        bool             // in loop.parting

	prev, next      *session // in loop.first
	born, lastHeard int64    // unix nanoseconds
	overSoft        int64    // since when the output is above the soft limit, else 0
	label           *label   // names the client gave itself
	noEvict         bool     // CLIENT NO-EVICT
	noTouch         bool     // CLIENT NO-TOUCH, which is shown, and has no effect
	owesScript      bool     // an unanswered request may be the EVAL of a script that is not known yet
	readonly        bool     // READONLY, over a Cluster
	readwrite       bool     // READWRITE
	redirects       bool     // CLIENT CAPA redirect
	lastCmd         *router.Command
}

// label is how a client has named itself.
type label struct{ name, libName, libVer string }

// resp is the protocol version of the client's replies.
func (s *session) resp() int { return s.pipes.Identity().RESP }

// user is as whom the client's commands run on the nodes.
func (s *session) user() string {
	if user := s.pipes.Identity().User; user != "" {
		return user
	}
	return "default"
}

// stranger reports whether the client has given no password where a node wants one, as far as is
// known.
func (s *session) stranger() bool { return !s.authenticated && s.loop.srv.nodes.AuthRequired() }

// opened is the loop's word that the client's socket is ours.
func (s *session) opened(l *loop, c gnet.Conn) {
	s.loop, s.conn = l, c
	_, s.speaksTLS = c.(*secure.LoopConn)
	s.born, s.lastHeard = l.clock, l.clock
	s.pipes = l.pipes.Attach(l.srv.newcomer())
	s.welcome()
	s.topology = l.srv.nodes.Topology()
	s.expect = firstReply
	s.next = l.first
	if l.first != nil {
		l.first.prev = s
	}
	l.first = s
	l.sessions++
	l.stats.Opened++
}

// welcome lets a new client in if no node wants a password.
func (s *session) welcome() {
	free := !s.loop.srv.nodes.AuthRequired()
	if let := &s.loop.srv.letIn; free && !let.Load() {
		let.Store(true)
	}
	s.admit(free)
}

// admit enters whether the client may use commands, or must authenticate first.
func (s *session) admit(authenticated bool) {
	s.authenticated, s.admitted = authenticated, s.loop.clock
}

// end reads no further input and closes the session when all that it is owed has been written. details
// are for the log.
func (s *session) end(reason telemetry.Reason, details ...any) {
	if s.closing {
		return
	}
	s.because(reason, details)
	s.closing = true
	s.touch()
}

// kill closes the session at once: what it is owed is dropped.
func (s *session) kill(reason telemetry.Reason, details ...any) {
	if !s.closed {
		s.because(reason, details)
		s.close()
	}
}

// close has the loop close the socket, which ends in gone.
func (s *session) close() {
	if s.halfClosed != nil {
		_ = s.halfClosed.file.Close()
		s.gone(s.halfClosed, nil)
		return
	}
	_ = s.loop.el.Close(secure.Raw(s.conn))
}

// giveBack ends the session's subscriptions, gives back its leases, and hears no invalidations for
// others any more.
func (s *session) giveBack() {
	s.mailbox.close()
	s.unlisten("client left")
	s.leaveStay("client left")
	s.closeTunnel("client left")
}

// gone is the loop's word that the socket is closed, whoever closed it. Everything the session held
// is given back.
func (s *session) gone(c gnet.Conn, err error) {
	if s.closed {
		return
	}
	if s.mayLinger(c, err) && s.lingerHalf(c) {
		return
	}
	s.closed, s.closing = true, true
	l := s.loop
	if s.reason == telemetry.NotClosed {
		s.reason = telemetry.ClientClosed
		if err != nil && !errors.Is(err, io.EOF) {
			s.because(telemetry.ConnectionError, []any{"error", err})
		}
	}
	l.stats.Closed(s.reason)
	s.abandon()
	s.leaveGroup()
	s.leaveReplicaCount("client left")
	s.giveBack()
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
	l.srv.left(s.door)
	if l.cron == s {
		l.cron = s.next
	}
	for _, w := range l.walks {
		w.leaves(s)
	}
	l.sessions--
	s.prev, s.next = nil, nil
	l.wakeIfBusy() // not After: this may run inside a flush of After's or the turn's
}
