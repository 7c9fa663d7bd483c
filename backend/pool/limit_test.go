package pool

import (
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/nodes"
	"github.com/berth-proxy/berth/backend/redistest"
)

// askFor is ask with a reason.
func (h *poolHolder) askFor(p *Pool, reason Reason) (l *Lease, w *Waiter) {
	h.loop.do(func() { l, w = p.Get(h, h.loop.inbox, backend.Identity{}, reason) })
	return l, w
}

func (h *poolHolder) attachFor(p *Pool, reason Reason) *Lease {
	h.t.Helper()
	if l, _ := h.askFor(p, reason); l != nil {
		return l
	}
	a := receive(h.t, h.attached, "a lease for "+reason.String())
	if a.err != nil {
		h.t.Fatalf("no lease for %v: %v", reason, a.err)
	}
	return a.lease
}

// newTestPools returns pools that are closed with the test.
func newTestPools(t testing.TB, change func(v *Values)) (*Pools, *Settings) {
	v := DefaultValues()
	v.WaitTimeout, v.DialTimeout = patience, patience
	change(&v)
	s := NewSettings(v)
	ps := NewPools(s, &backend.Logins{})
	t.Cleanup(ps.Close)
	return ps, s
}

func TestBlockingNeverTakesTheLastConnectionsFromTransactions(t *testing.T) {
	node := redistest.Start(t)
	p, s := newTestPool(t, node.Addr(), func(v *Values) { v.MaxTotal = 4; v.BlockingShare = 50 })
	h := newPoolHolder(t, newPoolLoop(t))
	blocked := []*Lease{h.attachFor(p, ReasonBlock), h.attachFor(p, ReasonPin)}
	first, second := newPoolHolder(t, newPoolLoop(t)), newPoolHolder(t, newPoolLoop(t))
	first.askFor(p, ReasonBlock)
	second.askFor(p, ReasonBlock)
	// Waiters for the blocking share do not delay a transaction, and get none of its connections.
	for range 20 {
		l := h.attachFor(p, ReasonTxn)
		h.detach(l)
	}
	st := p.Stats()
	if st.Dials != 3 || st.WaitingLong != 2 || st.LeasedLong != 2 || st.Idle != 1 || len(first.attached) != 0 {
		t.Fatalf("stats are %+v", st)
	}
	h.detach(blocked[0])
	receive(t, first.attached, "the freed connection, for the oldest")
	if len(second.attached) != 0 {
		t.Fatal("the later one was served, too")
	}
	s.Change(func(v *Values) { v.BlockingShare = 75 })
	receive(t, second.attached, "the idle connection, for the other")
	if st := p.Stats(); st.Dials != 3 || st.LeasedLong != 3 || st.Limit != 4 || st.LimitLong != 3 {
		t.Fatalf("stats are %+v", st)
	}
}

func TestEachClassIsServedInItsOrderAndTheOldestOfBothFirst(t *testing.T) {
	node := redistest.Start(t)
	p, _ := newTestPool(t, node.Addr(), func(v *Values) { v.MaxTotal = 2; v.BlockingShare = 50 })
	h := newPoolHolder(t, newPoolLoop(t))
	busy := h.attachFor(p, ReasonTxn)
	blocked := h.attachFor(p, ReasonBlock)
	loop := newPoolLoop(t)
	var waiting []*poolHolder
	for _, r := range []Reason{ReasonBlock, ReasonTxn, ReasonTxn, ReasonBlock} {
		w := newPoolHolder(t, loop)
		w.askFor(p, r)
		waiting = append(waiting, w)
	}
	h.detach(busy) // the oldest may not have it: its class has all that it may
	txn := receive(t, waiting[1].attached, "the oldest transaction's lease").lease
	h.detach(blocked)
	block := receive(t, waiting[0].attached, "the oldest of all's lease").lease
	loop.do(block.Detach)
	receive(t, waiting[2].attached, "the next transaction's lease, older than the next to block")
	loop.do(txn.Detach)
	receive(t, waiting[3].attached, "the last one's lease")
	if st := p.Stats(); st.Dials != 2 || st.Waiting != 0 {
		t.Fatalf("stats are %+v", st)
	}
}

func TestUsersOfANodeShareItsConnections(t *testing.T) {
	node := redistest.Start(t)
	node.Do(t, "ACL", "SETUSER", "bob", "on", ">pw", "+@all", "~*")
	ps, _ := newTestPools(t, func(v *Values) { v.MaxTotal = 3 })
	ps.logins.Accepted("bob", "pw", false, nil)
	alice, bob := ps.For(node.Addr(), backend.Identity{}), ps.For(node.Addr(), backend.Identity{User: "bob"})
	h := newPoolHolder(t, newPoolLoop(t))
	most := func() {
		t.Helper()
		if n := alice.Size() + bob.Size(); n > 3 {
			t.Fatalf("%d connections", n)
		}
	}
	for _, l := range attachMany(h, alice, 3) {
		h.detach(l)
	}
	// Alice's idle connections are closed for Bob.
	leases := attachMany(h, bob, 2)
	most()
	if got := h.call(leases[0], "ACL", "WHOAMI"); got != "$3\r\nbob\r\n" {
		t.Fatalf("he is %q", got)
	}
	if st := alice.Stats(); st.Closes["for another user"] != 2 || st.Idle != 1 {
		t.Fatalf("hers are %+v", st)
	}
	// Bob has waited for longer than Alice: what Alice gives back is closed, and another is dialled for Bob.
	last := h.attach(alice, backend.Identity{})
	his, hers := newPoolHolder(t, newPoolLoop(t)), newPoolHolder(t, newPoolLoop(t))
	his.ask(bob, backend.Identity{})
	hers.ask(alice, backend.Identity{})
	h.detach(last)
	l := receive(t, his.attached, "his connection").lease
	most()
	if got := his.call(l, "ACL", "WHOAMI"); got != "$3\r\nbob\r\n" || len(hers.attached) != 0 {
		t.Fatalf("he is %q, she was served: %v", got, len(hers.attached) != 0)
	}
	his.detach(l)
	receive(t, hers.attached, "her connection")
	most()
}

func TestLimitIsDerivedFromWhatTheNodeSays(t *testing.T) {
	node := redistest.Start(t, "--maxclients", "50")
	ps, s := newTestPools(t, func(*Values) {})
	nodes, err := nodes.Connect(t.Context(), nodes.Target{Addrs: []string{node.Addr()}}, nodes.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer nodes.Close()
	others := 5
	for range others {
		redistest.Dial(t, node.Addr())
	}
	nodes.OnLoad(learnBy(ps))
	// One connection asks, and others may not have ended yet.
	derived := func() bool { n, _ := ps.Limit(node.Addr()); return n >= 34 && n <= 50-8-others-1 }
	eventually(t, "a limit", derived)
	p := ps.For(node.Addr(), backend.Identity{})
	h := newPoolHolder(t, newPoolLoop(t))
	limit, blocking := ps.Limit(node.Addr())
	if blocking != limit*40/100 {
		t.Fatalf("%d of %d may block", blocking, limit)
	}
	leases := attachMany(h, p, limit)
	late := newPoolHolder(t, newPoolLoop(t))
	late.ask(p, backend.Identity{})
	if st := p.Stats(); st.Waiting != 1 || st.Dialing != 0 || p.Size() != limit {
		t.Fatalf("stats are %+v", st)
	}
	ps.Learn(node.Addr(), 50, 40) // its own are not counted against it, and so it has room for one more at least
	receive(t, late.attached, "a lease, for the limit has grown")
	for _, l := range leases {
		h.detach(l)
	}
	ps.Learn(node.Addr(), 12, 0)
	if st := p.Stats(); p.Size() != 4 || st.Limit != 4 {
		t.Fatalf("%d connections; stats are %+v", p.Size(), st)
	}
	s.Change(func(v *Values) { v.MaxTotal = 7 })
	if all, _ := ps.Limit(node.Addr()); all != 7 {
		t.Fatalf("the limit is %d, not the setting's", all)
	}
	s.Change(func(v *Values) { v.MaxTotal = 0 })
	ps.Learn(node.Addr(), 0, 0)
	if all, blocking := ps.Limit(node.Addr()); all != 0 || blocking != 0 {
		t.Fatalf("a node that does not say has limits %d and %d", all, blocking)
	}
}

func TestNodeThatMayNotBeAskedHasNoLimit(t *testing.T) {
	node := redistest.Start(t)
	nodes, err := nodes.Connect(t.Context(), nodes.Target{Addrs: []string{node.Addr()}}, nodes.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer nodes.Close()
	node.Do(t, "ACL", "SETUSER", "default", "-info", "-config")
	said := make(chan [2]int, 16)
	nodes.OnLoad(sayTo(said))
	if got := receive(t, said, "what the node says"); got != [2]int{} {
		t.Fatalf("it says %v", got)
	}
}

func TestNodeThatComesBackIsStillBurdenedWithTheLeasesThatAreLeft(t *testing.T) {
	node := redistest.Start(t)
	ps, _ := newTestPools(t, func(v *Values) { v.MaxTotal = 1 })
	h := newPoolHolder(t, newPoolLoop(t))
	l := h.attach(ps.For(node.Addr(), backend.Identity{}), backend.Identity{})
	ps.Retain(func(string) bool { return false })
	late := newPoolHolder(t, newPoolLoop(t))
	late.ask(ps.For(node.Addr(), backend.Identity{}), backend.Identity{})
	if st := ps.For(node.Addr(), backend.Identity{}).Stats(); st.Waiting != 1 || st.Dialing != 0 {
		t.Fatalf("stats are %+v", st)
	}
	h.detach(l)
	receive(t, late.attached, "the place of the lease that was left")
	ps.Retain(func(string) bool { return false })
}

// thinker is a holder that gives its lease back when Revoke asks for it.
type thinker struct {
	*poolHolder
	revoked chan *Lease
}

func newThinker(t testing.TB) *thinker {
	return &thinker{newPoolHolder(t, newPoolLoop(t)), make(chan *Lease, 64)}
}

func (h *thinker) Revoke(l *Lease) {
	l.Detach()
	h.revoked <- l
}

// watch attaches and watches a key.
func (h *thinker) watch(p *Pool) (l *Lease) {
	h.loop.do(func() { l, _ = p.Get(h, h.loop.inbox, backend.Identity{}, ReasonTxn) })
	if l == nil {
		l = receive(h.t, h.attached, "a lease").lease
	}
	h.loop.do(func() { l.Mark(DirtWatch) })
	h.call(l, "WATCH", "k")
	return l
}

func TestLeaseThatIsIdleForLongestIsAskedBackWhenOthersWait(t *testing.T) {
	node := redistest.Start(t)
	p, _ := newTestPool(t, node.Addr(), func(v *Values) { v.MaxTotal = 3 })
	var thinkers []*thinker
	var leases []*Lease
	for range 3 {
		h := newThinker(t)
		thinkers, leases = append(thinkers, h), append(leases, h.watch(p))
	}
	thinkers[0].call(leases[0], "GET", "k") // so the second is idle for longest
	began := clock()
	late := newThinker(t)
	l := late.watch(p)
	if waited := clock() - began; waited > patience/2 {
		t.Fatalf("it waited for %v", waited)
	}
	if got := receive(t, thinkers[1].revoked, "the question"); got != leases[1] {
		t.Fatal("another lease was asked for")
	}
	if len(thinkers[0].revoked)+len(thinkers[2].revoked) != 0 {
		t.Fatal("more were asked than waited")
	}
	// The stale WATCH is undone before the next holder's first command.
	node.Do(t, "SET", "k", "changed")
	late.call(l, "UNWATCH")
	late.call(l, "MULTI")
	if got := late.call(l, "EXEC"); got != "*0\r\n" {
		t.Fatalf("EXEC got %q", got)
	}
}

func TestLeaseThatIsOwedAReplyIsNotAskedBack(t *testing.T) {
	node := redistest.Start(t)
	p, s := newTestPool(t, node.Addr(), func(v *Values) { v.MaxTotal = 1; v.WaitTimeout = 0 })
	busy := newThinker(t)
	l := busy.watch(p)
	busy.send(l, "BLPOP", "q", "0")
	late := newPoolHolder(t, newPoolLoop(t))
	late.ask(p, backend.Identity{})
	since := clock()
	eventually(t, "enough time for the question", func() bool { return clock()-since > RevokeQuiet+5*revokePause })
	if len(busy.revoked) != 0 || len(late.attached) != 0 {
		t.Fatal("a lease in use was asked for")
	}
	node.Do(t, "RPUSH", "q", "x")
	receive(t, busy.revoked, "the question, once it is idle")
	receive(t, late.attached, "its connection")
	s.Change(func(v *Values) { v.WaitTimeout = time.Second })
}

func TestNobodyIsAskedForTheSakeOfThoseWhoBlock(t *testing.T) {
	node := redistest.Start(t)
	p, _ := newTestPool(t, node.Addr(), func(v *Values) { v.MaxTotal = 1; v.WaitTimeout = 2 * RevokeQuiet })
	h := newThinker(t)
	h.watch(p)
	late := newPoolHolder(t, newPoolLoop(t))
	late.askFor(p, ReasonBlock)
	if a := receive(t, late.attached, "the timeout"); a.err != ErrTimeout || len(h.revoked) != 0 {
		t.Fatalf("it got %v, and a WATCH was asked for: %v", a.err, len(h.revoked) != 0)
	}
}

func TestUserWhoseDialsRunAlreadyGetsTheIdleConnectionsOfOthersNext(t *testing.T) {
	node := redistest.Start(t)
	node.Do(t, "ACL", "SETUSER", "bob", "on", ">pw", "+@all", "~*")
	ps, _ := newTestPools(t, func(v *Values) { v.MaxTotal = 8; v.DialConcurrency = 1 })
	ps.logins.Accepted("bob", "pw", false, nil)
	alice, bob := ps.For(node.Addr(), backend.Identity{}), ps.For(node.Addr(), backend.Identity{User: "bob"})
	h := newPoolHolder(t, newPoolLoop(t))
	for _, l := range attachMany(h, alice, 8) {
		h.detach(l)
	}
	his := newPoolHolder(t, newPoolLoop(t))
	for range 8 { // all but the first find a dial under way
		his.ask(bob, backend.Identity{})
	}
	for range 8 {
		if a := receive(t, his.attached, "his connection"); a.err != nil {
			t.Fatal(a.err)
		}
	}
	if alice.Size() != 0 || bob.Size() != 8 {
		t.Fatalf("she has %d, he has %d", alice.Size(), bob.Size())
	}
}

// A visitor that asks the Pools anything must not wait for those who wait for the visitor.
func TestVisitorOfAllPoolsMayUseThem(t *testing.T) {
	ps, _ := newTestPools(t, func(*Values) {})
	ps.For("a:1", backend.Identity{})
	visited := 0
	ps.Each(func(addr, _ string, _ *Pool) {
		visited++
		ps.Learn(addr, 1000, 0)
		if all, _ := ps.Limit(addr); all == 0 {
			t.Errorf("the limit of %s is not known", addr)
		}
		ps.For("b:1", backend.Identity{})
	})
	if visited != 1 {
		t.Errorf("%d pools were visited, want the 1 that there was", visited)
	}
}

func learnBy(ps *Pools) func(addr string, load nodes.Load) {
	return func(addr string, load nodes.Load) { ps.Learn(addr, load.MaxClients, load.Connected) }
}

func sayTo(said chan [2]int) func(addr string, load nodes.Load) {
	return func(_ string, load nodes.Load) { said <- [2]int{load.MaxClients, load.Connected} }
}
