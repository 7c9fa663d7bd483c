package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// bothSay sends the same pipelines to berth and to a redis-server, one by one, and compares the bytes that come back. A PING
// of its own marks the end of each.
func bothSay(t *testing.T, ours, theirs *redistest.Conn, pipelines ...string) {
	t.Helper()
	say := func(c *redistest.Conn, lines string) string {
		c.WriteString(strings.ReplaceAll(lines, "; ", "\r\n") + "\r\nCLIENT REPLY ON\r\nECHO mark\r\n")
		var got string
		for !strings.HasSuffix(got, "+OK\r\n$4\r\nmark\r\n") && !strings.HasSuffix(got, "context\r\n-ERR Can't execute 'echo': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context\r\n") {
			got += c.ReadN(1)
		}
		return ownID.ReplaceAllString(got, "id:n")
	}
	for _, lines := range pipelines {
		if got, want := say(ours, lines), say(theirs, lines); got != want {
			t.Errorf("%s:\n got %q\nwant %q", lines, got, want)
		}
	}
}

// ownID is a client's number, which berth gives itself.
var ownID = regexp.MustCompile(`id\r\n:\d+`)

const waitTwice = "MULTI; WAIT 0 0; WAIT 1 0; EXEC"

// inMulti are pipelines with commands inside MULTI that change the client or its connection.
var inMulti = []string{
	"MULTI; SELECT 3; SET a b; GET a; EXEC; GET a; SELECT 0; GET a",
	"MULTI; SELECT 99; SELECT x; SET q w; EXEC; GET q",
	"MULTI; SELECT 3; GET a; DISCARD; GET a",
	"MULTI; SELECT 3; NOSUCH; EXEC; GET a",
	"WATCH a; MULTI; SELECT 3; GET a; EXEC; GET a; SELECT 0",
	"WATCH a; SELECT 3; MULTI; GET a; EXEC; GET a; SELECT 0",
	"SET w 1; WATCH w; SET w 2; MULTI; SELECT 3; EXEC; GET a",
	"WATCH w; HELLO 3; MULTI; HGETALL h; EXEC; HELLO 2",
	"MULTI; HELLO 3; HGETALL h; CLIENT GETNAME; HELLO 2 SETNAME foo; HGETALL h; CLIENT GETNAME; EXEC; HGETALL h; CLIENT GETNAME",
	"MULTI; HELLO 3; EXEC; HGETALL h; GET none; HELLO 2",
	"MULTI; HELLO 9; HELLO x; HELLO; HELLO 2 NOSUCH; EXEC",
	"MULTI; MONITOR; PING; EXEC; PING",
	"MULTI; CLIENT REPLY SKIP; GET none; EXEC; PING; PING",
	"MULTI; CLIENT REPLY OFF; GET none; EXEC; PING",
	"MULTI; CLIENT REPLY ON; GET none; EXEC; PING",
	"MULTI; SET x 1; CLIENT LIST ID 999999; CLIENT KILL ID 999999; GET x; CLIENT UNBLOCK 999999; CONFIG GET nosuch; EXEC",
	"MULTI; RESET; GET x; EXEC", "MULTI; READONLY; ASKING; EXEC", waitTwice,
	"MULTI; SUBSCRIBE a; UNSUBSCRIBE a; GET x; EXEC; PING",
	"MULTI; UNSUBSCRIBE; PUNSUBSCRIBE; EXEC; PING",
	"MULTI; CLIENT TRACKING ON; GET x; CLIENT TRACKINGINFO; EXEC; CLIENT TRACKINGINFO; CLIENT GETREDIR; CLIENT TRACKING OFF; CLIENT TRACKINGINFO",
	"MULTI; SUBSCRIBE a b; GET x; EXEC",
}

func TestCommandsThatChangeTheClientInsideMultiAreAsInRedis(t *testing.T) {
	parallel(t)
	for _, resp := range []string{"2", "3"} {
		berthNode, node := redistest.Start(t), redistest.Start(t)
		for _, n := range []*redistest.Server{berthNode, node} {
			n.Do(t, "ACL", "SETUSER", "bob", "on", ">pw", "~bob:*", "&*", "+@all")
		}
		b := startBerth(t, berthNode.Addr(), "--loops", "1")
		for _, lines := range inMulti {
			if lines == waitTwice && !b.srv.offsetMoves() {
				continue // berth refuses it there: TestWaitCountsTheReplicasThatHaveTheClientsWrites
			}

			ours, theirs := dial(t, b.Addr()), dial(t, node.Addr())
			bothSay(t, ours, theirs, "HELLO "+resp, lines)
			ours.Close()
			theirs.Close()
		}
		// Nothing of it is left on what others share.
		c := dial(t, b.Addr())
		script(t, c, "ACL WHOAMI → default", "GET a → <nil>", "WATCH a → OK", "GET a → <nil>", "MULTI → OK", "GET a → QUEUED",
			"ACL WHOAMI → QUEUED", "EXEC → [<nil> default]")
	}
}

func TestPipelineBehindASelectInsideMultiRunsInItsDatabase(t *testing.T) {
	parallel(t)
	b := startBerth(t, redistest.Start(t).Addr(), "--loops", "1")
	other := dial(t, b.Addr())
	for range 50 {
		c := dial(t, b.Addr())
		c.WriteString(pipeline("SET k zero", "MULTI", "SELECT 5", "SET k five", "EXEC", "GET k", "MULTI", "GET k", "EXEC", "SELECT 0", "GET k"))
		other.WriteString(pipeline("GET k"))
		want := "+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n+OK\r\n$4\r\nfive\r\n+OK\r\n+QUEUED\r\n*1\r\n$4\r\nfive\r\n+OK\r\n$4\r\nzero\r\n"
		if got := c.ReadN(len(want)); got != want {
			t.Fatalf("got %q", got)
		}
		if got := other.Recv(); got == "five" {
			t.Fatal("another client was in database 5")
		}
		c.Close()
	}
}
