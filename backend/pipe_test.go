package backend

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/panjf2000/gnet/v2"
)

// testLoop is one gnet loop, and the Loop that pipes and feeds want.
type testLoop struct {
	gnet.BuiltinEventEngine
	client *gnet.Client
	el     gnet.EventLoop
	flush  []func()      // run once after each turn in which somebody asked for it
	set    *PipeSettings // of the connections
	ahead  time.Duration // of the clock
	woken  bool
}

// socket is what a pipe and a feed are to their loop.
type socket interface {
	Opened(c gnet.Conn)
	Traffic(c gnet.Conn)
	Closed(c gnet.Conn, err error)
}

func (l *testLoop) Enter()              {}
func (l *testLoop) After()              {}
func (l *testLoop) Now() int64          { return time.Now().Add(l.ahead).UnixNano() }
func (l *testLoop) Net() gnet.EventLoop { return l.el }
func (l *testLoop) Wake() {
	if !l.woken {
		l.woken = true
		l.Post(func() {
			l.woken = false
			for _, flush := range l.flush {
				flush()
			}
		})
	}
}
func (l *testLoop) Post(f func()) {
	_ = l.el.Execute(context.Background(), gnet.RunnableFunc(func(context.Context) error { f(); return nil }))
}
func (l *testLoop) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	switch x := c.Context().(type) {
	case socket:
		x.Opened(c)
	case func(gnet.Conn):
		x(c)
	}
	return nil, gnet.None
}
func (l *testLoop) OnTraffic(c gnet.Conn) gnet.Action {
	if x, ok := c.Context().(socket); ok {
		x.Traffic(c)
	}
	return gnet.None
}
func (l *testLoop) OnClose(c gnet.Conn, err error) gnet.Action {
	if x, ok := c.Context().(socket); ok {
		x.Closed(c, err)
	}
	return gnet.None
}

// do runs f on the loop and waits for it.
func (l *testLoop) do(f func()) {
	done := make(chan struct{})
	l.Post(func() { f(); close(done) })
	<-done
}

// startTestLoop starts a loop, which ends with the test.
func startTestLoop(t testing.TB) *testLoop {
	t.Helper()
	l := &testLoop{set: &PipeSettings{}}
	l.set.SetDialTimeout(2 * time.Second)
	var err error
	if l.client, err = gnet.NewClient(l, gnet.WithNumEventLoop(1)); err != nil {
		t.Fatal(err)
	}
	if err := l.client.Start(); err != nil {
		t.Fatal(err)
	}
	// A first socket tells which loop there is.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.client.EnrollContext(conn, func(c gnet.Conn) { l.el = c.EventLoop() }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.client.Stop() })
	return l
}

// testNode is a node that does what a test says, connection by connection.
type testNode struct {
	ln    net.Listener
	conns chan *testNodeConn
}

type testNodeConn struct {
	net.Conn
	r *bufio.Reader
}

func startTestNode(t testing.TB) *testNode {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &testNode{ln: ln, conns: make(chan *testNodeConn, 16)}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			n.conns <- &testNodeConn{c, bufio.NewReader(c)}
		}
	}()
	t.Cleanup(func() { ln.Close() })
	return n
}

func (n *testNode) addr() string { return n.ln.Addr().String() }

// expect reads exactly these bytes.
func (c *testNodeConn) expect(t testing.TB, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c.r, got); err != nil || string(got) != want {
		t.Fatalf("the node got %q (%v), want %q", got, err, want)
	}
}

// testReceiver notes what it is told, one line each.
type testReceiver struct {
	mu   sync.Mutex
	said []string
	more chan struct{}
}

func newTestReceiver() *testReceiver { return &testReceiver{more: make(chan struct{}, 1024)} }

func (r *testReceiver) note(s string) {
	r.mu.Lock()
	r.said = append(r.said, s)
	r.mu.Unlock()
	r.more <- struct{}{}
}
func (r *testReceiver) Reply(reply, sent []byte, more int) {
	r.note(fmt.Sprintf("%s for %s, %d more", strings.TrimSpace(string(reply)), strings.TrimSpace(string(sent)), more))
}
func (r *testReceiver) Lost(err *LostError, sent []byte) {
	why := "lost"
	switch {
	case err.Refusal != "":
		why = "refused " + err.Refusal
	case errors.Is(err, errTimeout):
		why = "timeout"
	}
	r.note(fmt.Sprintf("%s sent=%v for %s", why, err.Sent, strings.TrimSpace(string(sent))))
}

// wait waits until n lines have been said and returns them.
func (r *testReceiver) wait(t testing.TB, n int) []string {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		r.mu.Lock()
		said := append([]string(nil), r.said...)
		r.mu.Unlock()
		if len(said) >= n {
			return said
		}
		select {
		case <-r.more:
		case <-deadline:
			t.Fatalf("only this was said: %q", said)
		}
	}
}

func wantLines(t testing.TB, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Fatalf("said\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// pipeLoop is a loop with pipes.
type pipeLoop struct {
	*testLoop
	pipes *Pipes
}

func startPipeLoop(t testing.TB) *pipeLoop {
	t.Helper()
	l := startTestLoop(t)
	pipes := NewPipes(l, l.set)
	l.flush = append(l.flush, pipes.Flush)
	t.Cleanup(func() { l.do(pipes.Close) })
	return &pipeLoop{l, pipes}
}

func (l *pipeLoop) send(t testing.TB, addr string, id Identity, r Receiver, replies int, requests ...string) (refused []*LostError) {
	t.Helper()
	l.do(func() {
		set := l.pipes.Attach(id)
		defer set.Detach()
		for _, request := range requests {
			if err := set.Node(addr).Send([]byte(request), replies, r); err != nil {
				refused = append(refused, err)
			}
		}
	})
	return refused
}

var plainIdentity = Identity{RESP: 2}

func TestPipeGivesRepliesToTheirRequestsInOrder(t *testing.T) {
	l, n, r := startPipeLoop(t), startTestNode(t), newTestReceiver()
	l.send(t, n.addr(), plainIdentity, r, 1, "A\r\n", "B\r\n")
	c := <-n.conns
	c.expect(t, "A\r\nB\r\n")
	for _, b := range []byte("+one\r\n$3\r\ntw") { // byte by byte: a reply may be cut anywhere
		_, _ = c.Write([]byte{b})
	}
	_, _ = c.Write([]byte("o\r\n"))
	wantLines(t, r.wait(t, 2), "+one for A, 0 more", "$3\r\ntwo for B, 0 more")
	l.send(t, n.addr(), plainIdentity, r, 3, "BLOB\r\n")
	c.expect(t, "BLOB\r\n")
	_, _ = c.Write([]byte("+1\r\n+2\r\n+3\r\n"))
	wantLines(t, r.wait(t, 5)[2:], "+1 for BLOB, 2 more", "+2 for BLOB, 1 more", "+3 for BLOB, 0 more")
}

func TestPipeShakesHandsBeforeTheFirstRequest(t *testing.T) {
	l, n, r := startPipeLoop(t), startTestNode(t), newTestReceiver()
	l.send(t, n.addr(), Identity{User: "ann", Password: "pw", DB: 4, RESP: 3}, r, 1, "A\r\n")
	c := <-n.conns
	c.expect(t, "*3\r\n$4\r\nAUTH\r\n$3\r\nann\r\n$2\r\npw\r\n*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n4\r\n")
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if b, err := c.r.ReadByte(); err == nil {
		t.Fatalf("%q was sent before the handshake was answered", b)
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, _ = c.Write([]byte("+OK\r\n%1\r\n$5\r\nproto\r\n:3\r\n+OK\r\n"))
	c.expect(t, "A\r\n")
	_, _ = c.Write([]byte("+a\r\n"))
	wantLines(t, r.wait(t, 1), "+a for A, 0 more")
}

func TestPipePassesOnTheNodesRefusal(t *testing.T) {
	l, n, r := startPipeLoop(t), startTestNode(t), newTestReceiver()
	l.send(t, n.addr(), Identity{DB: 99, RESP: 2}, r, 1, "A\r\n")
	c := <-n.conns
	_, _ = c.Write([]byte("-ERR DB index is out of range\r\n"))
	wantLines(t, r.wait(t, 1), "refused ERR DB index is out of range sent=false for A")
}

func TestPipeSaysWhatMayHaveBeenExecuted(t *testing.T) {
	l, n, r := startPipeLoop(t), startTestNode(t), newTestReceiver()
	l.send(t, n.addr(), plainIdentity, r, 1, "A\r\n")
	c := <-n.conns
	c.expect(t, "A\r\n")
	l.do(func() { // B is queued, not flushed, when the connection goes
		set := l.pipes.Attach(plainIdentity)
		defer set.Detach()
		p := set.Node(n.addr())
		_ = p.Send([]byte("B\r\n"), 1, r)
		p.end(errUnowed)
	})
	wantLines(t, r.wait(t, 2), "lost sent=true for A", "lost sent=false for B")
}

func TestPipeComesBackAtOnceAfterAConnectionThatWorked(t *testing.T) {
	l, n, r := startPipeLoop(t), startTestNode(t), newTestReceiver()
	l.send(t, n.addr(), plainIdentity, r, 1, "A\r\n")
	c := <-n.conns
	c.expect(t, "A\r\n")
	c.Close()
	wantLines(t, r.wait(t, 1), "lost sent=true for A")
	l.send(t, n.addr(), plainIdentity, r, 1, "B\r\n")
	c = <-n.conns
	c.expect(t, "B\r\n")
	_, _ = c.Write([]byte("+b\r\n"))
	wantLines(t, r.wait(t, 2)[1:], "+b for B, 0 more")
}

func TestPipeBacksOffFromANodeThatIsDown(t *testing.T) {
	l, r := startPipeLoop(t), newTestReceiver()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	l.send(t, addr, plainIdentity, r, 1, "A\r\n")
	wantLines(t, r.wait(t, 1), "lost sent=false for A")
	refused := l.send(t, addr, plainIdentity, r, 1, "B\r\n")
	if len(refused) != 1 || refused[0].Sent {
		t.Fatalf("a Send during the back-off said %v", refused)
	}
	l.do(func() { l.ahead = backOffMin })
	if refused := l.send(t, addr, plainIdentity, r, 1, "C\r\n"); refused != nil {
		t.Fatalf("a Send after the back-off said %v", refused[0])
	}
	r.wait(t, 2)
}

func TestPipeEndsAConnectionThatSaysWhatNobodyAsked(t *testing.T) {
	for name, bytes := range map[string]string{
		"reply nobody is owed": "+a\r\n+surplus\r\n",
		"push":                 ">1\r\n+x\r\n",
		"no RESP":              "hello\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			l, n, r := startPipeLoop(t), startTestNode(t), newTestReceiver()
			l.send(t, n.addr(), plainIdentity, r, 1, "A\r\n")
			c := <-n.conns
			c.expect(t, "A\r\n")
			_, _ = c.Write([]byte(bytes))
			if _, err := c.r.ReadByte(); err == nil {
				t.Fatal("the connection lives on")
			}
			r.wait(t, 1)
		})
	}
}

func TestPipeSwallowsTheReplyOfARequestThatWasGivenUp(t *testing.T) {
	l, n, r := startPipeLoop(t), startTestNode(t), newTestReceiver()
	l.set.SetTimeout(time.Minute)
	l.send(t, n.addr(), plainIdentity, r, 1, "A\r\n")
	c := <-n.conns
	c.expect(t, "A\r\n")
	l.do(func() { l.ahead = time.Minute + time.Second })
	l.send(t, n.addr(), plainIdentity, r, 1, "B\r\n")
	l.do(func() { l.pipes.Tick() })
	wantLines(t, r.wait(t, 1), "timeout sent=true for A")
	c.expect(t, "B\r\n")
	_, _ = c.Write([]byte("+late\r\n+b\r\n"))
	wantLines(t, r.wait(t, 2)[1:], "+b for B, 0 more")
}

func TestPipeIsRetiredWhenNobodyUsesIt(t *testing.T) {
	l, n, r := startPipeLoop(t), startTestNode(t), newTestReceiver()
	l.send(t, n.addr(), plainIdentity, r, 1, "A\r\n")
	c := <-n.conns
	c.expect(t, "A\r\n")
	_, _ = c.Write([]byte("+a\r\n"))
	r.wait(t, 1)
	l.do(func() { l.ahead = pipeIdle + time.Second; l.pipes.Tick() })
	if _, err := c.r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Fatalf("reading from a retired pipe: %v", err)
	}
	l.do(func() {
		if len(l.pipes.sets) != 0 {
			t.Errorf("%d identities are left", len(l.pipes.sets))
		}
	})
}

func TestPipeRedirectSendsAskingFirst(t *testing.T) {
	l, n, r := startPipeLoop(t), startTestNode(t), newTestReceiver()
	l.do(func() {
		set := l.pipes.Attach(plainIdentity)
		defer set.Detach()
		_ = set.Node(n.addr()).SendAsking([]byte("A\r\n"), 1, r)
	})
	c := <-n.conns
	c.expect(t, "*1\r\n$6\r\nASKING\r\nA\r\n")
	_, _ = c.Write([]byte("+OK\r\n+a\r\n"))
	wantLines(t, r.wait(t, 1), "+a for A, 0 more")
}
