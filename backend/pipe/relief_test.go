package pipe

import (
	"strings"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/looptest"
	"github.com/berth-proxy/berth/backend/redistest"
)

// stopUp sends A on a pipe and lets its reply be overdue. It returns the connection, and the second
// one, on which the node has been asked PING.
func stopUp(t *testing.T, l *pipeLoop, n *looptest.Node, r *looptest.Receiver) (first, second *looptest.NodeConn) {
	t.Helper()
	l.send(t, n.Addr(), plainIdentity, r, 1, "A\r\n")
	first = looptest.Accept(t, n)
	first.Expect(t, "A\r\n")
	l.tickLater(stoppedAfter)
	second = looptest.Accept(t, n)
	second.Expect(t, string(pingCommand))
	return first, second
}

// tickLater has the loop's clock go on, and ticks.
func (l *pipeLoop) tickLater(d time.Duration) {
	l.Do(func() { l.Ahead += d; l.pipes.Tick() })
}

// passed waits until pipes were passed by n times.
func (l *pipeLoop) passed(t *testing.T, n int64) {
	t.Helper()
	redistest.Eventually(t, 10*time.Second, "a pipe to be passed by", func() (is bool) {
		l.Do(func() { is = l.pipes.Stats().Passed == n })
		return is
	})
}

func TestPipeThatIsStoppedUpIsPassedByWhenTheNodeAnswersElsewhere(t *testing.T) {
	l, n, r := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver()
	first, second := stopUp(t, l, n, r)
	l.send(t, n.Addr(), plainIdentity, r, 1, "B\r\n")
	first.Expect(t, "B\r\n") // the node has not answered on the second one
	second.Say(t, "-BUSY Redis is busy running a script.\r\n")
	l.passed(t, 1)
	l.send(t, n.Addr(), plainIdentity, r, 1, "C\r\n")
	second.Expect(t, "C\r\n")
	second.Say(t, "+c\r\n")
	looptest.WantLines(t, r.Wait(t, 1), "+c for C, 0 more")
	former := func(turns uint32) (is bool) {
		l.Do(func() {
			set := l.pipes.Attach(plainIdentity)
			defer set.Detach()
			is = set.Since(turns, set.Node(n.Addr())) != set.Node(n.Addr())
		})
		return is
	}
	if !former(0) || former(1) {
		t.Error("who is owed replies by the first one goes on there, and nobody else")
	}
	first.Say(t, "+a\r\n+b\r\n")
	looptest.WantLines(t, r.Wait(t, 3)[1:], "+a for A, 0 more", "+b for B, 0 more")

	if former(0) {
		t.Error("the first one owes nothing any more")
	}
	l.send(t, n.Addr(), plainIdentity, r, 1, "D\r\n")
	second.Expect(t, "D\r\n") // it stays the current one
	l.tickLater(stoppedAfter)
	first.Expect(t, string(pingCommand)) // until it is stopped up itself
	first.Say(t, "+PONG\r\n")
	l.passed(t, 2)
	l.send(t, n.Addr(), plainIdentity, r, 1, "E\r\n")
	first.Expect(t, "E\r\n")
}

// The turns are the set's: that of another node's pipe does not lead anybody to a pipe that was passed
// by before it sent.
func TestAPipeOfAnotherNodeThatIsPassedByChangesNoOrder(t *testing.T) {
	l, x, y, r := startPipeLoop(t), looptest.StartNode(t), looptest.StartNode(t), looptest.NewReceiver()
	_, second := stopUp(t, l, y, r)
	second.Say(t, "+PONG\r\n")
	l.passed(t, 1)
	l.send(t, y.Addr(), plainIdentity, r, 1, "B\r\n")
	second.Expect(t, "B\r\n")
	_, second = stopUp(t, l, x, r)
	second.Say(t, "+PONG\r\n")
	redistest.Eventually(t, 10*time.Second, "the pipe of x to be passed by", func() (is bool) {
		l.Do(func() { is = l.pipes.Attach(plainIdentity).Node(x.Addr()).turn > 1 })
		return is
	})
	l.Do(func() {
		set := l.pipes.Attach(plainIdentity)
		if p := set.Node(y.Addr()); p.turn == 1 && set.Since(1, p) != p {
			t.Error("who sent on the current pipe of y goes on, on the one before")
		}
	})
}

func TestPipeThatIsWellAgainIsNotPassedBy(t *testing.T) {
	l, n, r := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver()
	first, second := stopUp(t, l, n, r)
	first.Say(t, "+a\r\n")
	r.Wait(t, 1)
	second.Say(t, "+PONG\r\n")
	redistest.Eventually(t, 10*time.Second, "the node's answer to come", func() (has bool) {
		l.Do(func() { has = !l.pipes.Attach(plainIdentity).Node(n.Addr()).probing })
		return has
	})
	l.send(t, n.Addr(), plainIdentity, r, 1, "B\r\n")
	first.Expect(t, "B\r\n")
	l.passed(t, 0)
}

func TestLongReplyIsPassedByWhileItArrives(t *testing.T) {
	l, n := startPipeLoop(t), looptest.StartNode(t)
	r := &partsReceiver{Receiver: looptest.NewReceiver()}
	l.send(t, n.Addr(), plainIdentity, r, 1, "A\r\n")
	first := looptest.Accept(t, n)
	first.Expect(t, "A\r\n")
	first.Say(t, "$1048576\r\n"+strings.Repeat("x", 100_000))
	second := looptest.Accept(t, n)
	second.Expect(t, string(pingCommand))
	second.Say(t, "+PONG\r\n")
	l.passed(t, 1)
	l.send(t, n.Addr(), plainIdentity, r, 1, "B\r\n")
	second.Expect(t, "B\r\n")
	first.Say(t, strings.Repeat("x", 1<<20-100_000)+"\r\n")
	r.Wait(t, 1)
}

// A second connection on which the node says nothing is no better than the first one.
func TestSecondPipeThatIsSilentIsDialledAnew(t *testing.T) {
	l, n, r := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver()
	first, second := stopUp(t, l, n, r)
	l.tickLater(probePatience)
	if _, err := second.R.ReadByte(); err == nil {
		t.Error("the silent connection is kept")
	}
	l.tickLater(0)
	second = looptest.Accept(t, n)
	second.Expect(t, string(pingCommand))
	second.Say(t, "+PONG\r\n")
	l.passed(t, 1)
	first.Say(t, "+a\r\n")
	looptest.WantLines(t, r.Wait(t, 1), "+a for A, 0 more")
}

// What is owed to nobody does not keep a connection that has died.
func TestPipeThatWasPassedByIsClosedWhenAllItOwesIsGivenUp(t *testing.T) {
	l, n, r := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver()
	l.Set.SetTimeout(time.Minute)
	first, second := stopUp(t, l, n, r)
	second.Say(t, "+PONG\r\n")
	l.passed(t, 1)
	l.tickLater(time.Minute)
	looptest.WantLines(t, r.Wait(t, 1), "timeout sent=true for A")
	if _, err := first.R.ReadByte(); err == nil {
		t.Error("the dead connection is kept")
	}
	l.tickLater(2 * pipeIdle)
	l.Do(func() {
		if len(l.pipes.sets) != 0 {
			t.Error("idle pipes are kept")
		}
	})
}

// partsReceiver takes long replies in parts.
type partsReceiver struct{ *looptest.Receiver }

func (partsReceiver) Part(_, _ []byte, _ int) bool { return true }

// A node that is busy refuses SELECT: that is what it says to everything then.
func TestNodeThatIsBusySaysSoInAnotherDatabaseToo(t *testing.T) {
	l, n, r := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver()
	id := backend.Identity{DB: 1, RESP: 2}
	l.send(t, n.Addr(), id, r, 1, "A\r\n")
	first := looptest.Accept(t, n)
	const hello = "*2\r\n$6\r\nSELECT\r\n$1\r\n1\r\n"
	first.Expect(t, hello)
	first.Say(t, "+OK\r\n")
	first.Expect(t, "A\r\n")
	l.tickLater(stoppedAfter)
	second := looptest.Accept(t, n)
	second.Expect(t, hello)
	second.Say(t, "-BUSY x\r\n")
	l.passed(t, 1)
	l.Do(func() {
		set := l.pipes.Attach(id)
		defer set.Detach()
		if err := set.Node(n.Addr()).Send([]byte("B\r\n"), 1, r); err == nil || err.Refusal != "BUSY x" {
			t.Errorf("B: %v", err)
		}
	})
	first.Say(t, "+a\r\n")
	r.Wait(t, 1)
	l.send(t, n.Addr(), id, r, 1, "C\r\n")
	first.Expect(t, "C\r\n")
}

// scripted sends a script, and lets the node be busy with it. It returns the script's connection and
// the second one.
func (l *pipeLoop) scripted(t *testing.T, n *looptest.Node, id backend.Identity, r *looptest.Receiver, shake func(*looptest.NodeConn)) (first, second *looptest.NodeConn) {
	t.Helper()
	l.Do(func() { l.pipes.IsScript = func(to backend.Receiver) bool { return to == backend.Receiver(r) } })
	l.send(t, n.Addr(), id, r, 1, "SCRIPT\r\n")
	first = looptest.Accept(t, n)
	shake(first)
	first.Expect(t, "SCRIPT\r\n")
	l.tickLater(HeldFor) // the second one is dialled
	second = looptest.Accept(t, n)
	shake(second)
	redistest.Eventually(t, 10*time.Second, "the second pipe to be connected", func() (is bool) {
		l.Do(func() {
			set := l.pipes.Attach(id)
			defer set.Detach()
			is = set.Node(n.Addr()).second.link.State() == backend.Up
		})
		return is
	})
	l.tickLater(HeldFor)
	l.passed(t, 1)
	return first, second
}

// Until the second one is connected it may lead nowhere.
func TestWhatWaitsForASecondPipeThatIsSilentGoesBackToTheFirst(t *testing.T) {
	l, n, script, r := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver(), looptest.NewReceiver()
	id := backend.Identity{DB: 1, RESP: 2}
	l.Do(func() { l.pipes.IsScript = func(to backend.Receiver) bool { return to == backend.Receiver(script) } })
	l.send(t, n.Addr(), id, script, 1, "SCRIPT\r\n")
	first := looptest.Accept(t, n)
	first.Expect(t, selectCommand)
	first.Say(t, "+OK\r\n")
	first.Expect(t, "SCRIPT\r\n")
	l.tickLater(HeldFor)
	second := looptest.Accept(t, n)
	second.Expect(t, selectCommand)
	l.passed(t, 1)
	l.send(t, n.Addr(), id, r, 1, "A\r\n")
	l.tickLater(shakePatience + 1)
	first.Expect(t, "A\r\n")
	first.Say(t, "+done\r\n+a\r\n")
	looptest.WantLines(t, r.Wait(t, 1), "+a for A, 0 more")
	if _, err := second.R.ReadByte(); err == nil {
		t.Error("the silent connection is kept")
	}
}

const selectCommand = "*2\r\n$6\r\nSELECT\r\n$1\r\n1\r\n"

// A node that runs a script may answer nobody for seconds, and nobody on the script's connection for
// as long as the script runs.
func TestPipeThatRunsAScriptIsPassedByUnasked(t *testing.T) {
	l, n, script, r := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver(), looptest.NewReceiver()
	first, second := l.scripted(t, n, plainIdentity, script, func(*looptest.NodeConn) {})
	l.send(t, n.Addr(), plainIdentity, r, 1, "A\r\n")
	second.Expect(t, "A\r\n")
	second.Say(t, "-BUSY x\r\n")
	looptest.WantLines(t, r.Wait(t, 1), "-BUSY x for A, 0 more")
	first.Say(t, "+done\r\n")
	looptest.WantLines(t, script.Wait(t, 1), "+done for SCRIPT, 0 more")
	l.tickLater(HeldFor)
	l.passed(t, 1)
}

func TestWhatTheSecondPipeCannotSendWaitsForTheScript(t *testing.T) {
	l, n, script, r := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver(), looptest.NewReceiver()
	id := backend.Identity{DB: 1, RESP: 2}
	first, second := l.scripted(t, n, id, script, func(c *looptest.NodeConn) {
		c.Expect(t, selectCommand)
		c.Say(t, "+OK\r\n")
	})
	_ = second.Conn.Close()
	redistest.Eventually(t, 10*time.Second, "the second pipe to be lost", func() (is bool) {
		l.Do(func() { is = l.pipes.Stats().Lost == 1 })
		return is
	})
	l.send(t, n.Addr(), id, r, 1, "A\r\n", "B\r\n")
	second = looptest.Accept(t, n)
	second.Expect(t, selectCommand)
	second.Say(t, "-ERR max number of clients reached\r\n")
	first.Expect(t, "A\r\nB\r\n")
	first.Say(t, "+done\r\n+a\r\n+b\r\n")
	looptest.WantLines(t, r.Wait(t, 2), "+a for A, 0 more", "+b for B, 0 more")
	l.send(t, n.Addr(), id, r, 1, "C\r\n")
	first.Expect(t, "C\r\n") // the first one is current
}

// holders collects who has kept others waiting. Owned by the loop.
func (l *pipeLoop) holders() *[]backend.Receiver {
	var held []backend.Receiver
	l.Do(func() { l.pipes.OnHold = func(to backend.Receiver) { held = append(held, to) } })
	return &held
}

func TestReplyThatOthersWaitForIsReported(t *testing.T) {
	l, n := startPipeLoop(t), looptest.StartNode(t)
	held := l.holders()
	var all [4]*looptest.Receiver
	for i := range all {
		all[i] = looptest.NewReceiver()
		l.send(t, n.Addr(), plainIdentity, all[i], 1, string('A'+rune(i))+"\r\n")
	}
	c := looptest.Accept(t, n)
	c.Expect(t, "A\r\nB\r\nC\r\nD\r\n")
	want := func(what string, want ...*looptest.Receiver) {
		t.Helper()
		l.Do(func() {
			if len(*held) != len(want) || len(want) > 0 && (*held)[len(want)-1] != want[len(want)-1] {
				t.Errorf("%s: %d reported, want %d", what, len(*held), len(want))
			}
		})
	}
	l.Do(func() { l.Ahead += time.Hour })
	c.Say(t, "+a\r\n")
	all[0].Wait(t, 1)
	want("a late reply", all[0])
	l.Do(func() { l.Ahead -= time.Minute }) // the second has been the oldest one for less than no time
	c.Say(t, "+b\r\n")
	all[1].Wait(t, 1)
	want("one that waited for it", all[0])
	l.tickLater(time.Hour)
	want("one that does not come", all[0], all[2])
	c.Say(t, "+c\r\n")
	all[2].Wait(t, 1)
	l.tickLater(time.Hour)
	want("one that nobody waits for", all[0], all[2], all[2])
	c.Say(t, "+d\r\n")
	all[3].Wait(t, 1)
}

func TestConnectingHoldsUpNobodysReply(t *testing.T) {
	l, n, r := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver()
	held := l.holders()
	l.send(t, n.Addr(), backend.Identity{DB: 1, RESP: 2}, r, 1, "A\r\n", "B\r\n")
	c := looptest.Accept(t, n)
	c.Expect(t, "*2\r\n$6\r\nSELECT\r\n$1\r\n1\r\n")
	l.Do(func() { l.Ahead += time.Hour })
	c.Say(t, "+OK\r\n")
	c.Expect(t, "A\r\nB\r\n")
	l.Do(func() { l.Ahead -= time.Minute })
	c.Say(t, "+a\r\n+b\r\n")
	r.Wait(t, 2)
	l.Do(func() {
		if len(*held) != 0 {
			t.Errorf("%d reported", len(*held))
		}
	})
}

// mover is a Receiver whose requests may be sent again.
type mover struct {
	*looptest.Receiver
	moves bool
}

func (m *mover) Move() bool { return m.moves }

// What came between a script and the second pipe would wait for the script, which may have no end.
func TestWhatWaitsForAScriptIsHandedOverIfItMayBe(t *testing.T) {
	l, n, script := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver()
	read, write := &mover{looptest.NewReceiver(), true}, &mover{looptest.NewReceiver(), false}
	l.Do(func() { l.pipes.IsScript = func(to backend.Receiver) bool { return to == backend.Receiver(script) } })
	send := func(to backend.Receiver, words string) {
		l.Do(func() {
			set := l.pipes.Attach(plainIdentity)
			defer set.Detach()
			if err := set.Node(n.Addr()).Send([]byte(words), 1, to); err != nil {
				t.Error(err)
			}
		})
	}
	send(read, "BEFORE\r\n")
	send(script, "SCRIPT\r\n")
	send(read, "READ\r\n")
	send(write, "WRITE\r\n")
	first := looptest.Accept(t, n)
	first.Expect(t, "BEFORE\r\nSCRIPT\r\nREAD\r\nWRITE\r\n")
	first.Say(t, "+before\r\n")
	looptest.WantLines(t, read.Wait(t, 1), "+before for BEFORE, 0 more")
	l.tickLater(HeldFor)
	l.passed(t, 1)
	second := looptest.Accept(t, n)
	second.Expect(t, "READ\r\n")
	second.Say(t, "-BUSY x\r\n")
	looptest.WantLines(t, read.Wait(t, 2), "+before for BEFORE, 0 more", "-BUSY x for READ, 0 more")
	first.Say(t, "+done\r\n+read\r\n+written\r\n")
	looptest.WantLines(t, script.Wait(t, 1), "+done for SCRIPT, 0 more")
	looptest.WantLines(t, write.Wait(t, 1), "+written for WRITE, 0 more")
}
