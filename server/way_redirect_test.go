package main

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
)

// redirected is how many redirects this berth has followed.
func (b *berthServer) redirected() int64 {
	row := b.srv.look(0).StatsRow()
	return row.Moved + row.Asked
}

// trap is an attacker's listener. It must never hear anything.
type trap struct {
	addr  string
	calls atomic.Int64
}

func setTrap(t *testing.T) *trap {
	t.Helper()
	p := &trap{}
	t.Cleanup(func() {
		if n := p.calls.Load(); n > 0 {
			t.Errorf("berth called the attacker's listener %d times", n)
		}
	})
	p.addr = redistest.Listen(t, func(net.Conn) { p.calls.Add(1) })
	return p
}

// deadAddr is where nobody listens.
func deadAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// lie is a script that answers with an error of the client's choice.
const lie = "return {err=ARGV[1]}"

// lies are ways to have a script answer so. Each is a list of requests, of which the last brings the error, perhaps in an array.
func lies(key, words string) [][][]any {
	eval := []any{"EVAL", lie, 1, key, words}
	return [][][]any{
		{eval},
		{{"EVAL", "return redis.error_reply(ARGV[1])", 1, key, words}},
		{{"EVAL", "return {{err=ARGV[1]}}", 1, key, words}},
		{{"EVAL_RO", lie, 1, key, words}},
		{{"FCALL", "lie", 1, key, words}},
		{{"MULTI"}, eval, {"EXEC"}},
		{{"WATCH", key}, eval, {"UNWATCH"}, eval},
		{{"WATCH", key}, {"MULTI"}, eval, {"EXEC"}},
	}
}

const lieLibrary = "#!lua name=lie\nredis.register_function('lie', function(keys, args) return {err=args[1]} end)"

// converse sends requests one by one and returns the raw replies.
func converse(c *redistest.Conn, requests [][]any) (replies []string) {
	for _, r := range requests {
		replies = append(replies, c.DoRaw(r...))
	}
	return replies
}

// sameLies compares what a client gets through berth with what the node itself answers.
func sameLies(t *testing.T, b *berthServer, node *redistest.Server, key string, words ...string) {
	t.Helper()
	direct, through := dial(t, node.Addr()), dial(t, b.Addr())
	for _, w := range words {
		for _, l := range lies(key, w) {
			if got, want := converse(through, l), converse(direct, l); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%v:\n got %q\nwant %q", l, got, want)
			}
		}
	}
}

// The words of every error that berth acts on anywhere, from a script: they are its client's alone.
func actedOn(slot uint16, addr string) []string {
	return []string{
		fmt.Sprintf("MOVED %d %s", slot, addr), fmt.Sprintf("ASK %d %s", slot, addr), "READONLY You can't write against a read only replica.",
		"NOAUTH Authentication required.", "WRONGPASS invalid username-password pair or user is disabled.", "NOPERM this user has no permissions",
		"UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)", "LOADING Redis is loading the dataset in memory",
		"CLUSTERDOWN The cluster is down", "TRYAGAIN Multiple keys request during rehashing of slot", "MASTERDOWN Link with MASTER is down",
		"NOSCRIPT No matching script. Please use EVAL.", "ERR EXEC without MULTI", "EXECABORT Transaction discarded because of previous errors.",
		"ERR max number of clients reached", "BUSY Redis is busy", "MISCONF Redis is configured to save RDB snapshots", "NOREPLICAS Not enough good replicas to write.",
		"ERR unknown command 'CLIENT'", "ERR This instance has cluster support disabled",
	}
}

func TestScriptedErrorsOfAStandaloneNodeAreData(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	node.Do(t, "FUNCTION", "LOAD", lieLibrary)
	b := startBerth(t, node.Addr(), "--loops", "1")
	defer startBystander(t, b.Addr()).end()
	beside := dial(t, b.Addr())
	beside.Do("SET", "k", "v")
	before, topology := connectionsOf(t, node), b.srv.nodes.Topology()
	sameLies(t, b, node, "k", actedOn(router.Slot([]byte("k")), setTrap(t).addr)...)
	if got := beside.Do("GET", "k"); got != "v" {
		t.Errorf("a bystander's GET: %v", got)
	}
	if b.srv.nodes.Topology() != topology {
		t.Error("the topology has changed")
	}
	if after := connectionsOf(t, node); !strings.HasPrefix(after, before) {
		t.Errorf("berth's shared connections to the node were %q, and are %q", before, after)
	}
}

// connectionsOf is the numbers of the node's connections on which GET was the last command, berth's pipe among them.
func connectionsOf(t *testing.T, node *redistest.Server) string {
	t.Helper()
	var ids []string
	list, _ := node.Do(t, "CLIENT", "LIST").(string)
	for line := range strings.Lines(list) {
		if strings.Contains(line, " cmd=get ") || strings.Contains(line, " cmd=set ") {
			ids = append(ids, strings.Fields(line)[0])
		}
	}
	return strings.Join(ids, " ")
}

func TestScriptedRedirectsLeadNowhere(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 3, 0, "--requirepass", "secret")
	for i := range 3 {
		cluster.Node(i).Do(t, "FUNCTION", "LOAD", lieLibrary)
	}
	b := startBerth(t, "redis://:secret@"+strings.Join(cluster.Addrs(), ","), "--topology-refresh-interval", "0")
	slot := router.Slot([]byte("k"))
	owner := cluster.Node(cluster.Owner(int(slot)))
	other := cluster.Node((cluster.Owner(int(slot)) + 1) % 3)
	topology := b.srv.nodes.Topology()
	beside := startBystanderAt(t, b.Addr(), "k", "AUTH", "secret")
	trap, dead := setTrap(t), deadAddr(t)
	var attackers sync.WaitGroup // each waits for a round to know better
	for _, addr := range []string{trap.addr, dead, "?:" + trap.addr[len("127.0.0.1:"):], trap.addr[len("127.0.0.1"):], "localhost:1", "127.0.0.1:0", "x"} {
		for _, words := range []string{fmt.Sprintf("MOVED %d %s", slot, addr), fmt.Sprintf("ASK %d %s", slot, addr)} {
			for _, l := range lies("{k}x", words) {
				attacker, direct := dial(t, b.Addr()), dial(t, owner.Addr())
				attacker.Do("AUTH", "secret")
				direct.Do("AUTH", "secret")
				attackers.Go(func() {
					if got, want := converse(attacker, l), converse(direct, l); fmt.Sprint(got) != fmt.Sprint(want) {
						t.Errorf("%v:\n got %q\nwant %q", l, got, want)
					}
				})
			}
		}
	}
	attackers.Wait()
	attacker := dial(t, b.Addr())
	attacker.Do("AUTH", "secret")
	// Another slot's, or without a key.
	for _, addr := range []string{trap.addr, other.Addr()} {
		for _, r := range [][]any{{"EVAL", lie, 1, "k", fmt.Sprintf("MOVED %d %s", slot^1, addr)}, {"EVAL", lie, 0, fmt.Sprintf("MOVED %d %s", slot, addr)}} {
			if got, want := attacker.DoRaw(r...), "-"+r[len(r)-1].(string)+"\r\n"; got != want {
				t.Errorf("%v: %q", r, got)
			}
		}
	}
	beside.end()
	if b.srv.nodes.Topology() != topology {
		t.Errorf("the topology has changed: %s", topology.Changes(b.srv.nodes.Topology()))
	}
}

// A script may send itself to another node, which knows better. It reaches nothing else.
func TestScriptThatSaysMovedIsRunAtMostMaxRedirectsTimes(t *testing.T) {
	parallel(t)
	b := startBerth(t, clusterURL(sharedCluster(t)), "--topology-refresh-interval", "0")
	c := dial(t, b.Addr())
	const key = "{scripted}runs"
	slot := router.Slot([]byte(key))
	cluster := sharedCluster(t)
	other := cluster.Node((cluster.Owner(int(slot)) + 1) % 3).Addr()
	topology := b.srv.nodes.Topology()
	for _, word := range []string{"MOVED", "ASK"} {
		c.Do("DEL", key)
		words := fmt.Sprintf("%s %d %s", word, slot, other)
		if got := c.DoRaw("EVAL", "redis.call('incr', KEYS[1]) return {err=ARGV[1]}", 1, key, words); got != "-"+words+"\r\n" && !strings.HasPrefix(got, "-MOVED ") {
			t.Errorf("%q", got)
		}
		if runs := c.Do("GET", key).(string); len(runs) > 1 || runs > "4" {
			t.Errorf("%s: the script ran %s times", word, runs)
		}
	}
	if b.srv.nodes.Topology() != topology {
		t.Error("the topology has changed")
	}
}

func TestFloodOfScriptedRedirectsMakesNoStormOfRounds(t *testing.T) {
	parallel(t)
	cluster := sharedCluster(t)
	b := startBerth(t, clusterURL(cluster), "--topology-refresh-interval", "0")
	slot := router.Slot([]byte("{flood}k"))
	words := []string{
		fmt.Sprintf("MOVED %d %s", slot, deadAddr(t)),
		fmt.Sprintf("ASK %d %s", slot, setTrap(t).addr),
		fmt.Sprintf("MOVED %d %s", slot, cluster.Node((cluster.Owner(int(slot))+1)%3).Addr()),
	}
	beside := startBystanderAt(t, b.Addr(), "{flood}k")
	before, begin := b.srv.nodes.Stats().Rounds, time.Now()
	attacker := dial(t, b.Addr())
	requests := sized(600, 3000)
	var flood []byte
	for i := range requests {
		flood = append(flood, redistest.Command("EVAL", lie, 1, "{flood}k", words[i%len(words)])...)
	}
	attacker.Write(flood)
	attacker.SetTimeout(time.Minute)
	for i := range requests {
		if got := attacker.RecvRaw(); got != "-"+words[i%len(words)]+"\r\n" && !strings.HasPrefix(got, "-MOVED ") {
			t.Fatalf("reply %d: %q", i, got)
		}
	}
	took := time.Since(begin)
	made, most := b.srv.nodes.Stats().Rounds-before, int64(took/time.Second)+2
	beside.end()
	t.Logf("%d scripted redirects took %s and made %d rounds", requests, took, made)
	if made > most {
		t.Errorf("%d rounds, more than one a second", made)
	}
}

// The node owns no slot and has joined since berth has asked.
func TestRedirectToANodeThatHasJustJoinedIsFollowed(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 2, 0)
	b := startBerth(t, clusterURL(cluster), "--topology-refresh-interval", "0", "--loops", "1")
	slot := int(router.Slot([]byte("k")))
	from := cluster.Owner(slot)
	c := dial(t, b.Addr())
	pipelined(c, "SET {k}here 1", "SET {k}a 1", "SET {k}b 2")
	to := cluster.Join(t)
	if b.srv.nodes.Topology().Knows(cluster.Node(to).Addr()) {
		t.Fatal("berth knows the node already: nothing is tested")
	}
	cluster.StartMove(t, slot, from, to)
	got := pipelined(c, "SET {k}new 1", "GET {k}here", "GET {k}new", "SET {k}new 2", "MULTI", "GET {k}new", "EXEC", "GET {k}new")
	if fmt.Sprint(got) != "[OK 1 1 OK OK QUEUED [2] 2]" {
		t.Errorf("while the slot moves to a node without slots: %v", got)
	}
	if b.redirected() == 0 {
		t.Error("nothing was redirected")
	}
	cluster.MigrateKeys(t, slot, from, to)
	cluster.FinishMove(t, slot, from, to)
	blocked := dial(t, b.Addr())
	blocked.Send("BLPOP", "{k}list", "0")
	if got := pipelined(c, "MGET {k}a {k}b other", "RPUSH {k}list x", "GET {k}new"); fmt.Sprint(got) != "[[1 2 <nil>] 1 2]" {
		t.Errorf("after the move: %v", got)
	}
	if got := blocked.Recv(); fmt.Sprint(got) != "[{k}list x]" {
		t.Errorf("BLPOP: %v", got)
	}
	eventually(t, "a round to find the new owner", func() bool {
		return b.srv.nodes.Topology().Primary(uint16(slot)) == cluster.Node(to).Addr()
	})
}

// MULTI is refused, so the queued commands run one by one, and one of them is a script that says MOVED.
func TestScriptInARefusedTransactionRunsOnce(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 2, 0)
	b := startBerth(t, clusterURL(cluster), "--topology-refresh-interval", "0", "--loops", "1")
	const key = "{refused}runs"
	slot := router.Slot([]byte(key))
	owner := cluster.Owner(int(slot))
	users := func(rules ...any) {
		for i := range 2 {
			cluster.Node(i).Do(t, append([]any{"ACL", "SETUSER", "u", "on", ">p", "~*", "+@all"}, rules...)...)
		}
	}
	users()
	c := dial(t, b.Addr())
	pipelined(c, "AUTH u p", "MULTI", "DISCARD") // berth remembers that the user may
	users("-multi")
	words := fmt.Sprintf("MOVED %d %s", slot, cluster.Node(1-owner).Addr())
	c.Do("MULTI")
	c.Do("EVAL", "redis.call('incr', KEYS[1]) return {err=ARGV[1]}", 1, key, words)
	if got := c.DoRaw("EXEC"); got != "-ERR EXEC without MULTI\r\n" {
		t.Errorf("EXEC: %q", got)
	}
	if got := c.Do("GET", key); got != "1" {
		t.Errorf("the script ran %v times", got)
	}
}

// A node's INFO repeats the first words of all errors: a script makes as many as its client likes.
func TestWordsOfScriptedErrorsDoNotMakeANodeSeemGone(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr())
	c := dial(t, b.Addr())
	const many = 25_000
	var requests []byte
	for i := range many {
		requests = append(requests, redistest.Command("EVAL", lie, 0, fmt.Sprintf("%030d x", i))...)
	}
	go c.Write(requests)
	for range many {
		c.Recv()
	}
	before := b.srv.nodes.Stats()
	b.srv.nodes.Refresh()
	eventually(t, "a round", func() bool { return b.srv.nodes.Stats().Rounds > before.Rounds })
	if !b.srv.nodes.Ready() {
		t.Errorf("the node seems gone: %v", b.srv.nodes.Health().Err)
	}
	t.Logf("INFO has %d bytes", len(node.Do(t, "INFO").(string)))
}

// An error as long as its script likes comes through whole, and costs the bystander neither its connection nor its order.
func TestErrorOfManyMegabytesIsPassedOnInParts(t *testing.T) {
	overBackends(t, []string{}, sayLongErrors)
}

func sayLongErrors(t *testing.T, nodes backing) {
	parallel(t)
	size := sized(6<<20, 20<<20)
	b := startBerth(t, nodes.url(""), "--loops", "1")
	beside := startBystanderAt(t, b.Addr(), "beside")
	c := dial(t, b.Addr())
	c.SetTimeout(time.Minute)
	want := "-MOVED 1 " + strings.Repeat("x", size) + "\r\n"
	for _, script := range []string{"return {err='MOVED 1 '..string.rep('x', ARGV[1])}", "return redis.error_reply('MOVED 1 '..string.rep('x', ARGV[1]))"} {
		if got := c.DoRaw("EVAL", script, 0, size); got != want {
			t.Errorf("%d bytes came, not %d", len(got), len(want))
		}
	}
	if got := c.Do("PING"); got != "PONG" {
		t.Errorf("PING after it: %v", got)
	}
	beside.end()
}
