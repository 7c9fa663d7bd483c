package pool

import (
	"errors"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/redistest"
)

func TestFreedConnectionGoesToTheOldestWaiter(t *testing.T) {
	node := redistest.Start(t)
	p, _ := newTestPool(t, node.Addr(), func(v *Values) { v.MaxTotal = 1 })
	first := newPoolHolder(t, newPoolLoop(t))
	l := first.attach(p, backend.Identity{})
	var waiting []*poolHolder
	for range 5 {
		h := newPoolHolder(t, newPoolLoop(t))
		if l, _ := h.ask(p, backend.Identity{}); l != nil {
			t.Fatal("Get hit above the cap")
		}
		waiting = append(waiting, h)
	}
	holder := first
	for i, h := range waiting {
		holder.detach(l)
		l = receive(t, h.attached, "the lease").lease
		for _, later := range waiting[i+1:] {
			if len(later.attached) > 0 {
				t.Fatal("a later waiter was served, too")
			}
		}
		if got := h.call(l, "PING"); got != "+PONG\r\n" {
			t.Fatalf("PING got %q", got)
		}
		holder = h
	}
	if s := p.Stats(); s.Dials != 1 || s.Waits != 6 || s.Waiting != 0 {
		t.Fatalf("stats are %+v", s)
	}
}

func TestWaiterIsNotForgottenWhenItsGetMeetsADetach(t *testing.T) {
	node := newScripted(t, (*scriptedConn).obey)
	p, _ := newTestPool(t, node.addr, func(v *Values) { v.MaxTotal = 1; v.WaitTimeout = 0 })
	a, b := newPoolHolder(t, newPoolLoop(t)), newPoolHolder(t, newPoolLoop(t))
	l := a.attach(p, backend.Identity{})
	for range 20000 {
		detached := make(chan struct{})
		a.loop.tasks <- func() { l.Detach(); close(detached) }
		next := b.attach(p, backend.Identity{}) // there will be no other put to make good for a waiter that was not seen
		<-detached
		a, b, l = b, a, next
	}
}

func TestLostConnectionMakesRoomForAWaiter(t *testing.T) {
	node := redistest.Start(t)
	p, _ := newTestPool(t, node.Addr(), func(v *Values) { v.MaxTotal = 1 })
	a, b := newPoolHolder(t, newPoolLoop(t)), newPoolHolder(t, newPoolLoop(t))
	l := a.attach(p, backend.Identity{})
	b.ask(p, backend.Identity{})
	a.loop.do(func() { l.Close("test") })
	l = receive(t, b.attached, "the lease").lease
	if got := b.call(l, "PING"); got != "+PONG\r\n" {
		t.Fatalf("PING got %q", got)
	}
}

func TestWaiterGivesUpAfterTheWaitTimeoutAndTheQueueGoesOn(t *testing.T) {
	node := redistest.Start(t)
	p, s := newTestPool(t, node.Addr(), func(v *Values) {
		v.MaxTotal = 1
		v.WaitTimeout = time.Hour
	})
	a, b, c := newPoolHolder(t, newPoolLoop(t)), newPoolHolder(t, newPoolLoop(t)), newPoolHolder(t, newPoolLoop(t))
	l := a.attach(p, backend.Identity{})
	b.ask(p, backend.Identity{})
	s.Change(func(v *Values) { v.WaitTimeout = 20 * time.Millisecond }) // also for those who wait already
	if got := receive(t, b.attached, "the timeout"); !errors.Is(got.err, ErrTimeout) || got.lease != nil {
		t.Fatalf("the waiter got %+v", got)
	}
	c.ask(p, backend.Identity{})
	if got := receive(t, c.attached, "the timeout"); !errors.Is(got.err, ErrTimeout) {
		t.Fatalf("the waiter got %+v", got)
	}
	a.detach(l)
	if st := p.Stats(); st.Idle != 1 || st.WaitTimeout != 2 {
		t.Fatalf("stats are %+v", st)
	}
}

func TestFreedConnectionServesTheWaiterWhoseDialStillRuns(t *testing.T) {
	shake := make(chan struct{})
	node := newScripted(t, func(c *scriptedConn) {
		c.read()
		if c.n == 1 {
			<-shake
		}
		c.say("+OK\r\n")
		c.obey()
	})
	p, _ := newTestPool(t, node.addr, nil)
	a, b := newPoolHolder(t, newPoolLoop(t)), newPoolHolder(t, newPoolLoop(t))
	l := a.attach(p, backend.Identity{DB: 1})
	b.ask(p, backend.Identity{DB: 1})
	a.detach(l)
	receive(t, b.attached, "the freed connection")
	close(shake)
	eventually(t, "the dialled one is idle", func() bool { return p.Stats().Idle == 1 })
	if s := p.Stats(); s.Leased != 1 || s.Dialing != 0 {
		t.Fatalf("stats are %+v", s)
	}
}

func TestCancelledWaiterLeavesItsDialToTheNextOneOrToTheStack(t *testing.T) {
	shake := make(chan struct{})
	node := newScripted(t, func(c *scriptedConn) {
		c.read()
		<-shake
		c.say("+OK\r\n")
		c.obey()
	})
	p, _ := newTestPool(t, node.addr, func(v *Values) { v.DialConcurrency = 1 })
	a, b := newPoolHolder(t, newPoolLoop(t)), newPoolHolder(t, newPoolLoop(t))
	_, first := a.ask(p, backend.Identity{DB: 1})
	b.ask(p, backend.Identity{DB: 1})
	a.loop.do(first.Cancel)
	shake <- struct{}{}
	l := receive(t, b.attached, "the connection dialled for the other").lease

	_, second := a.ask(p, backend.Identity{DB: 1})
	a.loop.do(second.Cancel)
	shake <- struct{}{}
	eventually(t, "the dialled one is idle", func() bool { return p.Stats().Idle == 1 })
	b.detach(l)
	if s := p.Stats(); s.Dials != 2 || s.Idle != 2 || s.Waiting != 0 || len(a.attached) != 0 {
		t.Fatalf("stats are %+v, %d answers after Cancel", s, len(a.attached))
	}
}

func TestCancelGivesBackALeaseThatIsOnItsWay(t *testing.T) {
	node := redistest.Start(t)
	p, _ := newTestPool(t, node.Addr(), func(v *Values) { v.MaxTotal = 1 })
	a, b := newPoolHolder(t, newPoolLoop(t)), newPoolHolder(t, newPoolLoop(t))
	l := a.attach(p, backend.Identity{})
	b.loop.do(func() {
		_, w := p.Get(b, b.loop.inbox, backend.Identity{}, ReasonBlock)
		a.detach(l) // served: the answer lies in the inbox of the loop we are on
		if n := p.Stats().Leased; n != 1 {
			t.Errorf("%d leased, want the waiter's", n)
		}
		w.Cancel()
		w.Cancel()
	})
	b.loop.do(func() {}) // behind the Drain
	if s := p.Stats(); s.Idle != 1 || s.Leased != 0 || len(b.attached) != 0 {
		t.Fatalf("stats are %+v, %d answers after Cancel", s, len(b.attached))
	}
	b.loop.do(func() {
		l, _ = p.Get(b, b.loop.inbox, backend.Identity{}, ReasonBlock)
	})
	if l == nil {
		t.Fatal("the connection was lost on its way back")
	}
}

func TestFailedDialAnswersTheWaiterItWasForAndNobodyElse(t *testing.T) {
	node := redistest.Start(t, "--databases", "2")
	p, _ := newTestPool(t, node.Addr(), nil)
	bad, good := newPoolHolder(t, newPoolLoop(t)), newPoolHolder(t, newPoolLoop(t))
	for range 50 {
		if l, _ := bad.ask(p, backend.Identity{DB: 7}); l != nil { // a dial more than was needed is idle now
			bad.loop.do(func() { l.Close("test") })
			continue
		}
		_, w := good.ask(p, backend.Identity{DB: 1})
		var refused *backend.LostError
		a := receive(t, bad.attached, "an answer")
		switch {
		case a.lease != nil: // the other's dial was faster; the lease will find out
			bad.send(a.lease, "PING")
			if err := receive(t, bad.lost, "LeaseLost"); !errors.As(err, &refused) {
				t.Fatal(err)
			}
		case !errors.As(a.err, &refused):
			t.Fatalf("the bad one got %v", a.err)
		}
		if w == nil {
			t.Fatal("a hit on an empty pool")
		}
		b := receive(t, good.attached, "an answer")
		if b.err != nil {
			t.Fatalf("the good one got %v", b.err)
		}
		good.loop.do(func() { b.lease.Close("test") })
	}
}

func TestDialsRunNoMoreAtATimeThanAllowed(t *testing.T) {
	arrived, shake := make(chan struct{}, 64), make(chan struct{})
	node := newScripted(t, func(c *scriptedConn) {
		arrived <- struct{}{}
		<-shake
		c.read()
		c.say("+OK\r\n")
		c.obey()
	})
	p, _ := newTestPool(t, node.addr, func(v *Values) { v.DialConcurrency = 3; v.MaxTotal = 10 })
	h := newPoolHolder(t, newPoolLoop(t))
	for range 12 {
		h.ask(p, backend.Identity{DB: 1})
	}
	for range 3 {
		receive(t, arrived, "a connection")
	}
	if s := p.Stats(); s.Dialing != 3 || s.Waiting != 12 {
		t.Fatalf("stats are %+v", s)
	}
	close(shake)
	for range 10 {
		if a := receive(t, h.attached, "a lease"); a.err != nil {
			t.Fatal(a.err)
		}
	}
	if s := p.Stats(); s.Dials != 10 || s.Waiting != 2 || s.Leased != 10 {
		t.Fatalf("stats are %+v", s)
	}
}

func TestAConnectionLostOnItsWayToAWaiterIsAttachedBeforeItIsLost(t *testing.T) {
	node := redistest.Start(t)
	p, _ := newTestPool(t, node.Addr(), nil)
	h := newPoolHolder(t, newPoolLoop(t))
	h.detach(h.attach(p, backend.Identity{}))

	w := &Waiter{pool: p, holder: h, inbox: h.loop.inbox, want: backend.Identity{RESP: 2}}
	c := p.take()
	w.lease = newLease(c, h, w.inbox, w.want, ReasonTxn)
	if !p.limit.enter(brief, p.settings.Load()) || !p.lease(c, w.lease, true) {
		t.Fatal("the idle connection was not attached")
	}
	node.Do(t, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	eventually(t, "the hang-up", c.isLost)
	h.loop.do(func() {}) // behind the Drain, if there was one
	if len(h.lost) != 0 {
		t.Fatal("a holder heard of a lease that it does not have yet")
	}
	w.inbox.post(w)
	if a := receive(t, h.attached, "the lease"); a.lease != w.lease {
		t.Fatalf("attached %+v", a)
	}
	receive(t, h.lost, "its loss")
	if s := p.Stats(); s.Leased != 0 || s.Closes["lost"] != 1 {
		t.Fatalf("stats are %+v", s)
	}
}

func TestPoolTellsForHowLongTheOldestWaiterHasWaited(t *testing.T) {
	node := redistest.Start(t)
	p, _ := newTestPool(t, node.Addr(), func(v *Values) { v.MaxTotal = 1; v.WaitTimeout = 0 })
	first := newPoolHolder(t, newPoolLoop(t))
	lease := first.attach(p, backend.Identity{})
	if s := p.Stats(); s.OldestWait != 0 {
		t.Fatalf("nobody waits, but for %v", s.OldestWait)
	}
	began := clock()
	second := newPoolHolder(t, newPoolLoop(t))
	second.ask(p, backend.Identity{})
	redistest.Eventually(t, patience, "the wait to grow", func() bool {
		waited := p.Stats().OldestWait
		if waited > clock()-began {
			t.Fatalf("%v is longer than since the question", waited)
		}
		return waited > 10*time.Millisecond
	})
	first.detach(lease)
	receive(t, second.attached, "the lease")
	if s := p.Stats(); s.OldestWait != 0 {
		t.Errorf("served, but waits for %v", s.OldestWait)
	}
}
