package main

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// A server that replicates from berth has the node's data, follows its writes, and goes on where it
// was after the connection has broken.
func TestAServerReplicatesFromBerth(t *testing.T) {
	for _, diskless := range []string{"yes", "no"} {
		t.Run("diskless "+diskless, func(t *testing.T) {
			parallel(t)
			node := redistest.Start(t, "--repl-diskless-sync", diskless, "--repl-diskless-sync-delay", "0")
			b := startBerth(t, "redis://"+node.Addr(), "--timeout", "1")
			c := dial(t, b.Addr())
			script(t, c, "SET before 1 → OK")
			replica := redistest.Start(t, "--repl-timeout", "60")
			host, port, _ := strings.Cut(b.Addr(), ":")
			replica.Do(t, "REPLICAOF", host, port)
			has := func(key, value string) {
				t.Helper()
				eventually(t, "the replica to have "+key, func() bool { return replica.Do(t, "GET", key) == value })
			}
			has("before", "1")
			script(t, c, "SET while 2 → OK")
			has("while", "2")
			if list := text(c.Do("CLIENT", "LIST", "TYPE", "replica")); strings.Count(list, "flags=S") != 1 || !strings.Contains(list, "cmd=psync") {
				t.Errorf("CLIENT LIST TYPE replica: %q", list)
			}
			if got := c.Do("CLIENT", "LIST", "TYPE", "master"); text(got) != "" {
				t.Errorf("CLIENT LIST TYPE master: %q", got)
			}
			if got := text(node.Do(t, "CLIENT", "KILL", "TYPE", "replica")); got != "1" {
				t.Fatalf("the node closed %v replicas", got)
			}
			script(t, c, "SET after 3 → OK")
			has("after", "3")
			stats := text(node.Do(t, "INFO", "stats"))
			if !strings.Contains(stats, "sync_full:1\r") || !strings.Contains(stats, "sync_partial_ok:1\r") {
				t.Errorf("the replica did not go on where it was: %s", stats)
			}
			replica.Stop()
			eventually(t, "its connection to be closed", func() bool { s := b.leases(); return s.Leased == 0 && s.Idle == 0 })
		})
	}
}

func text(reply any) string { return fmt.Sprint(reply) }

// What a node says to a client that is no replica yet, or fails to become one, is what it says
// without berth. Afterwards the client goes on.
func TestReplicationCommandsAreAnsweredAsByTheNode(t *testing.T) {
	parallel(t)
	node := sharedNode(t)
	b := startBerth(t, "redis://"+node.Addr())
	const said = "REPLCONF capa eof capa psync2\r\nREPLCONF nonsense x\r\nREPLCONF capa\r\nREPLCONF\r\nREPLCONF ACK 1\r\nREPLCONF GETACK *\r\n" +
		"PING\r\nMULTI\r\nSYNC\r\nEXEC\r\nPSYNC x\r\nREPLCONF listening-port 7\r\nQUIT\r\n"
	var got [2]string
	for i, addr := range []string{node.Addr(), b.Addr()} {
		c := dial(t, addr)
		c.WriteString(said)
		got[i] = c.ReadAll()
	}
	if got[0] != got[1] {
		t.Errorf("node  %q\nberth %q", got[0], got[1])
	}
}

// A connection that has carried REPLCONF is no other client's afterwards.
func TestATunnelsConnectionIsNotUsedAgain(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, "redis://"+node.Addr())
	c := dial(t, b.Addr())
	script(t, c, "WATCH k → OK", "UNWATCH → OK") // it was pooled before
	script(t, c, "REPLCONF listening-port 7 → OK", "GET k → <nil>")
	if s := b.leases(); s.Leased != 1 || s.Idle != 0 || s.Dials != 1 {
		t.Errorf("with REPLCONF: %+v", s)
	}
	closed := func() bool { s := b.leases(); return s.Leased == 0 && s.Idle == 0 }
	script(t, c, "RESET → RESET")
	eventually(t, "the connection to be closed by RESET", closed)
	script(t, c, "REPLCONF listening-port 7 → OK")
	c.Close()
	eventually(t, "the connection to be closed", closed)
	eventually(t, "the node to see it", func() bool {
		return strings.Count(text(node.Do(t, "CLIENT", "LIST")), "cmd=replconf") == 0
	})
}

// A replica's commands do not pass by what berth refuses.
func TestAReplicaSendsTheNodeNothingButItsOwn(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--repl-diskless-sync-delay", "0")
	b := startBerth(t, "redis://"+node.Addr())
	node.Do(t, "SET", "k", "1")
	ack := string(redistest.Command("REPLCONF", "ACK", "1"))
	for _, last := range []string{"SHUTDOWN NOSAVE\r\n", "CONFIG SET maxmemory 1\r\n", "*1\r\n$3\r\nDEL\r\n", "*x\r\n", "FLUSHALL\r\n",
		"*2\r\n$8\r\nREPLCONF\r\n$99999\r\n" + strings.Repeat("x", 80_000), ack + "\nDEL k\r\n"} {
		c := dial(t, b.Addr())
		c.Send("PSYNC", "?", "-1")
		if got, err := c.TryRecv(); err != nil || !strings.HasPrefix(text(got), "FULLRESYNC") {
			t.Fatalf("PSYNC: %v, %v", got, err)
		}
		c.WriteString("\n" + ack + "*0\r\n" + last)
		c.ReadAll() // berth closes it
		c.Close()
	}
	if got := node.Do(t, "GET", "k"); got != "1" {
		t.Errorf("k is %v", got)
	}
	if got := node.Do(t, "CONFIG", "GET", "maxmemory"); fmt.Sprint(got) != "[maxmemory 0]" {
		t.Error(got)
	}
}

// Another user's connection is not the one that the user before had.
func TestATunnelEndsWithItsUser(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	setUsers(t, node, "u on >pw ~* &* +@all -psync -sync")
	b := startBerth(t, "redis://"+node.Addr())
	c := dial(t, b.Addr())
	script(t, c, "REPLCONF capa eof → OK", "AUTH u pw → OK")
	for _, request := range [][]any{{"SYNC"}, {"PSYNC", "?", "-1"}} {
		if got := c.Do(request...); !refusedFor(got, "NOPERM") {
			t.Errorf("%v: %v", request, got)
		}
	}
	script(t, c, "REPLCONF capa eof → OK", "PING → PONG")
	if got := text(node.Do(t, "CLIENT", "LIST")); strings.Count(got, "cmd=replconf user=u ") != 1 || strings.Count(got, "cmd=replconf ") != 1 {
		t.Errorf("%s", got)
	}
	if got := text(node.Do(t, "INFO", "replication")); !strings.Contains(got, "connected_slaves:0") {
		t.Errorf("%s", got)
	}
}

func TestThereIsNoReplicationOverACluster(t *testing.T) {
	parallel(t)
	b := startBerth(t, clusterURL(sharedCluster(t)))
	c := dial(t, b.Addr())
	for _, request := range [][]any{{"SYNC"}, {"PSYNC", "?", "-1"}, {"REPLCONF", "capa", "eof"}} {
		got := text(c.Do(request...))
		if !strings.HasPrefix(got, "ERR "+text(request[0])+" is not possible through berth over a Redis Cluster: ") {
			t.Errorf("%v: %v", request, got)
		}
	}
}

// A replica that does not read has the node wait, and berth hold little. When the replica reads
// again, nothing is missing.
func TestAReplicaThatDoesNotReadTakesNoMemory(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0", "--client-output-buffer-limit", "replica 0 0 0")
	b := startBerth(t, "redis://"+node.Addr())
	c, slow := dial(t, b.Addr()), dial(t, b.Addr())
	slow.Narrow()
	slow.Send("SYNC")
	eventually(t, "the stream to have begun", func() bool {
		return strings.Contains(text(node.Do(t, "INFO", "replication")), "state=online")
	})
	const size, values = 1 << 20, 24
	value := strings.Repeat("x", size)
	for i := range values {
		c.Do("SET", "k", fmt.Sprintf("%02d%s", i, value))
	}
	c.Do("SET", "last", "one")
	held := func() (n int64) {
		list := text(c.Do("CLIENT", "LIST", "TYPE", "replica"))
		_, after, _ := strings.Cut(list, " omem=")
		_, _ = fmt.Sscan(after, &n)
		return n
	}
	eventually(t, "berth to hold what it may", func() bool { return held() >= maxUnread })
	if n := held(); n > maxUnread+2*tunnelPiece {
		t.Errorf("berth holds %d bytes for a replica that does not read", n)
	}
	eventually(t, "the node to hold the rest", func() bool {
		list := text(node.Do(t, "CLIENT", "LIST", "TYPE", "replica"))
		_, after, _ := strings.Cut(list, " omem=")
		var n int64
		_, _ = fmt.Sscan(after, &n)
		return n > 0
	})
	stream := slow.ReadUntil("last\r\n$3\r\none\r\n")
	if n := strings.Count(stream, value); n != values {
		t.Errorf("%d of %d values came", n, values)
	}
}

func TestNodeThatIsSilentToAReplicaIsWaitedForNoLongerThanItsTimeout(t *testing.T) {
	for words, want := range map[string]string{
		"ping":          "-TRYAGAIN berth: no connection to ",
		"replconf capa": "-ERR berth: connection to ",
	} {
		t.Run(words, func(t *testing.T) {
			parallel(t)
			asked, isOver := make(chan struct{}), make(chan struct{})
			defer close(isOver)
			var holds atomic.Bool
			b := startBerth(t, startGate(t, redistest.Start(t).Addr(), func(said string) {
				if strings.HasPrefix(said, words) && holds.CompareAndSwap(true, false) {
					close(asked)
					<-isOver
				}
			}).addr)
			c, other := dial(t, b.Addr()), dial(t, b.Addr())
			script(t, c, "WATCH k → OK", "UNWATCH → OK") // its connection is pooled: it has been asked before
			eventually(t, "the connection to be idle", func() bool { return b.leases().Idle == 1 })
			holds.Store(true)
			c.WriteString("REPLCONF capa eof\r\n")
			<-asked
			script(t, other, "CONFIG SET backend-timeout-ms 50 → OK")
			if got := c.RecvRaw(); !strings.HasPrefix(got, want) {
				t.Errorf("%q", got)
			}
			eventually(t, "the connection to be closed", func() bool { return b.leases().Leased == 0 })
		})
	}
}
