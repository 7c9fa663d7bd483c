package lane

import (
	"errors"
	"net"
	"testing"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// stillLoop is a loop without sockets. Functions that are posted wait in a channel.
type stillLoop struct {
	pipes  *pipe.Pipes
	posted chan func()
}

func (l *stillLoop) Enter() int64               { return 1 }
func (l *stillLoop) Now() int64                 { return 1 }
func (l *stillLoop) After()                     {}
func (l *stillLoop) Wake()                      {}
func (l *stillLoop) Post(f func())              { l.posted <- f }
func (l *stillLoop) Enroll(net.Conn, any) error { return errors.New("no sockets") }
func (l *stillLoop) Pipes() *pipe.Pipes         { return l.pipes }
func (l *stillLoop) Inbox() *pool.Inbox         { return pool.NewInbox(func() {}) }

// oneNode is a backend.Places of one node.
type oneNode struct{ backend.Places }

func (oneNode) Topology() *router.Topology { return router.Single("10.0.0.1:6379") }

// stillLanes makes lanes whose pools never dial: each lane goes on asking for its connection.
func stillLanes() *Lanes {
	loop := &stillLoop{posted: make(chan func(), 16)}
	loop.pipes = pipe.New(loop, new(backend.LinkSettings))
	pools := pool.NewPools(pool.NewSettings(pool.DefaultValues()), &backend.Logins{})
	pools.Close()
	return New(loop, &Shared{
		Nodes:    oneNode{},
		Pools:    pools,
		Settings: func() Settings { return Settings{MaxLanes: 3, Share: true} },
		AsUser:   func(id backend.Identity) backend.Identity { return id },
		NoLease:  func(_ string, err error) string { return "ERR " + err.Error() },
	}, func(router.Redirect) {})
}

// waiting is a client, and the reply that it got.
type waiting struct {
	*Waiter
	reply string
}

func (w *waiting) Answer(reply []byte) { w.reply += string(reply) }

// blpop lets one more client wait for q.
func blpop(ls *Lanes, id int64) *waiting {
	args := [][]byte{[]byte("BLPOP"), []byte("q"), []byte("0")}
	cmd, _ := router.Builtin().Lookup(args)
	w := &waiting{}
	w.Waiter = ls.NewWaiter(Asker{Client: w, ID: id, Slot: 1}, cmd, args)
	w.Join()
	return w
}

func TestGroupHasAsManyLanesAsItsWaitersAreWorth(t *testing.T) {
	ls := stillLanes()
	var all []*waiting
	var g *group
	lanes := func(what string, want int) {
		t.Helper()
		if g = all[0].home.groups[all[0].signature]; g == nil {
			t.Fatalf("%s: there is no group", what)
		}
		if len(g.lanes) != want || g.n != len(all) || ls.shared.Unsettled() != int64(want) {
			t.Fatalf("%s: %d lanes for %d clients, %d unsettled; want %d lanes", what, len(g.lanes), g.n, ls.shared.Unsettled(), want)
		}
	}
	join := func() { all = append(all, blpop(ls, int64(len(all)+1))) }
	leave := func() { all[len(all)-1].Leave(); all = all[:len(all)-1] }
	join()
	lanes("one client", 1)
	oldest := g.lanes[0]
	join()
	lanes("two clients of a slow list", 1)
	g.width = 5
	g.adjust()
	lanes("two clients of a fast list", 2)
	join()
	join()
	lanes("four clients", 3)
	leave()
	lanes("three clients", 3)
	leave()
	lanes("two clients", 2)
	leave()
	lanes("the last client", 1)
	if g.lanes[0] != oldest {
		t.Error("the lane that had waited longest was given up first")
	}
	leave()
	if len(ls.groups)+len(ls.waiters)+len(g.lanes) != 0 || ls.shared.Unsettled() != 0 {
		t.Errorf("no client is left, but %d groups, %d lanes, %d unsettled", len(ls.groups), len(g.lanes), ls.shared.Unsettled())
	}
}

func TestLaneWithoutAConnectionIsMissedOnlyWhenItIsTheLast(t *testing.T) {
	ls := stillLanes()
	a, b := blpop(ls, 1), blpop(ls, 2)
	g := a.g
	g.width = 2
	g.adjust()
	g.lanes[1].Attached(nil, pool.ErrTimeout)
	if len(g.lanes) != 1 || g.width != 1 || a.reply+b.reply != "" {
		t.Fatalf("one of two lanes has no connection: %d lanes, width %d, replies %q and %q", len(g.lanes), g.width, a.reply, b.reply)
	}
	g.lanes[0].Attached(nil, pool.ErrTimeout)
	refusal := string(codec.AppendError(nil, "ERR "+pool.ErrTimeout.Error()))
	if a.reply != refusal || b.reply != refusal || len(ls.groups) != 0 || ls.shared.Unsettled() != 0 {
		t.Errorf("no lane has a connection: replies %q and %q, %d groups", a.reply, b.reply, len(ls.groups))
	}
}
