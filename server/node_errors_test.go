package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// What a node says in trouble is for the client as it stands, from pipes, from EXEC and from leases
// alike.

// sameFromBoth sends requests past berth and through it, and compares the replies. Between MULTI
// and EXEC berth queues what the node would have refused at once; EXEC is then refused all the same,
// and says why.
func sameFromBoth(t *testing.T, b *berthServer, node *redistest.Server, prefix string, requests ...string) {
	t.Helper()
	direct, through := dial(t, node.Addr()), dial(t, b.Addr())
	defer direct.Close()
	defer through.Close()
	met, reason := false, ""
	for _, r := range requests {
		want, got := direct.DoRaw(strings.Fields(r)), through.DoRaw(strings.Fields(r))
		queued := prefix != "ERR" && got == "+QUEUED\r\n" && strings.HasPrefix(want, "-"+prefix+" ")
		if queued {
			reason = "-EXECABORT Transaction discarded because of: " + want[1:]
		}
		said := got == reason && strings.HasPrefix(want, "-EXECABORT ")
		if got != want && !queued && !said {
			t.Errorf("%s:\n got %q\nwant %q", r, got, want)
		}
		met = met || strings.Contains(want, "-"+prefix+" ")
	}
	if !met {
		t.Errorf("the node has not said %s", prefix)
	}
}

// writesEveryWay are a write on a pipe, one in a transaction and one while watching.
var writesEveryWay = []string{
	"SET {ne}k v", "GET {ne}k", "MULTI", "SET {ne}k v", "EXEC", "WATCH {ne}k", "MULTI", "SET {ne}k v", "EXEC", "WATCH {ne}k", "SET {ne}k v", "UNWATCH",
	"BLMOVE {ne}a {ne}b LEFT LEFT 0.01",
}

func TestErrorsOfANodeInTroubleArePassedOn(t *testing.T) {
	parallel(t)
	t.Run("OOM", func(t *testing.T) {
		node := redistest.Start(t, "--maxmemory", "1")
		sameFromBoth(t, startBerth(t, node.Addr()), node, "OOM", writesEveryWay...)
	})
	t.Run("NOREPLICAS", func(t *testing.T) {
		node := redistest.Start(t, "--min-replicas-to-write", "1")
		sameFromBoth(t, startBerth(t, node.Addr()), node, "NOREPLICAS", writesEveryWay...)
	})
	t.Run("READONLY", func(t *testing.T) {
		primary, replica := redistest.Start(t, "--repl-diskless-sync-delay", "0"), redistest.Start(t)
		replica.Do(t, "REPLICAOF", "127.0.0.1", fmt.Sprint(primary.Port()))
		eventually(t, "the replica to follow", func() bool {
			return strings.Contains(replica.Do(t, "INFO", "replication").(string), "master_link_status:up")
		})
		sameFromBoth(t, startBerth(t, replica.Addr()), replica, "READONLY", writesEveryWay...)
	})
	t.Run("MISCONF", func(t *testing.T) {
		node := redistest.Start(t, "--enable-protected-configs", "yes")
		node.Do(t, "CONFIG", "SET", "save", "3600 1", "dbfilename", strings.Repeat("n", 300)) // no file may be called so
		node.Do(t, "BGSAVE")
		eventually(t, "the node not to have saved", func() bool {
			return strings.Contains(node.Do(t, "INFO", "persistence").(string), "rdb_last_bgsave_status:err")
		})
		sameFromBoth(t, startBerth(t, node.Addr()), node, "MISCONF", writesEveryWay...)
	})
	t.Run("BUSY", func(t *testing.T) {
		node := redistest.Start(t, "--busy-reply-threshold", "1")
		b := startBerth(t, node.Addr())
		dial(t, b.Addr()).Do("ECHO", "x") // berth knows then that the default user may do everything
		script := dial(t, node.Addr())
		script.Send("EVAL", "while true do end", "0")
		eventually(t, "the script to be too slow", func() bool {
			c := dial(t, node.Addr())
			defer c.Close()
			return strings.HasPrefix(c.DoRaw("GET", "x"), "-BUSY")
		})
		sameFromBoth(t, b, node, "BUSY", "GET {ne}k", "SET {ne}k v", "MULTI", "GET {ne}k", "DISCARD", "EVALSHA x 0", "FCALL f 0")
		if got := fmt.Sprint(dial(t, b.Addr()).Do("SCRIPT", "KILL")); got != "OK" {
			t.Errorf("SCRIPT KILL: %s", got)
		}
		if got := script.RecvRaw(); !strings.HasPrefix(got, "-ERR Error running script") && !strings.Contains(got, "Script killed by user") {
			t.Errorf("the script: %q", got)
		}
	})
	t.Run("BUSY after a script on the shared connection", func(t *testing.T) {
		busyAfterScript(t, "/0")
	})
	t.Run("BUSY after a script in another database, which is not selected meanwhile", func(t *testing.T) {
		busyAfterScript(t, "/1")
	})
	t.Run("BUSY for what was sent before the node is", func(t *testing.T) {
		node := redistest.Start(t, "--busy-reply-threshold", "1500")
		b := startBerth(t, node.Addr(), "--loops", "1")
		runner, other := dial(t, b.Addr()), dial(t, b.Addr())
		other.Do("ECHO", "x")
		eventually(t, "a second connection to be there, after scripts on the first one", func() bool {
			runner.Do("EVAL", strings.Replace(spinAfterWrite, "3e5", "1e5", 1), 1, "ne:k")
			return b.figures(t).PipeStats.Passed > 0
		})
		passed := b.figures(t).PipeStats.Passed
		runner.Send("EVAL", "while true do end", "0")
		eventually(t, "the connection to be passed by", func() bool { return b.figures(t).PipeStats.Passed > passed })
		direct := dial(t, node.Addr())
		if other.Send("GET", "k"); !strings.HasPrefix(direct.DoRaw("GET", "k"), "-BUSY") {
			t.Fatal("the script has ended")
		}
		if got := other.RecvRaw(); !strings.HasPrefix(got, "-BUSY") {
			t.Errorf("GET: %q", got)
		}
		script(t, other, "SCRIPT KILL → OK")
		runner.Recv()
	})
	t.Run("NOSCRIPT", func(t *testing.T) {
		node := redistest.Start(t)
		sha := strings.Repeat("f", 40)
		sameFromBoth(t, startBerth(t, node.Addr()), node, "NOSCRIPT", "EVALSHA "+sha+" 0", "EVALSHA "+sha+" 1 {ne}k",
			"MULTI", "EVALSHA "+sha+" 1 {ne}k", "EXEC", "EVALSHA_RO "+sha+" 0")
	})
}

// busyAfterScript has a client run a script without end on the connection that others share, in the
// database of the path.
func busyAfterScript(t *testing.T, path string) {
	node := redistest.Start(t, "--busy-reply-threshold", "1")
	b := startBerth(t, "redis://"+node.Addr()+path, "--loops", "1")
	runner, other := dial(t, b.Addr()), dial(t, b.Addr())
	other.Do("ECHO", "x")
	runner.WriteString("SET ne:first v\r\nEVAL \"while true do end\" 0\r\n") // the node holds both replies back
	eventually(t, "the connection to be passed by", func() bool { return b.figures(t).PipeStats.Passed == 1 })
	runner.Send("SET", "ne:k", "v") // it waits for its EVAL, as it does at the node
	sameFromBoth(t, b, node, "BUSY", "GET {ne}k", "SET {ne}k v", "PING", "MULTI", "PING", "DISCARD", "FCALL f 0")
	for _, line := range []string{"MULTI → OK", "GET {ne}k → QUEUED"} {
		script(t, other, line)
	}
	if got := other.DoRaw("EXEC"); !strings.HasPrefix(got, "-EXECABORT Transaction discarded because of") {
		t.Errorf("EXEC: %q", got)
	}
	script(t, other, "SCRIPT KILL → OK")
	if got := runner.RecvRaw(); got != "+OK\r\n" {
		t.Errorf("SET before the script: %q", got)
	}
	if got := runner.RecvRaw(); !strings.Contains(got, "Script killed by user") {
		t.Errorf("the script: %q", got)
	}
	if got := runner.RecvRaw(); got != "+OK\r\n" {
		t.Errorf("SET after the script: %q", got)
	}
	script(t, other, "GET ne:k → v")
}

func TestErrorsThatBerthWordsItselfAreRedis(t *testing.T) {
	node := sharedNode(t)
	b := startBerth(t, node.Addr())
	long := strings.Repeat("a", 127)
	sameFromBoth(t, b, node, "ERR", "nosuch", "nosuch "+long, "nosuch "+long+"b", "nosuch "+long+"bc", "nosuch "+long+" b c", "nosuch a "+long+" c",
		long+long+" x", "no'such a'b \"c\"", "nosuch a\nb", "config nosuch", "config nosuch "+long, "object nosuch", "xgroup nosuch a b c",
		"get", "get a b", "config get", "config", "object encoding", "client setname", "MULTI", "nosuch", "EXEC", "MULTI", "get", "EXEC",
		"MULTI", "config nosuch", "EXEC", "MULTI", "MULTI", "EXEC", "EXEC", "DISCARD", "AUTH x", "AUTH nobody x", "HELLO 4", "HELLO x", "SELECT 99")
}
