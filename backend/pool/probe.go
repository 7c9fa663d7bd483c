package pool

import (
	"bytes"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-proxy/berth/codec"
)

// Whether an idle connection is alive must be known before a holder's first byte goes out on it:
// once that is written and the connection ends without a word, nobody knows whether the command was
// executed, and it may not be sent again. A PING in the same write would be in no better position,
// and one whose answer is waited for costs the holder a round trip. So the question is put while
// nobody waits for the answer:
//
//	idle for HealthCheck ─ PING ─┬─ anything comes: alive, and asked again after another HealthCheck
//	                             ├─ nothing within probePatience: closed
//	                             └─ attached meanwhile: the lease skips the answer, which comes before its own
//
// What is attached has therefore answered within the last HealthCheck, or has been used since,
// which finds out hosts and links that have gone without a word. A node that has closed or reset
// the connection has told the socket, perhaps before netpoll came to see it: unsound looks there,
// without waiting. Either way the dead one is passed over with nothing sent, and the holder gets
// the next.
type probe struct {
	sent   time.Duration // clock() when the PING went out that is not answered, 0: none is
	proven time.Duration // clock() when one was answered last
}

const (
	probePatience = time.Second            // so long a PING may go unanswered
	probeSlow     = 100 * time.Millisecond // so long, if somebody wants the connection
	peekAfter     = 50 * time.Millisecond  // idle for less, a connection is not looked at: netpoll is not that late
)

var probeCommand = codec.AppendCommandString(nil, "PING")

// prove asks an idle connection for a sign of life if it is time. It says when to look again, or
// that none has come.
func (c *conn) prove(now, every time.Duration) (again time.Duration, alive bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lease != nil || c.lost != nil { // taken at this moment, or about to be closed
		return now + every, true
	}
	if c.probe.sent != 0 {
		again = c.probe.sent + probePatience
		return again, again > now
	}
	if next := max(time.Duration(c.idleSince.Load()), c.probe.proven) + every; next > now {
		return next, true
	}
	c.probe.sent = now
	c.wire.write(probeCommand) // under c.mu: whoever attaches after this finds the answer owed
	return now + probePatience, true
}

// probeAnswered takes what came on a connection without a lease. It reports false if that answers
// no PING. Any one line will do, an error as well: it was a node that said it. Under mu.
func (c *conn) probeAnswered(b []byte) bool {
	if c.probe.sent == 0 || c.lost != nil {
		return false
	}
	if c.in == nil {
		c.in = newBuffer()
	}
	c.in.append(b, 0)
	line := c.in.b
	if line[0] != '+' && line[0] != '-' {
		return false
	}
	switch bytes.IndexByte(line, '\n') {
	case -1: // the rest comes later, perhaps to a lease
		return true
	case len(line) - 1:
		c.in.free()
		c.in = nil
		c.probe.sent, c.probe.proven = 0, clock()
		return true
	}
	return false
}

// unsound says why a connection that was idle must not be leased, as far as can be seen from here
// without waiting.
func (c *conn) unsound(s *Values) string {
	if s.HealthCheck == 0 {
		return ""
	}
	now := clock()
	if now-time.Duration(c.idleSince.Load()) < peekAfter {
		return ""
	}
	c.mu.Lock()
	sent := c.probe.sent
	c.mu.Unlock()
	switch {
	case sent != 0 && now-sent > probeSlow:
		return "health check"
	case c.wire.hasEnded():
		return "hung up"
	}
	return ""
}

// hasEnded looks whether the other side has ended the connection.
func (w *wire) hasEnded() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone || w.ended {
		return true
	}
	var b [1]byte
	n, _, err := unix.Recvfrom(w.fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	if err != nil {
		return !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
	}
	return n == 0
}
