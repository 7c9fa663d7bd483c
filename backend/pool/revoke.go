package pool

import (
	"slices"
	"time"
)

// Revocable is a Holder that can do without its lease: what it would have got from it, it can
// answer otherwise.
type Revocable interface {
	Holder
	// Revoke asks for the lease back: others wait for one, and this one has been owed nothing for a
	// while. The holder detaches it now, or keeps it and is not asked again for RevokeQuiet.
	Revoke(l *Lease)
}

const (
	revokeAfter = 10 * time.Millisecond // so long one waits before another's lease is asked for
	revokePause = 20 * time.Millisecond // between two looks, while there are some who wait
)

// RevokeQuiet is for how long a lease must have been owed nothing to be asked for: a program that
// thinks is not robbed.
const RevokeQuiet = 200 * time.Millisecond

// revoker asks for leases back when a node bears no more connections and somebody waits for a brief
// lease. Leases do not report to it: each writes down when its holder was last owed nothing, in an
// atomic of its connection, and only while somebody waits are those looked through, once for all
// who wait. So a WATCH that nobody envies pays nothing.
type revoker struct {
	limit *nodeLimit
	timer *time.Timer
	armed bool // guarded by the allowance's mu
}

func (r *revoker) init(nl *nodeLimit) {
	r.limit = nl
	r.timer = idleTimer(r.look)
}

// arm starts the timer if somebody waits for a brief lease that only another's end can bring. Under
// mu.
func (r *revoker) arm(s *Values, after time.Duration) {
	nl := r.limit
	if !r.armed && nl.waiting[brief].Load() > 0 && nl.full(s) {
		r.armed = true
		r.timer.Reset(after)
	}
}

// wake is arm for those who do not hold mu.
func (r *revoker) wake() {
	nl, s := r.limit, r.limit.settings.Load()
	if nl.waiting[brief].Load() > 0 && nl.full(s) {
		nl.mu.Lock()
		r.arm(s, revokeAfter)
		nl.mu.Unlock()
	}
}

// look is the timer's: it asks for as many leases as there are who have waited for long enough.
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

// overdue is how many of p's waiters for a brief lease have waited for long enough and have no
// dial. Under mu.
func (p *Pool) overdue(now time.Duration) (n int) {
	for w := p.queue[brief].head; w != nil && now-w.value.since >= revokeAfter; w = w.next {
		n++
	}
	return max(0, n-p.dialing)
}

// quietest finds no more than n connections whose holders have been owed nothing for longest. Under
// mu.
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

// revocation is the question on its way to the holder.
type revocation struct{ lease *Lease }

// deliver runs on the holder's loop. Everything may have changed since the question was posted.
func (r *revocation) deliver() {
	l := r.lease
	if l.over || l.Quiet() < RevokeQuiet || l.conn.pool.limit.waiting[brief].Load() == 0 {
		return
	}
	l.revocable.Revoke(l)
	if !l.over { // else it would be asked before those who can do without
		l.conn.quiet.Store(int64(clock()))
	}
}

// askBack asks the holder of now for the lease, if it can do without it.
func (c *conn) askBack() {
	c.mu.Lock()
	l := c.lease
	c.mu.Unlock()
	if l != nil && l.revocable != nil {
		l.inbox.post(&revocation{l})
	}
}

// Quiet is for how long the holder of a brief lease has been owed nothing; 0 while it is owed
// something, or never was.
func (l *Lease) Quiet() time.Duration {
	since := l.conn.quiet.Load()
	if since == 0 || l.over {
		return 0
	}
	return clock() - time.Duration(since)
}
