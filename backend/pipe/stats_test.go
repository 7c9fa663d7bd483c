package pipe

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/looptest"
	"github.com/berth-proxy/berth/backend/redistest"
)

// count returns the loop's Count of a node's pipes.
func (l *pipeLoop) count(addr string) (c Count) {
	l.Do(func() {
		counts := map[string]Count{}
		l.pipes.Count(counts)
		c = counts[addr]
	})
	return c
}

func TestPipesTellSinceWhenANodeIsUpOrDownAndWhy(t *testing.T) {
	l, n, r := startPipeLoop(t), looptest.StartNode(t), looptest.NewReceiver()
	if c := l.count(n.Addr()); c != (Count{}) {
		t.Fatalf("before the first request: %+v", c)
	}
	before := time.Now().UnixNano()
	l.send(t, n.Addr(), plainIdentity, r, 1, "A\r\n")
	node := <-n.Conns
	node.Expect(t, "A\r\n")
	up := l.count(n.Addr())
	if up.Up != 1 || up.Owed != 1 || up.UpSince < before || up.DownSince != 0 || up.LastErr != nil {
		t.Fatalf("up: %+v", up)
	}
	n.Ln.Close()
	node.Close()
	r.Wait(t, 1)
	down := l.count(n.Addr())
	if down.Up != 0 || down.UpSince != 0 || down.DownSince <= up.UpSince || down.LastErrAt != down.DownSince ||
		!strings.Contains(down.LastErr.Error(), "closed by the node") {
		t.Fatalf("down: %+v", down)
	}
	l.send(t, n.Addr(), plainIdentity, r, 1, "B\r\n")
	r.Wait(t, 2)
	still := l.count(n.Addr())
	if still.DownSince != down.DownSince || still.LastErrAt <= down.LastErrAt || !strings.Contains(still.LastErr.Error(), "refused") {
		t.Fatalf("tried again in vain: %+v", still)
	}
	again, err := net.Listen("tcp", n.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	l.Do(func() { l.Ahead = backend.BackOffMin })
	l.send(t, n.Addr(), plainIdentity, r, 1, "C\r\n")
	conn, err := again.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("+PONG\r\n")); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, 20*time.Second, "the pipe to be up", func() bool { return l.count(n.Addr()).Up == 1 })
	if c := l.count(n.Addr()); c.DownSince != 0 || c.UpSince <= still.DownSince || c.LastErr == nil {
		t.Fatalf("up again: %+v", c)
	}
}

func TestPipeCountsAddUpToTheNodes(t *testing.T) {
	early, late := &backend.LostError{Addr: "early"}, &backend.LostError{Addr: "late"}
	parts := []Count{
		{Up: 1, Owed: 2, UpSince: 50, LastErr: early, LastErrAt: 10},
		{Dialing: 1, Owed: 3, DownSince: 60, LastErr: late, LastErrAt: 70},
		{Up: 1, Buffered: 4, UpSince: 40},
		{DownSince: 20, LastErr: early, LastErrAt: 20},
	}
	want := Count{Up: 2, Dialing: 1, Owed: 5, Buffered: 4, UpSince: 40, DownSince: 60, LastErr: late, LastErrAt: 70}
	var there, back Count
	for i := range parts {
		there.Add(parts[i])
		back.Add(parts[len(parts)-1-i])
	}
	if there != want || back != want {
		t.Errorf("got %+v and %+v, want %+v", there, back, want)
	}
}
