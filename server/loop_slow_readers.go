package main

import (
	"time"

	"github.com/berth-proxy/berth/backend/pool"
)

// slowReaders holds leases that carry long replies faster than their clients read them, and
// sessions that take no request, or no more of a replication stream, until their clients have read.
// gnet does not say when a client has read, so the clients are looked at again and again, at longer
// and longer intervals.
type slowReaders struct {
	waiting []slowReader
	full    []*session
	pause   time.Duration // before the next look; 0: none is due
}

type slowReader struct {
	st    *stay
	lease *pool.Lease
}

const (
	maxUnread    = 1 << 20 // bytes of output a client may leave unread before its lease waits
	pourPauseMin = time.Millisecond
	pourPauseMax = 32 * time.Millisecond
)

// hasRoom reports whether the client has read most of what it was sent.
func (s *session) hasRoom() bool {
	return len(s.out)+s.conn.OutboundBuffered() < maxUnread
}

// wait has a lease that was held go on when its client has read.
func (p *slowReaders) wait(l *loop, st *stay) {
	p.waiting = append(p.waiting, slowReader{st, st.lease})
	if p.pause == 0 {
		p.arm(l, pourPauseMin)
	}
}

// watch has a session that is full go on when its client has read.
func (p *slowReaders) watch(s *session) {
	if s.isWatched {
		return
	}
	s.isWatched = true
	p.full = append(p.full, s)
	if p.pause == 0 {
		p.arm(s.loop, pourPauseMin)
	}
}

func (p *slowReaders) arm(l *loop, pause time.Duration) {
	p.pause = pause
	time.AfterFunc(pause, func() { l.Post(func() { p.look(l) }) })
}

// look has those go on whose clients have read.
func (p *slowReaders) look(l *loop) {
	last := p.pause
	waiting := p.waiting
	p.waiting = nil
	some := false
	for _, w := range waiting {
		switch {
		case w.st.s.closed: // its lease is gone, too
		case w.st.s.hasRoom():
			some = true
			w.lease.Resume()
		default:
			w.st.movedAt = l.clock // it is not the node that is late
			p.waiting = append(p.waiting, w)
		}
	}
	full := p.full
	p.full = nil
	for _, s := range full {
		s.isWatched = false
		if s.closed {
			continue
		}
		before := s.unread
		s.unread = s.conn.OutboundBuffered()
		some = some || s.unread < before
		s.relieve()
		s.tunnel.goOn()
	}
	pause := pourPauseMin
	if !some {
		pause = min(2*last, pourPauseMax)
	}
	p.pause = 0
	if len(p.waiting)+len(p.full) > 0 {
		p.arm(l, pause)
	}
}
