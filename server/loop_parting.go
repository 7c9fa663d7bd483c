package main

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-proxy/berth/backend/secure"
)

// parting is a session that berth ends (QUIT, a protocol error …) and that has nothing more to say.
// It holds nothing more of what others may use. Its last replies go out first. Then berth closes its
// sending side alone, and reads and drops what the client still sends: a socket that is closed with
// unread input is reset, and the kernel throws away the replies that are on the way.
type parting struct {
	s     *session
	until int64 // unix nanoseconds; 0: replies are still on the way
}

// partingTime bounds how long a client may take to close its side.
const partingTime = time.Second

// proceed closes the sending side when the last reply has gone out.
func (p *parting) proceed() {
	if p.s.closed || p.until != 0 || p.s.conn.OutboundBuffered() > 0 {
		return
	}
	if c, ok := p.s.conn.(*secure.LoopConn); ok {
		c.End()
	}
	if !p.s.closed {
		_ = unix.Shutdown(p.s.conn.Fd(), unix.SHUT_WR) // an error means that the client has closed, too
		p.until = p.s.loop.clock + int64(partingTime)
	}
}

// tickParting closes the sessions whose clients take too long to close.
func (l *loop) tickParting() {
	left := l.parting[:0]
	for _, p := range l.parting {
		switch {
		case p.s.closed: // and its descriptor may be another client's by now
		case p.until != 0 && l.clock > p.until:
			p.s.close()
		default:
			p.proceed()
			left = append(left, p)
		}
	}
	clear(l.parting[len(left):])
	l.parting = left
}
