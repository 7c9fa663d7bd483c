package lane

import (
	"fmt"
	"slices"
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
}

func (l homeLoop) Pipes() *pipe.Pipes { return l.pipes }
func (l homeLoop) Inbox() *pool.Inbox { return nil }

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
	loop := homeLoop{Loop: looptest.Start(t)}
	loop.pipes = pipe.New(loop, loop.Set)
	loop.Flush = append(loop.Flush, loop.pipes.Flush)
	t.Cleanup(func() { loop.Do(loop.pipes.Close) })
	shared := &Shared{
		Nodes:    behind,
		Settings: func() Settings { return Settings{MaxLanes: 1, Share: true, MaxRedirects: 5} },
	}
	return loop, New(loop, shared, func(router.Redirect) {})
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
