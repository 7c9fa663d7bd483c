package pool

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/codec"
)

func TestBytesOnAnIdleConnectionEndIt(t *testing.T) {
	speak := make(chan string)
	node := newScripted(t, func(c *scriptedConn) {
		c.say(<-speak)
		c.obey()
	})
	p, _ := newTestPool(t, node.addr, nil)
	h := newPoolHolder(t, newPoolLoop(t))
	for i, said := range []string{"+OK\r\n", ">2\r\n+invalidate\r\n_\r\n", "x"} {
		h.detach(h.attach(p, backend.Identity{}))
		speak <- said
		eventually(t, "the connection is gone", func() bool { return p.Stats().Idle == 0 && p.total.Load() == 0 })
		if n := p.Stats().Closes["unexpected bytes"]; n != uint64(i+1) {
			t.Fatalf("after %q: %+v", said, p.Stats())
		}
	}
}

func TestReplyNobodyIsOwedEndsTheLease(t *testing.T) {
	node := newScripted(t, func(c *scriptedConn) {
		c.read()
		c.say("+one\r\n+two\r\n")
		c.read()
	})
	p, _ := newTestPool(t, node.addr, nil)
	h := newPoolHolder(t, newPoolLoop(t))
	l := h.attach(p, backend.Identity{})
	if got := h.call(l, "PING"); got != "+one\r\n" {
		t.Fatalf("PING got %q", got)
	}
	if err := receive(t, h.lost, "LeaseLost"); !errors.Is(err, backend.ErrUnowed) {
		t.Fatalf("LeaseLost says %v", err)
	}
}

func TestReplyBehindTheLastOneKeepsTheConnectionOutOfThePool(t *testing.T) {
	node := newScripted(t, func(c *scriptedConn) {
		c.read()
		c.say("+one\r\n+two\r\n")
		c.read()
	})
	p, _ := newTestPool(t, node.addr, nil)
	h := newPoolHolder(t, newPoolLoop(t))
	h.onReply = func(l *Lease, _ []byte) { l.Detach() }
	h.call(h.attach(p, backend.Identity{}), "PING")
	eventually(t, "the connection is gone", func() bool { return p.total.Load() == 0 && p.Stats().Idle == 0 })
}

func TestWholeRepliesAreDeliveredBeforeTheLossAndHalfOnesAreNot(t *testing.T) {
	node := newScripted(t, func(c *scriptedConn) {
		for range 3 {
			c.read()
		}
		c.say("+one\r\n$3\r\ntwo\r\n$5\r\nth")
	})
	p, _ := newTestPool(t, node.addr, nil)
	h := newPoolHolder(t, newPoolLoop(t))
	l := h.attach(p, backend.Identity{})
	h.loop.do(func() {
		for range 3 {
			l.Send(codec.AppendCommandString(nil, "PING"), 1)
		}
		l.Flush()
	})
	err := receive(t, h.lost, "LeaseLost")
	if len(h.replies) != 2 || <-h.replies != "+one\r\n" || <-h.replies != "$3\r\ntwo\r\n" {
		t.Fatalf("%d replies were delivered", len(h.replies))
	}
	var lost *backend.LostError
	if !errors.As(err, &lost) || !lost.Sent || lost.Addr != node.addr || !errors.Is(err, backend.ErrHungUp) {
		t.Fatalf("LeaseLost says %#v", err)
	}
	if s := p.Stats(); s.Leased != 0 || p.total.Load() != 0 {
		t.Fatalf("stats are %+v", s)
	}
	h.loop.do(func() { l.Detach(); l.Close("again") }) // both do nothing
	if p.total.Load() != 0 || len(h.lost) != 0 {
		t.Fatal("the lease ended twice")
	}
}

func TestLossOfALeaseThatIsOwedNothingSentNothing(t *testing.T) {
	node := newScripted(t, func(c *scriptedConn) {})
	p, _ := newTestPool(t, node.addr, nil)
	h := newPoolHolder(t, newPoolLoop(t))
	l, err := h.tryAttach(p, backend.Identity{})
	if err != nil {
		t.Fatal(err)
	}
	err = receive(t, h.lost, "LeaseLost")
	var lost *backend.LostError
	if !errors.As(err, &lost) || lost.Sent {
		t.Fatalf("LeaseLost says %#v", err)
	}
	_ = l
}

func TestHangUpAtAnyStepOfTheHandshakeAnswersTheWaiter(t *testing.T) {
	const steps = 4 // accepted; and behind each of three commands
	node := newScripted(t, func(c *scriptedConn) {
		for i := range c.n % steps {
			c.read()
			if i < c.n%steps-1 {
				c.say("+OK\r\n")
			}
		}
	})
	p := userPool(node.addr, "alice", "secret", NewSettings(DefaultValues()))
	defer p.Close()
	h := newPoolHolder(t, newPoolLoop(t))
	for range 3 * steps {
		_, err := h.tryAttach(p, backend.Identity{DB: 1, RESP: 3})
		if err == nil || !strings.HasPrefix(err.Error(), "dial "+node.addr+": ") {
			t.Fatalf("Get says %v", err)
		}
	}
	if n := p.total.Load(); n != 0 {
		t.Fatalf("%d connections are counted, none is there", n)
	}
}

func TestLeaseKnowsTheNumberThatItsNodeGaveIt(t *testing.T) {
	node := redistest.Start(t)
	node.Do(t, "ACL", "SETUSER", "mute", "on", ">pw", "~*", "+@all", "-client|id")
	h := newPoolHolder(t, newPoolLoop(t))
	for _, want := range []backend.Identity{{}, {RESP: 3}, {DB: 2, RESP: 3}} {
		p, _ := newTestPool(t, node.Addr(), nil)
		l := h.attach(p, want)
		if got, said := l.NodeID(), h.call(l, "CLIENT", "ID"); fmt.Sprintf(":%d\r\n", got) != said {
			t.Errorf("%+v: %d, the node says %q", want, got, said)
		}
		h.detach(l)
	}
	p := userPool(node.Addr(), "mute", "pw", NewSettings(DefaultValues()))
	defer p.Close()
	l := h.attach(p, backend.Identity{User: "mute"})
	if got, said := l.NodeID(), h.call(l, "PING"); got != 0 || said != "+PONG\r\n" {
		t.Errorf("a node that keeps it to itself: %d, then %q", got, said)
	}
	h.detach(l)
}

func TestLostErrorTellsWhetherAReplyHadBegun(t *testing.T) {
	for _, said := range []string{"", "*2\r\n$1\r\nq\r\n$1"} {
		node := newScripted(t, func(c *scriptedConn) {
			c.read()
			c.say(said)
		})
		p, _ := newTestPool(t, node.addr, nil)
		h := newPoolHolder(t, newPoolLoop(t))
		h.send(h.attach(p, backend.Identity{}), "BLPOP", "q", "0")
		lost, ok := errors.AsType[*backend.LostError](receive(t, h.lost, "the end"))
		if !ok || lost.Begun != (said != "") || !lost.Sent {
			t.Errorf("after %q: %+v", said, lost)
		}
	}
}

func TestHandshakeThatNeverEndsIsCutByTheDialTimeout(t *testing.T) {
	node := newScripted(t, func(c *scriptedConn) {
		c.read()
		c.say("+O")
		c.read()
		c.read()
	})
	p, _ := newTestPool(t, node.addr, func(v *Values) { v.DialTimeout = 50 * time.Millisecond })
	h := newPoolHolder(t, newPoolLoop(t))
	if _, err := h.tryAttach(p, backend.Identity{DB: 1}); err == nil || !strings.HasSuffix(err.Error(), ": i/o timeout") {
		t.Fatalf("Get says %v", err)
	}
}

func TestCommandWaitsUntilTheDatabaseIsSureAndIsNeverSentAfterARefusal(t *testing.T) {
	answer, heard := make(chan string), make(chan string, 8)
	node := newScripted(t, func(c *scriptedConn) {
		heard <- c.read()
		c.say(<-answer)
		heard <- c.read()
		c.say("+PONG\r\n")
		heard <- c.read()
	})
	p, _ := newTestPool(t, node.addr, nil)
	h := newPoolHolder(t, newPoolLoop(t))
	p.stackOne(t, h)
	l := h.attach(p, backend.Identity{DB: 1})
	h.send(l, "PING")
	if got := receive(t, heard, "a command"); got != "SELECT 1" {
		t.Fatalf("the node heard %q first", got)
	}
	answer <- "+OK\r\n"
	if got := receive(t, heard, "a command"); got != "PING" {
		t.Fatalf("the node heard %q next", got)
	}
	if got := receive(t, h.replies, "the reply"); got != "+PONG\r\n" {
		t.Fatalf("the holder got %q", got)
	}
	h.loop.do(func() { l.Close("test") })
	if got := receive(t, heard, "the end"); got != "" {
		t.Fatalf("the node heard %q last", got)
	}

	p.stackOne(t, h)
	l = h.attach(p, backend.Identity{DB: 1})
	h.send(l, "FLUSHDB")
	receive(t, heard, "SELECT")
	answer <- "-NOPERM this user has no permissions to run the 'select' command\r\n"
	err := receive(t, h.lost, "LeaseLost")
	var lost *backend.LostError
	if !errors.As(err, &lost) || lost.Sent || !strings.HasPrefix(lost.Refusal, "NOPERM ") {
		t.Fatalf("LeaseLost says %#v", err)
	}
	if got := receive(t, heard, "the end"); got != "" {
		t.Fatalf("the node heard %q after it refused the database", got)
	}
}

// stackOne leaves one connection in database 0 idle.
func (p *Pool) stackOne(t *testing.T, h *poolHolder) {
	t.Helper()
	h.detach(h.attach(p, backend.Identity{}))
	if n := p.Stats().Idle; n != 1 {
		t.Fatalf("%d idle, want 1", n)
	}
}

func TestConnectionThatBecomesIdleIsToldToUnwatch(t *testing.T) {
	heard := make(chan string, 8)
	var refuses atomic.Bool
	node := newScripted(t, func(c *scriptedConn) {
		for {
			command := c.read()
			if command == "" {
				return
			}
			heard <- command
			if command == "UNWATCH" && refuses.Load() {
				c.say("-NOPERM no\r\n")
			} else {
				c.say("+OK\r\n")
			}
		}
	})
	p, _ := newTestPool(t, node.addr, nil)
	h := newPoolHolder(t, newPoolLoop(t))
	watch := func() {
		l := h.attach(p, backend.Identity{})
		h.loop.do(func() { l.Mark(DirtWatch) })
		h.call(l, "WATCH", "k")
		receive(t, heard, "WATCH")
		h.detach(l)
	}
	watch()
	if got := receive(t, heard, "UNWATCH"); got != "UNWATCH" {
		t.Fatal(got)
	}
	l := h.attach(p, backend.Identity{})
	if got := h.call(l, "GET", "k"); got != "+OK\r\n" || receive(t, heard, "GET") != "GET k" {
		t.Fatalf("GET got %q", got)
	}
	h.detach(l)
	if n := p.Stats().Dials; n != 1 {
		t.Fatalf("%d dials", n)
	}

	refuses.Store(true)
	watch()
	receive(t, heard, "UNWATCH")
	redistest.Eventually(t, patience, "the connection to be closed", func() bool { return p.Stats().Idle == 0 })
	watch()
	if n := p.Stats().Idle; n != 0 || len(heard) != 0 {
		t.Errorf("%d idle, %d more commands, of a user who may not UNWATCH", n, len(heard))
	}
}

func TestPushGoesToTheHolderAndCountsForNoCommand(t *testing.T) {
	node := newScripted(t, func(c *scriptedConn) {
		c.read()
		c.say(">2\r\n+a\r\n+b\r\n+PONG\r\n>1\r\n+c\r\n")
		c.read()
	})
	p, _ := newTestPool(t, node.addr, nil)
	h := newPoolHolder(t, newPoolLoop(t))
	l := h.attach(p, backend.Identity{})
	h.send(l, "PING")
	for _, want := range []string{">2\r\n+a\r\n+b\r\n", "+PONG\r\n", ">1\r\n+c\r\n"} {
		if got := receive(t, h.replies, "a reply"); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	h.loop.do(func() {
		if l.Owed() != 0 {
			t.Errorf("%d replies owed", l.Owed())
		}
	})
}

func TestStreamOfRepliesNobodyAskedForGoesToTheHolderThatSubscribed(t *testing.T) {
	node := redistest.Start(t)
	p, _ := newTestPool(t, node.Addr(), nil)
	h := newPoolHolder(t, newPoolLoop(t))
	l := h.attach(p, backend.Identity{})
	h.loop.do(func() { l.Mark(DirtStream) })
	h.call(l, "SUBSCRIBE", "news")
	node.Do(t, "PUBLISH", "news", "hello")
	if got := receive(t, h.replies, "the message"); got != "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhello\r\n" {
		t.Fatalf("the message is %q", got)
	}
	h.detach(l)
	if s := p.Stats(); s.Closes["dirty: stream"] != 1 {
		t.Fatalf("stats are %+v", s)
	}
}

func TestBlockedLeaseThatClosesTakesNoElementOfALaterPush(t *testing.T) {
	node := redistest.Start(t)
	p, _ := newTestPool(t, node.Addr(), nil)
	h := newPoolHolder(t, newPoolLoop(t))
	for i := range 50 {
		l := h.attach(p, backend.Identity{})
		list := fmt.Sprint("list", i)
		h.send(l, "BLPOP", list, "0")
		eventually(t, "it blocks", func() bool {
			return strings.Contains(node.Do(t, "INFO", "clients").(string), "blocked_clients:1")
		})
		h.loop.do(func() { l.Close("client left") })
		node.Do(t, "RPUSH", list, "x")
		if n := node.Do(t, "LLEN", list); n != int64(1) {
			t.Fatalf("the list has %v elements after the push", n)
		}
	}
}

func TestDetachWithAReplyOwedClosesTheConnection(t *testing.T) {
	node := redistest.Start(t)
	p, _ := newTestPool(t, node.Addr(), nil)
	h := newPoolHolder(t, newPoolLoop(t))
	l := h.attach(p, backend.Identity{})
	h.loop.do(func() {
		l.Send(codec.AppendCommandString(nil, "PING"), 1)
		l.Flush()
		l.Detach()
	})
	if s := p.Stats(); s.Closes["reply owed"] != 1 || s.Idle != 0 {
		t.Fatalf("stats are %+v", s)
	}
}

func TestDetachInsideADeliveryLeavesTheReplyReadable(t *testing.T) {
	node := redistest.Start(t)
	p, _ := newTestPool(t, node.Addr(), nil)
	h, thief := newPoolHolder(t, newPoolLoop(t)), newPoolHolder(t, newPoolLoop(t))
	h.onReply = func(l *Lease, reply []byte) {
		l.Detach()
		// Another loop has the connection now, and fills its buffer while this one still reads its own.
		other := thief.attach(p, backend.Identity{})
		thief.call(other, "ECHO", strings.Repeat("y", 100))
		thief.detach(other)
	}
	for range 100 {
		want := strings.Repeat("x", 100)
		if got := h.call(h.attach(p, backend.Identity{}), "ECHO", want); got != "$100\r\n"+want+"\r\n" {
			t.Fatalf("ECHO got %q", got)
		}
	}
}

func TestLargeValuesTravelWholeInBothDirections(t *testing.T) {
	node := redistest.Start(t)
	p, _ := newTestPool(t, node.Addr(), nil)
	h := newPoolHolder(t, newPoolLoop(t))
	l := h.attach(p, backend.Identity{})
	for _, size := range []int{1, bufferSize, maxBufferKept + 1, 5 << 20, 12 << 20} {
		value := strings.Repeat("0123456789abcdef", size/16+1)[:size]
		if got := h.call(l, "SET", "k", value); got != "+OK\r\n" {
			t.Fatalf("SET of %d bytes got %q", size, got)
		}
		if got := h.call(l, "GET", "k"); got != fmt.Sprintf("$%d\r\n%s\r\n", size, value) {
			t.Fatalf("GET of %d bytes got %d", size, len(got))
		}
	}
	h.detach(l)
	if p.Stats().Idle != 1 {
		t.Fatal("the connection was not kept")
	}
}

func TestFlushDoesNotBlockWhileTheNodeDoesNotReadAndKeepsTheOrder(t *testing.T) {
	read := make(chan struct{})
	node := newScripted(t, func(c *scriptedConn) {
		<-read
		for cmd := c.read(); cmd != ""; cmd = c.read() {
			c.say("+" + cmd[:8] + "\r\n")
		}
	})
	p, _ := newTestPool(t, node.addr, nil)
	h := newPoolHolder(t, newPoolLoop(t))
	l := h.attach(p, backend.Identity{})
	const n, size = 64, 1 << 20
	for i := range n {
		h.loop.do(func() { // returns although nobody reads
			l.Send(codec.AppendCommandString(nil, fmt.Sprintf("CMD%05d", i), strings.Repeat("x", size)), 1)
			l.Flush()
		})
	}
	if len(h.replies) != 0 {
		t.Fatal("the node has read already")
	}
	close(read)
	for i := range n {
		if got, want := receive(t, h.replies, "a reply"), fmt.Sprintf("+CMD%05d\r\n", i); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}

func TestCloseWhileTheNodeDoesNotReadEndsTheWriter(t *testing.T) {
	gone := make(chan struct{})
	node := newScripted(t, func(c *scriptedConn) { <-gone })
	defer close(gone)
	p, _ := newTestPool(t, node.addr, nil)
	h := newPoolHolder(t, newPoolLoop(t))
	l := h.attach(p, backend.Identity{})
	files := openFiles(t)
	h.loop.do(func() {
		l.Send(codec.AppendCommandString(nil, "SET", "k", strings.Repeat("x", 32<<20)), 1)
		l.Flush()
		l.Close("test")
	})
	eventually(t, "its descriptor is closed", func() bool { return openFiles(t) < files })
	eventually(t, "its writer has gone", func() bool {
		l.conn.wire.mu.Lock()
		defer l.conn.wire.mu.Unlock()
		return l.conn.wire.gone && l.conn.wire.backlog == nil
	})
}

func TestReplyInManyPiecesArrivesWhole(t *testing.T) {
	reply := "*3\r\n$5\r\nhello\r\n*2\r\n:1\r\n+two\r\n%1\r\n+k\r\n,3.5\r\n"
	node := newScripted(t, func(c *scriptedConn) {
		_ = c.Conn.(*net.TCPConn).SetNoDelay(true)
		for c.read() != "" {
			for i := range reply {
				c.say(reply[i : i+1])
			}
		}
	})
	p, _ := newTestPool(t, node.addr, nil)
	h := newPoolHolder(t, newPoolLoop(t))
	l := h.attach(p, backend.Identity{})
	for range 50 {
		if got := h.call(l, "X"); got != reply {
			t.Fatalf("got %q", got)
		}
	}
}

func TestBytesThatComeWhileTheLoopLooksAreNeitherMissedNorCountedTwice(t *testing.T) {
	p, _ := newTestPool(t, "127.0.0.1:1", nil)
	wakes := 0
	in := NewInbox(func() { wakes++ })
	h := &poolHolder{replies: make(chan string, 8)}
	c := &conn{pool: p}
	l := newLease(c, h, in, backend.Identity{}, ReasonTxn)
	l.owed = 3
	c.attach(l, false)

	during := map[string]string{
		"+one\r\n":              "abcd\r\n$10\r\n01",
		"$4\r\nabcd\r\n":        "2345",
		"$10\r\n0123456789\r\n": "",
	}
	h.onReply = func(_ *Lease, reply []byte) { c.received([]byte(during[string(reply)])) }
	c.received([]byte("+one\r\n$4\r\n"))
	for range 3 {
		in.Drain()
	}
	if l.owed != 1 {
		t.Fatalf("%d replies are owed, want the last", l.owed)
	}
	wakes = 0
	c.received([]byte("678"))
	if wakes != 0 {
		t.Fatal("the loop was woken for a part of a reply")
	}
	c.received([]byte("9\r\n"))
	if wakes != 1 {
		t.Fatal("the loop was not woken for a whole reply")
	}
	in.Drain()
	if l.owed != 0 {
		t.Fatal("the reply was not delivered")
	}
}
