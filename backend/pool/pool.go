package pool

import (
	"cmp"
	"context"
	"sync/atomic"
	"time"

	"github.com/berth-proxy/berth/backend"
)

// Pool is the exclusive connections to one node as one user: idle, leased and being dialled, and
// the Waiters for one. All loops share it. A Get that hits, and a Detach without a Waiter, take no
// lock of the pool's.
//
//	           ┌────────────────── queue (the oldest Waiter that may) ◀── Get missed
//	           │                     ▲
//	Detach ── put ──▶ stack ── take ─┴──▶ Get hit
//	           ▲        │
//	         dial       └──▶ wheel: idle too long
//
// put is the one door in, take the one door out.
type Pool struct {
	addr       string
	user       string // as whom it dials
	credential uint32 // and with which password: see backend.Identity
	logins     *backend.Logins
	settings   *Settings
	limit      *nodeLimit // of the node, shared with the pools of its other users
	metrics    metrics

	stack   stack[*conn]
	idle    atomic.Int32 // connections in the stack that are alive
	leased  [numClasses]atomic.Int32
	total   atomic.Int32             // connections: idle, leased, being dialled
	garbage atomic.Int32             // connections that were closed in the stack since it was swept
	waiting [numClasses]atomic.Int32 // the lengths of queue; written under nodeLimit.mu, read without
	shut    atomic.Bool              // Close was called
	epoch   atomic.Uint32            // how often Reconnect was called

	// cannotUndo says that the node has refused to undo known dirt: a connection with any is closed.
	cannotUndo atomic.Bool

	// Guarded by nodeLimit.mu, as every queued Waiter is.
	queue    [numClasses]fifo[*Waiter]
	dialing  int         // dials under way
	deadline *time.Timer // rings when the oldest Waiter has waited for WaitTimeout

	evictor evictor
	warmer  warmer

	dialCtx   context.Context // ends with the pool
	stopDials context.CancelFunc
}

// newPool returns the pool of a node for a user. addr is host:port, or the path of a unix socket.
func newPool(addr string, id backend.Identity, logins *backend.Logins, settings *Settings, nl *nodeLimit) *Pool {
	p := &Pool{addr: addr, user: id.User, credential: id.Credential, logins: logins, settings: settings, limit: nl}
	p.dialCtx, p.stopDials = context.WithCancel(context.Background())
	p.deadline = stoppedTimer(p.expire)
	p.evictor.init(p)
	p.warmer.init(p)
	nl.add(p)
	settings.add(p)
	p.warmer.look()
	return p
}

// stoppedTimer returns a timer for f that is not running.
func stoppedTimer(f func()) *time.Timer {
	t := time.AfterFunc(time.Hour, f)
	t.Stop()
	return t
}

// Addr is the node's address.
func (p *Pool) Addr() string { return p.addr }

// Size is how many connections there are, idle, leased and being dialled.
func (p *Pool) Size() int { return int(p.total.Load()) }

// Get attaches an exclusive connection to h: at once if one is idle. Otherwise it returns a Waiter,
// which is answered through in, with a connection or with an error. The connection is switched to
// want's DB and RESP before the holder's first command. want's user must be the pool's.
func (p *Pool) Get(h Holder, in *Inbox, want backend.Identity, reason Reason) (*Lease, *Waiter) {
	want.RESP = max(want.RESP, 2)
	s := p.settings.Load()
	k, who := p.claim(h, reason, s)
	if s.Enabled && !p.mustWait(k, s) && p.limit.enter(k, s) {
		for c := p.takeSound(s); c != nil; c = p.takeSound(s) {
			l := newLease(c, h, in, want, reason)
			l.class, l.party = k, who
			if p.lease(c, l, false) {
				p.metrics.hits.Add(1)
				return l, nil
			}
			p.discard(c, "hung up")
		}
		p.limit.exit(k)
	}
	p.metrics.misses.Add(1)
	return nil, p.enqueue(h, in, want, reason, k, who)
}

// claim counts what h asks for among the shares of its party, unless it is brief, and returns its
// class.
func (p *Pool) claim(h Holder, reason Reason, s *Values) (k class, who party) {
	if reason.class() == brief {
		return brief, who
	}
	who.user = cmp.Or(p.user, "default")
	if o, ok := h.(Owner); ok {
		who.from = o.Owner()
	}
	return p.limit.shares.join(who, p.limit.mostLong(s)), who
}

// take is the one door out: an idle connection becomes the caller's. It returns nil if there is none.
func (p *Pool) take() *conn {
	for {
		c, ok := p.stack.pop()
		if !ok {
			return nil
		}
		if c.move(connIdle, connHeld) {
			p.idle.Add(-1)
			return c
		}
	}
}

// takeSound is take without the connections that are known to be dead. It closes those: nothing was
// sent on them for the holder, so the next one will do.
func (p *Pool) takeSound(s *Values) *conn {
	for c := p.take(); c != nil; c = p.take() {
		why := c.unsound(s)
		if why == "" {
			return c
		}
		p.discard(c, why)
	}
	return nil
}

// lease attaches a held connection to l, whose class has entered the node's limit. It returns false
// when the connection is lost. announced is true if a Waiter brings l to its holder: what happens to
// l is delivered after that.
func (p *Pool) lease(c *conn, l *Lease, announced bool) bool {
	if !c.attach(l, announced) {
		return false
	}
	c.used = true
	p.leased[l.class].Add(1)
	p.warmer.look()
	return true
}

// leaseOver keeps the accounts of a lease that is over. Its connection is still held.
func (p *Pool) leaseOver(l *Lease) {
	k := l.class
	p.leased[k].Add(-1)
	p.limit.exit(k)
	p.limit.leave(k, l.party)
	p.metrics.hold[l.reason].observe(l.Held())
}

// put is the one door in, for detached and for dialled connections. c goes to the oldest Waiter, else
// into the stack if the settings want it there, else it is closed.
func (p *Pool) put(c *conn) {
	s := p.settings.Load()
	if why := p.unwanted(c, s); why != "" {
		p.discard(c, why)
		return
	}
	switch {
	case p.limit.yields(p, s):
		p.discard(c, "for another user")
		return
	case p.waiters() > 0 && p.serve(c, s):
		return
	}
	if why := p.admit(c, s); why != "" {
		p.discard(c, why)
		return
	}
	c.unwatch()
	c.idleSince.Store(int64(clock()))
	p.evictor.watch(c)
	c.move(connHeld, connIdle)
	p.stack.push(c)
	// From here on c is the stack's, and another may have taken it already. Whatever changed while
	// c was on its way in could not see it, so look again.
	if c.isLost() {
		c.closeIdle("hung up")
	}
	if c.outdated() {
		c.closeIdle("reconnect")
	}
	if p.settings.Load() != s || p.shut.Load() {
		p.trim()
	}
	p.match()
	if p.limit.yields(p, s) {
		if c := p.take(); c != nil {
			p.discard(c, "for another user")
		}
	}
}

// unwanted says why c must be closed, whether there is a Waiter or not; "" if it need not be.
func (p *Pool) unwanted(c *conn, s *Values) string {
	switch {
	case p.shut.Load():
		return "pool closed"
	case c.isLost():
		return "hung up"
	case c.outdated():
		return "reconnect"
	case p.limit.over(s):
		return "max total"
	case !s.Enabled && c.used:
		return "pool disabled"
	}
	return ""
}

// admit counts c among the idle ones, or says why it may not be idle.
func (p *Pool) admit(c *conn, s *Values) string {
	n := int(p.idle.Add(1))
	var why string
	switch {
	case !s.Enabled:
		why = "pool disabled"
	case n > s.MaxIdle:
		why = "max idle"
	case s.IdleTime == 0 && n > s.minIdle():
		why = "no idle time"
	default:
		return ""
	}
	p.idle.Add(-1)
	return why
}

// discard closes a held connection.
func (p *Pool) discard(c *conn, why string) {
	c.move(connHeld, connClosed)
	p.closed(c, why)
}

// closed ends a connection that has just moved to closed, and keeps the accounts.
func (p *Pool) closed(c *conn, why string) {
	c.wire.shutdown()
	p.evictor.unwatch(c)
	p.metrics.closed(why)
	p.total.Add(-1)
	p.limit.total.Add(-1)
	p.limit.unseat(c)
	p.limit.dialForWaiters() // there is room for one more now
	p.warmer.look()
}

// end is discard at the end of a lease. Another lease of its class may begin now.
func (p *Pool) end(c *conn, why string) {
	p.discard(c, why)
	p.limit.makeRoom()
}

// closedIdle counts an idle connection that was closed where it is, in the stack. When there are
// more closed than idle ones in the stack, the closed ones are swept out. So a storm of hang-ups
// costs a constant for each, and leaves no more closed ones than idle ones.
func (p *Pool) closedIdle() {
	alive := p.idle.Add(-1)
	if p.garbage.Add(1) > max(64, alive) {
		p.garbage.Store(0)
		p.stack.sweep(func(c *conn) bool { return c.state.Load() == int32(connClosed) })
	}
}

// apply puts changed settings in force.
func (p *Pool) apply() {
	p.trim()
	p.evictor.reschedule()
	p.limit.mu.Lock()
	p.armDeadline()
	p.limit.mu.Unlock()
	p.match()
	p.limit.dialForWaiters()
	p.limit.revoker.wake()
	p.warmer.look()
}

// trim closes the idle connections that the settings no longer want.
func (p *Pool) trim() {
	for {
		s := p.settings.Load()
		idle := int(p.idle.Load())
		var why string
		switch {
		case p.shut.Load():
			why = "pool closed"
		case !s.Enabled:
			why = "pool disabled"
		case idle > s.MaxIdle:
			why = "max idle"
		case p.limit.over(s):
			why = "max total"
		case s.IdleTime == 0 && idle > s.minIdle():
			why = "no idle time"
		default:
			return
		}
		c := p.take()
		if c == nil {
			return
		}
		p.discard(c, why)
	}
}

// Reconnect replaces all connections: idle ones are closed now, leases when they are detached.
func (p *Pool) Reconnect() {
	p.epoch.Add(1)
	p.evictor.reschedule()
}

// Stats returns what the pool has, and what it has done so far.
func (p *Pool) Stats() Stats {
	s := p.metrics.snapshot()
	s.Idle, s.LeasedLong = int(p.idle.Load()), sum(&p.leased)-int(p.leased[brief].Load())
	s.Leased = sum(&p.leased)
	values := p.settings.Load()
	s.Limit, s.LimitLong = p.limit.most(values), p.limit.mostLong(values)
	p.limit.mu.Lock()
	s.Dialing, s.Waiting = p.dialing, p.waiters()
	s.WaitingLong = s.Waiting - p.queue[brief].len
	for k := range p.queue {
		if w, ok := p.queue[k].front(); ok {
			s.OldestWait = max(s.OldestWait, clock()-w.since)
		}
	}
	p.limit.mu.Unlock()
	return s
}

// Close ends the pool and waits for nothing. Idle connections and dials end now, Waiters get
// ErrClosed, and leases are closed when they are detached.
func (p *Pool) Close() {
	if p.shut.Swap(true) {
		return
	}
	p.settings.remove(p)
	p.stopDials()
	p.limit.remove(p)
	p.failAll(ErrClosed)
	p.trim()
	p.evictor.stop()
	p.warmer.stop()
	p.deadline.Stop()
}
