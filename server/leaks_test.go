package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// Connections that go from one client to the next must not carry anything of the first. These tests cap the pool at one
// connection, so that the next client gets just that one, or a fresh one in its place.

// oneLease is a berth with one loop and at most one exclusive connection to a node.
func oneLease(t *testing.T, backend string, args ...string) *berthServer {
	t.Helper()
	return startBerth(t, backend, append(args, "--private-conn-pool-max-total", "1", "--pool-wait-timeout", "5000", "--loops", "1")...)
}

// leave ends a client's connection in one of three ways and returns when berth knows.
func leave(t *testing.T, b *berthServer, c *redistest.Conn, how string) {
	t.Helper()
	seen := b.readsOf(c)
	switch how {
	case "QUIT":
		c.Send("QUIT")
		_ = c.ReadAll()
		c.Close() // berth waits a second for that
	case "FIN":
		c.Close()
	case "RST":
		c.Reset()
	}
	eventually(t, "berth to see its client go", func() bool { return seen.bytes.Load() >= goneFar })
}

var waysToLeave = []string{"QUIT", "FIN", "RST"}

// outsideMulti reports whether a connection, as CLIENT LIST of the node shows it, is in no
// transaction. Since Valkey 9.1 multi stays 0 after EXEC.
func (b *berthServer) outsideMulti(line map[string]string) bool {
	return line["multi"] == "-1" || b.srv.isValkeySince(9, 1) && line["multi"] == "0" && !strings.Contains(line["flags"], "x")
}

// mustBePristine is the next client: what it does on its lease must not show that there was another. victim is a key the
// client before may have watched.
func mustBePristine(t *testing.T, b *berthServer, node *redistest.Server, tag string) {
	t.Helper()
	victim, other := "{"+tag+"}victim", "{"+tag+"}other"
	c := dial(t, b.Addr())
	defer c.Close()
	if got, want := c.DoRaw("CLIENT", "GETNAME")+c.DoRaw("ACL", "WHOAMI"), "$-1\r\n$7\r\ndefault\r\n"; got != want {
		t.Errorf("the next client's name and user: %q", got)
	}
	script(t, c, "PING → PONG", "WATCH "+other+" → OK")
	var mine []map[string]string
	for _, n := range nodeClients(t, node) {
		if n["cmd"] == "watch" && n["user"] == "default" { // another user's pool keeps its own
			mine = append(mine, n)
		}
	}
	if len(mine) != 1 {
		t.Fatalf("%d connections watch at the node: %v", len(mine), mine)
	}
	for field, want := range map[string]string{
		"db": "0", "name": b.srv.nodes.Naming().Name("lease"), "resp": "2", "sub": "0", "psub": "0", "ssub": "0", "user": "default", "flags": "N", "redir": "-1",
	} {
		if got := mine[0][field]; got != want {
			t.Errorf("the node says of the lease %s=%s, want %q", field, got, want)
		}
	}
	if !b.outsideMulti(mine[0]) {
		t.Errorf("the node says of the lease multi=%s flags=%s", mine[0]["multi"], mine[0]["flags"])
	}
	direct := dial(t, node.Addr())
	defer direct.Close()
	direct.Do("SET", victim, "changed by another")
	direct.Do("PUBLISH", tag, "for another")
	direct.Do("SPUBLISH", tag, "for another")
	c.WriteString(pipeline("GET "+victim, "MULTI", "SET "+other+" 1", "HSET "+other+"h f v", "HGETALL "+other+"h", "EXEC", "GET "+other))
	want := "$18\r\nchanged by another\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n+OK\r\n:1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n$1\r\n1\r\n"
	if got := strings.Join(replies(c, 7), ""); got != want {
		t.Errorf("the next client:\n got %q\nwant %q", got, want)
	}
	c.Send("BLPOP", other+"l", "0")
	awaitBlocked(t, node, 1)
	direct.Do("RPUSH", other+"l", "x")
	if got := fmt.Sprint(c.Recv()); got != "["+other+"l x]" {
		t.Errorf("BLPOP of the next client: %s", got)
	}
	c.Send("QUIT")
	if got := c.ReadAll(); got != "+OK\r\n" {
		t.Errorf("at the end the next client hears %q", got)
	}
	direct.Do("DEL", victim, other, other+"h", other+"l")
}

func TestConnectionWithAnOpenMultiIsNotRecycled(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--hz", "100")
	b := oneLease(t, node.Addr())
	for name, left := range map[string]string{
		"before EXEC":            pipeline("WATCH {mm}victim", "MULTI", "SET {mm}victim 1"),
		"before EXEC, unwatched": pipeline("MULTI", "SET {mm}victim 1"),
		"with half an EXEC":      pipeline("WATCH {mm}victim", "MULTI", "SET {mm}victim 1") + "*1\r\n$4\r\nEX",
		"before EXEC's reply":    pipeline("WATCH {mm}victim", "MULTI", "SET {mm}victim 1", "EXEC"),
		"with a refused command": pipeline("WATCH {mm}victim", "MULTI", "GET", "SET {mm}victim 1"),
	} {
		for _, how := range []string{"FIN", "RST"} {
			t.Run(name+", "+how, func(t *testing.T) {
				c := dial(t, b.Addr())
				b.feed(c, left)
				leave(t, b, c, how)
				mustBePristine(t, b, node, "mm")
			})
		}
	}
}

func TestConnectionWithAStaleWatchIsNotRecycled(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--hz", "100")
	b := oneLease(t, node.Addr())
	for name, left := range map[string]string{
		"WATCH":                pipeline("WATCH {sw}victim"),
		"WATCH behind EXEC":    pipeline("WATCH {sw}a", "MULTI", "GET {sw}a", "EXEC", "WATCH {sw}victim"),
		"WATCH behind UNWATCH": pipeline("WATCH {sw}a", "UNWATCH", "WATCH {sw}victim"),
		"WATCH behind DISCARD": pipeline("WATCH {sw}a", "MULTI", "DISCARD", "WATCH {sw}victim"),
		"UNWATCH":              pipeline("WATCH {sw}victim", "UNWATCH"),
		"EXECABORT":            pipeline("WATCH {sw}victim", "MULTI", "nonsense", "EXEC"),
		"RESET":                pipeline("WATCH {sw}victim", "RESET"),
		"a blocking command":   pipeline("WATCH {sw}victim", "RPUSH {sw}tmp x", "BLPOP {sw}tmp 1"),
	} {
		for _, how := range waysToLeave {
			t.Run(name+", "+how, func(t *testing.T) {
				c := dial(t, b.Addr())
				c.WriteString(left)
				replies(c, strings.Count(left, "*")) // all that it did has been done
				leave(t, b, c, how)
				mustBePristine(t, b, node, "sw")
			})
		}
	}
}

func TestConnectionOfAnotherUserIsNotRecycled(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--hz", "100")
	node.Do(t, "ACL", "SETUSER", "alice", "on", ">secret", "~*", "&*", "+@all")
	b := oneLease(t, node.Addr())
	whoami := func(c *redistest.Conn, want string) {
		t.Helper()
		script(t, c, "WATCH {au}a → OK", "ACL WHOAMI → "+want, "MULTI → OK", "ACL WHOAMI → QUEUED", "EXEC → ["+want+"]",
			"WATCH {au}a → OK", "UNWATCH → OK")
	}
	for _, how := range waysToLeave {
		t.Run(how, func(t *testing.T) {
			c := dial(t, b.Addr())
			script(t, c, "AUTH alice secret → OK")
			whoami(c, "alice")
			leave(t, b, c, how)
			mustBePristine(t, b, node, "au")
		})
	}
	t.Run("the same client, as others", func(t *testing.T) {
		for _, enabled := range []string{"1", "0"} {
			b.set("private_conn_pool_enabled", enabled)
			c := dial(t, b.Addr())
			whoami(c, "default")
			script(t, c, "AUTH alice secret → OK")
			whoami(c, "alice")
			script(t, c, "RESET → RESET")
			whoami(c, "default")
			script(t, c, "WATCH {au}a → OK", "AUTH alice secret → OK", "MULTI → OK", "ACL WHOAMI → QUEUED", "SET {au}a 1 → QUEUED", "EXEC → [alice OK]")
			whoami(c, "alice")
			leave(t, b, c, "FIN")
		}
	})
}

func TestAbandonedWatchIsUndoneBeforeTheConnectionIsUsedAgain(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := oneLease(t, node.Addr())
	c := dial(t, b.Addr())
	script(t, c, "WATCH mine → OK")
	leave(t, b, c, "FIN")
	eventually(t, "the node to forget what was watched", func() bool {
		return strings.Contains(fmt.Sprint(node.Do(t, "INFO", "commandstats")), "cmdstat_unwatch:calls=1,")
	})
	if got := b.leases(); got.Idle != 1 {
		t.Errorf("%d idle", got.Idle)
	}
}

// A user may WATCH and may not UNWATCH: what is left of one client is not the next one's trouble, and no connection that
// anything is left of is used for long.
func TestWatchThatCannotBeUndoneCostsTheNextClientNoError(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	node.Do(t, "ACL", "SETUSER", "watcher", "on", ">pw", "~*", "-@all", "+get", "+set", "+blpop", "+watch", "+multi", "+exec")
	b := oneLease(t, node.Addr())
	for _, talk := range [][]string{
		{"BLPOP q 0.01 → <nil>"},
		{"WATCH other → OK", "MULTI → OK", "SET other 1 → QUEUED", "EXEC → [OK]"},
	} {
		for range 2 { // the first time berth finds out, the second time it knows
			c := dial(t, b.Addr())
			script(t, c, "AUTH watcher pw → OK", "WATCH mine → OK")
			leave(t, b, c, "FIN")
			next := dial(t, b.Addr())
			script(t, next, append([]string{"AUTH watcher pw → OK"}, talk...)...)
			leave(t, b, next, "QUIT")
		}
	}
	if got := fmt.Sprint(node.Do(t, "INFO", "commandstats")); !strings.Contains(got, "cmdstat_unwatch:calls=0,usec=0,usec_per_call=0.00,rejected_calls=1,") {
		t.Errorf("berth tried to undo more than once:\n%s", got)
	}
}
