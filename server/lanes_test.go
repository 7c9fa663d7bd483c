package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/lane"
	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/server/telemetry"
)

// awaitNoGroups waits until nothing is left of what blocked clients needed.
func (b *berthServer) awaitNoGroups(t *testing.T) {
	t.Helper()
	eventually(t, "all groups and lanes to be gone", func() bool {
		left, _ := askLoops(b.srv, func(l *loop) int { n := l.lanes.Load(); return n.Groups + n.Waiters })
		for _, n := range left {
			if n > 0 {
				return false
			}
		}
		return b.srv.lanes.Unsettled() == 0
	})
}

// figures are what the loops have counted so far.
func (b *berthServer) figures(t *testing.T) *telemetry.Loop {
	t.Helper()
	snap := b.srv.look(0)
	if snap.Silent > 0 {
		t.Fatalf("%d loops do not answer", snap.Silent)
	}
	return snap.Total()
}

func TestClientsOfOneGroupTimeOutEachByItsOwnClock(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--hz", "100")
	b := startBerth(t, node.Addr(), "--loops", "3")
	timeouts := []string{"0", "0.3", "60", "0.15", "0.6", "0.3"}
	clients := make([]*redistest.Conn, len(timeouts))
	began := make([]time.Time, len(timeouts))
	for i, timeout := range timeouts {
		clients[i] = dial(t, b.Addr())
		began[i] = time.Now()
		clients[i].Send("BLPOP", "own", timeout)
		b.awaitWaiters(t, i+1)
	}
	for _, i := range []int{3, 1, 5, 4} {
		got := clients[i].Recv()
		var asked float64
		fmt.Sscan(timeouts[i], &asked)
		if took := time.Since(began[i]).Seconds(); got != nil || took < asked-0.005 {
			t.Errorf("BLPOP own %s: %v after %.3f s", timeouts[i], got, took)
		}
	}
	other := dial(t, b.Addr())
	other.Do("RPUSH", "own", "a", "b")
	if got := fmt.Sprint(clients[0].Recv(), clients[2].Recv()); got != "[own a] [own b]" {
		t.Errorf("those who still wait: %s", got)
	}
	b.awaitNoGroups(t)
}

func TestPollingClientCostsTheNodeOneCommandEachTime(t *testing.T) {
	parallel(t)
	node := redistest.Start(t) // hz 10: late with every timeout, by 100 ms
	b := startBerth(t, node.Addr())
	c := dial(t, b.Addr())
	for range 10 {
		if got := c.Do("BLPOP", "poll", "0.02"); got != nil {
			t.Fatal(got)
		}
	}
	stats := node.Do(t, "INFO", "commandstats").(string)
	if !strings.Contains(stats, "cmdstat_blpop:calls=10,") {
		t.Errorf("after 10 polls: %s", stats)
	}
	if n := b.figures(t).LaneStats; n.Unblocked > 5 || n.Closed > 0 { // one or two if the machine is starved
		t.Errorf("after 10 polls: %+v", n)
	}
}

func TestGroupsShareFewConnectionsAndGrowWhenElementsComeFast(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr(), "--loops", "2", "--blocking-lanes-max", "3")
	clients := make([]*redistest.Conn, 100)
	for i := range clients {
		clients[i] = dial(t, b.Addr())
		clients[i].Send("BLPOP", "few", "0")
	}
	b.awaitWaiters(t, len(clients))
	if n := b.leases().Leased; n != 1 {
		t.Errorf("%d connections for clients that only wait", n)
	}
	words := []any{"RPUSH", "few"}
	for i := range 20 {
		words = append(words, i)
	}
	for left := 80; left >= 40; left -= 20 { // on a starved machine they do not all come fast
		dial(t, b.Addr()).Do(words...)
		b.awaitWaiters(t, left)
	}
	if n := b.leases().Leased; n != 3 {
		t.Errorf("%d connections after elements came fast, want 3", n)
	}
	row := only(t, proxy(t, dial(t, b.Addr()), "PINS")[:1], "reason", "blocking")
	if row["waiters"] != int64(40) || row["command"] != "blpop" {
		t.Errorf("PROXY PINS: %v", row)
	}
	for _, c := range clients {
		c.Close()
	}
	b.awaitNoGroups(t)
	awaitBlocked(t, node, 0)
}

func TestClientsThatAskForOtherThingsWaitApart(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr())
	lines := []string{"BLPOP a 0", "BRPOP a 0", "BLPOP a b 0", "BLPOP b a 0", "BLMPOP 0 1 a LEFT", "BLMPOP 0 1 a RIGHT", "BLMPOP 0 1 a LEFT COUNT 2"}
	for _, line := range lines {
		for range 2 {
			c := dial(t, b.Addr())
			c.Send(strings.Fields(line))
		}
	}
	other := dial(t, b.Addr())
	other.Do("SELECT", 1)
	other.Send("BLPOP", "a", 0)
	resp3 := dial(t, b.Addr())
	resp3.Do("HELLO", 3)
	resp3.Send("BLPOP", "a", 0)
	b.awaitWaiters(t, 2*len(lines)+2)
	awaitBlocked(t, node, len(lines)+2)
}

func TestSharingIsSwitchedWhileClientsWait(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr(), "--loops", "2")
	var clients []*redistest.Conn
	for i := range 12 {
		switch i {
		case 4:
			b.set("blocking-share", "no")
		case 8:
			b.set("blocking-share", "yes")
		}
		c := dial(t, b.Addr())
		c.Send("BLPOP", "switched", "0")
		b.awaitWaiters(t, i+1)
		clients = append(clients, c)
	}
	awaitBlocked(t, node, 5) // the lane of eight, and four on their own
	other := dial(t, b.Addr())
	seen := map[string]int{}
	for i := range clients {
		other.Do("RPUSH", "switched", i)
	}
	for _, c := range clients {
		seen[fmt.Sprint(c.Recv())]++
	}
	if len(seen) != len(clients) {
		t.Errorf("got %v", seen)
	}
	b.awaitNoGroups(t)
}

func TestClientsWithoutAConnectionInTimeAreToldToTryAgain(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr(), "--private-conn-pool-max-total", "1", "--pool-wait-timeout", "100")
	first, second, third := dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr())
	first.Send("BLPOP", "one", "0")
	awaitBlocked(t, node, 1)
	second.Send("BLPOP", "two", "0")
	third.Send("BLPOP", "two", "0.01")
	for _, c := range []*redistest.Conn{second, third} {
		if got, _ := c.Recv().(redistest.Error); !strings.HasPrefix(string(got), "TRYAGAIN ") {
			t.Errorf("got %v", got)
		}
	}
	dial(t, b.Addr()).Do("RPUSH", "one", "x")
	if got := fmt.Sprint(first.Recv()); got != "[one x]" {
		t.Error(got)
	}
	if got := second.Do("BLPOP", "two", "0.01"); got != nil {
		t.Error(got)
	}
	b.awaitNoGroups(t)
}

func TestErrorsGoToEachClientThatAsked(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr())
	var clients []*redistest.Conn
	for i := range 5 {
		c := dial(t, b.Addr())
		c.Send("BLMOVE", "from", "to", "LEFT", "LEFT", "0")
		b.awaitWaiters(t, i+1)
		clients = append(clients, c)
	}
	other := dial(t, b.Addr())
	other.Do("SET", "to", "no list")
	other.Do("RPUSH", "from", "x")
	for i, c := range clients {
		if got, _ := c.Recv().(redistest.Error); !strings.HasPrefix(string(got), "WRONGTYPE ") {
			t.Errorf("client %d: %v", i, got)
		}
	}
	if got := other.Do("LRANGE", "from", 0, -1); fmt.Sprint(got) != "[x]" {
		t.Errorf("the element: %v", got)
	}
}

func TestReadersOfAStreamShareOneReadAndMissNothing(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr(), "--loops", "3")
	other := dial(t, b.Addr())
	other.Do("XADD", "s", "1-1", "f", "old")
	readers := make([]*redistest.Conn, 100)
	for i := range readers {
		readers[i] = dial(t, b.Addr())
		readers[i].Send("XREAD", "BLOCK", 5000+i, "STREAMS", "s", "$")
	}
	b.awaitWaiters(t, len(readers))
	if n := b.leases().Leased; n != 1 {
		t.Errorf("%d connections for readers of the same", n)
	}
	for n := 2; n <= 6; n++ {
		id := fmt.Sprintf("%d-1", n)
		other.Do("XADD", "s", id, "f", "v")
		for i, c := range readers {
			if got := fmt.Sprint(c.Recv()); got != "[[s [["+id+" [f v]]]]]" {
				t.Fatalf("reader %d: %s", i, got)
			}
		}
		for i, c := range readers {
			from := id
			if i%2 == 0 {
				from = "$"
			}
			c.Send("XREAD", "BLOCK", 5000, "STREAMS", "s", from)
		}
		b.awaitWaiters(t, len(readers))
	}
	for _, c := range readers {
		c.Close()
	}
	b.awaitNoGroups(t)
}

func TestReaderFromTheEndOfAStreamThatIsNotThereYetGetsItsFirstEntry(t *testing.T) {
	parallel(t)
	b := startBerth(t, redistest.Start(t).Addr())
	c, other := dial(t, b.Addr()), dial(t, b.Addr())
	c.Send("XREAD", "BLOCK", "0", "STREAMS", "new", "newer", "$", "$")
	b.awaitWaiters(t, 1)
	other.Do("XADD", "newer", "1-1", "f", "v")
	if got := fmt.Sprint(c.Recv()); got != "[[newer [[1-1 [f v]]]]]" {
		t.Error(got)
	}
}

// Neither a lost connection nor a node that starts again is told to clients that only wait.
func TestBlockedClientsOutliveTheirConnection(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--hz", "100")
	b := startBerth(t, node.Addr(), "--loops", "2")
	c, reader, other := dial(t, b.Addr()), dial(t, b.Addr()), dial(t, node.Addr())
	began := time.Now()
	c.Send("BLPOP", "out", "0")
	reader.Send("XREAD", "BLOCK", "0", "STREAMS", "s", "$")
	awaitBlocked(t, node, 2)
	for _, trouble := range []string{"killed", "restarted"} {
		eventually(t, "the clients to have waited for a while", func() bool { return time.Since(began) > 2*lane.Doubt })
		switch trouble {
		case "killed":
			other.Do("CLIENT", "KILL", "TYPE", "normal")
		case "restarted":
			node.Kill()
			node.Restart(t)
			other = dial(t, node.Addr())
		}
		awaitBlocked(t, node, 2)
		began = time.Now()
	}
	other.Do("RPUSH", "out", "x")
	other.Do("XADD", "s", "1-1", "f", "v")
	if got := fmt.Sprint(c.Recv(), reader.Recv()); got != "[out x] [[s [[1-1 [f v]]]]]" {
		t.Error(got)
	}
	node.Kill() // the descriptors of its second process are none of berth's
}

// blockedWhenDemoted are blocking commands, all of which Redis ends when their node becomes a
// replica.
var blockedWhenDemoted = []string{
	"BLPOP q 0", "BLPOP q 0", "BLMOVE q r LEFT LEFT 0", "BZPOPMIN z 0", "XREAD BLOCK 0 STREAMS s $", "XREAD BLOCK 0 STREAMS s 0",
	"XREADGROUP GROUP g me BLOCK 0 STREAMS sg >", "WAIT 5 0",
}

// No other node takes over from a single one, so blocked clients hear that it was demoted.
func TestBlockedClientsHearThatASingleNodeIsDemoted(t *testing.T) {
	parallel(t)
	for _, pool := range []string{"1", "0"} {
		node := redistest.Start(t, "--hz", "100")
		b := startBerth(t, node.Addr(), "--loops", "2", "--private_conn_pool_enabled", pool)
		direct := dial(t, node.Addr())
		direct.Do("XGROUP", "CREATE", "sg", "g", "$", "MKSTREAM")
		blocked := make([]*redistest.Conn, len(blockedWhenDemoted))
		for i, command := range blockedWhenDemoted {
			blocked[i] = dial(t, b.Addr())
			blocked[i].Send(strings.Fields(command))
		}
		awaitBlocked(t, node, map[string]int{"1": len(blocked) - 1, "0": len(blocked)}[pool]) // two share a connection
		if pool == "1" {
			b.awaitWaiters(t, len(blocked)-1) // WAIT has no group
		}
		direct.Send("BLPOP", "q", "0")
		awaitBlocked(t, node, map[string]int{"1": len(blocked), "0": len(blocked) + 1}[pool])
		dial(t, node.Addr()).Do("REPLICAOF", "127.0.0.1", "1")
		want := direct.RecvRaw()
		if !strings.HasPrefix(want, "-UNBLOCKED force unblock") {
			t.Fatalf("a direct client: %q", want)
		}
		for i, c := range blocked {
			if got := c.RecvRaw(); got != want {
				t.Errorf("%s: %q", blockedWhenDemoted[i], got)
			}
			if pool == "0" { // the client may have kept the connection, which the node closes
				continue
			}
			if got := c.DoRaw("BLPOP", "q", "0"); !strings.HasPrefix(got, "-READONLY ") {
				t.Errorf("after %s, BLPOP: %q", blockedWhenDemoted[i], got)
			}
		}
		if pool == "1" {
			b.awaitLeased(t, 0)
		}
	}
}

func TestNobodyMayUnblockAtTheNodeSoTheConnectionIsClosed(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	node.Do(t, "ACL", "SETUSER", "taker", "on", ">pw", "~*", "+@all", "-client|unblock")
	b := startBerth(t, node.Addr())
	c, other := dial(t, b.Addr()), dial(t, b.Addr())
	c.Do("AUTH", "taker", "pw")
	c.Send("BLPOP", "acl", "0")
	awaitBlocked(t, node, 1)
	c.Close()
	awaitBlocked(t, node, 0)
	b.awaitNoGroups(t)
	other.Do("RPUSH", "acl", "x")
	if got := fmt.Sprint(other.Do("LRANGE", "acl", 0, -1)); got != "[x]" {
		t.Error(got)
	}
	if n := b.leases().Leased; n != 0 {
		t.Errorf("%d leases are left", n)
	}
}

func TestClientThatLeavesGivesItsConnectionBack(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr())
	for range 20 {
		c := dial(t, b.Addr())
		c.Send("BLPOP", "back", "0")
		awaitBlocked(t, node, 1)
		c.Close()
		awaitBlocked(t, node, 0)
		b.awaitNoGroups(t)
		eventually(t, "its connection to be idle", func() bool { return b.leases().Idle == 1 })
	}
	if s, n := b.leases(), b.figures(t).LaneStats; s.Idle != 1 || s.Leased != 0 || n.Closed != 0 || n.Unblocked != 20 {
		t.Errorf("after 20 clients have left: %+v, %+v", s, n)
	}
}

// A primary that is killed, and one that stands still and says nothing: clients that wait follow
// their slot to the replica.
func TestBlockedClientsFollowTheirSlotToTheReplica(t *testing.T) {
	parallel(t)
	for _, how := range []string{"killed", "standing still"} {
		cluster := redistest.StartCluster(t, 3, 1, "--cluster-require-full-coverage", "no")
		const hurt = 2
		key := tagOn(cluster, hurt) + "list"
		b := startBerth(t, clusterURL(cluster), "--loops", "2", "--topology-refresh-interval", "2")
		clients := make([]*redistest.Conn, 20)
		began := time.Now()
		for i := range clients {
			clients[i] = dial(t, b.Addr())
			clients[i].SetTimeout(40 * time.Second)
			clients[i].Send("BLPOP", key, []any{0, 60}[i%2])
		}
		awaitBlocked(t, cluster.Node(hurt), 1)
		eventually(t, "the clients to have waited for a while", func() bool { return time.Since(began) > 2*lane.Doubt })
		if how == "killed" {
			cluster.Node(hurt).Kill()
		} else {
			cluster.Node(hurt).Pause()
			defer cluster.Node(hurt).Resume()
		}
		replica := cluster.Node(5)
		redistest.Eventually(t, 20*time.Second, "the replica to take over", func() bool {
			return strings.Contains(replica.Do(t, "INFO", "replication").(string), "role:master")
		})
		redistest.Eventually(t, 30*time.Second, "the clients to wait there", func() bool {
			return !strings.Contains(replica.Do(t, "INFO", "clients").(string), "blocked_clients:0\r\n")
		})
		pusher := dial(t, replica.Addr())
		seen := map[string]int{}
		for i := range clients {
			pusher.Do("RPUSH", key, i)
		}
		for _, c := range clients {
			seen[fmt.Sprint(c.Recv())]++
		}
		if len(seen) != len(clients) {
			t.Errorf("%s: got %v", how, seen)
		}
		pusher.Close()
	}
}
