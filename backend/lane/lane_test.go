package lane

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/looptest"
	"github.com/berth-proxy/berth/backend/nodes"
	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
)

// homeLoop is a loop with pipes that lanes can have their home on.
type homeLoop struct {
	*looptest.Loop
	pipes *pipe.Pipes
	inbox *pool.Inbox
}

func (l homeLoop) Pipes() *pipe.Pipes { return l.pipes }
func (l homeLoop) Inbox() *pool.Inbox { return l.inbox }

// places are nodes that own the slots evenly, until the test says otherwise.
type places struct {
	topology atomic.Pointer[router.Topology]
}

func (p *places) Topology() *router.Topology { return p.topology.Load() }
func (p *places) Refresh()                   {}
func (p *places) Lost()                      {}
func (p *places) are(addrs ...string)        { p.topology.Store(router.Even(addrs)) }

// startLanes makes lanes that know the nodes behind a URL.
func startLanes(t *testing.T, url string) (homeLoop, *Lanes) {
	t.Helper()
	target, err := nodes.ParseTarget(url)
	if err != nil {
		t.Fatal(err)
	}
	behind, err := nodes.Connect(t.Context(), target, nodes.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(behind.Close)
	return startLanesOver(t, behind)
}

// startLanesOver makes lanes that find their nodes at the places, and lease at most one connection
// of each.
func startLanesOver(t *testing.T, at backend.Places) (homeLoop, *Lanes) {
	t.Helper()
	loop := homeLoop{Loop: looptest.Start(t)}
	loop.inbox = pool.NewInbox(func() { loop.Post(loop.inbox.Drain) })
	loop.pipes = pipe.New(loop, loop.Set)
	loop.Flush = append(loop.Flush, loop.pipes.Flush)
	values := pool.DefaultValues()
	values.MaxTotal, values.BlockingShare, values.WaitTimeout = 1, 100, 0
	shared := &Shared{
		Nodes:     at,
		Pools:     pool.NewPools(pool.NewSettings(values), &loop.Set.Logins),
		Settings:  func() Settings { return Settings{MaxLanes: 1, Share: true, MaxRedirects: 5} },
		TakesOver: func() bool { return true },
		AsUser:    func(id backend.Identity) backend.Identity { return id },
		NoLease:   func(_ string, err error) string { return err.Error() },
	}
	lanes := New(loop, shared, func(router.Redirect) {})
	t.Cleanup(func() {
		loop.Do(lanes.Close)
		shared.Pools.Close()
		loop.Do(loop.pipes.Close)
	})
	return loop, lanes
}

// blockedClient keeps the reply that its command got.
type blockedClient chan string

func (c blockedClient) Answer(reply []byte) { c <- string(reply) }

// blpop has a client wait for an element of a list.
func (ls *Lanes) blpop(t *testing.T, id int64, list string) blockedClient {
	t.Helper()
	args := [][]byte{[]byte("BLPOP"), []byte(list), []byte("0")}
	cmd, err := router.Builtin().Lookup(args)
	if err != nil {
		t.Fatal(err)
	}
	c := make(blockedClient, 1)
	ls.loop.(homeLoop).Do(func() {
		ls.NewWaiter(Asker{Client: c, ID: id, Identity: backend.Identity{RESP: 2}, Slot: int(router.Slot(args[1]))}, cmd, args).Join()
	})
	return c
}

// acceptBlpop is the node's end of the lease on which a client waits for the list.
func acceptBlpop(t *testing.T, n *looptest.Node, list string) *looptest.NodeConn {
	t.Helper()
	c := looptest.Accept(t, n)
	c.Expect(t, "*2\r\n$6\r\nCLIENT\r\n$2\r\nID\r\n")
	c.Say(t, ":7\r\n")
	c.Expect(t, "*3\r\n$5\r\nBLPOP\r\n$1\r\n"+list+"\r\n$1\r\n0\r\n")
	return c
}

// A node that has become a replica closes the connections on which clients were blocked.
func TestConnectionOfADemotedNodeIsNoOtherClients(t *testing.T) {
	node, at := looptest.StartNode(t), &places{}
	at.are(node.Addr())
	_, lanes := startLanesOver(t, at)
	client := lanes.blpop(t, 1, "q")
	first := acceptBlpop(t, node, "q")
	looptest.Accept(t, node) // the pipe on which the client can be unblocked
	first.Say(t, "-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)\r\n")
	if b, err := first.R.ReadByte(); err != io.EOF {
		t.Fatalf("the connection is used again: %q, %v", b, err)
	}
	acceptBlpop(t, node, "q").Say(t, "*2\r\n$1\r\nq\r\n$1\r\na\r\n")
	if got := <-client; got != "*2\r\n$1\r\nq\r\n$1\r\na\r\n" {
		t.Errorf("got %q", got)
	}
}

func TestClientThatWaitsForAConnectionFollowsItsSlot(t *testing.T) {
	old, heir, at := looptest.StartNode(t), looptest.StartNode(t), &places{}
	at.are(old.Addr())
	_, lanes := startLanesOver(t, at)
	lanes.blpop(t, 1, "q")
	acceptBlpop(t, old, "q") // it has the only connection
	client := lanes.blpop(t, 2, "r")
	at.are(heir.Addr())
	lanes.shared.Pools.Retain(at.Topology().Serves)
	acceptBlpop(t, heir, "r").Say(t, "*2\r\n$1\r\nr\r\n$1\r\na\r\n")
	if got := <-client; got != "*2\r\n$1\r\nr\r\n$1\r\na\r\n" {
		t.Errorf("got %q", got)
	}
}

func TestLongCommandLeavesNoLongBufferWithTheLoop(t *testing.T) {
	node, at := looptest.StartNode(t), &places{}
	at.are(node.Addr())
	loop, lanes := startLanesOver(t, at)
	list := strings.Repeat("q", 1<<20)
	lanes.blpop(t, 1, list)
	c := looptest.Accept(t, node)
	c.Expect(t, "*2\r\n$6\r\nCLIENT\r\n$2\r\nID\r\n")
	c.Say(t, ":7\r\n")
	c.Expect(t, "*3\r\n$5\r\nBLPOP\r\n$1048576\r\n"+list+"\r\n$1\r\n0\r\n")
	loop.Do(func() {
		if n := cap(lanes.scratch); n > backend.ChunkSize {
			t.Errorf("%d bytes are kept", n)
		}
	})
}

func TestOrphanGoesBackToWhereItsSlotHasMoved(t *testing.T) {
	cluster := redistest.StartCluster(t, 2, 0)
	slot := int(router.Slot([]byte("q")))
	from := cluster.Owner(slot)
	loop, lanes := startLanes(t, "redis://"+cluster.Node(0).Addr())
	args := [][]byte{[]byte("BLPOP"), []byte("q"), []byte("0")}
	cmd, err := router.Builtin().Lookup(args)
	if err != nil {
		t.Fatal(err)
	}
	cluster.MoveSlot(t, slot, from, 1-from)
	loop.Do(func() {
		w := lanes.NewWaiter(Asker{ID: 1, Identity: backend.Identity{RESP: 2}, Slot: slot}, cmd, args)
		lanes.orphaned(w.command, []byte("*2\r\n$1\r\nq\r\n$1\r\na\r\n"))
	})
	redistest.Eventually(t, 20*time.Second, "the element to be back", func() bool {
		return fmt.Sprint(cluster.Node(1-from).Do(t, "LRANGE", "q", 0, -1)) == "[a]"
	})
	redistest.Eventually(t, 20*time.Second, "it to be counted", func() bool {
		var stats Stats
		loop.Do(func() { stats = lanes.Stats() })
		return stats.Orphans[Returned] == 1 && lanes.shared.Unsettled() == 0
	})
}

func TestALaneMovesAlongItsDrawingOnly(t *testing.T) {
	for from := asking; from <= over; from++ {
		for to := asking; to <= over; to++ {
			moved := func() (ok bool) {
				defer func() { ok = recover() == nil }()
				ln := lane{state: from}
				ln.move(to)
				return ln.state == to
			}()
			if moved != slices.Contains(moves[from], to) {
				t.Errorf("from %d to %d: moved %v", from, to, moved)
			}
		}
	}
	if len(moves[over]) != 0 {
		t.Error("a lane that is over goes on")
	}
}

func TestElementsThatComeFastAreWorthMoreLanes(t *testing.T) {
	args := [][]byte{[]byte("BLPOP"), []byte("q"), []byte("0")}
	cmd, err := router.Builtin().Lookup(args)
	if err != nil {
		t.Fatal(err)
	}
	ls := &Lanes{shared: &Shared{Settings: func() Settings { return Settings{MaxLanes: 3} }}}
	g := &group{command: &command{cmd: cmd}, ls: ls, n: 10, width: 1}
	for _, step := range []struct {
		waited time.Duration
		width  int
	}{{time.Millisecond, 2}, {time.Millisecond, 3}, {time.Millisecond, 3}, {100 * time.Millisecond, 3}, {2 * time.Second, 2}, {time.Minute, 1}, {time.Minute, 1}} {
		if g.pace(step.waited); g.width != step.width || g.wanted() != step.width {
			t.Errorf("after %v: width %d, wanted %d lanes", step.waited, g.width, g.wanted())
		}
	}
	g.width, g.n = 3, 2
	if g.wanted() != 2 {
		t.Errorf("two clients want %d lanes", g.wanted())
	}
}
