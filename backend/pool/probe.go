package pool

import (
	"bytes"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/codec"
)

// probe is the PING that asks an idle connection whether it is alive, while no holder waits for the
// answer.
//
// A holder must not find out itself. Once its first command is written and the connection ends
// without a reply, nobody knows whether the command was executed, and it must not be sent again. A
// PING in the same write would not help, and waiting for the reply to a PING costs the holder a
// round trip. So:
//
//	idle for HealthCheck ─ PING ─┬─ a line comes: alive, and asked again after another HealthCheck
//	                             ├─ nothing within probePatience: closed
//	                             └─ attached meanwhile: the lease skips the reply, which comes before its own
//
// A connection that is attached has therefore answered, or has been used, within the last
// HealthCheck: so hosts and links that died silently are found. If the node has closed or reset the
// connection, the socket knows, perhaps earlier than netpoll: unsound looks there, without waiting.
// In both cases the dead connection is closed with nothing sent, and the holder gets the next one.
//
// An UNWATCH that a connection is sent when it becomes idle is such a probe, too.
type probe struct {
	sent   time.Duration // clock() when the PING was sent that is not answered; 0: there is none
	undoes bool          // it is UNWATCH: an error leaves the connection as it was
	proven time.Duration // clock() when a PING was answered last
}

const (
	probePatience = time.Second            // how long a PING may be unanswered
	probeSlow     = 100 * time.Millisecond // the same, if a holder wants the connection
	peekAfter     = 50 * time.Millisecond  // how long one must be idle to be looked at: netpoll is not that late
)

var (
	probeCommand   = codec.AppendCommandString(nil, "PING")
	unwatchCommand = codec.AppendCommandString(nil, "UNWATCH")
)

// prove sends a PING on an idle connection if it is time. It returns when to look again. alive is
// false if a PING was not answered in time.
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
	c.probe.sent, c.probe.undoes = now, false
	c.wire.write(probeCommand) // under c.mu, so that the next attach knows that the reply is owed
	return now + probePatience, true
}

// unwatch has the node forget at once what an abandoned WATCH watches: the next holder may come
// late. The connection is its owner's, on its way to the idle ones.
func (c *conn) unwatch() {
	if c.ledger.inherited&DirtWatch == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost != nil || c.probe.sent != 0 {
		return
	}
	c.ledger.inherited &^= DirtWatch
	c.probe.sent, c.probe.undoes = clock(), true
	c.wire.write(unwatchCommand)
}

// probeAnswered takes bytes that came on a connection without a lease. It returns false if they do
// not answer the PING. Any single line is an answer, an error as well, because a node sent it. An
// error that answers UNWATCH costs the connection. Called with c.mu locked.
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
	case -1: // the rest of the line comes later, perhaps when there is a lease
		return len(line) <= backend.MaxHandshake
	case len(line) - 1:
		if c.probe.undoes && line[0] == '-' {
			c.pool.refusedToUndo(line)
			return false
		}
		c.in.free()
		c.in = nil
		c.probe.sent, c.probe.proven = 0, clock()
		return true
	}
	return false
}

// unsound says why a connection that was idle must not be leased, as far as can be known without
// waiting; "": it may be leased.
func (c *conn) unsound(s *Values) string {
	if c.outdated() {
		return "reconnect"
	}
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

// hasEnded reports whether either side has ended the connection. It asks the socket.
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
