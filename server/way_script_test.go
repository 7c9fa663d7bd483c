package main

import (
	"crypto/sha1"
	"fmt"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// noScript is what the node says when it does not know a script.
func (b *berthServer) noScript() string {
	if b.srv.isValkeySince(8, 0) {
		return "NOSCRIPT No matching script."
	}
	return "NOSCRIPT No matching script. Please use EVAL."
}

// shaOf is the SHA1 of a script.
func shaOf(body string) string { return fmt.Sprintf("%x", sha1.Sum([]byte(body))) }

// newScript is a script that nobody else has run. It adds to a key and returns what comes after.
func newScript(returns string) (body, sha string) {
	body = "redis.call('incr', KEYS[1]) return " + returns + " -- " + unique("script")
	return body, shaOf(body)
}

// keysOfNodes are keys with this prefix, one at each primary of a cluster.
func keysOfNodes(c *redistest.Cluster, prefix string) (keys []string) {
	for i := range c.Primaries() {
		keys = append(keys, keyAt(c, c.Node(i), prefix))
	}
	return keys
}

func wantReply(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestScriptOfOneNodeRunsOnAllNodes(t *testing.T) {
	cluster := sharedCluster(t)
	b := startBerth(t, clusterURL(cluster))
	for _, way := range []string{"EVAL", "EVAL_RO", "SCRIPT LOAD"} {
		keys := keysOfNodes(cluster, unique("everywhere"))
		body := "return {KEYS[1], '" + way + unique("s") + "'}"
		sha := shaOf(body)
		first, second := dial(t, b.Addr()), dial(t, b.Addr())
		wantReply(t, "unknown", second.Do("EVALSHA", sha, 1, keys[0]), b.noScript())
		if way == "SCRIPT LOAD" {
			wantReply(t, way, first.Do("SCRIPT", "LOAD", body), sha)
		} else {
			first.Do(way, body, 1, keys[0])
		}
		for _, key := range keys {
			for _, by := range []string{"EVALSHA", "EVALSHA_RO"} {
				if got := fmt.Sprint(second.Do(by, strings.ToUpper(sha), 1, key)); !strings.HasPrefix(got, "["+key) {
					t.Errorf("%s %s: %v", way, by, got)
				}
			}
		}
		wantReply(t, way, second.Do("SCRIPT", "EXISTS", sha, shaOf("x"), "y"), "[1 0 0]")
	}
}

func TestScriptIsThereForWhatIsPipelinedAfterItsEval(t *testing.T) {
	cluster := sharedCluster(t)
	b := startBerth(t, clusterURL(cluster))
	keys := keysOfNodes(cluster, unique("pipelined"))
	body, sha := newScript("redis.call('get', KEYS[1])")
	c := dial(t, b.Addr())
	send := func(args ...any) { c.Send(args...) }
	send("EVAL", body, 1, keys[0])
	for _, key := range keys[1:] {
		send("EVALSHA", sha, 1, key)
		send("GET", key)
		send("INCR", key)
		send("EVALSHA", sha, 1, key)
	}
	send("SCRIPT", "EXISTS", sha)
	var got []any
	for range 2 + 4*len(keys[1:]) {
		got = append(got, c.Recv())
	}
	wantReply(t, "pipeline", got, "[1 1 1 2 3 1 1 2 3 [1]]")
}

func TestTransactionFindsAScriptThatAnotherNodeHasRun(t *testing.T) {
	cluster := sharedCluster(t)
	b := startBerth(t, clusterURL(cluster))
	keys := keysOfNodes(cluster, unique("multi"))
	body, sha := newScript("1")
	other, otherSHA := newScript("2")
	c := dial(t, b.Addr())
	pipelined(c, "PING")
	c.Do("EVAL", body, 1, keys[0])
	c.Do("SCRIPT", "LOAD", other)
	for i, key := range keys {
		if i == 2 {
			c.Do("WATCH", key)
		}
		c.Do("MULTI")
		c.Do("EVALSHA", sha, 1, key)
		c.Do("EVALSHA", otherSHA, 1, key)
		c.Do("EVALSHA", sha, 1, key)
		wantReply(t, "EXEC", c.Do("EXEC"), "[1 2 1]")
	}
}

func TestScriptOfATransactionRunsOnAllNodes(t *testing.T) {
	cluster := sharedCluster(t)
	b := startBerth(t, clusterURL(cluster))
	for _, first := range []string{"PING", "DBSIZE", "GET"} { // berth answers PING, and refuses DBSIZE there
		keys := keysOfNodes(cluster, unique("eval"))
		body, sha := newScript("{1, {2}}")
		wrong, wrongSHA := newScript("redis.call('get')")
		c := dial(t, b.Addr())
		second := []any{first}
		if first == "GET" {
			second = append(second, keys[0])
		}
		requests := [][]any{
			{"MULTI"}, second, {"EVAL", wrong, 1, keys[0]}, {"EVAL", body, 1, keys[0]}, {"EXEC"},
			{"EVALSHA", sha, 1, keys[1]}, {"EVALSHA", sha, 1, keys[2]}, {"EVALSHA", wrongSHA, 1, keys[1]},
		}
		var got []string
		for _, args := range requests {
			c.Send(args...)
		}
		for range requests {
			got = append(got, fmt.Sprint(c.Recv()))
		}
		want := []string{"[1 [2]]", "[1 [2]]", b.noScript()} // a script that failed is not remembered
		if first == "DBSIZE" {
			want = []string{b.noScript(), b.noScript(), b.noScript()}
		} else if !strings.Contains(got[4], " ERR ") || !strings.HasSuffix(got[4], " [1 [2]]]") {
			t.Errorf("EXEC: %s", got[4])
		}
		wantReply(t, first, got[5:], want)
	}
}

// SCRIPT LOAD and EXISTS go to the node of the transaction, as part of it.
func TestScriptIsLoadedInATransaction(t *testing.T) {
	cluster := sharedCluster(t)
	b := startBerth(t, clusterURL(cluster))
	for _, watch := range []bool{false, true} {
		keys := keysOfNodes(cluster, unique("load"))
		body, sha := newScript("'loaded'")
		_, unknown := newScript("'unknown'")
		c := dial(t, b.Addr())
		if watch {
			c.Do("WATCH", keys[0])
		}
		c.Do("MULTI")
		for _, args := range [][]any{{"SCRIPT", "EXISTS", sha}, {"SCRIPT", "LOAD", body}, {"SCRIPT", "LOAD", "return ("}, {"EVALSHA", sha, 1, keys[0]}, {"SCRIPT", "EXISTS", sha, unknown}} {
			wantReply(t, fmt.Sprint(args), c.Do(args...), "QUEUED")
		}
		got := fmt.Sprint(c.Do("EXEC"))
		if !strings.HasPrefix(got, "[[0] "+sha+" ERR ") || !strings.HasSuffix(got, " loaded [1 0]]") {
			t.Errorf("EXEC: %s", got)
		}
		for _, key := range keys {
			wantReply(t, "EVALSHA", c.Do("EVALSHA", sha, 1, key), "loaded")
			c.Do("MULTI")
			c.Do("SCRIPT", "EXISTS", sha)
			c.Do("GET", key)
			if got := fmt.Sprint(c.Do("EXEC")); !strings.HasPrefix(got, "[[1] ") {
				t.Errorf("EXEC: %s", got)
			}
		}
	}
}

func TestNodeThatWasRestartedIsGivenItsScripts(t *testing.T) {
	node := redistest.Start(t)
	b := startBerth(t, node.Addr())
	c := dial(t, b.Addr())
	body, sha := newScript("redis.call('get', KEYS[1])")
	c.Do("EVAL", body, 1, "k")
	wantReply(t, "EVALSHA", c.Do("EVALSHA", sha, 1, "k"), 2)
	if calls := node.Do(t, "INFO", "commandstats"); strings.Contains(fmt.Sprint(calls), "script|load") {
		t.Error("a node was sent a script that it has run")
	}
	node.Restart(t)
	eventually(t, "berth to reach the node", func() bool { return c.Do("SET", "k", 0) == "OK" })
	wantReply(t, "EVALSHA", c.Do("EVALSHA", sha, 1, "k"), 1)
}

// A script chooses the words of its errors.
func TestScriptThatSaysNoScriptRunsOnce(t *testing.T) {
	cluster := sharedCluster(t)
	b := startBerth(t, clusterURL(cluster))
	keys := keysOfNodes(cluster, unique("liar"))
	for _, words := range []string{"{err='" + b.noScript() + "'}", "redis.error_reply('NOSCRIPT x')", "redis.error_reply('NOSCRIPT No matching script.')"} {
		body, sha := newScript(words)
		c := dial(t, b.Addr())
		c.Do("SCRIPT", "LOAD", body)
		for _, key := range keys {
			c.Do("SET", key, 0)
			c.Send("EVALSHA", sha, 1, key)
			c.Send("GET", key)
			if got := fmt.Sprint(c.Recv()); !strings.HasPrefix(got, "NOSCRIPT") {
				t.Errorf("%s: %v", words, got)
			}
			wantReply(t, words, c.Recv(), 1)
			c.Do("EVALSHA", sha, 1, key)
			wantReply(t, words, c.Do("GET", key), 2)
		}
	}
}

func TestScriptThatANodeHasLostIsLoadedAgain(t *testing.T) {
	cluster := sharedCluster(t)
	b := startBerth(t, clusterURL(cluster))
	key := keysOfNodes(cluster, unique("lost"))[1]
	body, sha := newScript("'ran'")
	c := dial(t, b.Addr())
	wantReply(t, "SCRIPT LOAD", c.Do("SCRIPT", "LOAD", body), sha)
	cluster.Node(1).Do(t, "SCRIPT", "FLUSH")
	wantReply(t, "what Redis says then", c.Do("EVALSHA", sha, 1, key), b.noScript())
	wantReply(t, "after it", c.Do("EVALSHA", sha, 1, key), "ran")
	cluster.Node(1).Do(t, "SCRIPT", "FLUSH")
	exec := func() any {
		c.Do("MULTI")
		c.Do("EVALSHA", sha, 1, key)
		return c.Do("EXEC")
	}
	wantReply(t, "EXEC", exec(), "["+b.noScript()+"]")
	wantReply(t, "EXEC", exec(), "[ran]")
}

func TestScriptFlushForgetsOnAllNodes(t *testing.T) {
	cluster := sharedCluster(t)
	b := startBerth(t, clusterURL(cluster))
	keys := keysOfNodes(cluster, unique("flush"))
	body, sha := newScript("1")
	c := dial(t, b.Addr())
	c.Do("EVAL", body, 1, keys[0])
	c.Send("SCRIPT", "FLUSH")
	for _, key := range keys {
		c.Send("EVALSHA", sha, 1, key)
	}
	c.Send("SCRIPT", "EXISTS", sha)
	wantReply(t, "SCRIPT FLUSH", c.Recv(), "OK")
	for range keys {
		wantReply(t, "EVALSHA", c.Recv(), b.noScript())
	}
	wantReply(t, "SCRIPT EXISTS", c.Recv(), "[0]")
}

func TestScriptThatNoNodeAcceptedIsNotRemembered(t *testing.T) {
	cluster := sharedCluster(t)
	b := startBerth(t, clusterURL(cluster))
	c := dial(t, b.Addr())
	for _, body := range []string{"return (", "not Lua " + unique("s")} {
		for _, command := range [][]any{{"EVAL", body, 0}, {"SCRIPT", "LOAD", body}} {
			if got := fmt.Sprint(c.Do(command...)); !strings.HasPrefix(got, "ERR Error compiling script") {
				t.Errorf("%v: %v", command, got)
			}
		}
	}
	if n := len(b.srv.scripts.scripts); n != 0 {
		t.Errorf("%d scripts are remembered", n)
	}
}

func TestLimitedUserRunsScriptsOfOthers(t *testing.T) {
	cluster := redistest.StartCluster(t, 2, 0)
	for i := range cluster.Primaries() {
		cluster.Node(i).Do(t, "ACL", "SETUSER", "runner", "on", ">p", "~*", "+@all", "-eval", "-script")
		cluster.Node(i).Do(t, "ACL", "SETUSER", "nothing", "on", ">p", "~*", "+auth")
	}
	b := startBerth(t, clusterURL(cluster))
	keys := keysOfNodes(cluster, unique("limited"))
	body, sha := newScript("'ran'")
	owner, runner, nothing := dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr())
	runner.Do("AUTH", "runner", "p")
	nothing.Do("AUTH", "nothing", "p")
	refusal := func(c *redistest.Conn, args ...any) {
		t.Helper()
		if got := fmt.Sprint(c.Do(args...)); !strings.HasPrefix(got, "NOPERM") {
			t.Errorf("%v: %v", args, got)
		}
	}
	refusal(runner, "EVAL", body, 1, keys[0])
	refusal(runner, "SCRIPT", "LOAD", body)
	refusal(runner, "SCRIPT", "FLUSH")
	wantReply(t, "what it may not load", runner.Do("EVALSHA", sha, 1, keys[0]), b.noScript())
	owner.Do("EVAL", body, 1, keys[0])
	refusal(runner, "SCRIPT", "FLUSH")
	refusal(runner, "SCRIPT", "EXISTS", sha)
	for _, key := range keys {
		wantReply(t, "runner", runner.Do("EVALSHA", sha, 1, key), "ran")
		refusal(nothing, "EVALSHA", sha, 1, key)
	}
	// The user of the backend's URL may load nothing: then the client's own does, or the node says
	// what it lacks.
	for i := range cluster.Primaries() {
		cluster.Node(i).Do(t, "ACL", "SETUSER", "boss", "on", ">p", "~*", "+@all")
		cluster.Node(i).Do(t, "ACL", "SETUSER", "default", "-script")
	}
	body, sha = newScript("'ran'")
	boss := dial(t, b.Addr())
	boss.Do("AUTH", "boss", "p")
	boss.Do("EVAL", body, 1, keys[0])
	wantReply(t, "runner", runner.Do("EVALSHA", sha, 1, keys[1]), b.noScript())
	wantReply(t, "boss", boss.Do("EVALSHA", sha, 1, keys[1]), "ran")
	wantReply(t, "runner", runner.Do("EVALSHA", sha, 1, keys[1]), "ran")
}

func TestScriptFollowsItsSlotToAnotherNode(t *testing.T) {
	parallel(t)
	_, b, move := movedSlot(t, "k", "--topology-refresh-interval", "0")
	c := dial(t, b.Addr())
	body, sha := newScript("redis.call('get', KEYS[1])")
	c.Do("EVAL", body, 1, "k")
	move()
	got := pipelined(c, "EVALSHA "+sha+" 1 k", "INCR k", "EVALSHA "+sha+" 1 k")
	wantReply(t, "EVALSHA", got, "[2 3 4]")
}

func TestScriptsAreForgottenBeyondTheirRoom(t *testing.T) {
	const room = 1 << 20
	book := newScriptBook(room)
	body := func(i int) []byte { return fmt.Appendf(nil, "return %d%s", i, strings.Repeat(" ", 9000)) }
	used := scriptSHA(sha1.Sum(body(0)))
	for i := range 1000 {
		book.accept(body(i), book.epoch())
		if sc, _ := book.find(used, ""); sc == nil {
			t.Fatalf("the script in use is forgotten at the %dth", i)
		}
		if book.bytes > room {
			t.Fatalf("%d bytes of scripts", book.bytes)
		}
	}
	if n := book.queue.Len(); n != len(book.scripts) || n != len(book.byHash) || n < room/2/9000 || n > room/9000 {
		t.Errorf("%d, %d and %d scripts", n, len(book.scripts), len(book.byHash))
	}
	if sc, _ := book.same(body(1), ""); sc != nil {
		t.Error("the oldest script is known")
	}
	if sc, _ := book.same(body(999), ""); sc == nil {
		t.Error("the newest script is unknown")
	}
}

func TestScriptBookBelievesANodeUntilItIsLost(t *testing.T) {
	book := newScriptBook(maxScripts)
	sc := book.accept([]byte("return 1"), book.epoch())
	is := func(want bool) {
		t.Helper()
		if _, there := book.find(sc.sha, "a:1"); there != want {
			t.Errorf("there: %v", there)
		}
	}
	is(false)
	book.arrived(sc, "a:1", book.epoch())
	is(true)
	book.lost("a:1")
	is(false)
	book.arrived(sc, "b:1", book.epoch())
	is(false)
	before := book.epoch()
	book.arrived(sc, "a:1", before)
	is(true)
	book.doubt(sc.sha)
	is(false)
	book.forget()
	sc = book.accept([]byte("return 1"), before)
	if found, _ := book.find(sc.sha, "a:1"); found != nil {
		t.Error("a script that was sent before SCRIPT FLUSH is known after it")
	}
}

// A PING that is sent a moment after a script must not wait for a script without an end, and a client's
// own read after its own write keeps its place.
func TestPingAtTheBeginningOfAnEndlessScriptIsAnswered(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--lua-time-limit", "10")
	b := startBerth(t, node.Addr(), "--loops", "1")
	runs, asks, writes := dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr())
	script(t, asks, "PING → PONG", "GET k → <nil>")
	script(t, writes, "SET k 1 → OK")
	runs.Send("EVAL", "while true do end", "0")
	asks.Send("PING")
	asks.Send("GET", "k")
	writes.Send("SET", "k", "2")
	writes.Send("GET", "k")
	for _, got := range []any{asks.Recv(), asks.Recv()} { // before the script, or while it runs
		if got, refused := got.(redistest.Error); refused && !strings.HasPrefix(string(got), "BUSY ") {
			t.Errorf("got %v", got)
		}
	}
	eventually(t, "the script to be killed", func() bool {
		got, _ := node.Do(t, "SCRIPT", "KILL").(string)
		return got == "OK"
	})
	if got := writes.Recv(); got != "OK" {
		t.Errorf("SET: %v", got)
	}
	if got := writes.Recv(); got != "2" {
		t.Errorf("GET after it: %v", got)
	}
}

// A script that only reads is not handed over: it would stop up the second pipe, and be run twice.
func TestScriptsThatWaitForOthersRunOnce(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr(), "--loops", "1")
	if b.srv.isBefore(7, 0) {
		return // which has no scripts that only read
	}
	dial(t, b.Addr()).Do("FUNCTION", "LOAD", "#!lua name=l\n"+
		"redis.register_function{function_name='busy', callback=function() local n = redis.call('TIME') "+
		"repeat local m = redis.call('TIME') until (m[1]-n[1])*1000000+m[2]-n[2] > 70000 end, flags={'no-writes'}}")
	const clients = 5
	var all []*redistest.Conn
	for range clients {
		c := dial(t, b.Addr())
		script(t, c, "GET k → <nil>")
		all = append(all, c)
	}
	for _, c := range all {
		c.Send("FCALL_RO", "busy", "0")
	}
	for _, c := range all {
		if got := c.Recv(); got != nil {
			t.Error(got)
		}
	}
	want := fmt.Sprintf("cmdstat_fcall_ro:calls=%d,", clients)
	if stats := fmt.Sprint(node.Do(t, "INFO", "commandstats")); !strings.Contains(stats, want) {
		t.Errorf("no %s in %s", want, stats)
	}
}
