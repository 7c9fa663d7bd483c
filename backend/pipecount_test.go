package backend

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
)

// count is what the loop says of a node's pipes.
func (l *pipeLoop) count(addr string) (c PipeCount) {
	l.do(func() {
		counts := map[string]PipeCount{}
		l.pipes.Count(counts)
		c = counts[addr]
	})
	return c
}

func TestPipesTellSinceWhenANodeIsUpOrDownAndWhy(t *testing.T) {
	l, n, r := startPipeLoop(t), startTestNode(t), newTestReceiver()
	if c := l.count(n.addr()); c != (PipeCount{}) {
		t.Fatalf("before the first request: %+v", c)
	}
	before := time.Now().UnixNano()
	l.send(t, n.addr(), plainIdentity, r, 1, "A\r\n")
	node := <-n.conns
	node.expect(t, "A\r\n")
	up := l.count(n.addr())
	if up.Up != 1 || up.Owed != 1 || up.UpSince < before || up.DownSince != 0 || up.LastErr != nil {
		t.Fatalf("up: %+v", up)
	}
	n.ln.Close()
	node.Close()
	r.wait(t, 1)
	down := l.count(n.addr())
	if down.Up != 0 || down.UpSince != 0 || down.DownSince <= up.UpSince || down.LastErrAt != down.DownSince ||
		!strings.Contains(down.LastErr.Error(), "closed by the node") {
		t.Fatalf("down: %+v", down)
	}
	l.send(t, n.addr(), plainIdentity, r, 1, "B\r\n")
	r.wait(t, 2)
	still := l.count(n.addr())
	if still.DownSince != down.DownSince || still.LastErrAt <= down.LastErrAt || !strings.Contains(still.LastErr.Error(), "refused") {
		t.Fatalf("tried again in vain: %+v", still)
	}
	again, err := net.Listen("tcp", n.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	l.do(func() { l.ahead = backOffMin })
	l.send(t, n.addr(), plainIdentity, r, 1, "C\r\n")
	conn, err := again.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	redistest.Eventually(t, 20*time.Second, "the pipe to be up", func() bool { return l.count(n.addr()).Up == 1 })
	if c := l.count(n.addr()); c.DownSince != 0 || c.UpSince <= still.DownSince || c.LastErr == nil {
		t.Fatalf("up again: %+v", c)
	}
}

func TestPipeCountsAddUpToTheNodes(t *testing.T) {
	early, late := &LostError{Addr: "early"}, &LostError{Addr: "late"}
	parts := []PipeCount{
		{Up: 1, Owed: 2, UpSince: 50, LastErr: early, LastErrAt: 10},
		{Dialing: 1, Owed: 3, DownSince: 60, LastErr: late, LastErrAt: 70},
		{Up: 1, Buffered: 4, UpSince: 40},
		{DownSince: 20, LastErr: early, LastErrAt: 20},
	}
	want := PipeCount{Up: 2, Dialing: 1, Owed: 5, Buffered: 4, UpSince: 40, DownSince: 60, LastErr: late, LastErrAt: 70}
	var there, back PipeCount
	for i := range parts {
		there.Add(parts[i])
		back.Add(parts[len(parts)-1-i])
	}
	if there != want || back != want {
		t.Errorf("got %+v and %+v, want %+v", there, back, want)
	}
}
