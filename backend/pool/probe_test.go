package pool

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/redistest"
)

func TestIdleConnectionsProveThatTheyAreAliveAndStay(t *testing.T) {
	node := redistest.Start(t)
	p, _ := newTestPool(t, node.Addr(), func(v *Values) { v.HealthCheck = 50 * time.Millisecond })
	h := newPoolHolder(t, newPoolLoop(t))
	l := h.attach(p, backend.Identity{})
	id := h.call(l, "CLIENT", "ID")
	h.detach(l)
	before := commandsProcessed(t, node)
	eventually(t, "three signs of life", func() bool {
		before++ // this question
		return commandsProcessed(t, node)-before >= 3
	})
	for range 200 { // some of them while a PING is not answered
		l = h.attach(p, backend.Identity{})
		if got := h.call(l, "CLIENT", "ID"); got != id {
			t.Fatalf("the connection is %q, was %q", got, id)
		}
		h.detach(l)
		l.conn.mu.Lock()
		l.conn.probe.proven = 0
		l.conn.mu.Unlock()
		l.conn.idleSince.Store(1)
		l.conn.prove(clock(), time.Millisecond)
	}
	eventually(t, "it is idle and owes nothing", func() bool {
		l.conn.mu.Lock()
		defer l.conn.mu.Unlock()
		return l.conn.probe.sent == 0 && l.conn.in == nil
	})
	if st := p.Stats(); st.Dials != 1 || st.Idle != 1 {
		t.Fatalf("stats are %+v", st)
	}
}

func TestConnectionThatHasGoneWithoutAWordIsReplacedBeforeAnyByteGoesOut(t *testing.T) {
	heard := make(chan string, 16)
	node := newScripted(t, func(c *scriptedConn) {
		if c.n > 0 {
			c.obey()
			return
		}
		for cmd := c.read(); cmd != ""; cmd = c.read() { // and never answers: the way to it is cut
			heard <- cmd
		}
	})
	p, _ := newTestPool(t, node.addr, func(v *Values) { v.HealthCheck = 20 * time.Millisecond })
	h := newPoolHolder(t, newPoolLoop(t))
	h.detach(h.attach(p, backend.Identity{}))
	if got := receive(t, heard, "a question"); got != "PING" {
		t.Fatalf("it was sent %q", got)
	}
	asked := clock()
	eventually(t, "the answer is late", func() bool { return clock()-asked > probeSlow })
	if got := h.call(h.attach(p, backend.Identity{}), "INCR", "k"); got != "+OK\r\n" {
		t.Fatalf("INCR got %q", got)
	}
	eventually(t, "the dead one is closed", func() bool { return p.Stats().Closes["health check"] == 1 })
	if len(heard) != 0 {
		t.Fatalf("the dead one was sent %q", <-heard)
	}
}

func TestSilentIdleConnectionIsClosedThoughNobodyWantsIt(t *testing.T) {
	node := newScripted(t, func(c *scriptedConn) {
		for c.read() != "" {
			continue
		}
	})
	p, _ := newTestPool(t, node.addr, func(v *Values) { v.HealthCheck = 20 * time.Millisecond })
	h := newPoolHolder(t, newPoolLoop(t))
	h.detach(h.attach(p, backend.Identity{}))
	eventually(t, "it is closed", func() bool { return p.Stats().Closes["health check"] == 1 && p.Size() == 0 })
}

func TestConnectionThatHasHungUpIsKnownByItsSocket(t *testing.T) {
	p, _ := newTestPool(t, "127.0.0.1:1", nil)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	c := &conn{pool: p}
	c.wire.fd = fds[0]
	c.idleSince.Store(int64(clock() - peekAfter - 1))
	if why := c.unsound(p.settings.Load()); why != "" {
		t.Fatalf("one that is alive: %q", why)
	}
	if err := unix.Close(fds[1]); err != nil {
		t.Fatal(err)
	}
	if why := c.unsound(p.settings.Load()); why != "hung up" {
		t.Fatalf("one that has hung up: %q", why)
	}
	if why := c.unsound(&Values{}); why != "" {
		t.Fatalf("without health checks: %q", why)
	}
}

func TestWhatAnIdleConnectionSaysIsASignOfLifeOnlyIfItWasAsked(t *testing.T) {
	for _, c := range []struct {
		asked bool
		says  []string
		lives bool
	}{
		{true, []string{"+PONG\r\n"}, true},
		{true, []string{"+PO", "NG\r", "\n"}, true},
		{true, []string{"-NOPERM this user has no permissions to run the 'ping' command\r\n"}, true},
		{true, []string{"+PONG\r\n+PONG\r\n"}, false},
		{true, []string{"$1\r\nx\r\n"}, false},
		{false, []string{"+PONG\r\n"}, false},
	} {
		p, _ := newTestPool(t, "127.0.0.1:1", nil)
		conn := &conn{pool: p}
		p.limit.seat(conn)
		p.total.Add(1)
		conn.wire.ended = true // there is no socket
		if c.asked {
			conn.probe.sent = 1
		}
		for _, b := range c.says {
			conn.received([]byte(b))
		}
		if lives := conn.lost == nil; lives != c.lives || lives && (conn.probe.sent != 0 || conn.in != nil) {
			t.Errorf("asked %v, after %q: lost is %v", c.asked, c.says, conn.lost)
		}
	}
}
