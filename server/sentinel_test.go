package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

func TestClientsGoOnWhenSentinelsReplaceThePrimary(t *testing.T) {
	parallel(t)
	w := redistest.StartWatched(t, 1, 1)
	b := startBerth(t, w.URL())
	plain, blocked, reader, watcher, subscriber := dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr())
	pipelined(plain, "SET k 1", "WAIT 1 1000")
	blocked.Send("BLPOP", "queue", "0")
	reader.Send("XREAD", "BLOCK", "0", "STREAMS", "stream", "$")
	pipelined(watcher, "WATCH k", "GET k")
	subscriber.Do("SUBSCRIBE", "news")
	eventually(t, "BLPOP to have rested at the node", func() bool { // else it might have been executed
		for line := range strings.Lines(w.Nodes[0].Do(t, "CLIENT", "LIST").(string)) {
			if strings.Contains(line, "cmd=blpop") && !strings.Contains(line, "idle=0") && !strings.Contains(line, "idle=1 ") {
				return true
			}
		}
		return false
	})

	w.Nodes[0].Kill()
	eventually(t, "writes to be taken again", func() bool { return plain.Do("SET", "k2", "2") == "OK" })
	script(t, plain, "GET k → 1", "RPUSH queue x → 1")
	if got := fmt.Sprint(blocked.Recv()); got != "[queue x]" {
		t.Errorf("BLPOP: %v", got)
	}
	awaitBlocked(t, w.Nodes[1], 1)
	plain.Do("XADD", "stream", "*", "f", "v")
	if got, ok := reader.Recv().([]any); !ok || len(got) != 1 {
		t.Errorf("XREAD: %v", got)
	}
	if got := pipelined(watcher, "MULTI", "SET k 3", "EXEC"); got[2] != nil {
		t.Errorf("EXEC behind a WATCH at the primary that is gone: %v", got)
	}
	eventually(t, "a message to come", func() bool { return plain.Do("PUBLISH", "news", "m") == int64(1) })
	if got := fmt.Sprint(subscriber.Recv()); got != "[message news m]" {
		t.Errorf("subscriber: %v", got)
	}
}

func TestClientsGoOnThroughAFailoverOnDemand(t *testing.T) {
	parallel(t)
	w := redistest.StartWatched(t, 1, 1)
	b := startBerth(t, w.URL())
	c := dial(t, b.Addr())
	pipelined(c, "SET k 0", "WAIT 1 1000")
	w.Failover(t)
	eventually(t, "the other node to be found", func() bool {
		c.Do("INCR", "k")
		return b.srv.nodes.Topology().Primary(0) == w.Nodes[1].Addr()
	})
	c.Do("SET", "k", "here")
	if got := w.Nodes[1].Do(t, "GET", "k"); got != "here" {
		t.Errorf("the new primary has %v", got)
	}
}

// Nodes, Sentinels and berth show each other certificates, and the new primary is known by the address at
// which it speaks TLS.
func TestClientsGoOnWhenSentinelsReplaceAPrimaryThatSpeaksTLS(t *testing.T) {
	parallel(t)
	ca := redistest.NewAuthority(t)
	w := redistest.StartWatchedTLS(t, ca, 1, 3)
	pair := ca.Issue(t, "berth")
	b := startBerth(t, w.URL(), "--backend-tls-ca-file", ca.Path, "--backend-tls-cert-file", pair.CertPath, "--backend-tls-key-file", pair.KeyPath)
	c := dial(t, b.Addr())
	if got := pipelined(c, "SET k 1", "WAIT 1 5000"); fmt.Sprint(got) != "[OK 1]" {
		t.Fatal(got)
	}
	w.Nodes[0].Kill()
	eventually(t, "writes to be taken again", func() bool { return c.Do("SET", "k2", "2") == "OK" })
	if got := b.srv.nodes.Topology().Primary(0); got != w.Nodes[1].LinkAddr() {
		t.Errorf("the primary is %s, want %s", got, w.Nodes[1].LinkAddr())
	}
	script(t, c, "GET k → 1", "INCR k → 2", "WATCH k → OK", "MULTI → OK", "INCR k → QUEUED", "EXEC → [3]")
	if got := w.Nodes[1].Do(t, "GET", "k"); got != "3" {
		t.Errorf("the new primary has %v", got)
	}
	for _, s := range append(w.Sentinels, w.Nodes[1]) {
		for _, client := range nodeClients(t, s) {
			if client["laddr"] != s.LinkAddr() {
				t.Errorf("%s has a plain connection: %v", s.Addr(), client)
			}
		}
	}
}

func TestBlockedClientsGoOnWhenSentinelsReplaceADemotedPrimary(t *testing.T) {
	parallel(t)
	old, current := redistest.Start(t, "--hz", "100"), redistest.Start(t, "--hz", "100")
	o := redistest.StartOracle(t, old.Addr(), 1)
	b := startBerth(t, "sentinel://"+o.Addr()+"/mymaster")
	pop, read := dial(t, b.Addr()), dial(t, b.Addr())
	pop.Send("BLPOP", "q", "0")
	read.Send("XREAD", "BLOCK", "0", "STREAMS", "s", "0")
	awaitBlocked(t, old, 2)
	old.Do(t, "REPLICAOF", "127.0.0.1", "1")
	o.Say(current.Addr(), 2)
	b.srv.nodes.Refresh()
	awaitBlocked(t, current, 2)
	current.Do(t, "RPUSH", "q", "x")
	current.Do(t, "XADD", "s", "1-1", "f", "v")
	if got := fmt.Sprint(pop.Recv(), read.Recv()); got != "[q x] [[s [[1-1 [f v]]]]]" {
		t.Error(got)
	}
}

// The old primary goes on as one for a while: what is watched there is of no use any more.
func TestWatchDoesNotOutliveThePrimary(t *testing.T) {
	parallel(t)
	old, current := redistest.Start(t), redistest.Start(t)
	o := redistest.StartOracle(t, old.Addr(), 1)
	b := startBerth(t, "sentinel://"+o.Addr()+"/mymaster")
	exec, watch, block := dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr())
	for _, c := range []*redistest.Conn{exec, watch, block} {
		script(t, c, "WATCH k → OK")
	}
	o.Say(current.Addr(), 2)
	b.srv.nodes.Refresh()
	eventually(t, "the new primary to be known", func() bool { return b.srv.nodes.Topology().Primary(0) == current.Addr() })
	script(t, exec, "MULTI → OK", "SET k 1 → QUEUED", "EXEC → <nil>", "GET k → <nil>")
	script(t, watch, "WATCH j → OK", "MULTI → OK", "SET k 1 → QUEUED", "EXEC → <nil>")
	script(t, block, "RPUSH l x → 1", "BLPOP l 0 → [l x]", "MULTI → OK", "SET k 1 → QUEUED", "EXEC → <nil>")
	if got := old.Do(t, "DBSIZE"); got != int64(0) {
		t.Errorf("the old primary was written to: %v keys", got)
	}
	script(t, exec, "WATCH k → OK", "MULTI → OK", "SET k 1 → QUEUED", "EXEC → [OK]", "GET k → 1")
}

// A host that loses its power says nothing at all: what is under way to it must not wait for
// backend-timeout-ms.
func TestRequestsAtAReplacedPrimaryThatHangsAreGivenUpSoon(t *testing.T) {
	parallel(t)
	old, current := redistest.Start(t), redistest.Start(t)
	o := redistest.StartOracle(t, old.Addr(), 1)
	b := startBerth(t, "sentinel://"+o.Addr()+"/mymaster")
	shared, exclusive := dial(t, b.Addr()), dial(t, b.Addr())
	script(t, shared, "SET k 1 → OK")
	script(t, exclusive, "WATCH k → OK", "MULTI → OK", "SET k 2 → QUEUED")
	old.Pause()
	t.Cleanup(old.Resume)
	shared.Send("INCR", "k")
	exclusive.Send("EXEC")
	eventually(t, "both to be under way", func() bool {
		waiting := 0
		answers, _ := askLoops(b.srv, func(l *loop) (n int) {
			for s := l.first; s != nil; s = s.next {
				n += s.waiting
			}
			return n
		})
		for _, n := range answers {
			waiting += n
		}
		return waiting == 2
	})
	o.Say(current.Addr(), 2)
	b.srv.nodes.Refresh()
	for name, c := range map[string]*redistest.Conn{"INCR": shared, "EXEC": exclusive} {
		if got := c.Recv(); !isDoubt(got) {
			t.Errorf("%s: %v, want that it may have been executed", name, got)
		}
		script(t, c, "SET k 3 → OK")
	}
	if got := current.Do(t, "GET", "k"); got != "3" {
		t.Errorf("the new primary has %v", got)
	}
}
