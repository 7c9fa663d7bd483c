package pool

import (
	"slices"
	"time"
)

// Revocable is a Holder that can do without its lease, because it can answer its client otherwise.
type Revocable interface {
	Holder
	// Revoke asks for the lease back: a Waiter needs a connection, and this lease has been owed
	// nothing for a while. The holder detaches it now, or keeps it and is not asked again for
	// RevokeQuiet.
	Revoke(l *Lease)
}

const (
	revokeAfter = 10 * time.Millisecond // how long a Waiter waits before a lease is asked for
	revokePause = 20 * time.Millisecond // between two looks, while there are Waiters
)

// RevokeQuiet is for how long a lease must have been owed nothing before it is asked for, so that a
// program has time to think.
const RevokeQuiet = 200 * time.Millisecond

// revoker asks for leases back when a node takes no more connections and a Waiter wants a brief
// lease. Leases do not report to it. Each writes down in an atomic of its connection when it was
// last owed nothing. Only while there are Waiters does the revoker look through all of these, once
// for all Waiters. So a WATCH pays nothing while there are enough connections.
type revoker struct {
	limit *nodeLimit
	timer *time.Timer
	armed bool // guarded by nodeLimit.mu
}

func (r *revoker) init(nl *nodeLimit) {
	r.limit = nl
	r.timer = stoppedTimer(r.look)
}

// arm starts the timer if there is a Waiter for a brief lease that gets none unless another ends.
// Called with nodeLimit.mu locked.
func (r *revoker) arm(s *Values, after time.Duration) {
	nl := r.limit
	if !r.armed && nl.waiting[brief].Load() > 0 && nl.full(s) {
		r.armed = true
		r.timer.Reset(after)
	}
}

// wake is arm without nodeLimit.mu locked.
func (r *revoker) wake() {
	nl, s := r.limit, r.limit.settings.Load()
	if nl.waiting[brief].Load() > 0 && nl.full(s) {
		nl.mu.Lock()
		r.arm(s, revokeAfter)
		nl.mu.Unlock()
	}
}

// look runs when the timer fires. It asks for as many leases as there are Waiters that have waited
// for long enough.
func (r *revoker) look() {
	nl := r.limit
	s := nl.settings.Load()
	now := clock()
	nl.mu.Lock()
	r.armed = false
	n := 0
	if nl.full(s) && s.Enabled {
		for _, p := range nl.pools {
			n += p.overdue(now)
		}
	}
	victims := r.quietest(n, now)
	r.arm(s, revokePause)
	nl.mu.Unlock()
	for _, c := range victims {
		c.askBack()
	}
}

// overdue returns how many Waiters for a brief lease have waited for revokeAfter and get no dial.
// Called with nodeLimit.mu locked.
func (p *Pool) overdue(now time.Duration) (n int) {
	for w := p.queue[brief].head; w != nil && now-w.value.since >= revokeAfter; w = w.next {
		n++
	}
	return max(0, n-p.dialing)
}

// quietest returns at most n connections, those whose leases have been owed nothing for longest.
// Called with nodeLimit.mu locked.
func (r *revoker) quietest(n int, now time.Duration) (found []*conn) {
	if n <= 0 {
		return nil
	}
	type candidate struct {
		c     *conn
		since int64
	}
	var all []candidate
	for _, c := range r.limit.conns {
		if since := c.quiet.Load(); since != 0 && now-time.Duration(since) >= RevokeQuiet {
			all = append(all, candidate{c, since})
		}
	}
	slices.SortFunc(all, func(a, b candidate) int { return int(a.since - b.since) })
	for _, it := range all[:min(n, len(all))] {
		found = append(found, it.c)
	}
	return found
}

// revocation carries Revoke to the loop of a lease's holder.
type revocation struct{ lease *Lease }

// deliver runs on the holder's loop. Anything may have changed since the revocation was posted.
func (r *revocation) deliver() {
	l := r.lease
	if l.over || l.Quiet() < RevokeQuiet || l.conn.pool.limit.waiting[brief].Load() == 0 {
		return
	}
	l.revocable.Revoke(l)
	if !l.over { // count its quiet time anew, so that others are asked before it is asked again
		l.conn.quiet.Store(int64(clock()))
	}
}

// askBack asks the current holder for the lease, if the holder is Revocable.
func (c *conn) askBack() {
	c.mu.Lock()
	l := c.lease
	c.mu.Unlock()
	if l != nil && l.revocable != nil {
		l.inbox.post(&revocation{l})
	}
}

// Quiet is for how long a brief lease has been owed nothing; 0 while it is owed something, or before
// its first reply.
func (l *Lease) Quiet() time.Duration {
	since := l.conn.quiet.Load()
	if since == 0 || l.over {
		return 0
	}
	return clock() - time.Duration(since)
}
