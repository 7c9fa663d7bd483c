package pipe

import (
	"slices"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/looptest"
)

// authOf is the AUTH of a user with a name of one letter.
func authOf(name string) string { return "AUTH " + name + " password\r\n" }

// applicant is an Applicant that has left if it is told so.
type applicant struct {
	*looptest.Receiver
	left bool
}

func (a *applicant) Left() bool { return a.left }

// verify asks the node about AUTHs.
func (l *pipeLoop) verify(n *looptest.Node, r *looptest.Receiver, names ...string) {
	l.verifyFor(n, &applicant{Receiver: r}, names...)
}

func (l *pipeLoop) verifyFor(n *looptest.Node, r *applicant, names ...string) {
	l.Do(func() {
		for _, name := range names {
			request := []byte(authOf(name))
			if err := l.pipes.Verify(n.Addr(), request, r); err != nil {
				r.Lost(err, request)
			}
		}
	})
}

// A node may leave out its reply to an AUTH that another one comes before: the next reply would be
// taken for it.
func TestAConnectionVerifiesOnePasswordAtATime(t *testing.T) {
	l, n, r := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver()
	letters := []string{"A", "B", "C", "D", "E", "F", "G", "H", "I", "J"}
	l.verify(n, r, letters...)
	conns := map[string]*looptest.NodeConn{}
	for range maxVerifiers {
		c := looptest.Accept(t, n)
		line, err := c.R.ReadString('\n')
		if err != nil || c.R.Buffered() > 0 {
			t.Fatalf("%q and %d bytes more on one connection (%v)", line, c.R.Buffered(), err)
		}
		conns[line[5:6]] = c
	}
	conns["C"].Say(t, "-c\r\n")
	conns["C"].Expect(t, authOf("I"))
	conns["A"].Say(t, "+a\r\n")
	conns["A"].Expect(t, authOf("J"))
	conns["A"].Say(t, "+j\r\n")
	conns["C"].Say(t, "-i\r\n")
	got := r.Wait(t, 4)
	slices.Sort(got)
	looptest.WantLines(t, got, "+a for AUTH A password, 0 more", "+j for AUTH J password, 0 more", "-c for AUTH C password, 0 more", "-i for AUTH I password, 0 more")
}

func TestNodeThatVerifiesNothingIsWaitedForNoLongerThanItsTimeout(t *testing.T) {
	l, n, r := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver()
	l.Set.SetTimeout(time.Second / 2)
	var letters []string
	for i := range maxVerifiers + 1 {
		letters = append(letters, string(rune('A'+i)))
	}
	l.verify(n, r, letters...)
	for range maxVerifiers {
		looptest.Accept(t, n)
	}
	l.tickLater(time.Second)
	r.Wait(t, len(letters))
	l.verify(n, r, "Z")
	c := looptest.Accept(t, n)
	c.Expect(t, authOf("Z"))
	c.Say(t, "+z\r\n")
	lines := r.Wait(t, len(letters)+1)
	looptest.WantLines(t, lines[len(letters):], "+z for AUTH Z password, 0 more")
}

// Strangers may send an AUTH and leave, again and again.
func TestAuthsOfClientsThatHaveLeftAreForgotten(t *testing.T) {
	l, n, r := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver()
	l.verify(n, r, "A", "B", "C", "D", "E", "F", "G", "H", "I")
	var conns []*looptest.NodeConn
	for range maxVerifiers {
		conns = append(conns, looptest.Accept(t, n))
	}
	left := &applicant{Receiver: looptest.NewReceiver(), left: true}
	most := 0
	for range 1000 {
		l.verifyFor(n, left, "X")
		l.Do(func() { most = max(most, l.pipes.waiting[n.Addr()].Len()) })
	}
	if most > sweepMin {
		t.Errorf("%d wait", most)
	}
	l.verify(n, r, "J")
	for i, next := range []string{"I", "J"} {
		if _, err := conns[i].R.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		conns[i].Say(t, "+ok\r\n")
		conns[i].Expect(t, authOf(next))
	}
}
