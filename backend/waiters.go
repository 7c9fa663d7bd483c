package backend

import (
	"errors"
	"time"
)

// ErrPoolTimeout answers a Get that waited for longer than WaitTimeout.
var ErrPoolTimeout = errors.New("no backend connection in time")

// ErrPoolClosed answers a Get on a pool that is closed.
var ErrPoolClosed = errors.New("the pool is closed")

// Waiter is a Get that has not been answered. Every Get that misses becomes one, whether it waits for a dial or for
// somebody to detach: what comes first goes to the oldest.
type Waiter struct {
	pool   *Pool
	holder Holder
	inbox  *Inbox
	want   Identity
	reason Reason
	since  time.Duration

	// Guarded by the pool's mu until the answer is posted.
	node   *fifoNode[*Waiter]
	dialed bool // a dial runs on its behalf
	lease  *Lease
	err    error

	done bool // owned by the loop: Attached was called, or never will be
}

// deliver runs on the holder's loop.
func (w *Waiter) deliver() {
	if w.done {
		return
	}
	w.done = true
	w.holder.Attached(w.lease, w.err)
}

// Cancel takes the session out of the queue: it has left, or no longer wants a lease. A lease that is on its way goes
// back, and so does what is being dialled. Attached is not called any more. On the holder's loop; a second call, or one
// after Attached, does nothing.
func (w *Waiter) Cancel() {
	if w.done {
		return
	}
	w.done = true
	p := w.pool
	p.mu.Lock()
	p.dequeue(w)
	l := w.lease
	p.mu.Unlock()
	if l != nil {
		l.Detach()
	}
}

// wait joins the queue.
func (p *Pool) wait(h Holder, in *Inbox, want Identity, reason Reason) *Waiter {
	w := &Waiter{pool: p, holder: h, inbox: in, want: want, reason: reason, since: clock()}
	p.mu.Lock()
	if p.shut.Load() {
		w.err = ErrPoolClosed
		p.mu.Unlock()
		in.post(w)
		return w
	}
	w.node = p.queue.push(w)
	p.waiting.Store(int32(p.queue.len))
	if p.queue.len == 1 {
		p.armDeadline()
	}
	p.mu.Unlock()
	p.match() // a put that did not see the waiter has left its connection in the stack
	p.dialForWaiters()
	return w
}

// dequeue takes w out of the queue under mu. It reports false when w has been answered or has left.
func (p *Pool) dequeue(w *Waiter) bool {
	if w.node == nil || !p.queue.remove(w.node) {
		return false
	}
	p.waiting.Store(int32(p.queue.len))
	return true
}

// answer posts what w has waited for. w has left the queue, and mu is held, so a Cancel sees the lease.
func (p *Pool) answer(w *Waiter, l *Lease, err error) {
	w.lease, w.err = l, err
	p.metrics.waits.Add(1)
	p.metrics.wait[w.reason].observe(clock() - w.since)
	w.inbox.post(w)
}

// serve gives c to the oldest waiter. It reports false when nobody waits or c is lost: c is still the caller's then.
func (p *Pool) serve(c *exclusive) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	w, ok := p.queue.front()
	if !ok {
		return false
	}
	l := p.lease(c, w.holder, w.inbox, w.want, w.reason)
	if l == nil {
		return false
	}
	p.dequeue(w)
	p.answer(w, l, nil)
	return true
}

// match brings the idle connections and the waiters together that have missed each other: a put looks for waiters
// before and after it pushes, a wait looks at the stack after it has joined the queue. One of the two sees the other.
func (p *Pool) match() {
	for p.waiting.Load() > 0 && p.settings.Load().Enabled {
		c := p.take()
		if c == nil {
			return
		}
		p.put(c)
	}
}

// failAll empties the queue.
func (p *Pool) failAll(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for w, ok := p.queue.front(); ok; w, ok = p.queue.front() {
		p.dequeue(w)
		p.answer(w, nil, err)
	}
}

// armDeadline sets the one timer of the queue for its oldest waiter, under mu. All wait equally long, so nobody's
// deadline comes before the oldest one's.
func (p *Pool) armDeadline() {
	limit := p.settings.Load().WaitTimeout
	w, ok := p.queue.front()
	if !ok || limit == 0 {
		return
	}
	p.deadline.Reset(max(0, w.since+limit-clock()))
}

// expire answers those whose time is up.
func (p *Pool) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	limit := p.settings.Load().WaitTimeout
	for w, ok := p.queue.front(); ok && limit > 0; w, ok = p.queue.front() {
		if clock()-w.since < limit {
			break
		}
		p.dequeue(w)
		p.metrics.waitTimeouts.Add(1)
		p.answer(w, nil, ErrPoolTimeout)
	}
	p.armDeadline()
}
