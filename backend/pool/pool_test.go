package pool

import (
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/redistest"
)

func TestDetachedConnectionServesTheNextHolderWithNoCommandSent(t *testing.T) {
	node := redistest.Start(t)
	p, _ := newTestPool(t, node.Addr(), nil)
	a, b := newPoolHolder(t, newPoolLoop(t)), newPoolHolder(t, newPoolLoop(t))

	l := a.attach(p, backend.Identity{})
	id := a.call(l, "CLIENT", "ID")
	before := commandsProcessed(t, node)
	a.detach(l)
	l, w := b.ask(p, backend.Identity{})
	if l == nil || w != nil {
		t.Fatal("Get missed with a connection idle")
	}
	if got := b.call(l, "CLIENT", "ID"); got != id {
		t.Fatalf("the next holder got connection %q, want %q", got, id)
	}
	if n := commandsProcessed(t, node) - before; n != 2 { // CLIENT ID, and the INFO that asks
		t.Fatalf("%d commands reached the node, want CLIENT ID alone", n-1)
	}
	if s := p.Stats(); s.Hits != 1 || s.Misses != 1 || s.Dials != 1 || s.Leased != 1 || s.Idle != 0 {
		t.Fatalf("stats are %+v", s)
	}
}

func commandsProcessed(t *testing.T, node *redistest.Server) (n int) {
	info := node.Do(t, "INFO", "stats").(string)
	_, after, _ := strings.Cut(info, "total_commands_processed:")
	fmt.Sscan(after, &n)
	return n
}

func TestOpenMultiIsNeverRecycled(t *testing.T) {
	node := redistest.Start(t)
	p, _ := newTestPool(t, node.Addr(), nil)
	h := newPoolHolder(t, newPoolLoop(t))
	l := h.attach(p, backend.Identity{})
	h.loop.do(func() { l.Mark(DirtMulti) })
	h.call(l, "MULTI")
	h.call(l, "SET", "k", "leaked")
	h.detach(l)

	l = h.attach(p, backend.Identity{})
	if got := h.call(l, "SET", "other", "1"); got != "+OK\r\n" {
		t.Fatalf("the next holder's SET got %q", got)
	}
	if s := p.Stats(); s.Closes["dirty: multi"] != 1 || s.Hits != 0 {
		t.Fatalf("stats are %+v", s)
	}
}

func TestStaleWatchDoesNotAbortTheNextHoldersTransaction(t *testing.T) {
	node := redistest.Start(t)
	p, _ := newTestPool(t, node.Addr(), nil)
	h := newPoolHolder(t, newPoolLoop(t))
	l := h.attach(p, backend.Identity{})
	h.loop.do(func() { l.Mark(DirtWatch) })
	h.call(l, "WATCH", "k")
	h.detach(l)
	node.Do(t, "SET", "k", "changed")

	l = h.attach(p, backend.Identity{})
	for _, step := range [][2]string{{"MULTI", "+OK\r\n"}, {"PING", "+QUEUED\r\n"}, {"EXEC", "*1\r\n+PONG\r\n"}} {
		if got := h.call(l, step[0]); got != step[1] {
			t.Fatalf("%s got %q, want %q", step[0], got, step[1])
		}
	}
	if s := p.Stats(); s.Hits != 1 {
		t.Fatalf("the connection was not reused: %+v", s)
	}
}

func TestConnectionThatAuthenticatedAsSomebodyElseIsNeverRecycled(t *testing.T) {
	node := redistest.Start(t)
	node.Do(t, "ACL", "SETUSER", "alice", "on", ">secret", "+@all", "~*")
	p, _ := newTestPool(t, node.Addr(), nil)
	h := newPoolHolder(t, newPoolLoop(t))
	l := h.attach(p, backend.Identity{})
	h.loop.do(func() { l.Mark(DirtAuth) })
	h.call(l, "AUTH", "alice", "secret")
	h.detach(l)

	l = h.attach(p, backend.Identity{})
	if got := h.call(l, "ACL", "WHOAMI"); got != "$7\r\ndefault\r\n" {
		t.Fatalf("the next holder is %q", got)
	}
}

func TestHolderFindsTheDatabaseAndProtocolItAskedFor(t *testing.T) {
	node := redistest.Start(t)
	p, _ := newTestPool(t, node.Addr(), nil)
	h := newPoolHolder(t, newPoolLoop(t))
	for i, want := range []backend.Identity{{DB: 3, RESP: 2}, {DB: 5, RESP: 3}, {DB: 0, RESP: 3}, {DB: 0, RESP: 2}, {DB: 7, RESP: 2}} {
		l := h.attach(p, want)
		if got := h.call(l, "SET", fmt.Sprint("k", i), "v"); got != "+OK\r\n" {
			t.Fatalf("SET got %q", got)
		}
		null := map[int]string{2: "$-1\r\n", 3: "_\r\n"}[want.RESP]
		if got := h.call(l, "GET", "nosuch"); got != null {
			t.Fatalf("a null in RESP%d is %q", want.RESP, got)
		}
		info := h.call(l, "CLIENT", "INFO")
		if !strings.Contains(info, fmt.Sprintf(" db=%d ", want.DB)) || !strings.Contains(info, fmt.Sprintf("resp=%d", want.RESP)) {
			t.Fatalf("want db %d, RESP%d; the node says %s", want.DB, want.RESP, info)
		}
		h.detach(l)
	}
	if s := p.Stats(); s.Dials != 1 {
		t.Fatalf("%d dials, want one connection for all", s.Dials)
	}
}

func TestClientNameDoesNotStayOnTheConnection(t *testing.T) {
	node := redistest.Start(t)
	for _, naming := range []*backend.Naming{nil, backend.NewNaming("host", "1")} {
		p, _ := newTestPool(t, node.Addr(), nil)
		p.logins.Naming = naming
		h := newPoolHolder(t, newPoolLoop(t))
		l := h.attach(p, backend.Identity{})
		fresh := h.call(l, "CLIENT", "GETNAME")
		h.loop.do(func() { l.Mark(DirtName) })
		h.call(l, "CLIENT", "SETNAME", "alice")
		h.detach(l)
		l = h.attach(p, backend.Identity{})
		want := "$-1\r\n"
		if naming != nil {
			want = "$16\r\nberth:host:lease\r\n"
		}
		if got := h.call(l, "CLIENT", "GETNAME"); fresh != want || got != want || p.Stats().Hits != 1 {
			t.Errorf("the name is %q, and was %q", got, fresh)
		}
	}
}

func TestRefusedDatabaseLosesTheLeaseAndRunsNothing(t *testing.T) {
	node := redistest.Start(t, "--databases", "4")
	p, _ := newTestPool(t, node.Addr(), nil)
	h := newPoolHolder(t, newPoolLoop(t))
	h.detach(h.attach(p, backend.Identity{}))

	l := h.attach(p, backend.Identity{DB: 9}) // a hit: the dial asked for database 0
	h.send(l, "SET", "k", "in the wrong database")
	err := receive(t, h.lost, "LeaseLost")
	var lost *backend.LostError
	if !errors.As(err, &lost) || lost.Refusal != "ERR DB index is out of range" || lost.Sent {
		t.Fatalf("LeaseLost says %#v", err)
	}
	if n := node.Do(t, "EXISTS", "k"); n != int64(0) {
		t.Fatalf("EXISTS k is %v", n)
	}
	if _, err := h.tryAttach(p, backend.Identity{DB: 9}); !errors.As(err, &lost) || lost.Refusal != "ERR DB index is out of range" {
		t.Fatalf("the dial says %v", err)
	}
}

func TestDialThatIsRefusedSaysSoInOneLine(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	listener.Close()
	p, _ := newTestPool(t, addr, nil)
	h := newPoolHolder(t, newPoolLoop(t))
	if _, err := h.tryAttach(p, backend.Identity{}); err == nil || err.Error() != "dial "+addr+": connection refused" {
		t.Fatalf("Get says %v", err)
	}
	if s := p.Stats(); s.DialErrors != 1 || s.Dialing != 0 || p.total.Load() != 0 {
		t.Fatalf("stats are %+v", s)
	}
}

func TestWrongPasswordIsRefusedInTheNodesWords(t *testing.T) {
	node := redistest.Start(t)
	p := userPool(node.Addr(), "alice", "wrong", NewSettings(DefaultValues()))
	defer p.Close()
	h := newPoolHolder(t, newPoolLoop(t))
	_, err := h.tryAttach(p, backend.Identity{})
	var lost *backend.LostError
	if !errors.As(err, &lost) || !strings.HasPrefix(lost.Refusal, "WRONGPASS ") {
		t.Fatalf("Get says %v", err)
	}
}

func TestPoolDialsUnixSockets(t *testing.T) {
	path := t.TempDir() + "/s"
	redistest.Start(t, "--unixsocket", path)
	p, _ := newTestPool(t, path, nil)
	h := newPoolHolder(t, newPoolLoop(t))
	if got := h.call(h.attach(p, backend.Identity{RESP: 3}), "PING"); got != "+PONG\r\n" {
		t.Fatalf("PING got %q", got)
	}
}

// attachMany returns n leases held at the same time.
func attachMany(h *poolHolder, p *Pool, n int) (leases []*Lease) {
	for range n {
		leases = append(leases, h.attach(p, backend.Identity{}))
	}
	return leases
}

func TestIdleConnectionsGoAfterTheirTimeAndTheMinimumStays(t *testing.T) {
	node := redistest.Start(t)
	p, s := newTestPool(t, node.Addr(), func(v *Values) {
		v.IdleTime = time.Hour
		v.MinIdle = 2
		v.DialRate = 0
	})
	h := newPoolHolder(t, newPoolLoop(t))
	for _, l := range attachMany(h, p, 6) {
		h.detach(l)
	}
	if n := p.Stats().Idle; n != 6 {
		t.Fatalf("%d idle after detach, want 6", n)
	}
	s.Change(func(v *Values) { v.IdleTime = 300 * time.Millisecond })
	eventually(t, "only the minimum is left", func() bool { return p.Stats().Idle == 2 })
	if s := p.Stats(); s.Evictions != 4 {
		t.Fatalf("%d evictions, want 4", s.Evictions)
	}
	s.Change(func(v *Values) { v.MinIdle = 0 })
	eventually(t, "nobody is left", func() bool { return p.Stats().Idle == 0 && p.total.Load() == 0 })
	eventually(t, "the node has nobody either", func() bool { return nodeClients(t, node) == 0 })
}

// nodeClients returns how many connections the node has, without the one that asks.
func nodeClients(t testing.TB, node *redistest.Server) int {
	return strings.Count(node.Do(t, "CLIENT", "LIST").(string), "\n") - 1
}

func TestConnectionInUseOutlivesTheIdleTime(t *testing.T) {
	node := redistest.Start(t)
	p, s := newTestPool(t, node.Addr(), func(v *Values) { v.IdleTime = time.Hour })
	h := newPoolHolder(t, newPoolLoop(t))
	l := h.attach(p, backend.Identity{})
	id := h.call(l, "CLIENT", "ID")
	h.detach(l)
	other := attachMany(h, p, 2)
	s.Change(func(v *Values) { v.IdleTime = 10 * time.Millisecond })
	h.detach(other[1]) // this one shows that the time is over
	eventually(t, "the idle one is gone", func() bool { return p.Stats().Evictions == 1 })
	if got := h.call(other[0], "CLIENT", "ID"); got != id {
		t.Fatalf("the lease became connection %q, was %q", got, id)
	}
}

func TestConnectionsAreDialledAheadForTheMinimum(t *testing.T) {
	node := redistest.Start(t)
	p, s := newTestPool(t, node.Addr(), func(v *Values) { v.MinIdle = 3; v.DialRate = 1000 })
	eventually(t, "3 are idle", func() bool { return p.Stats().Idle == 3 })
	h := newPoolHolder(t, newPoolLoop(t))
	attachMany(h, p, 2)
	eventually(t, "3 are idle again", func() bool { return p.Stats().Idle == 3 })
	s.Change(func(v *Values) { v.MinIdle = 5 })
	eventually(t, "5 are idle", func() bool { return p.Stats().Idle == 5 })
	if s := p.Stats(); s.Dials != 7 {
		t.Fatalf("%d dials, want 7", s.Dials)
	}
}

func TestSmallerSettingsShrinkThePoolAtOnceAndLeaveLeasesAlone(t *testing.T) {
	node := redistest.Start(t)
	for name, c := range map[string]struct {
		change func(v *Values)
		idle   int
	}{
		"max idle":      {func(v *Values) { v.MaxIdle = 3 }, 3},
		"idle time":     {func(v *Values) { v.IdleTime = time.Nanosecond }, 0},
		"no idle time":  {func(v *Values) { v.IdleTime = 0 }, 0},
		"max total":     {func(v *Values) { v.MaxTotal = 3 }, 2},
		"pool disabled": {func(v *Values) { v.Enabled = false }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p, s := newTestPool(t, node.Addr(), nil)
			h := newPoolHolder(t, newPoolLoop(t))
			leases := attachMany(h, p, 6)
			for _, l := range leases[1:] {
				h.detach(l)
			}
			s.Change(c.change)
			if n := p.Stats().Idle; n != c.idle {
				t.Fatalf("%d are idle when Change returns, want %d", n, c.idle)
			}
			if got := h.call(leases[0], "PING"); got != "+PONG\r\n" {
				t.Fatalf("PING on the lease got %q", got)
			}
		})
	}
}

func TestDetachClosesWhatTheSettingsDoNotWant(t *testing.T) {
	node := redistest.Start(t)
	for name, change := range map[string]func(v *Values){
		"max idle":      func(v *Values) { v.MaxIdle = 0 },
		"no idle time":  func(v *Values) { v.IdleTime = 0 },
		"pool disabled": func(v *Values) { v.Enabled = false },
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := newTestPool(t, node.Addr(), change)
			h := newPoolHolder(t, newPoolLoop(t))
			l := h.attach(p, backend.Identity{})
			h.call(l, "PING")
			h.detach(l)
			if s := p.Stats(); s.Closes[name] != 1 || s.Idle != 0 || p.total.Load() != 0 {
				t.Fatalf("stats are %+v", s)
			}
		})
	}
}

func TestDisabledPoolGivesEveryHolderAConnectionOfItsOwn(t *testing.T) {
	node := redistest.Start(t)
	p, _ := newTestPool(t, node.Addr(), func(v *Values) { v.Enabled = false })
	h := newPoolHolder(t, newPoolLoop(t))
	seen := make(map[string]bool)
	for range 5 {
		l := h.attach(p, backend.Identity{})
		seen[h.call(l, "CLIENT", "ID")] = true
		h.detach(l)
	}
	if len(seen) != 5 {
		t.Fatalf("5 holders had %d connections", len(seen))
	}
}

func TestHangUpsOfIdleConnectionsLeaveNoGarbageBehind(t *testing.T) {
	const alive, rounds = 100, 6
	node := redistest.Start(t)
	p, _ := newTestPool(t, node.Addr(), func(v *Values) { v.MinIdle = alive; v.DialRate = 1e6 })
	for round := range rounds {
		eventually(t, "all are idle", func() bool { return p.Stats().Idle == alive })
		node.Do(t, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		eventually(t, "all have hung up", func() bool { return p.Stats().Closes["hung up"] == uint64(alive*(round+1)) })
	}
	eventually(t, "all are idle", func() bool { return p.Stats().Idle == alive })
	n := 0
	for node := p.stack.head.Load(); node != nil; node = node.next.Load() {
		n++
	}
	if n > 3*alive {
		t.Fatalf("%d connections lie in the stack, %d are alive", n, alive)
	}
	if n := p.evictor.wheel.len; n != alive {
		t.Fatalf("%d connections lie in the wheel, %d are alive", n, alive)
	}
}

func TestHangUpAtTheMomentOfDetachLeavesNoIdleConnection(t *testing.T) {
	node := newScripted(t, func(c *scriptedConn) {
		c.read()
		c.say("+PONG\r\n")
	})
	p, _ := newTestPool(t, node.addr, nil)
	h := newPoolHolder(t, newPoolLoop(t))
	h.onReply = func(l *Lease, _ []byte) { l.Detach() }
	for range 1000 {
		l := h.attach(p, backend.Identity{})
		h.send(l, "PING")
		select {
		case <-h.replies:
		case <-h.lost:
		}
		eventually(t, "the connection is gone", func() bool { return p.total.Load() == 0 })
	}
}

func TestClosedPoolLeavesNoDescriptorAndNoGoroutine(t *testing.T) {
	node := redistest.Start(t)
	warmUp, _ := newTestPool(t, node.Addr(), nil) // netpoll's own descriptors and goroutines stay
	loop := newPoolLoop(t)
	h := newPoolHolder(t, loop)
	h.loop.do(h.attach(warmUp, backend.Identity{}).Detach)
	warmUp.Close()
	eventually(t, "quiet", func() bool { return nodeClients(t, node) == 0 })
	files, goroutines := openFiles(t), runtime.NumGoroutine()

	p, _ := newTestPool(t, node.Addr(), func(v *Values) { v.MinIdle = 5; v.MaxTotal = 20 })
	leases := attachMany(h, p, 20)
	_, waiter := h.ask(p, backend.Identity{})
	if waiter == nil {
		t.Fatal("Get hit above the cap")
	}
	for _, l := range leases[:10] {
		h.loop.do(func() { l.Close("test") })
	}
	receive(t, h.attached, "an answer to the waiter").lease.Held()
	p.Close()
	if _, err := h.tryAttach(p, backend.Identity{}); !errors.Is(err, ErrClosed) {
		t.Fatalf("Get on a closed pool says %v", err)
	}
	for _, l := range leases[10:] {
		h.detach(l)
	}
	// The lease that answered the waiter is held. Earlier tests may still be closing theirs, so compare with <=.
	eventually(t, "the node has one connection left", func() bool { return nodeClients(t, node) == 1 })
	eventually(t, "no descriptor is left but one", func() bool { return openFiles(t) <= files+1 })
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= goroutines })
}

func TestReconnectClosesIdleConnectionsNowAndLeasesWhenTheyAreDetached(t *testing.T) {
	node := redistest.Start(t)
	p, _ := newTestPool(t, node.Addr(), nil)
	h := newPoolHolder(t, newPoolLoop(t))
	held, idle := h.attach(p, backend.Identity{}), h.attach(p, backend.Identity{})
	before := h.call(held, "CLIENT", "ID")
	h.detach(idle)
	p.Reconnect()
	if s := p.Stats(); s.Idle != 0 || s.Leased != 1 || s.Closes["reconnect"] != 1 {
		t.Fatalf("stats are %+v", s)
	}
	if got := h.call(held, "CLIENT", "ID"); got != before || !held.Outdated() {
		t.Errorf("the lease has connection %q, and had %q", got, before)
	}
	h.detach(held)
	if s := p.Stats(); s.Idle != 0 || s.Leased != 0 || s.Closes["reconnect"] != 2 {
		t.Fatalf("stats are %+v", s)
	}
	h.detach(h.attach(p, backend.Identity{}))
	if s := p.Stats(); s.Idle != 1 {
		t.Fatalf("stats are %+v", s)
	}
}

// Its dial may have begun before the node's name led elsewhere.
func TestReconnectReplacesWhatIsBeingDialled(t *testing.T) {
	asked, answer := make(chan struct{}, 2), make(chan struct{})
	addr := redistest.Listen(t, func(c net.Conn) {
		_, _ = io.ReadFull(c, make([]byte, len(clientID)))
		asked <- struct{}{}
		<-answer
		_, _ = io.WriteString(c, ":1\r\n")
		_, _ = io.Copy(io.Discard, c)
	})
	p, _ := newTestPool(t, addr, nil)
	h := newPoolHolder(t, newPoolLoop(t))
	if l, _ := h.ask(p, backend.Identity{}); l != nil {
		t.Fatal("there is a connection already")
	}
	receive(t, asked, "the handshake of the first dial")
	p.Reconnect()
	close(answer)
	a := receive(t, h.attached, "a lease")
	if a.err != nil || a.lease.Outdated() {
		t.Fatalf("the lease is outdated (%v)", a.err)
	}
	h.detach(a.lease)
	if s := p.Stats(); s.Dials != 2 || s.Closes["reconnect"] != 1 {
		t.Errorf("stats are %+v", s)
	}
}
