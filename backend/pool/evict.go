package pool

import (
	"sync"
	"time"
)

// evictor closes connections that were idle for too long, and asks the others now and then whether
// they are alive. Each connection has one alarm, from when it first becomes idle until it is closed.
// Attach and Detach do not touch the wheel: Detach writes down the time, and an alarm that rings too
// early is set again for the rest. So an alarm rings about once in IdleTime or HealthCheck, however
// often its connection is leased, and a hit takes no lock.
type evictor struct {
	pool *Pool

	mu    sync.Mutex // guards what follows and every connection's alarm; nothing blocks under it
	wheel *wheel[*conn]
	timer *time.Timer   // runs while an alarm is set
	next  time.Duration // when the timer fires; 0: it does not run
}

// wheelTick is how late an idle connection may be closed. With it, the wheel goes round in about the
// default IdleTime.
const wheelTick = 125 * time.Millisecond

func (e *evictor) init(p *Pool) {
	e.pool = p
	e.wheel = newWheel[*conn](wheelTick)
	e.wheel.advance(clock(), nil)
	e.timer = stoppedTimer(e.ring)
}

// watch gives c an alarm, unless it has one. c's owner is about to put it.
func (e *evictor) watch(c *conn) {
	if c.watched {
		return
	}
	c.watched = true
	s := e.pool.settings.Load()
	at := clock() + s.IdleTime
	if s.HealthCheck > 0 {
		at = min(at, clock()+s.HealthCheck)
	}
	e.mu.Lock()
	e.wheel.set(&c.alarm, at)
	e.arm()
	e.mu.Unlock()
}

// unwatch clears the alarm of a closed connection.
func (e *evictor) unwatch(c *conn) {
	if !c.watched {
		return
	}
	e.mu.Lock()
	e.wheel.clear(&c.alarm)
	e.mu.Unlock()
}

// arm sets the timer for the next slot that holds an alarm. Called with e.mu locked.
func (e *evictor) arm() {
	at, ok := e.wheel.next()
	if !ok {
		e.next = 0
		return // the timer may still fire, and finds nothing
	}
	if e.next == 0 || at < e.next {
		e.next = at
		e.timer.Reset(max(0, at-clock()))
	}
}

// ring runs when the timer fires.
func (e *evictor) ring() {
	e.mu.Lock()
	due := e.wheel.advance(clock(), nil)
	e.next = 0
	e.mu.Unlock()
	e.visit(due)
}

// reschedule checks every connection again, because the settings have changed, or the
// pool's epoch.
func (e *evictor) reschedule() {
	e.mu.Lock()
	all := e.wheel.drain(nil)
	e.mu.Unlock()
	e.visit(all)
}

// visit checks connections whose alarms are not set, and sets the alarms of those that stay.
func (e *evictor) visit(conns []*conn) {
	for i, c := range conns {
		at, alive := e.check(c)
		if !alive {
			conns[i] = nil
			continue
		}
		e.mu.Lock()
		e.wheel.set(&c.alarm, at)
		e.mu.Unlock()
	}
	e.mu.Lock()
	// A connection that was closed between its check and its alarm was unwatched too early.
	for _, c := range conns {
		if c != nil && c.state.Load() == int32(connClosed) {
			e.wheel.clear(&c.alarm)
		}
	}
	e.arm()
	e.mu.Unlock()
}

// check closes c if it is outdated, if it was idle for too long and is not needed for MinIdle, or if it
// does not prove that it is alive. Otherwise it returns when to check again.
func (e *evictor) check(c *conn) (again time.Duration, alive bool) {
	p, now := e.pool, clock()
	s := p.settings.Load()
	later := s.IdleTime
	if s.HealthCheck > 0 {
		later = min(later, s.HealthCheck)
	}
	later = now + max(later, wheelTick)
	switch connState(c.state.Load()) {
	case connClosed:
		return 0, false
	case connHeld:
		return later, true
	}
	if c.outdated() && c.closeIdle("reconnect") {
		return 0, false
	}
	left := time.Duration(c.idleSince.Load()) + s.IdleTime - now
	switch {
	case left > 0:
		later = now + left
	case int(p.idle.Load()) <= s.minIdle():
	case c.closeIdle("idle too long"):
		p.metrics.evictions.Add(1)
		return 0, false
	}
	if s.HealthCheck == 0 {
		return later, true
	}
	again, alive = c.prove(now, s.HealthCheck)
	if !alive && c.closeIdle("health check") {
		return 0, false
	}
	return min(later, again), true
}

func (e *evictor) stop() { e.timer.Stop() }
