package pool

import (
	"errors"
	"time"

	"github.com/berth-proxy/berth/backend"
)

// ErrTimeout answers a Get that waited for longer than WaitTimeout.
var ErrTimeout = errors.New("no backend connection in time")

// ErrClosed answers a Get on a pool that is closed.
var ErrClosed = errors.New("the pool is closed")

// Waiter is a Get that has not been answered. Every Get that misses becomes one, whether it waits
// for a dial or for somebody to detach: what comes first goes to the oldest.
type Waiter struct {
	pool   *Pool
	holder Holder
	inbox  *Inbox
	want   backend.Identity
	reason Reason
	since  time.Duration

	// Guarded by the allowance's mu until the answer is posted.
	node   *fifoNode[*Waiter]
	dialed bool // a dial runs on its behalf
	lease  *Lease
	err    error

	done bool // owned by the loop: Attached was called, or never will be
}

// deliver runs on the holder's loop. What has happened to the lease since it was attached, a
// hang-up for one, comes later: no holder hears of a lease that it does not have yet.
func (w *Waiter) deliver() {
	if w.done {
		return
	}
	w.done = true
	w.holder.Attached(w.lease, w.err)
	if w.lease != nil {
		w.lease.deliver()
	}
}

// Cancel takes the session out of the queue: it has left, or no longer wants a lease. A lease that
// is on its way goes back, and so does what is being dialled. Attached is not called any more. On
// the holder's loop; a second call, or one after Attached, does nothing.
func (w *Waiter) Cancel() {
	if w.done {
		return
	}
	w.done = true
	p := w.pool
	p.limit.mu.Lock()
	p.dequeue(w)
	l := w.lease
	p.limit.mu.Unlock()
	if l != nil {
		l.Detach()
	}
}

// waiters is how many wait, for those who only look.
func (p *Pool) waiters() int { return int(p.waiting[brief].Load() + p.waiting[long].Load()) }

// waitBefore says whether a Get of a class has to wait after others: nobody goes past those who
// wait and could have the next connection.
func (p *Pool) mustWait(k class, s *Values) bool {
	return p.waiting[k].Load() > 0 || p.servable(s)
}

// servable says whether somebody waits who could have a connection if there were one.
func (p *Pool) servable(s *Values) bool {
	return p.waiting[brief].Load() > 0 || p.waiting[long].Load() > 0 && p.limit.room(long, s) > 0
}

// wait joins the queue of the reason's class.
func (p *Pool) enqueue(h Holder, in *Inbox, want backend.Identity, reason Reason) *Waiter {
	w := &Waiter{pool: p, holder: h, inbox: in, want: want, reason: reason}
	nl := p.limit
	nl.mu.Lock()
	w.since = clock() // under mu: the queues are in its order
	if p.shut.Load() {
		w.err = ErrClosed
		nl.mu.Unlock()
		in.post(w)
		return w
	}
	w.node = p.queue[reason.class()].push(w)
	p.count(reason.class(), 1)
	if p.waiters() == 1 {
		p.armDeadline()
	}
	nl.mu.Unlock()
	p.match() // a put that did not see the waiter has left its connection in the stack
	nl.dialForWaiters()
	nl.relieve(p)
	nl.revoker.wake()
	return w
}

// count enters that so many more wait, under mu.
func (p *Pool) count(k class, n int32) {
	p.waiting[k].Add(n)
	p.limit.waiting[k].Add(n)
}

// dequeue takes w out of the queue under mu. It reports false when w has been answered or has left.
func (p *Pool) dequeue(w *Waiter) bool {
	k := w.reason.class()
	if w.node == nil || !p.queue[k].remove(w.node) {
		return false
	}
	p.count(k, -1)
	return true
}

// oldest is who waits longest of those who could have a connection, nil if nobody does. Under mu.
func (p *Pool) oldest(s *Values) (w *Waiter) {
	for k := range numClasses {
		first, ok := p.queue[k].front()
		if ok && (w == nil || first.since < w.since) && p.limit.room(k, s) > 0 {
			w = first
		}
	}
	return w
}

// undialed is the oldest of those for whom nothing is being dialled, and might be. Under mu.
func (p *Pool) undialed(s *Values) (w *Waiter) {
	if !p.mayDial(s) {
		return nil
	}
	eligible := 0
	for k := range numClasses {
		left := min(p.queue[k].len, p.limit.room(k, s))
		eligible += left
		n := p.queue[k].head // those with a dial are among the first: no more of them than dials run
		for ; left > 0 && n.value.dialed; left-- {
			n = n.next
		}
		if left > 0 && (w == nil || n.value.since < w.since) {
			w = n.value
		}
	}
	if p.dialing >= eligible { // a dial whose waiter was served otherwise will serve another
		return nil
	}
	return w
}

// answer posts what w has waited for. w has left the queue, and mu is held, so a Cancel sees the
// lease.
func (p *Pool) answer(w *Waiter, l *Lease, err error) {
	w.lease, w.err = l, err
	p.metrics.waits.Add(1)
	p.metrics.wait[w.reason].observe(clock() - w.since)
	w.inbox.post(w)
}

// serve gives c to the oldest waiter that may have it. It reports false when there is none or c is
// lost: c is still the caller's then.
func (p *Pool) serve(c *conn, s *Values) bool {
	p.limit.mu.Lock()
	defer p.limit.mu.Unlock()
	w := p.oldest(s)
	if w == nil {
		return false
	}
	k := w.reason.class()
	if !p.limit.enter(k, s) { // a Get that hit was faster
		if w, _ = p.queue[brief].front(); w == nil {
			return false
		}
		k = brief
	}
	l := newLease(c, w.holder, w.inbox, w.want, w.reason)
	if !p.lease(c, l, true) {
		p.limit.exit(k)
		return false
	}
	p.dequeue(w)
	p.answer(w, l, nil)
	return true
}

// match brings the idle connections and the waiters together that have missed each other: a put
// looks for waiters before and after it pushes, a wait looks at the stack after it has joined the
// queue. One of the two sees the other.
func (p *Pool) match() {
	for {
		s := p.settings.Load()
		if !s.Enabled || !p.servable(s) {
			return
		}
		c := p.takeSound(s)
		if c == nil {
			return
		}
		p.put(c)
	}
}

// failAll empties the queue.
func (p *Pool) failAll(err error) {
	p.limit.mu.Lock()
	defer p.limit.mu.Unlock()
	for k := range p.queue {
		for w, ok := p.queue[k].front(); ok; w, ok = p.queue[k].front() {
			p.dequeue(w)
			p.answer(w, nil, err)
		}
	}
}

// armDeadline sets the one timer of the queues for the oldest waiter, under mu. All wait equally
// long, so nobody's deadline comes before the oldest one's.
func (p *Pool) armDeadline() {
	limit := p.settings.Load().WaitTimeout
	var first *Waiter
	for k := range p.queue {
		if w, ok := p.queue[k].front(); ok && (first == nil || w.since < first.since) {
			first = w
		}
	}
	if first == nil || limit == 0 {
		return
	}
	p.deadline.Reset(max(0, first.since+limit-clock()))
}

// expire answers those whose time is up.
func (p *Pool) expire() {
	p.limit.mu.Lock()
	defer p.limit.mu.Unlock()
	limit := p.settings.Load().WaitTimeout
	for k := range p.queue {
		for w, ok := p.queue[k].front(); ok && limit > 0; w, ok = p.queue[k].front() {
			if clock()-w.since < limit {
				break
			}
			p.dequeue(w)
			p.metrics.waitTimeouts.Add(1)
			p.answer(w, nil, ErrTimeout)
		}
	}
	p.armDeadline()
}
