package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/lane"
	"github.com/berth-proxy/berth/backend/redistest"
)

// asRedis sends commands, each a line of words, to berth and to a redis-server, in RESP2 and in
// RESP3, on one connection each, and compares the answers byte by byte.
func asRedis(t *testing.T, b *berthServer, node *redistest.Server, lines ...string) {
	t.Helper()
	for _, resp := range []int{2, 3} {
		ours, theirs := dial(t, b.Addr()), dial(t, node.Addr())
		ours.Do("HELLO", resp)
		theirs.Do("HELLO", resp)
		for _, line := range lines {
			words := strings.Fields(line)
			got, want := ours.DoRaw(words), theirs.DoRaw(words)
			if got != want {
				t.Errorf("RESP%d %s:\n got %q\nwant %q", resp, line, got, want)
			}
		}
	}
}

func TestClientCommandsAnswerAsRedis(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	asRedis(t, startBerth(t, node.Addr()), node,
		"client", "client nothing", "client id x", "client getname", "client setname a b", "client setname me", "client getname",
		"client setname \x01", "client setname m\xff", "client getname",
		"client list type", "client list id", "client list type nothing", "client list type master", "client list type replica",
		"client list type slave", "client list type pubsub", "client list id x", "client list id 99999 -1 0", "client list id 9 type normal",
		"client list type normal id 9", "client list nothing", "client list type normal x",
		"client kill 1", "client kill 127.0.0.1:1", "client kill id", "client kill id x", "client kill id 99999", "client kill id 0",
		"client kill id -5", "client kill id 99998 id 99999", "client kill type nothing", "client kill type pubsub",
		"client kill type pubsub skipme", "client kill type pubsub skipme perhaps", "client kill type pubsub skipme no",
		"client kill addr 1.2.3.4:5 laddr 1.2.3.4:6", "client kill user default type pubsub", "client kill nothing here",
		"client kill nothing here at", "client kill id 1 nothing",
		"client reply", "client reply perhaps", "client reply on", "client no-evict on", "client no-evict off", "client no-evict x",
		"client pause x", "client pause -1", "client pause 1 nothing", "client pause x nothing", "client pause 0", "client pause 0 write",
		"client pause 99999999999999999999", "client pause 1 write more", "client unpause", "client unpause x",
		"client unblock 99999", "client unblock x", "client unblock 99999 timeout", "client unblock 99999 error",
		"client unblock 99999 perhaps", "client unblock x perhaps", "client unblock 99999 timeout x",
		"client tracking", "client tracking perhaps", "client tracking on perhaps", "client tracking off", "client tracking off perhaps",
		"client tracking off optin optout", "client tracking off redirect x", "client tracking off redirect", "client tracking off prefix a",
		"client trackinginfo", "client getredir", "client caching yes", "client caching",
		"acl whoami", "acl whoami x")
}

func TestUnauthenticatedClientMayNotAskOfOthers(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--requirepass", "secret")
	b := startBerth(t, "redis://:secret@"+node.Addr())
	asRedis(t, b, node, "auth secret", "acl whoami", "reset", "client list", "client id", "info", "config get maxclients", "cluster slots",
		"command count", "acl whoami")
}

func TestWhoamiIsTheClientsOwnUser(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	node.Do(t, "ACL", "SETUSER", "bob", "on", ">secret", "+@all", "~*", "&*")
	c := dial(t, startBerth(t, node.Addr()).Addr())
	if got := c.Do("AUTH", "bob", "secret"); got != "OK" {
		t.Fatal(got)
	}
	if got := c.Do("ACL", "WHOAMI"); got != "bob" {
		t.Errorf("ACL WHOAMI: %v", got)
	}
	if line := c.Do("CLIENT", "INFO").(string); field(line, "user") != "bob" {
		t.Errorf("CLIENT INFO: %s", line)
	}
}

// berth answers these itself, and yet the nodes' word on who may run them holds.
func TestUserMayRunWhatTheNodesAllow(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr())
	node.Do(t, "ACL", "SETUSER", "bob", "on", ">secret", "+@all", "-@admin", "~*")
	node.Do(t, "ACL", "SETUSER", "ann", "on", ">secret", "-@all", "+client|list", "+client|id", "+config|get", "+auth", "~*")
	bystander := dial(t, b.Addr())
	lines := []string{
		"client kill type normal", "client list id 99999", "client pause 100000", "client unpause", "client unblock 99999", "config get nothing",
		"config set timeout 9", "config rewrite", "config resetstat",
	}
	for _, user := range []string{"bob", "ann"} {
		asRedis(t, b, node, append([]string{"auth " + user + " secret"}, lines...)...)
	}
	c := dial(t, b.Addr())
	c.Do("AUTH", "bob", "secret")
	c.WriteString("PING\r\nCONFIG SET timeout 9\r\nCLIENT KILL TYPE normal\r\nSET perm:a 1\r\nCLIENT ID\r\n")
	want := "+PONG\r\n-" + b.noCommand("bob", "config|set") + "\r\n-" + b.noCommand("bob", "client|kill") + "\r\n+OK\r\n:"
	if got := c.ReadN(len(want)); got != want {
		t.Errorf("in a pipeline: %q", got)
	}
	if got := bystander.Do("PING"); got != "PONG" || b.srv.config().Timeout != 0 {
		t.Errorf("a user without the permission has done it all the same: %v, timeout %v", got, b.srv.config().Timeout)
	}
}

func TestAdministratorIsServedWithoutTheNodes(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	c := dial(t, startBerth(t, node.Addr()).Addr())
	c.Do("PING")
	node.Kill()
	c.WriteString("CONFIG SET timeout 77\r\nCONFIG GET timeout\r\nCLIENT KILL ID 99999\r\n")
	want := "+OK\r\n*2\r\n$7\r\ntimeout\r\n$2\r\n77\r\n:0\r\n"
	if got := c.ReadN(len(want)); got != want {
		t.Errorf("%q", got)
	}
}

// What Redis and Valkey have later than 7.0, with their words of then.
func TestClientTellsItsLibrary(t *testing.T) {
	parallel(t)
	c := dial(t, startBerth(t, scriptedProduct(t, valkey9)).Addr())
	for _, v := range []struct {
		words []any
		want  any
	}{
		{[]any{"CLIENT", "SETINFO", "LIB-NAME", "redis-py"}, "OK"},
		{[]any{"CLIENT", "SETINFO", "lib-ver", "5.0"}, "OK"},
		{[]any{"CLIENT", "SETINFO", "LIB-NAME", "a b"}, redistest.Error("ERR LIB-NAME cannot contain spaces, newlines or special characters.")},
		{[]any{"CLIENT", "SETINFO", "lib-ver", "a\n"}, redistest.Error("ERR lib-ver cannot contain spaces, newlines or special characters.")},
		{[]any{"CLIENT", "SETINFO", "lib-color", "x"}, redistest.Error("ERR Unrecognized option 'lib-color'")},
		{[]any{"CLIENT", "SETINFO", "lib-name"}, redistest.Error("ERR wrong number of arguments for 'client|setinfo' command")},
		{[]any{"CLIENT", "NO-TOUCH", "on"}, "OK"},
		{[]any{"CLIENT", "NO-TOUCH", "x"}, redistest.Error("ERR syntax error")},
		{[]any{"CLIENT", "IMPORT-SOURCE", "on"}, redistest.Error("ERR Server is not in import mode")},
		{[]any{"CLIENT", "IMPORT-SOURCE", "OFF"}, "OK"},
		{[]any{"CLIENT", "CAPA"}, redistest.Error("ERR wrong number of arguments for 'client|capa' command")},
		{[]any{"CLIENT", "CAPA", "x"}, "OK"},
		{[]any{"CLIENT", "LIST", "CAPA", "r"}, ""},
		{[]any{"CLIENT", "CAPA", "x", "REDIRECT"}, "OK"},
		{[]any{"READONLY"}, "OK"},
		{[]any{"ASKING"}, redistest.Error(errNoCluster)},
		{[]any{"CLIENT", "TRACKING", "ON", "REDIRECT", "999"}, redistest.Error(errNoTarget)},
	} {
		if got := c.Do(v.words...); got != v.want {
			t.Errorf("%v: got %v, want %v", v.words, got, v.want)
		}
	}
	line := c.Do("CLIENT", "LIST", "CAPA", "r", "FLAGS", "r").(string)
	if field(line, "capa") != "r" || field(line, "watch") != "0" || field(line, "tot-cmds") != "0" {
		t.Errorf("a line of Valkey: %s", line)
	}
	if field(line, "lib-name") != "redis-py" || field(line, "lib-ver") != "5.0" {
		t.Errorf("CLIENT LIST: %s", line)
	}
}

// field is the value of a field in a line of CLIENT LIST.
func field(line, name string) string {
	for word := range strings.FieldsSeq(line) {
		if value, ok := strings.CutPrefix(word, name+"="); ok {
			return value
		}
	}
	return "(no field " + name + ")"
}

func TestClientLineHasTheFieldsOfRedis(t *testing.T) {
	node := sharedNode(t)
	names := func(addr string) (names []string) {
		line := dial(t, addr).Do("CLIENT", "INFO").(string)
		if !strings.HasSuffix(line, "\n") {
			t.Errorf("no line: %q", line)
		}
		for word := range strings.SplitSeq(strings.TrimSuffix(line, "\n"), " ") {
			name, _, _ := strings.Cut(word, "=")
			names = append(names, name)
		}
		return names
	}
	got := names(startBerth(t, node.Addr()).Addr())
	want := names(node.Addr())
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// busyBerth has clients in many states on at least two loops.
func busyBerth(t *testing.T) (b *berthServer, clients []*redistest.Conn, ids []int64) {
	b = startBerth(t, sharedNode(t).Addr(), "--loops", "2")
	for range 16 {
		c := dial(t, b.Addr())
		clients = append(clients, c)
		ids = append(ids, c.Do("CLIENT", "ID").(int64))
	}
	if n := len(b.srv.eachLoop()); n != 2 {
		t.Fatalf("%d loops have clients, want 2", n)
	}
	return b, clients, ids
}

func TestListShowsClientsOfAllLoopsInTheirOrder(t *testing.T) {
	b, clients, ids := busyBerth(t)
	clients[1].Do("CLIENT", "SETNAME", "one")
	clients[2].Do("MULTI")
	clients[2].Do("GET", "a")
	clients[3].Do("SUBSCRIBE", "list:c")
	clients[3].Do("SUBSCRIBE", "list:d")
	clients[4].Send("BLPOP", "list:nothing", 0)
	clients[5].Do("SELECT", 3)
	clients[6].Do("HELLO", 3)
	clients[7].Do("WATCH", "list:w")
	clients[8].Send("MONITOR")
	clients[8].Recv()
	var lines []string
	eventually(t, "the client to block", func() bool {
		lines = strings.Split(strings.TrimSuffix(clients[0].Do("CLIENT", "LIST").(string), "\n"), "\n")
		return len(lines) == len(clients) && field(lines[4], "flags") == "b"
	})
	for i, want := range map[int]string{
		0: "name= flags=N db=0 sub=0 multi=-1 resp=2 cmd=client|list redir=-1",
		1: "name=one flags=N cmd=client|setname",
		2: "flags=x multi=1 cmd=get",
		3: "flags=P sub=2 psub=0 cmd=subscribe",
		4: "flags=b cmd=blpop",
		5: "db=3 cmd=select",
		6: "resp=3 cmd=hello",
		7: "flags=N cmd=watch",
		8: "flags=O cmd=monitor",
	} {
		for word := range strings.FieldsSeq(want) {
			name, value, _ := strings.Cut(word, "=")
			if got := field(lines[i], name); got != value {
				t.Errorf("client %d: %s=%s, want %s", i, name, got, value)
			}
		}
	}
	for i, line := range lines {
		if field(line, "id") != fmt.Sprint(ids[i]) || field(line, "addr") != clients[i].LocalAddr() {
			t.Errorf("line %d is not of client %d at %s: %s", i, ids[i], clients[i].LocalAddr(), line)
		}
	}
	some := clients[0].Do("CLIENT", "LIST", "ID", ids[5], ids[2], ids[5], 1<<40).(string)
	want := []int64{ids[5], ids[2], ids[5]}
	if b.srv.clientOptions() >= sharedOptions { // which lists each once, in the order in which they came
		want = []int64{ids[2], ids[5]}
	}
	if got := listed(some); got != fmt.Sprint(want) {
		t.Errorf("LIST ID shows %s, want %d", got, want)
	}
	if got := listed(clients[0].Do("CLIENT", "LIST", "TYPE", "PubSub").(string)); got != fmt.Sprint(ids[3:4]) {
		t.Errorf("LIST TYPE pubsub shows %s, want %d", got, ids[3])
	}
}

// listed are the numbers of the clients in a CLIENT LIST.
func listed(text string) string {
	var ids []string
	for line := range strings.Lines(text) {
		ids = append(ids, field(line, "id"))
	}
	return fmt.Sprint(ids)
}

func TestKillClosesTheClientsThatAreMeantAndNoOther(t *testing.T) {
	b, clients, ids := busyBerth(t)
	c := clients[0]
	clients[1].Do("SUBSCRIBE", "kill:c")
	clients[2].Send("BLPOP", "kill:nothing", 0)
	node := sharedNode(t)
	killed := func(i int, words ...any) {
		t.Helper()
		got := c.Do(append([]any{"CLIENT", "KILL"}, words...)...)
		if got != int64(1) && got != "OK" {
			t.Errorf("KILL %v: %v", words, got)
		}
		if rest := clients[i].ReadAll(); rest != "" {
			t.Errorf("client %d got %q before its end", i, rest)
		}
	}
	killed(1, "TYPE", "pubsub")
	killed(2, "ID", ids[2])
	killed(3, "ADDR", clients[3].LocalAddr())
	killed(4, clients[4].LocalAddr())
	killed(5, "ID", ids[5], "LADDR", b.Addr(), "USER", "default", "TYPE", "normal", "ADDR", clients[5].LocalAddr())
	if got := c.Do("CLIENT", "KILL", "ID", ids[6], "ADDR", clients[7].LocalAddr()); got != int64(0) {
		t.Errorf("of two filters one does not hold: %v", got)
	}
	if got := c.Do("CLIENT", "KILL", "ID", ids[0]); got != int64(0) {
		t.Errorf("killed itself without SKIPME no: %v", got)
	}
	for i, other := range clients[6:] {
		if got := other.Do("PING"); got != "PONG" {
			t.Errorf("client %d: %v", i+6, got)
		}
	}
	if got := c.Do("CLIENT", "KILL", "LADDR", b.Addr()); got != int64(len(clients)-6) {
		t.Errorf("killed %v of all others", got)
	}
	awaitBlocked(t, node, 0)
}

func TestClientThatKillsItselfGetsItsReply(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr())
	c := dial(t, b.Addr())
	id := c.Do("CLIENT", "ID")
	c.Send("CLIENT", "KILL", "ID", id, "SKIPME", "NO")
	if got := c.ReadAll(); got != ":1\r\n" {
		t.Errorf("by filter: %q", got)
	}
	c = dial(t, b.Addr())
	c.Send("CLIENT", "KILL", c.LocalAddr())
	c.Send("PING")
	if got := c.ReadAll(); got != "+OK\r\n" {
		t.Errorf("by address: %q", got)
	}
}

func TestSurveyOfAClientThatLeavesIsForgotten(t *testing.T) {
	b, clients, _ := busyBerth(t)
	for range 200 {
		c := dial(t, b.Addr())
		c.WriteString("CLIENT LIST\r\nINFO\r\nCLIENT KILL TYPE pubsub\r\n")
		c.Close()
	}
	eventually(t, "only the clients that stay to be left", func() bool { return b.srv.clients.Load() == int64(len(clients)) })
	if got := clients[0].Do("PING"); got != "PONG" {
		t.Error(got)
	}
}

func TestRepliesStayInOrderAroundASurvey(t *testing.T) {
	_, clients, _ := busyBerth(t)
	c := clients[0]
	c.WriteString("GET order:none\r\nCLIENT LIST TYPE pubsub\r\nPING\r\nINFO cluster\r\nCLIENT KILL ID 999999\r\nECHO x\r\n")
	want := "$-1\r\n$0\r\n\r\n+PONG\r\n$30\r\n# Cluster\r\ncluster_enabled:0\r\n\r\n:0\r\n$1\r\nx\r\n"
	if got := c.ReadN(len(want)); got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestPauseHoldsClientsOfAllLoopsUntilUnpause(t *testing.T) {
	_, clients, _ := busyBerth(t)
	admin, others := clients[0], clients[1:]
	if got := admin.Do("CLIENT", "PAUSE", 60000, "WRITE"); got != "OK" {
		t.Fatal(got)
	}
	for i, c := range others {
		if got := c.Do("GET", "pause:none"); got != nil {
			t.Errorf("a read is held: %v", got)
		}
		c.Send("SET", fmt.Sprint("pause:", i), i)
		c.Send("ECHO", "behind")
	}
	eventually(t, "all writers to be held", func() bool {
		return strings.Count(admin.Do("CLIENT", "LIST").(string), "flags=b ") == len(others)
	})
	if got := admin.Do("INFO", "clients").(string); !strings.Contains(got, fmt.Sprintf("blocked_clients:%d\r\n", len(others))) {
		t.Errorf("held writers are blocked clients, as Redis counts them: %q", got)
	}
	if got := admin.Do("CLIENT", "UNPAUSE"); got != "OK" {
		t.Fatal(got)
	}
	for _, c := range others {
		if got := c.RecvRaw() + c.RecvRaw(); got != "+OK\r\n$6\r\nbehind\r\n" {
			t.Errorf("after UNPAUSE: %q", got)
		}
	}
}

func TestPauseEndsByItselfAndIsOnlyMadeLonger(t *testing.T) {
	_, clients, _ := busyBerth(t)
	began := time.Now()
	clients[0].Do("CLIENT", "PAUSE", 150, "ALL")
	clients[1].Send("CLIENT", "PAUSE", 1, "WRITE") // held itself
	clients[2].Send("QUIT")
	if got := clients[2].ReadAll(); got != "+OK\r\n" {
		t.Errorf("QUIT: %q", got)
	}
	if took := time.Since(began); took < 150*time.Millisecond || took > redistest.Patience(5*time.Second) {
		t.Errorf("held for %v, want 150ms", took)
	}
	clients[1].Recv()
	began = time.Now()
	clients[0].Do("CLIENT", "PAUSE", 200, "WRITE")
	clients[0].Do("CLIENT", "PAUSE", 1, "WRITE")
	clients[3].Do("SET", "pause:x", 1)
	if took := time.Since(began); took < 200*time.Millisecond {
		t.Errorf("a shorter pause ended a longer one after %v", took)
	}
}

func TestPauseOfWritesHoldsWhatRedisHolds(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr())
	for _, line := range []string{
		"GET p", "SET p 1", "PUBLISH p b", "SPUBLISH p b", "PFCOUNT p", "EVAL return(0) 0", "EVALSHA abc 0", "EVAL_RO return(0) 0",
		"FCALL f 0", "FCALL_RO f 0", "SCRIPT LOAD return(1)", "FUNCTION FLUSH", "MULTI", "PING", "CLIENT UNPAUSE", "FLUSHALL", "TOUCH p",
		"SORT p", "WATCH p", "UNWATCH", "SELECT 0", "SWAPDB 0 1", "GETEX p", "COPY p q", "RENAME x y", "CLIENT SETNAME x", "QUIT",
		"RESET", "NOTHING", "GET", "SET p", "EXEC", "INFO cluster", "DEL p", "MSET a 1 b 2", "EXISTS p",
	} {
		sameHeld(t, node, b, strings.Fields(line)...)
	}
	if b.srv.isBefore(7, 0) { // whose scripts have no flags
		return
	}
	for _, body := range []string{"#!lua flags=no-writes\nreturn 1", "#!lua\nreturn 1", "#!lua flags=allow-stale,no-writes\nreturn 2", "#!lua  flags=allow-oom\nreturn 3"} {
		sha := dial(t, b.Addr()).Do("SCRIPT", "LOAD", body).(string)
		sameHeld(t, node, b, "EVAL", body, "0")
		sameHeld(t, node, b, "EVALSHA", sha, "0")
	}
}

func sameHeld(t *testing.T, node *redistest.Server, b *berthServer, words ...string) {
	t.Helper()
	if theirs, ours := heldByPause(t, node.Addr(), words), heldByPause(t, b.Addr(), words); theirs != ours {
		t.Errorf("%q: held by Redis: %v, by berth: %v", words, theirs, ours)
	}
}

// heldByPause tells whether CLIENT PAUSE WRITE holds a command.
func heldByPause(t *testing.T, addr string, words []string) (held bool) {
	t.Helper()
	admin, c := dial(t, addr), dial(t, addr)
	defer admin.Close()
	defer c.Close()
	id := c.Do("CLIENT", "ID")
	admin.Do("CLIENT", "PAUSE", 60000, "WRITE")
	answered := make(chan struct{})
	c.Send(words)
	go func() {
		defer close(answered)
		_, _ = c.TryRecv()
	}()
	eventually(t, strings.Join(words, " ")+" to be answered or held", func() bool {
		select {
		case <-answered:
			return true
		default:
			held = strings.Contains(field(admin.Do("CLIENT", "LIST", "ID", id).(string), "flags"), "b")
			return held
		}
	})
	admin.Do("CLIENT", "UNPAUSE")
	<-answered
	return held
}

func TestPauseOfWritesHoldsATransactionThatWrites(t *testing.T) {
	_, clients, _ := busyBerth(t)
	admin, writer, reader := clients[0], clients[1], clients[2]
	for _, c := range []*redistest.Conn{writer, reader} {
		c.Do("MULTI")
		c.Do("GET", "pausetx:a")
	}
	writer.Do("SET", "pausetx:b", 1)
	admin.Do("CLIENT", "PAUSE", 60000, "WRITE")
	if got := reader.DoRaw("EXEC"); got != "*1\r\n$-1\r\n" {
		t.Errorf("a transaction that only reads: %q", got)
	}
	writer.Send("EXEC")
	eventually(t, "the transaction to be held", func() bool {
		return strings.Contains(admin.Do("CLIENT", "LIST").(string), "flags=xb ")
	})
	admin.Do("CLIENT", "UNPAUSE")
	if got := writer.RecvRaw(); got != "*2\r\n$-1\r\n+OK\r\n" {
		t.Errorf("a transaction that writes: %q", got)
	}
}

func TestUnblockEndsABlockingCommandAsItsTimeoutWould(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	node.Do(t, "XGROUP", "CREATE", "ub:s", "g", "$", "MKSTREAM")
	b := startBerth(t, node.Addr(), "--loops", "2")
	for _, resp := range []int{2, 3} {
		for _, line := range []string{
			"BLPOP ub:a 0", "BRPOP ub:a 0", "BLMOVE ub:a ub:b LEFT LEFT 0", "BRPOPLPUSH ub:a ub:b 0", "BLMPOP 0 1 ub:a LEFT",
			"BZPOPMIN ub:z 0", "BZMPOP 0 1 ub:z MIN", "XREAD BLOCK 0 STREAMS ub:s $", "XREADGROUP GROUP g c BLOCK 0 STREAMS ub:s >",
		} {
			for _, reason := range []string{"", "TIMEOUT", "ERROR"} {
				got := unblocked(t, b.Addr(), resp, line, reason)
				want := unblocked(t, node.Addr(), resp, line, reason)
				if got != want {
					t.Errorf("RESP%d %s, %q: got %q, want %q", resp, line, reason, got, want)
				}
			}
		}
	}
	eventually(t, "no lease to be left blocked", func() bool {
		return field(strings.ReplaceAll(node.Do(t, "INFO", "clients").(string), ":", "="), "blocked_clients") == "0"
	})
}

// unblocked is what a client that blocks gets when another one unblocks it, and what it gets for
// the next command.
func unblocked(t *testing.T, addr string, resp int, line, reason string) string {
	t.Helper()
	c, other := dial(t, addr), dial(t, addr)
	defer c.Close()
	defer other.Close()
	c.Do("HELLO", resp)
	words := []any{"CLIENT", "UNBLOCK", c.Do("CLIENT", "ID")}
	if reason != "" {
		words = append(words, reason)
	}
	if got := other.Do(words...); got != int64(0) {
		t.Errorf("UNBLOCK of a client that does not block: %v", got)
	}
	c.Send(strings.Fields(line))
	c.Send("ECHO", "next")
	eventually(t, "the client to be unblocked", func() bool { return other.Do(words...) == int64(1) })
	return c.RecvRaw() + c.RecvRaw()
}

func TestUnblockedClientNoLongerTakesElements(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr())
	if got := unblocked(t, b.Addr(), 2, "BLPOP gone 0", "TIMEOUT"); got != "*-1\r\n$4\r\nnext\r\n" {
		t.Fatalf("%q", got)
	}
	c := dial(t, b.Addr())
	c.Do("RPUSH", "gone", "x")
	if got := c.Do("LLEN", "gone"); got != int64(1) {
		t.Errorf("%v elements are left, want 1", got)
	}
}

// The replies of WATCH and BLPOP come one after the other on one lease; the first must not pass for
// the second.
func TestUnblockInsideAWatchKeepsTheWatch(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr())
	c, other := dial(t, b.Addr()), dial(t, b.Addr())
	id := c.Do("CLIENT", "ID")
	c.WriteString("WATCH ubw:k\r\nBLPOP ubw:l 0\r\nMULTI\r\nSET ubw:k 1\r\nEXEC\r\n")
	eventually(t, "the client to be unblocked", func() bool { return other.Do("CLIENT", "UNBLOCK", id) == int64(1) })
	want := "+OK\r\n*-1\r\n+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n"
	if got := c.ReadN(len(want)); got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
	// An UNBLOCK that comes late must not meet another client.
	eventually(t, "its lease to be given back", func() bool { return b.leases().Leased == 0 })
	if s := b.leases(); s.Idle != 0 {
		t.Errorf("the connection is pooled: %+v", s)
	}
}

func TestUnblockEndsWaitWithTheCountAsItIs(t *testing.T) {
	node, _ := withReplica(t)
	b := startBerth(t, node.Addr(), "--loops", "2")
	figure := func(name string) (n int) {
		_, rest, _ := strings.Cut(node.Do(t, "INFO", "replication").(string), name)
		_, _ = fmt.Sscan(rest, &n)
		return n
	}
	for reason, want := range map[string]string{"TIMEOUT": ":1\r\n", "ERROR": "-" + lane.ErrUnblocked + "\r\n"} {
		c, other := dial(t, b.Addr()), dial(t, b.Addr())
		id := c.Do("CLIENT", "ID")
		c.Send("WAIT", 2, 0)
		eventually(t, "WAIT to block", func() bool { return strings.Contains(fmt.Sprint(node.Do(t, "CLIENT", "LIST")), "cmd=wait") })
		offset := figure("master_repl_offset:")
		eventually(t, "the replica to acknowledge", func() bool { return figure(",offset=") >= offset })
		if got := other.Do("CLIENT", "UNBLOCK", id, reason); got != int64(1) {
			t.Errorf("CLIENT UNBLOCK: %v", got)
		}
		if got := c.RecvRaw(); got != want {
			t.Errorf("UNBLOCK %s: got %q, want %q", reason, got, want)
		}
	}
	over := startBerth(t, clusterURL(sharedCluster(t)))
	if got := unblocked(t, over.Addr(), 2, "WAIT 1 0", "TIMEOUT"); got != ":0\r\n$4\r\nnext\r\n" {
		t.Errorf("over a cluster: %q", got)
	}
	eventually(t, "no lease to be left", func() bool { return b.leases().Leased == 0 && over.leases().Leased == 0 })
}

// What it has cached stays true: it keeps its connection to the node.
func TestUnblockedClientGoesOnTracking(t *testing.T) {
	node := sharedNode(t)
	b := startBerth(t, node.Addr())
	for _, reason := range []string{"TIMEOUT", "ERROR"} {
		c, other := dial(t, b.Addr()), dial(t, b.Addr())
		c.Do("HELLO", 3)
		script(t, c, "CLIENT TRACKING ON → OK", "GET ubt:k → <nil>")
		id := c.Do("CLIENT", "ID")
		c.Send("BLPOP", "ubt:l", 0)
		eventually(t, "the client to be unblocked", func() bool { return other.Do("CLIENT", "UNBLOCK", id, reason) == int64(1) })
		want := map[string]string{"TIMEOUT": "_\r\n", "ERROR": "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"}[reason]
		if got := c.RecvRaw(); got != want {
			t.Errorf("%s: %q", reason, got)
		}
		other.Do("SET", "ubt:k", 1)
		if got := c.RecvRaw(); got != ">2\r\n$10\r\ninvalidate\r\n*1\r\n$5\r\nubt:k\r\n" {
			t.Errorf("hears %q", got)
		}
		other.Do("DEL", "ubt:k")
		c.Close()
	}
}

// A user who blocks but may not say so to the node, and a node that keeps its connections' numbers
// to itself, do no harm.
func TestUnblockEndsWhatTheNodeWillNotEnd(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr())
	c, other := dial(t, b.Addr()), dial(t, b.Addr())
	node.Do(t, "ACL", "SETUSER", "bob", "on", ">pw", "+@all", "~*")
	script(t, c, "AUTH bob pw → OK")
	id := c.Do("CLIENT", "ID")
	node.Do(t, "ACL", "SETUSER", "bob", "-client|id")
	script(t, c, "WATCH k → OK")
	c.Send("BLPOP", "l", 0)
	eventually(t, "the client to be unblocked", func() bool { return other.Do("CLIENT", "UNBLOCK", id) == int64(1) })
	script(t, c, " → <nil>")
	script(t, c, "MULTI → OK", "SET k 1 → QUEUED", "EXEC → <nil>", "SET k 2 → OK")
}

// endedAsBefore is a client's line with multi=-1 outside a transaction. Since Valkey 9.1 multi stays
// 0 once the client has sent MULTI or WATCH, and berth says -1.
func (b *berthServer) endedAsBefore(fields []string) []string {
	if b.srv.isValkeySince(9, 1) && !slices.ContainsFunc(fields, func(f string) bool { return strings.HasPrefix(f, " flags=") && strings.Contains(f, "x") }) {
		for i, f := range fields {
			if f == " multi=0" {
				fields[i] = " multi=-1"
			}
		}
	}
	return fields
}

// What a client's line says of its state is what Redis says of a client that has sent the same.
func TestClientLineShowsTheStateAsRedis(t *testing.T) {
	alone := shared.alone().Node(0)
	b := startBerth(t, clusterURL(sharedCluster(t)))
	shown := regexp.MustCompile(` (flags|db|sub|psub|ssub|multi|cmd|qbuf|argv-mem|name|resp)=\S*`)
	for _, line := range []string{
		"PING", "READONLY", "READONLY; READWRITE", "READONLY; RESET", "READONLY; CLIENT NO-EVICT on", "CLIENT NO-EVICT on; RESET",
		"CLIENT NO-EVICT on; CLIENT NO-EVICT off", "CLIENT NO-EVICT on; CLIENT NO-EVICT x", "NOSUCH", "CLIENT NOSUCH", "CLIENT", "GET",
		"ASKING", "MULTI; GET a", "MULTI; READONLY; EXEC", "SUBSCRIBE a", "PSUBSCRIBE a", "SSUBSCRIBE a", "WATCH a", "HELLO 3",
		"CLIENT SETNAME me", "SET a", "DEBUG", "CLUSTER NODES", "XGROUP CREATE a", "FOO BAR", "MULTI; NOSUCH",
	} {
		states := func(addr string) []string {
			c, other := dial(t, addr), dial(t, addr)
			id := c.Do("CLIENT", "ID")
			for words := range strings.SplitSeq(line, "; ") {
				c.Do(strings.Fields(words))
			}
			return shown.FindAllString(other.Do("CLIENT", "LIST", "ID", id).(string), -1)
		}
		if got, want := states(b.Addr()), b.endedAsBefore(states(alone.Addr())); !slices.Equal(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", line, got, want)
		}
	}
	for _, words := range []string{"CLIENT INFO", "CLIENT LIST TYPE normal"} {
		self := func(addr string) (states []string) {
			c := dial(t, addr)
			id := fmt.Sprint(c.Do("CLIENT", "ID"))
			for line := range strings.Lines(c.Do(strings.Fields(words)).(string)) {
				if field(line, "id") == id {
					states = append(states, shown.FindAllString(line, -1)...)
				}
			}
			return states
		}
		if got, want := self(b.Addr()), self(alone.Addr()); !slices.Equal(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", words, got, want)
		}
	}
}

func TestNobodyIsLeftWaitingWhenBerthStopsInTheMiddle(t *testing.T) {
	b, clients, _ := busyBerth(t)
	clients[0].Do("CLIENT", "PAUSE", 60000)
	for _, c := range clients {
		c.Send("CLIENT", "LIST")
	}
	b.Stop()
	for _, c := range clients {
		if rest := c.ReadAll(); strings.Contains(rest, "ERR") {
			t.Errorf("%q", rest)
		}
	}
}

func TestClientInfoInATransactionTellsOfEXEC(t *testing.T) {
	node := sharedNode(t)
	for _, addr := range []string{node.Addr(), startBerth(t, node.Addr()).Addr()} {
		got := fmt.Sprint(pipelined(dial(t, addr), "MULTI", "PING", "CLIENT INFO", "EXEC", "RESET"))
		for _, field := range []string{" flags=x ", " multi=2 ", " cmd=exec "} {
			if !strings.Contains(got, field) {
				t.Errorf("no%sin %s", field, got)
			}
		}
	}
}
