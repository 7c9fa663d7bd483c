package pipe

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/looptest"
)

// pipeLoop is a loop with pipes.
type pipeLoop struct {
	*looptest.Loop
	pipes *Pipes
}

func startPipeLoop(t testing.TB) *pipeLoop {
	t.Helper()
	l := looptest.Start(t)
	pipes := New(l, l.Set)
	l.Flush = append(l.Flush, pipes.Flush)
	t.Cleanup(func() { l.Do(pipes.Close) })
	return &pipeLoop{l, pipes}
}

func (l *pipeLoop) send(t testing.TB, addr string, id backend.Identity, r backend.Receiver, replies int, requests ...string) (refused []*backend.LostError) {
	t.Helper()
	l.Do(func() {
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

var plainIdentity = backend.Identity{RESP: 2}

func TestPipeGivesRepliesToTheirRequestsInOrder(t *testing.T) {
	l, n, r := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver()
	l.send(t, n.Addr(), plainIdentity, r, 1, "A\r\n", "B\r\n")
	c := <-n.Conns
	c.Expect(t, "A\r\nB\r\n")
	for _, b := range []byte("+one\r\n$3\r\ntw") { // byte by byte: a reply may be cut anywhere
		_, _ = c.Write([]byte{b})
	}
	_, _ = c.Write([]byte("o\r\n"))
	looptest.WantLines(t, r.Wait(t, 2), "+one for A, 0 more", "$3\r\ntwo for B, 0 more")
	l.send(t, n.Addr(), plainIdentity, r, 3, "BLOB\r\n")
	c.Expect(t, "BLOB\r\n")
	_, _ = c.Write([]byte("+1\r\n+2\r\n+3\r\n"))
	looptest.WantLines(t, r.Wait(t, 5)[2:], "+1 for BLOB, 2 more", "+2 for BLOB, 1 more", "+3 for BLOB, 0 more")
}

func TestPipeShakesHandsBeforeTheFirstRequest(t *testing.T) {
	l, n, r := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver()
	l.Set.Logins.Accepted("ann", "pw", false, nil)
	l.send(t, n.Addr(), backend.Identity{User: "ann", DB: 4, RESP: 3}, r, 1, "A\r\n")
	c := <-n.Conns
	c.Expect(t, "*3\r\n$4\r\nAUTH\r\n$3\r\nann\r\n$2\r\npw\r\n*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n4\r\n")
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if b, err := c.R.ReadByte(); err == nil {
		t.Fatalf("%q was sent before the handshake was answered", b)
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, _ = c.Write([]byte("+OK\r\n%1\r\n$5\r\nproto\r\n:3\r\n+OK\r\n"))
	c.Expect(t, "A\r\n")
	_, _ = c.Write([]byte("+a\r\n"))
	looptest.WantLines(t, r.Wait(t, 1), "+a for A, 0 more")
}

func TestPipePassesOnTheNodesRefusal(t *testing.T) {
	l, n, r := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver()
	l.send(t, n.Addr(), backend.Identity{DB: 99, RESP: 2}, r, 1, "A\r\n")
	c := <-n.Conns
	_, _ = c.Write([]byte("-ERR DB index is out of range\r\n"))
	looptest.WantLines(t, r.Wait(t, 1), "refused ERR DB index is out of range sent=false for A")
}

func TestPipeSaysWhatMayHaveBeenExecuted(t *testing.T) {
	l, n, r := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver()
	l.send(t, n.Addr(), plainIdentity, r, 1, "A\r\n")
	c := <-n.Conns
	c.Expect(t, "A\r\n")
	l.Do(func() { // B is queued, not flushed, when the connection goes
		set := l.pipes.Attach(plainIdentity)
		defer set.Detach()
		p := set.Node(n.Addr())
		_ = p.Send([]byte("B\r\n"), 1, r)
		p.end(backend.ErrUnowed)
	})
	looptest.WantLines(t, r.Wait(t, 2), "lost sent=true for A", "lost sent=false for B")
}

func TestPipeComesBackAtOnceAfterAConnectionThatWorked(t *testing.T) {
	l, n, r := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver()
	l.send(t, n.Addr(), plainIdentity, r, 1, "A\r\n")
	c := <-n.Conns
	c.Expect(t, "A\r\n")
	c.Close()
	looptest.WantLines(t, r.Wait(t, 1), "lost sent=true for A")
	l.send(t, n.Addr(), plainIdentity, r, 1, "B\r\n")
	c = <-n.Conns
	c.Expect(t, "B\r\n")
	_, _ = c.Write([]byte("+b\r\n"))
	looptest.WantLines(t, r.Wait(t, 2)[1:], "+b for B, 0 more")
}

func TestPipeBacksOffFromANodeThatIsDown(t *testing.T) {
	l, r := startPipeLoop(t), looptest.NewReceiver()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	l.send(t, addr, plainIdentity, r, 1, "A\r\n")
	looptest.WantLines(t, r.Wait(t, 1), "lost sent=false for A")
	refused := l.send(t, addr, plainIdentity, r, 1, "B\r\n")
	if len(refused) != 1 || refused[0].Sent {
		t.Fatalf("a Send during the back-off said %v", refused)
	}
	l.Do(func() { l.Ahead = backend.BackOffMin })
	if refused := l.send(t, addr, plainIdentity, r, 1, "C\r\n"); refused != nil {
		t.Fatalf("a Send after the back-off said %v", refused[0])
	}
	r.Wait(t, 2)
}

func TestPipeEndsAConnectionThatSaysWhatNobodyAsked(t *testing.T) {
	for name, bytes := range map[string]string{
		"reply nobody is owed": "+a\r\n+surplus\r\n",
		"push":                 ">1\r\n+x\r\n",
		"no RESP":              "hello\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			l, n, r := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver()
			l.send(t, n.Addr(), plainIdentity, r, 1, "A\r\n")
			c := <-n.Conns
			c.Expect(t, "A\r\n")
			_, _ = c.Write([]byte(bytes))
			if _, err := c.R.ReadByte(); err == nil {
				t.Fatal("the connection lives on")
			}
			r.Wait(t, 1)
		})
	}
}

func TestPipeSwallowsTheReplyOfARequestThatWasGivenUp(t *testing.T) {
	l, n, r := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver()
	l.Set.SetTimeout(time.Minute)
	l.send(t, n.Addr(), plainIdentity, r, 1, "A\r\n")
	c := <-n.Conns
	c.Expect(t, "A\r\n")
	l.Do(func() { l.Ahead = time.Minute + time.Second })
	l.send(t, n.Addr(), plainIdentity, r, 1, "B\r\n")
	l.Do(func() { l.pipes.Tick() })
	looptest.WantLines(t, r.Wait(t, 1), "timeout sent=true for A")
	c.Expect(t, "B\r\n")
	_, _ = c.Write([]byte("+late\r\n+b\r\n"))
	looptest.WantLines(t, r.Wait(t, 2)[1:], "+b for B, 0 more")
}

func TestPipeIsRetiredWhenNobodyUsesIt(t *testing.T) {
	l, n, r := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver()
	l.send(t, n.Addr(), plainIdentity, r, 1, "A\r\n")
	c := <-n.Conns
	c.Expect(t, "A\r\n")
	_, _ = c.Write([]byte("+a\r\n"))
	r.Wait(t, 1)
	l.Do(func() { l.Ahead = pipeIdle + time.Second; l.pipes.Tick() })
	if _, err := c.R.ReadByte(); !errors.Is(err, io.EOF) {
		t.Fatalf("reading from a retired pipe: %v", err)
	}
	l.Do(func() {
		if len(l.pipes.sets) != 0 {
			t.Errorf("%d identities are left", len(l.pipes.sets))
		}
	})
}

func TestPipeRedirectSendsAskingFirst(t *testing.T) {
	l, n, r := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver()
	l.Do(func() {
		set := l.pipes.Attach(plainIdentity)
		defer set.Detach()
		_ = set.Node(n.Addr()).SendAsking([]byte("A\r\n"), 1, r)
	})
	c := <-n.Conns
	c.Expect(t, "*1\r\n$6\r\nASKING\r\nA\r\n")
	_, _ = c.Write([]byte("+OK\r\n+a\r\n"))
	looptest.WantLines(t, r.Wait(t, 1), "+a for A, 0 more")
}

// A pipe stays for clients of a user who may be deleted, however long they do nothing: the node closes it then.
func TestPipeOfAUserStaysUntilItsClientsLeave(t *testing.T) {
	l, n, r := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver()
	freed := make(chan string, 1)
	l.Set.Logins.OnFree = func(user string, credential uint32) {
		if credential == 0 {
			freed <- user
		}
	}
	ann := backend.Identity{User: "ann", RESP: 2}
	var set *Set
	l.Do(func() { set = l.pipes.Attach(ann) })
	l.Set.Logins.Release(l.Set.Logins.Accepted("ann", "pw", false, nil))
	l.send(t, n.Addr(), ann, r, 1, "A\r\n")
	c := <-n.Conns
	c.Expect(t, "*3\r\n$4\r\nAUTH\r\n$3\r\nann\r\n$2\r\npw\r\n")
	c.Say(t, "+OK\r\n+a\r\n")
	r.Wait(t, 1)
	l.Do(func() { l.Ahead = pipeIdle + time.Second; l.pipes.Tick() })
	if up := l.count(n.Addr()).Up; up != 1 {
		t.Fatal("the pipe was closed while its user has a client")
	}
	c.Close()
	c = nil
	for c == nil { // nothing is sent: the pipe comes back by itself
		l.Do(func() { l.pipes.Tick() })
		select {
		case c = <-n.Conns:
		case <-time.After(10 * time.Millisecond):
		}
	}
	l.Do(func() { set.Detach(); l.Ahead += pipeIdle + time.Second; l.pipes.Tick() })
	c.Say(t, "+OK\r\n")
	for {
		l.Do(func() { l.pipes.Tick() })
		select {
		case <-freed:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestARefusedUserIsReportedOnce(t *testing.T) {
	l, n, r := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver()
	refused := make(chan string, 9)
	l.pipes.OnRefused = func(set *Set, why *backend.LostError) { refused <- set.Identity().User + ": " + why.Refusal }
	l.Set.Logins.Accepted("ann", "pw", false, nil)
	l.send(t, n.Addr(), backend.Identity{User: "ann", RESP: 2}, r, 1, "A\r\n")
	c := <-n.Conns
	c.Say(t, "-WRONGPASS no\r\n")
	if got := <-refused; got != "ann: WRONGPASS no" {
		t.Error(got)
	}
	looptest.WantLines(t, r.Wait(t, 1), "refused WRONGPASS no sent=false for A")
}
