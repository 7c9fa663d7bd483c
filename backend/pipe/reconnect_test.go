package pipe

import (
	"testing"

	"github.com/berth-proxy/berth/backend/looptest"
)

// reconnect has the connections to a node replaced.
func (l *pipeLoop) reconnect(addr string) { l.Do(func() { l.pipes.Reconnect(addr) }) }

// mustEnd fails the test unless berth closes the connection and sends nothing more on it.
func mustEnd(t *testing.T, c *looptest.NodeConn) {
	t.Helper()
	if b, err := c.R.ReadByte(); err == nil {
		t.Errorf("the connection has %q, and should have ended", b)
	}
}

func TestPipeThatOwesNothingIsReplacedAtOnce(t *testing.T) {
	l, n, other, r := startPipeLoop(t), looptest.StartNode(t), looptest.StartNode(t), looptest.NewReceiver()
	ask := func(at *looptest.Node, c *looptest.NodeConn) *looptest.NodeConn {
		l.send(t, at.Addr(), plainIdentity, r, 1, "A\r\n")
		if c == nil {
			c = looptest.Accept(t, at)
		}
		c.Expect(t, "A\r\n")
		c.Say(t, "+a\r\n")
		return c
	}
	first, others := ask(n, nil), ask(other, nil)
	r.Wait(t, 2)
	l.reconnect(n.Addr())
	mustEnd(t, first)
	second := ask(n, nil)
	ask(other, others)
	r.Wait(t, 4)
	l.reconnect("")
	mustEnd(t, second)
	mustEnd(t, others)
}

func TestPipeThatOwesRepliesIsPassedByAndEndsWithTheLast(t *testing.T) {
	l, n, r := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver()
	var turns uint32
	l.Do(func() { turns = l.pipes.Attach(plainIdentity).Turns() })
	l.send(t, n.Addr(), plainIdentity, r, 1, "A\r\n")
	first := looptest.Accept(t, n)
	first.Expect(t, "A\r\n")
	l.reconnect(n.Addr())
	l.send(t, n.Addr(), plainIdentity, r, 1, "B\r\n")
	second := looptest.Accept(t, n)
	second.Expect(t, "B\r\n")
	second.Say(t, "+b\r\n")
	l.Do(func() { // who is owed replies by the first one goes on there
		set := l.pipes.Attach(plainIdentity)
		if set.Turns() == turns {
			t.Error("nobody is told that another pipe is the current one")
		}
		_ = set.Since(turns, set.Node(n.Addr())).Send([]byte("C\r\n"), 1, r)
	})
	first.Expect(t, "C\r\n")
	first.Say(t, "+a\r\n+c\r\n")
	looptest.WantLines(t, r.Wait(t, 3), "+b for B, 0 more", "+a for A, 0 more", "+c for C, 0 more")
	mustEnd(t, first)
	l.send(t, n.Addr(), plainIdentity, r, 1, "D\r\n")
	second.Expect(t, "D\r\n")
}

// Both owe replies, and there is no third one.
func TestPipesThatBothOweRepliesAreReplacedOneAfterTheOther(t *testing.T) {
	l, n, r := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver()
	l.send(t, n.Addr(), plainIdentity, r, 1, "A\r\n")
	first := looptest.Accept(t, n)
	first.Expect(t, "A\r\n")
	l.reconnect(n.Addr())
	l.send(t, n.Addr(), plainIdentity, r, 1, "B\r\n")
	second := looptest.Accept(t, n)
	second.Expect(t, "B\r\n")
	l.reconnect(n.Addr())
	l.send(t, n.Addr(), plainIdentity, r, 1, "C\r\n")
	second.Expect(t, "C\r\n")
	first.Say(t, "+a\r\n")
	mustEnd(t, first)
	l.Do(func() { l.pipes.Tick() })
	l.send(t, n.Addr(), plainIdentity, r, 1, "D\r\n")
	third := looptest.Accept(t, n)
	third.Expect(t, "D\r\n")
	second.Say(t, "+b\r\n+c\r\n")
	mustEnd(t, second)
	third.Say(t, "+d\r\n")
	r.Wait(t, 4)
}

// Each connection of AUTHs carries one at a time.
func TestPipeOfAUTHsIsReplacedWhenItOwesNothing(t *testing.T) {
	l, n, r := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver()
	var conns []*looptest.NodeConn
	verify := func(name string) {
		l.verify(n, r, name)
		c := looptest.Accept(t, n)
		c.Expect(t, authOf(name))
		conns = append(conns, c)
	}
	verify("a")
	l.reconnect(n.Addr())
	verify("b")
	conns[0].Say(t, "+OK\r\n")
	mustEnd(t, conns[0])
	verify("c")
}

// A node that does not take the new connection is served on by the old one.
func TestPipeThatOwesRepliesGoesOnIfTheNodeTakesNoOther(t *testing.T) {
	l, n, r := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver()
	l.send(t, n.Addr(), plainIdentity, r, 1, "A\r\n")
	first := looptest.Accept(t, n)
	first.Expect(t, "A\r\n")
	_ = n.Ln.Close()
	l.reconnect(n.Addr())
	l.send(t, n.Addr(), plainIdentity, r, 1, "B\r\n")
	first.Expect(t, "B\r\n")
	first.Say(t, "+a\r\n+b\r\n")
	looptest.WantLines(t, r.Wait(t, 2), "+a for A, 0 more", "+b for B, 0 more")
	mustEnd(t, first)
}
