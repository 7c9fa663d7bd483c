package pool

import (
	"errors"
	"time"

	"github.com/berth-proxy/berth/backend"
)

// Waiter is a Get that has not been answered. Every Get that misses becomes one, whether it waits
// for a dial or for a Detach: the next connection goes to the oldest Waiter.
type Waiter struct {
	pool   *Pool
	holder Holder
	inbox  *Inbox
	want   backend.Identity
	reason Reason
	class  class
	party  party         // unless class is brief
	since  time.Duration // clock() when it joined the queue

	// Guarded by nodeLimit.mu until the answer is posted.
	node   *fifoNode[*Waiter] // its place in the queue
	dialed bool               // a dial runs on its behalf
	lease  *Lease             // the answer, or
	err    error              // why there is no lease

	done bool // owned by the holder's loop: Attached was called, or will not be called
}

// ErrTimeout answers a Get that waited for longer than WaitTimeout.
var ErrTimeout = errors.New("no backend connection in time")

// ErrClosed answers a Get on a pool that is closed.
var ErrClosed = errors.New("the pool is closed")

// deliver runs on the holder's loop. It calls Attached first, and then delivers whatever has happened
// to the lease since it was attached, a hang-up for example. So a holder never hears of a lease that
// it does not have yet.
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

// Cancel takes the Waiter out of the queue. A lease that is on its way goes back to the pool, and so
// does a connection that is being dialled. Attached will not be called. Cancel must run on the
// holder's loop. A second call, or a call after Attached, does nothing.
func (w *Waiter) Cancel() {
	if w.done {
		return
	}
	w.done = true
	p := w.pool
	p.limit.mu.Lock()
	if p.dequeue(w) {
		p.limit.leave(w.class, w.party)
	}
	l := w.lease
	p.limit.mu.Unlock()
	if l != nil {
		l.Detach()
	}
}

// waiters returns how many Waiters are queued. It takes no lock.
func (p *Pool) waiters() int { return sum(&p.waiting) }

// mustWait reports whether a Get of a class must queue, because Waiters before it could have the next
// connection.
func (p *Pool) mustWait(k class, s *Values) bool {
	return p.waiting[k].Load() > 0 || p.servable(s)
}

// servable reports whether a queued Waiter could have a connection if one became free.
func (p *Pool) servable(s *Values) bool {
	for k := range numClasses {
		if p.waiting[k].Load() > 0 && p.limit.room(k, s) > 0 {
			return true
		}
	}
	return false
}

// enqueue adds a Waiter to the queue of its class.
func (p *Pool) enqueue(h Holder, in *Inbox, want backend.Identity, reason Reason, k class, who party) *Waiter {
	w := &Waiter{pool: p, holder: h, inbox: in, want: want, reason: reason, class: k, party: who}
	nl := p.limit
	nl.mu.Lock()
	w.since = clock() // under mu, so that the queues are in the order of since
	if p.shut.Load() {
		w.err = ErrClosed
		nl.mu.Unlock()
		nl.leave(k, who)
		in.post(w)
		return w
	}
	w.node = p.queue[k].push(w)
	p.count(k, 1)
	if p.waiters() == 1 {
		p.armDeadline()
	}
	nl.mu.Unlock()
	p.match() // a put that did not see this Waiter has left its connection in the stack
	nl.dialForWaiters()
	nl.relieve(p)
	nl.revoker.wake()
	return w
}

// count records that n more Waiters are queued. Called with nodeLimit.mu locked.
func (p *Pool) count(k class, n int32) {
	p.waiting[k].Add(n)
	p.limit.waiting[k].Add(n)
}

// dequeue takes w out of its queue. It returns false if w was answered or cancelled already. Called
// with nodeLimit.mu locked.
func (p *Pool) dequeue(w *Waiter) bool {
	k := w.class
	if w.node == nil || !p.queue[k].remove(w.node) {
		return false
	}
	p.count(k, -1)
	return true
}

// oldest returns the oldest Waiter whose class may have another lease; nil: there is none. Called
// with nodeLimit.mu locked.
func (p *Pool) oldest(s *Values) (w *Waiter) {
	for k := range numClasses {
		first, ok := p.queue[k].front()
		if ok && (w == nil || first.since < w.since) && p.limit.room(k, s) > 0 {
			w = first
		}
	}
	return w
}

// undialed returns the oldest Waiter that has no dial and may have one; nil: there is none. Called
// with nodeLimit.mu locked.
func (p *Pool) undialed(s *Values) (w *Waiter) {
	if !p.mayDial(s) {
		return nil
	}
	eligible := 0
	for k := range numClasses {
		left := min(p.queue[k].len, p.limit.room(k, s))
		eligible += left
		n := p.queue[k].head // Waiters with a dial are among the first, and no more than there are dials
		for ; left > 0 && n.value.dialed; left-- {
			n = n.next
		}
		if left > 0 && (w == nil || n.value.since < w.since) {
			w = n.value
		}
	}
	if p.dialing >= eligible { // a dial whose Waiter was served otherwise will serve another one
		return nil
	}
	return w
}

// answer posts a lease or an error to w, which has left its queue. Called with nodeLimit.mu locked, so
// that a Cancel sees the lease.
func (p *Pool) answer(w *Waiter, l *Lease, err error) {
	w.lease, w.err = l, err
	if l == nil {
		p.limit.leave(w.class, w.party)
	}
	p.metrics.waits.Add(1)
	p.metrics.wait[w.reason].observe(clock() - w.since)
	w.inbox.post(w)
}

// serve gives c to the oldest Waiter that may have it. It returns false if there is none or c is
// lost; c is still the caller's then.
func (p *Pool) serve(c *conn, s *Values) bool {
	p.limit.mu.Lock()
	defer p.limit.mu.Unlock()
	w := p.oldest(s)
	if w == nil {
		return false
	}
	k := w.class
	if !p.limit.enter(k, s) { // a Get that hit was faster: the class may have no more
		if w, _ = p.queue[brief].front(); w == nil {
			return false
		}
		k = brief
	}
	l := newLease(c, w.holder, w.inbox, w.want, w.reason)
	l.class, l.party = w.class, w.party
	if !p.lease(c, l, true) {
		p.limit.exit(k)
		return false
	}
	p.dequeue(w)
	p.answer(w, l, nil)
	return true
}

// match brings idle connections and Waiters together that have missed each other. put looks for
// Waiters before and after it pushes a connection, enqueue looks at the stack after it has added a
// Waiter: one of the two sees the other.
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

// failAll empties the queues and answers every Waiter with err.
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

// armDeadline sets the timer of the queues for the oldest Waiter. All may wait equally long, so no
// deadline comes before that of the oldest. Called with nodeLimit.mu locked.
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

// expire runs when the timer fires. It answers the Waiters that have waited for WaitTimeout.
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
