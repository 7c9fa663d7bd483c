package main

import (
	"slices"
	"time"

	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/telemetry"
)

// At each tick a loop looks after the next part of its sessions. So each has its turn within a
// second, and thousands that do nothing cost next to nothing.
const (
	ticksPerRound = int(time.Second / tickEvery)
	atOneTick     = 256 // sessions, if there are fewer than in a round of a second
)

// tickSessions checks a part of the sessions at each tick, so that every session is checked once a
// second and idle ones cost next to nothing.
func (l *loop) tickSessions() {
	topology := l.srv.nodes.Topology()
	s := l.cron
	if s == nil {
		s = l.first
	}
	l.stop.left = l.stop.size
	for n := max(atOneTick, l.sessions/ticksPerRound+1); s != nil && n > 0; n-- {
		l.cron = s.next // gone moves it on if that one ends meanwhile
		s.check(topology)
		s.letGo()
		s = l.cron
	}
	l.cron = s
	l.flushed = slices.DeleteFunc(l.flushed, func(s *session) bool { return !s.waitsForFlush(l.clock) })
	for _, s := range l.held {
		s.isHeld = false
		s.touch()
	}
	clear(l.held)
	l.held = l.held[:0]
}

// check closes the client if it has been idle for too long, or has not read for too long. It ends a
// lease that owes a reply for too long, and takes one back that watches for too long.
func (s *session) check(topology *router.Topology) {
	l := s.loop
	cfg := l.srv.config()
	switch {
	case cfg.Timeout > 0 && s.sub == nil && !s.tunnel.streams() && s.waiting == 0 && time.Duration(l.clock-s.lastHeard) > cfg.Timeout:
		l.stats.Limit(telemetry.LimitTimeout)
		s.kill(telemetry.IdleTimeout, "limit", cfg.Timeout)
	case s.stranger() && cfg.AuthTimeout > 0 && s.waiting == 0 && time.Duration(l.clock-s.admitted) > cfg.AuthTimeout:
		l.stats.Limit(telemetry.LimitAuthTimeout)
		s.kill(telemetry.AuthTimeout, "limit", cfg.AuthTimeout)
	case s.overSoft > 0:
		s.checkOutput()
	}
	s.readOnce()
	if s.checkTracking(topology) {
		s.kill(telemetry.TrackingMoved)
	}
	s.checkStays(cfg.BackendTimeout, topology)
	s.tunnel.check(cfg.BackendTimeout)
	s.sub.checkOwn(cfg.BackendTimeout)
	if st := s.stay; st != nil && cfg.WatchMaxIdle > 0 && st.idle() > cfg.WatchMaxIdle {
		st.revoke(telemetry.RevokedIdle)
	}
}
