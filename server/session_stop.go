package main

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-proxy/berth/server/telemetry"
)

// letGo ends the session if berth stops and this is a good moment.
func (s *session) letGo() {
	l := s.loop
	if l.stop.left == 0 || s.closed || s.closing {
		return
	}
	if time.Duration(l.clock-s.lastHeard) < l.stop.rest {
		return
	}
	quiet := l.clock-s.lastHeard > int64(l.stop.patience)
	switch {
	case s.tunnel != nil:
		s.kill(telemetry.Shutdown)
	case s.pause == pauseBlocked:
		if !s.endWait() {
			return
		}
	case s.txn != nil, s.stay != nil && s.stay.watching, s.isReady, s.willGoOn(), !quiet && l.clock < l.stop.until && s.isMidway():
		return
	case quiet && s.head == nil && len(s.out) == 0 && s.conn.OutboundBuffered() == 0:
		s.kill(telemetry.Shutdown)
	default:
		s.end(telemetry.Shutdown)
	}
	l.stop.left--
}

// willGoOn reports whether the client's next request waits for something that comes soon.
func (s *session) willGoOn() bool {
	switch s.pause {
	case pauseNone, pauseFull, pauseGated:
		return false
	}
	return true
}

// isMidway reports whether the client has begun a request, or has sent one that berth has not read, or
// has just come and said nothing yet.
func (s *session) isMidway() bool {
	if s.lastCmd == nil || s.parser != nil || s.large != nil || s.inPos < len(s.in) {
		return true
	}
	if s.head != nil {
		return false
	}
	var b [1]byte
	n, _, err := unix.Recvfrom(s.conn.Fd(), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return err == nil && n > 0
}

// endWait answers a blocked client, and ends it. A command that works while it blocks has its own
// reply. It returns false if there is nothing to answer yet.
func (s *session) endWait() bool {
	l := s.loop
	withError := l.srv.config().ShutdownUnblocks
	works := s.blocked == nil && s.replicaCount == nil && s.tail != nil && !s.tail.cmd.Waits()
	if !works && !(s.blocked != nil && s.blocked.EndWait(withError)) && !s.unblock(l.srv.asUser(s.pipes.Identity()), withError) {
		return false
	}
	if !s.closed {
		s.end(telemetry.Shutdown)
	}
	return true
}
