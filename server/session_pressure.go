package main

import (
	"log/slog"
	"time"

	"github.com/berth-proxy/berth/backend/secure"
	"github.com/berth-proxy/berth/server/telemetry"
)

// A client may take as much of berth and of the shared pipes as it takes away again. All sizes are
// bytes.
//
//	socket ─▶ in ─▶ requests owed ─▶ out ─▶ unread ─▶ socket
//	   ▲      │       └───── isFull: the session takes no request ─────┘
//	   └──────┴ input that cannot be taken piles up: the socket is not read, and TCP stops the client
//
// Nothing that a client says is trusted here: a reply is as long as its longest one lately, until it
// has come, and a client is slow until it has read.
const (
	maxUntaken   = 32 << 10  // input of a session that takes no request; then its socket is not read
	clientWindow = 1 << 20   // what one client is owed and has not read
	loopWindow   = 512 << 10 // what all clients of a loop are owed on pipes; beyond it each has its share
	fairShare    = 32 << 10  // what a client may be owed while others are owed much
	requestCost  = 1 << 10   // of a request, besides its bytes and those of its reply
	firstReply   = 16 << 10  // taken for a client's replies before the first one has come
)

// Of an unauthenticated client's replies this much may wait for it to read, as in Redis.
const strangerUnread = 1 << 10

// charge enters how long a request is that waits for a node.
func (s *session) charge(r *request, size int) {
	r.cost += size
	if s.owed += size; s.owed > fairShare {
		s.weighLater()
	}
}

// chargePipe is charge for a request on a pipe, where other clients' requests stand after it.
func (s *session) chargePipe(r *request, size int) {
	s.charge(r, size)
	r.piped = true
	s.loop.load += r.cost
}

// learn enters how long a reply was. The estimate rises at once and falls slowly.
func (s *session) learn(reply int) {
	if reply > int(s.expect) {
		s.expect = int32(min(reply, clientWindow))
	} else {
		s.expect -= (s.expect - int32(reply)) >> 3
	}
}

// isFull reports whether replies must come, or must be read, before the client may ask for more.
func (s *session) isFull() bool {
	if s.owed+s.unread+len(s.out) <= fairShare && s.queued < s.loop.srv.config().PipelineLimit {
		return false
	}
	switch {
	case s.queued >= s.loop.srv.config().PipelineLimit:
		s.loop.stats.Limit(telemetry.LimitPipeline)
		return true
	case s.unread > 0:
		s.unread = s.conn.OutboundBuffered()
	}
	return s.notTaken() > clientWindow || s.owed > fairShare && s.loop.load > loopWindow
}

// holdFull pauses the session before the current request, until there is room for it.
func (s *session) holdFull() (taken bool) {
	s.hold(pauseFull)
	s.relieve()
	return false
}

// notTaken is what the client is owed and what it has not read.
func (s *session) notTaken() int {
	return s.owed + s.unread + len(s.out)
}

// roomAgain reports whether a session that was full may go on: at half of each mark, so that it takes
// several requests at a time.
func (s *session) roomAgain() bool {
	return s.queued < s.loop.srv.config().PipelineLimit && s.notTaken() <= clientWindow/2 &&
		(s.owed <= fairShare/2 || s.loop.load <= loopWindow/2)
}

// relieve has a full session go on if it has room again. Otherwise a reply will come and ask again,
// or the loop looks whether the client has read.
func (s *session) relieve() {
	switch {
	case s.pause != pauseFull:
	case s.roomAgain():
		s.resumeFrom(pauseFull)
	case s.unread > 0:
		s.loop.slowReaders.watch(s)
	}
}

// weight is how many bytes berth holds for the client.
func (s *session) weight() (n int) {
	if s.closed {
		return 0
	}
	n = cap(s.in) + s.large.held() + cap(s.out) + s.conn.OutboundBuffered() + s.owed + s.trackingKept()
	if s.txn != nil {
		n += cap(s.txn.bytes) + s.txn.held
	}
	if s.execReply != nil {
		n += s.execReply.held()
	} else if s.tail != nil && s.tail.blob() != nil {
		n += s.tail.blob().held
	}
	if s.stay != nil && s.stay.lease != nil {
		n += s.stay.lease.Ahead()
	}
	return n
}

// trackingKept is how many bytes of CLIENT TRACKING commands are kept for the client.
func (s *session) trackingKept() int {
	if s.tracking == nil {
		return 0
	}
	return s.tracking.kept
}

// reading is what gnet is told to do with the client's socket.
type reading uint8

const (
	readsAll    reading = iota
	readsUnsure         // gnet reads again by itself, or had met these bytes before it was told not to
	readsNone           // the pause ends by itself, and then the socket is read up to its end
	readsHangUp         // the client is blocked for as long as it likes: its end must be seen
)

// steerReading has gnet read the client's socket, or not. Without a switch the socket is always
// read, and client-query-buffer-limit closes a client that sends too much.
func (s *session) steerReading() {
	want := readsAll
	if untaken := len(s.in) - s.inPos + s.large.held(); untaken >= maxUntaken && (s.pause != pauseNone || s.isReady) {
		want = readsNone
		if s.pause == pauseBlocked || s.pause == pauseReplicating {
			want = readsHangUp
		}
	}
	if want != s.reading && s.loop.srv.reads != nil {
		s.reading = want
		s.setReading()
		if want == readsNone && s.pause == pauseFull {
			s.loop.stats.Stopped++
			s.warnStopped()
		}
	}
}

// warnStopped says in the log that a client sends more than it takes. It may be so a thousand times a
// second, and be meant so: one line in so much time tells who it is.
func (s *session) warnStopped() {
	if l := s.loop; time.Duration(l.clock-l.warned) >= warnStoppedEvery {
		l.warned = l.clock
		slog.Info("client held back", "why", "it sends more than it takes", "addr", s.remote().String(), "id", s.id,
			"unanswered", s.queued, "see", "PROXY TOP SORT bytes_in")
	}
}

const warnStoppedEvery = time.Minute

// readOnce has gnet read the socket of a blocked client once. The end of a client that has gone comes
// after all that it has sent: while the window is closed it does not come at all.
func (s *session) readOnce() {
	if s.reading == readsHangUp {
		s.reading = readsAll
		s.setReading()
	}
}

// setReading tells the poller. Output that waits for the socket is written in any case. A socket that
// gnet has closed has no poller: the session is gone, or goes on with a duplicate (halfClosed).
func (s *session) setReading() {
	if s.closed || s.halfClosed != nil {
		return
	}
	events := [...]uint32{readsAll: lookRead, readsUnsure: lookRead, readsNone: lookNowhere, readsHangUp: lookHangUp}[s.reading]
	if s.conn.OutboundBuffered() > 0 {
		events |= lookWrite
	}
	if s.loop.srv.reads.arm(secure.Raw(s.conn), events) != nil {
		s.kill(telemetry.ConnectionError)
	}
}
