package main

import (
	"time"

	"github.com/berth-proxy/berth/server/telemetry"
)

// write appends to the output. The loop writes the output to the socket later in this turn.
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

// flushComplete writes the output if the client is owed nothing more. An output that is still
// growing waits for its last reply: a batch of replies for thousands of clients then needs one
// buffer, not thousands.
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
	if s.halfClosed != nil {
		s.flushHalf()
		return
	}
	switch out := s.out; {
	case len(out) == 0:
	case s.isParting: // it has had its last reply
		s.out = nil
		s.loop.drop(out)
	case s.holdsBack():
		if !s.isHeld {
			s.isHeld = true
			s.loop.held = append(s.loop.held, s)
		}
	default:
		s.out = nil
		s.loop.stats.BytesOut += int64(len(out))
		s.tally.out += uint32(len(out))
		_, err := s.conn.Write(out) // a failure has closed the session when it returns
		s.loop.drop(out)
		if err != nil || s.closed {
			return
		}
		s.checkOutput()
		s.relieve()
	}
	if s.saidAll && len(s.out) == 0 {
		if s.leave(); s.closed {
			return
		}
	}
	if s.closing && s.head == nil {
		s.part()
	}
}

// part begins the end of a session that has nothing more to say.
func (s *session) part() {
	if s.isParting || s.closed { // and its descriptor may be another client's by now
		return
	}
	s.isParting = true
	s.giveBack()
	p := parting{s: s}
	p.proceed()
	s.loop.parting = append(s.loop.parting, p)
}

// holdsBack reports whether the output may wait for the next reply. After EXEC, +OK and +QUEUED are
// written together with EXEC's reply, and so is what a near cache has answered with what a node answers
// later in the same pipeline. A slow node does not delay them beyond the next tick.
func (s *session) holdsBack() bool {
	switch {
	case s.head == nil, s.loop.clock-s.head.start > maxHoldBack:
		return false
	case s.head.blob() != nil:
		return len(s.out) < minBuf
	default:
		return s.loop.near != nil && len(s.out) < maxKeptBuf/2
	}
}

// maxHoldBack is how long, in nanoseconds.
const maxHoldBack = int64(20 * time.Millisecond)

// checkOutput ends a client that does not read its replies.
func (s *session) checkOutput() {
	buffered := s.conn.OutboundBuffered()
	if buffered == 0 {
		s.unread, s.overSoft = 0, 0
		return
	}
	s.grew(max(0, buffered-s.unread))
	s.unread = buffered
	if s.reading != readsAll {
		s.setReading()
	}
	limit := s.loop.srv.outputLimit(s)
	switch {
	case limit.Hard > 0 && buffered > limit.Hard, buffered > strangerUnread && s.stranger():
		s.loop.stats.Limit(telemetry.LimitOutputBuffer)
		s.kill(telemetry.OutputHardLimit, "bytes", buffered, "limit", limit.Hard)
	case limit.Soft > 0 && buffered > limit.Soft:
		if s.overSoft == 0 {
			s.overSoft = s.loop.clock
		}
		if time.Duration(s.loop.clock-s.overSoft) > limit.SoftFor {
			s.loop.stats.Limit(telemetry.LimitOutputBuffer)
			s.kill(telemetry.OutputSoftLimit, "bytes", buffered, "limit", limit.Soft, "after", limit.SoftFor)
		}
	default:
		s.overSoft = 0
	}
}
