package main

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/server/telemetry"
)

// traffic takes what the client has sent.
func (s *session) traffic() {
	buf, err := s.conn.Next(-1)
	l := s.loop
	l.alone.visit(l.clock)
	l.stats.BytesIn += int64(len(buf))
	s.tally.in += uint32(len(buf))
	s.lastHeard = l.clock
	if s.reading != readsAll {
		s.reading = readsUnsure
	}
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
	case s.pause == pauseNone && s.inPos == len(s.in) && !s.isReady:
		if n := s.take(buf); n < len(buf) && !s.closing {
			s.keep(buf[n:])
			s.setAside()
		}
	default:
		s.keep(buf)
		s.takeKept()
		s.tunnel.take()
	}
	s.steerReading()
	if s.speaksTLS && !s.closed { // reading may have written
		s.checkOutput()
	}
	if err != nil {
		s.unreadable(err)
	}
	l.After()
}

// begin takes what the client has said before its socket was the loop's: after a PROXY header, or with
// the end of its TLS handshake.
func (s *session) begin(said []byte) {
	if len(said) > 0 {
		s.keep(said)
		s.takeKept()
	}
	s.traffic()
}

// unreadable ends a client of TLS: what it sent is no TLS, or it has said that it says no more. The
// latter gets what it is owed first.
func (s *session) unreadable(err error) {
	if !errors.Is(err, io.EOF) {
		s.kill(telemetry.TLSError, "error", err)
		return
	}
	s.saidAll = true
	s.touch()
}

// leave ends a client that says no more and can hear no more. One that blocks has left, as for Redis.
func (s *session) leave() {
	switch {
	case s.closing || s.mayHear():
	case s.head == nil:
		s.end(telemetry.ClientClosed)
	default:
		s.kill(telemetry.ClientClosed)
	}
}

// keep appends bytes to the input that waits.
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
		if s.parser != nil && s.pause == pauseNone {
			announced = min(s.parser.Need(), maxGrowth*len(s.in))
		}
		s.in = slices.Grow(s.in, max(len(b), len(s.in), announced))
	}
	s.in = append(s.in, b...)
	if s.heldSince == 0 && (s.pause != pauseNone || s.isReady) {
		s.heldSince = s.loop.clock
	}
	s.grew(len(b))
	s.checkInput()
}

// maxGrowth is by how much the input grows for bytes that were announced and have not come.
const maxGrowth = 8

// checkInput ends a client when berth holds more of its input than client-query-buffer-limit.
func (s *session) checkInput() {
	if held, limit := len(s.in)-s.inPos+s.large.held(), s.loop.srv.config().QueryBufferLimit; held > limit {
		s.loop.stats.Limit(telemetry.LimitQueryBuffer)
		s.kill(telemetry.QueryBufferLimit, "bytes", held, "limit", limit)
	}
}

// takeKept dispatches what it can of the input that waited.
func (s *session) takeKept() {
	for s.pause == pauseNone && !s.closing && !s.isReady && (s.inPos < len(s.in) || s.large.waits()) {
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
		s.in, s.inPos, s.heldSince = nil, 0, 0
	}
	s.setAside()
	if s.halfClosed != nil || s.saidAll {
		s.touch()
	}
}

// give returns the current request in memory that the caller may keep. A short request is copied. A
// long one keeps its place in the input buffer, and the session gives that buffer away.
func (s *session) give(raw []byte) []byte {
	if s.inPos < len(s.in) && &raw[0] == &s.in[s.inPos] && len(raw) > maxOnPipe {
		s.given = true
		return raw
	}
	return bytes.Clone(raw)
}

// take dispatches the whole requests in buf until one has to wait, and returns how many bytes they
// were.
func (s *session) take(buf []byte) (taken int) {
	l := s.loop
	p := s.parser
	if p == nil {
		p = l.parser()
	}
	limits := l.srv.limits(!s.stranger())
	size := l.slicing.size()
	slice := size
	for taken < len(buf) && s.pause == pauseNone && !s.closing && !s.given {
		if slice <= 0 {
			s.goOnLater()
			break
		}
		n, err := p.Parse(buf[taken:], limits)
		if (err != nil || n == 0 || p.Inline()) && s.lastCmd == nil && !s.speaksTLS && isTLS(buf[taken:]) {
			s.turnAwayTLS()
			taken = len(buf)
			break
		}
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
		slice -= workPerRequest + len(p.Args()) + (n+l.replied)/workBytes
		l.replied = 0
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
			if l.keyWatch.isDue(n) {
				s.sawRequest(args, n)
			}
			limits = l.srv.limits(!s.stranger())
		}
		if s.muteNext > 0 && (len(p.Args()) > 0 || l.srv.mutesEmpty(buf[taken:taken+n])) {
			s.muteNext--
		}
		p.Reset()
		taken += n
	}
	l.slicing.worked += size - slice
	s.park(p)
	return taken
}

// park keeps the parser if it has begun a request; else it is for the loop's next session.
func (s *session) park(p *codec.RequestParser) {
	if p.Partial() && !s.closing {
		s.parser = p
	} else {
		s.loop.dropParser(p)
		s.parser = nil
	}
}

// protocolError answers input that is no request and ends the session.
func (s *session) protocolError(err error) {
	text := err.Error()
	if s.loop.srv.isValkeySince(9, 1) && strings.HasPrefix(text, "Protocol error: expected CR LF") {
		text = "Protocol error: invalid CRLF in request"
	}
	s.loop.scratch = codec.AppendError(s.loop.scratch[:0], "ERR "+text)
	s.muteThis = s.muteAll || s.muteNext == 1
	s.answer(nil, s.loop.scratch)
	s.end(telemetry.ProtocolError, "error", shown(text))
}
