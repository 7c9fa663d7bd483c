package main

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/lane"
	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/codec"
)

// gate stands between berth and a node and may do something before it lets a command through. What the node answers passes
// as it is.
type gate struct {
	addr   string
	before func(words string) // in the goroutine of the command's connection; words in lower case
	conns  sync.WaitGroup
}

func startGate(t *testing.T, node string, before func(words string)) *gate {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{addr: listener.Addr().String(), before: before}
	g.conns.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			n, err := net.Dial("tcp", node)
			if err != nil {
				c.Close()
				continue
			}
			g.conns.Go(func() { g.commands(c, n) })
			g.conns.Go(func() {
				defer c.Close()
				buf := make([]byte, 64<<10)
				for {
					k, err := n.Read(buf)
					if _, failed := c.Write(buf[:k]); err != nil || failed != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		g.conns.Wait() // berth, which stops first, has closed its ends
	})
	return g
}

// commands lets berth's commands through, one by one.
func (g *gate) commands(c, n net.Conn) {
	defer n.Close()
	var parser codec.RequestParser
	var in []byte
	buf := make([]byte, 64<<10)
	for {
		k, err := c.Read(buf)
		if err != nil {
			return
		}
		for in = append(in, buf[:k]...); len(in) > 0; {
			k, err := parser.Parse(in, &codec.Limits{})
			if err != nil || k == 0 {
				break
			}
			var words []string
			for _, a := range parser.Args() {
				words = append(words, string(a))
			}
			parser.Reset()
			g.before(strings.ToLower(strings.Join(words, " ")))
			if _, err := n.Write(in[:k]); err != nil {
				return
			}
			in = in[k:]
		}
	}
}

// pops are the commands that take elements, with what is pushed between a client's leaving and the node's hearing of it, and
// what must be there in the end.
var pops = []struct{ command, push, look, want string }{
	{"BLPOP q 0", "RPUSH q a b c", "LRANGE q 0 -1", "[a b c]"},
	{"BLPOP none q 0", "RPUSH q a b c", "LRANGE q 0 -1", "[a b c]"},
	{"BRPOP q 0", "RPUSH q a b c", "LRANGE q 0 -1", "[a b c]"},
	{"BLMPOP 0 1 q LEFT COUNT 2", "RPUSH q a b c", "LRANGE q 0 -1", "[a b c]"},
	{"BLMPOP 0 2 none q right COUNT 2", "RPUSH q a b c", "LRANGE q 0 -1", "[a b c]"},
	{"BLMPOP 0 1 q LEFT", "RPUSH q a", "LRANGE q 0 -1", "[a]"},
	{"BZPOPMIN q 0", "ZADD q 1.5 a 2 b", "ZRANGE q 0 -1 WITHSCORES", "[a 1.5 b 2]"},
	{"BZPOPMAX q 0", "ZADD q -inf a inf b", "ZRANGE q 0 -1 WITHSCORES", "[a -inf b inf]"},
	{"BZMPOP 0 1 q MIN COUNT 2", "ZADD q 0.5 a 2 b 3 c", "ZRANGE q 0 -1 WITHSCORES", "[a 0.5 b 2 c 3]"},
	{"BZMPOP 0 2 none q MAX", "ZADD q 0.5 a 2e30 b", "ZRANGE q 0 -1 WITHSCORES", "[a 0.5 b 2e+30]"},
	{"BLMOVE q to LEFT RIGHT 0", "RPUSH q a b", "LRANGE to 0 -1", "[a]"},
	{"BRPOPLPUSH q to 0", "RPUSH q a b", "LRANGE to 0 -1", "[b]"},
}

// onceUnblocked does something when berth asks the node to unblock a client.
func onceUnblocked(f func()) (before func(words string), arm func()) {
	var mu sync.Mutex
	armed := false
	return func(words string) {
			mu.Lock()
			now := armed && strings.HasPrefix(words, "client unblock ")
			armed = armed && !now
			mu.Unlock()
			if now {
				f()
			}
		}, func() {
			mu.Lock()
			armed = true
			mu.Unlock()
		}
}

// The node has served the lane when it hears that it is to unblock it: it answers 0, and the element is on its way.
func TestElementThatIsPoppedWhileItsClientLeavesGoesBack(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	direct := dial(t, node.Addr())
	for _, resp := range []int{2, 3} {
		for _, pop := range pops {
			for _, how := range []string{"FIN", "RST"} {
				if !chosen(2) {
					continue
				}
				direct.Do("FLUSHALL")
				before, arm := onceUnblocked(func() { node.Do(t, strings.Fields(pop.push)) })
				b := startBerth(t, startGate(t, node.Addr(), before).addr)
				c := dial(t, b.Addr())
				c.Do("HELLO", resp)
				c.Send(strings.Fields(pop.command))
				awaitBlocked(t, node, 1)
				arm()
				leave(t, b, c, how)
				b.awaitNoGroups(t)
				if got := fmt.Sprint(direct.Do(strings.Fields(pop.look))); got != pop.want {
					t.Errorf("RESP%d %s, %s: %s, want %s", resp, pop.command, how, got, pop.want)
				}
				outcome := lane.Returned
				if pop.look == "LRANGE to 0 -1" {
					outcome = lane.Kept
				}
				st := b.figures(t).LaneStats
				only := lane.Stats{Unblocked: st.Unblocked}
				if only.Orphans[outcome] = 1; st != only {
					t.Errorf("RESP%d %s: counted %+v", resp, pop.command, st)
				}
				if s := b.leases(); s.Idle != 1 {
					t.Errorf("%s: the connection is not back: %+v", pop.command, s)
				}
				b.Stop()
			}
		}
	}
}

func TestOrphansAreDroppedOnDemand(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	before, arm := onceUnblocked(func() { node.Do(t, "RPUSH", "q", "a") })
	b := startBerth(t, startGate(t, node.Addr(), before).addr, "--orphan-pop", "drop")
	c := dial(t, b.Addr())
	c.Send("BLPOP", "q", "0")
	awaitBlocked(t, node, 1)
	arm()
	c.Close()
	b.awaitNoGroups(t)
	if got, n := node.Do(t, "LLEN", "q"), b.figures(t).LaneStats.Orphans; got != int64(0) || n[lane.Dropped] != 1 {
		t.Errorf("%v elements are left, counted %v", got, n)
	}
}

// Somebody else has come meanwhile: the element is the new client's.
func TestElementPoppedForAClientThatLeftGoesToTheNextInItsGroup(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	var b *berthServer
	var next *redistest.Conn
	before, arm := onceUnblocked(func() {
		next.Send("BLPOP", "q", "5")
		b.awaitWaiters(t, 1)
		node.Do(t, "RPUSH", "q", "a")
	})
	b = startBerth(t, startGate(t, node.Addr(), before).addr, "--loops", "2", "--blocking-lanes-max", "1")
	c := dial(t, b.Addr())
	next = dial(t, b.Addr())
	c.Send("BLPOP", "q", "0")
	awaitBlocked(t, node, 1)
	arm()
	c.Close()
	if got := fmt.Sprint(next.Recv()); got != "[q a]" {
		t.Error(got)
	}
	b.awaitNoGroups(t)
	if st := b.figures(t).LaneStats; st.Orphans != (lane.Stats{}).Orphans {
		t.Errorf("counted %v", st.Orphans)
	}
}

// The question overtakes the command on another connection: the node unblocks nobody and is asked again.
func TestUnblockThatComesBeforeTheCommandIsAskedAgain(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	come, asked := make(chan struct{}), make(chan struct{}, 100)
	b := startBerth(t, startGate(t, node.Addr(), func(words string) {
		switch {
		case strings.HasPrefix(words, "client unblock "):
			asked <- struct{}{}
		case words == "blpop q 0":
			close(come)
			<-asked
			<-asked
		}
	}).addr)
	c := dial(t, b.Addr())
	c.Send("BLPOP", "q", "0")
	<-come
	c.Close()
	b.awaitNoGroups(t)
	st := b.figures(t).LaneStats
	if s := b.leases(); s.Idle != 1 || st.Closed != 0 || st.Unblocked != 1 {
		t.Errorf("%+v, %+v", s, st)
	}
}

// A node that says 0 for ever and never answers the command is left.
func TestUnblockInVainClosesTheConnection(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	come, stop := make(chan struct{}), make(chan struct{})
	b := startBerth(t, startGate(t, node.Addr(), func(words string) {
		if words == "blpop q 0" {
			close(come)
			<-stop
		}
	}).addr)
	c := dial(t, b.Addr())
	c.Send("BLPOP", "q", "0")
	<-come
	c.Close()
	b.awaitNoGroups(t)
	close(stop)
	if n := b.figures(t).LaneStats; n.Closed != 1 {
		t.Errorf("%+v", n)
	}
}

// The time of a client is up while the lane that it alone waits on goes on: whatever the node says last is its answer.
func TestElementPoppedAtTheVeryEndOfATimeoutIsTheClients(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	before, arm := onceUnblocked(func() { node.Do(t, "RPUSH", "q", "a") })
	b := startBerth(t, startGate(t, node.Addr(), before).addr, "--blocking-lanes-max", "1")
	forever, c := dial(t, b.Addr()), dial(t, b.Addr())
	forever.Send("BLPOP", "q", "0")
	awaitBlocked(t, node, 1)
	c.Send("BLPOP", "q", "0.4")
	b.awaitWaiters(t, 2)
	arm()
	leave(t, b, forever, "FIN")
	if got := fmt.Sprint(c.Recv()); got != "[q a]" {
		t.Error(got)
	}
	b.awaitNoGroups(t)
}

// 2,000 clients are killed at one moment; what is pushed a moment later is there for others, each element once.
func TestElementsPushedBehindKilledClientsAreNotLost(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr(), "--loops", "2")
	clients, lists := sized(500, 2000), 20
	conns := make([]*redistest.Conn, clients)
	for i := range conns {
		conns[i] = dial(t, b.Addr())
		conns[i].Send("BLPOP", fmt.Sprint("dead:", i%lists), "0")
	}
	b.awaitWaiters(t, clients)
	direct := dial(t, node.Addr())
	for i, c := range conns {
		if i%2 == 0 {
			c.Close()
		} else {
			c.Reset()
		}
	}
	killed := time.Now()
	eventually(t, "50 ms to pass", func() bool { return time.Since(killed) > 50*time.Millisecond })
	const pushed = 50
	for list := range lists {
		for i := range pushed {
			direct.Do("RPUSH", fmt.Sprint("dead:", list), i)
		}
	}
	b.awaitNoGroups(t)
	want := fmt.Sprint(numbers(pushed))
	lost := 0
	for list := range lists {
		got := direct.Do("SORT", fmt.Sprint("dead:", list)).([]any)
		lost += pushed - len(got)
		if fmt.Sprint(got) != want {
			t.Errorf("list %d: %v", list, got)
		}
	}
	figure(t, "%d blocked clients killed, %d elements pushed 50 ms later: lost %d; orphans %v, lanes %+v",
		clients, lists*pushed, lost, b.figures(t).LaneStats.Orphans, b.figures(t).LaneStats)
}

// numbers are those from 0 on, as words.
func numbers(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint(i))
	}
	return all
}
