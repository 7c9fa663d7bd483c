package pipe

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/looptest"
	"github.com/berth-proxy/berth/backend/redistest"
)

// A script makes a line as long as it likes. It costs neither memory nor the connection that others share.
func TestLineWithoutMeasureIsCutAndThePipeGoesOn(t *testing.T) {
	l, n, r := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver()
	l.send(t, n.Addr(), plainIdentity, r, 1, "A\r\n", "B\r\n", "C\r\n", "D\r\n", "E\r\n")
	c := <-n.Conns
	c.Expect(t, "A\r\nB\r\nC\r\nD\r\nE\r\n")
	block := strings.Repeat("x", 1<<20)
	kinds := []string{"-MOVED 1 ", "(", "*2\r\n$1\r\nx\r\n+", "%1\r\n+k\r\n,1"}
	for i, kind := range kinds {
		c.Say(t, kind)
		for range 18 {
			c.Say(t, block)
		}
		c.Say(t, "\r\n")
		want := fmt.Sprintf("%s for %c, 0 more", strings.TrimSpace(string(backend.CutLine)), "ABCD"[i])
		looptest.WantLines(t, r.Wait(t, i+1)[i:], want)
	}
	c.Say(t, "+h\r\n")
	looptest.WantLines(t, r.Wait(t, 5)[4:], "+h for E, 0 more")
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	if memory.Sys > 20*backend.MaxLine {
		t.Errorf("%d MB of memory", memory.Sys>>20)
	}
}

func TestNodeThatShakesHandsWithoutEndIsLost(t *testing.T) {
	l, n, r := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver()
	l.Set.Logins.Accepted("ann", "pw", false, nil)
	l.send(t, n.Addr(), backend.Identity{User: "ann", RESP: 2}, r, 1, "A\r\n")
	c := <-n.Conns
	c.Expect(t, "*3\r\n$4\r\nAUTH\r\n$3\r\nann\r\n$2\r\npw\r\n")
	for range 4 {
		_, _ = c.Write([]byte("-" + strings.Repeat("x", backend.MaxHandshake)))
	}
	looptest.WantLines(t, r.Wait(t, 1), "lost sent=false for A")
}

// The bytes that complete a reply may also end the connection: what a node says must not end berth.
func TestPipeEndsRightAfterAReplyThatCameInPieces(t *testing.T) {
	for _, wrong := range []string{"?\r\n", "+unowed\r\n", ">1\r\n+push\r\n"} {
		l, n, r := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver()
		l.send(t, n.Addr(), plainIdentity, r, 1, "A\r\n")
		c := <-n.Conns
		c.Expect(t, "A\r\n")
		c.Say(t, "$3\r\ntw")
		kept := func() (has bool) {
			l.Do(func() {
				set := l.pipes.Attach(plainIdentity)
				defer set.Detach()
				has = len(set.Node(n.Addr()).in) > 0
			})
			return has
		}
		if !redistest.Await(10*time.Second, kept) {
			t.Fatal("the beginning of the reply is not kept")
		}
		c.Say(t, "o\r\n"+wrong)
		looptest.WantLines(t, r.Wait(t, 1), "$3\r\ntwo for A, 0 more")
		if _, err := c.R.ReadByte(); err == nil {
			t.Fatal("the connection lives on")
		}
	}
}
