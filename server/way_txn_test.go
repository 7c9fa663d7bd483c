package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// A play is what some clients do one after the other, "a: GET k". Keys are k, j and l, under a tag
// of the run's own.
type play struct {
	name  string
	lines string
}

var transactionPlays = []play{
	{"EXEC runs what was queued", "a: MULTI|a: SET k 1|a: INCR k|a: EXEC|a: GET k"},
	{"somebody else's write to a watched key", "a: SET k 1|a: WATCH k|b: SET k 2|a: MULTI|a: SET k 3|a: EXEC|a: GET k"},
	{"somebody else's write in MULTI", "a: SET k 1|a: WATCH k|a: MULTI|a: SET k 3|b: SET k 2|a: EXEC|a: GET k"},
	{"one's own write to a watched key", "a: WATCH k|a: SET k 1|a: MULTI|a: GET k|a: EXEC|a: GET k"},
	{"a write to another key", "a: WATCH k|b: SET j 2|a: MULTI|a: SET k 3|a: EXEC"},
	{"the second of two watched keys", "a: WATCH k|a: WATCH j|b: SET j 2|a: MULTI|a: SET k 3|a: EXEC|a: GET k"},
	{"two keys watched at once", "a: WATCH k j|b: SET j 2|a: MULTI|a: SET k 3|a: EXEC"},
	{"UNWATCH", "a: WATCH k|b: SET k 2|a: UNWATCH|a: MULTI|a: GET k|a: EXEC"},
	{"UNWATCH without WATCH", "a: UNWATCH|a: UNWATCH"},
	{"UNWATCH and WATCH again", "a: WATCH k|b: SET k 2|a: UNWATCH|a: WATCH k|a: MULTI|a: GET k|a: EXEC"},
	{"EXEC ends the watching", "a: WATCH k|a: MULTI|a: EXEC|b: SET k 2|a: MULTI|a: GET k|a: EXEC"},
	{"DISCARD ends the watching", "a: WATCH k|a: MULTI|a: GET k|a: DISCARD|b: SET k 2|a: MULTI|a: GET k|a: EXEC"},
	{"EXECABORT ends the watching", "a: WATCH k|a: MULTI|a: GET|a: EXEC|b: SET k 2|a: MULTI|a: GET k|a: EXEC"},
	{"RESET ends the watching", "a: WATCH k|b: SET k 2|a: RESET|a: MULTI|a: GET k|a: EXEC"},
	{"EXEC without MULTI keeps the watching", "a: WATCH k|a: EXEC|b: SET k 2|a: MULTI|a: GET k|a: EXEC"},
	{"DISCARD without MULTI keeps the watching", "a: WATCH k|a: DISCARD|b: SET k 2|a: MULTI|a: GET k|a: EXEC"},
	{"nothing queued, watched key unchanged", "a: WATCH k|a: MULTI|a: EXEC"},
	{"nothing queued, watched key changed", "a: WATCH k|b: SET k 2|a: MULTI|a: EXEC|a: EXEC"},
	{"nothing queued, nothing watched", "a: MULTI|a: EXEC|a: DISCARD"},
	{"an error at queueing wins over a changed key", "a: WATCH k|b: SET k 2|a: MULTI|a: nonsense|a: EXEC|a: GET k"},
	{"WATCH inside MULTI", "a: MULTI|a: WATCH k|a: SET k 1|b: SET k 2|a: EXEC|a: GET k"},
	{"MULTI inside MULTI", "a: MULTI|a: SET k 1|a: MULTI|a: EXEC|a: GET k"},
	{"UNWATCH inside MULTI", "a: WATCH k|a: MULTI|a: UNWATCH|a: GET k|b: SET k 2|a: EXEC"},
	{"wrong arity", "a: WATCH|a: MULTI x|a: MULTI|a: EXEC x|a: EXEC"},
	{"reads between WATCH and MULTI", "a: MSET k 1 j 2|a: WATCH k|a: GET k|a: MGET k j|a: EXISTS k j|a: MULTI|a: INCR k|a: EXEC"},
	{"a command that fails at run time", "a: SET k x|a: MULTI|a: INCR k|a: SET j 1|a: EXEC|a: GET j"},
	{"blocking commands between WATCH and MULTI", "a: WATCH k|a: BLPOP l 0.01|b: RPUSH l x y|a: BLPOP l 1|b: SET k 2|a: MULTI|a: GET k|a: EXEC|a: BLPOP l 1"},
	{"blocking commands inside MULTI", "a: MULTI|a: BLPOP l 0|a: BLMOVE l j LEFT LEFT 0|a: BZPOPMIN k 0|a: EXEC"},
	{"own answers inside MULTI", "a: MULTI|a: PING|a: GET k|a: ECHO x|a: PING y|a: EXEC"},
	{"RESP3", "a: SET k 1|a: HELLO|a: WATCH k|b: SET k 2|a: MULTI|a: SET k 3|a: EXEC|a: MULTI|a: HGETALL j|a: GET l|a: EXEC"},
	{"RESP3 chosen while watching", "a: WATCH k|a: HELLO|b: SET k 2|a: MULTI|a: GET k|a: EXEC|a: HGETALL j"},
	{"a watched key that is deleted", "a: SET k 1|a: WATCH k|b: DEL k|a: MULTI|a: GET k|a: EXEC"},
	{"a missing watched key that stays missing", "a: WATCH k|b: DEL k|a: MULTI|a: GET k|a: EXEC"},
}

// perform plays at one address and returns each line with its reply.
func (p play) perform(t *testing.T, addr, tag string) []string {
	t.Helper()
	clients := map[string]*redistest.Conn{}
	var heard []string
	for _, line := range strings.Split(p.lines, "|") {
		who, words, _ := strings.Cut(line, ": ")
		c := clients[who]
		if c == nil {
			c = dial(t, addr)
			defer c.Close()
			clients[who] = c
		}
		args := strings.Fields(words)
		if args[0] == "HELLO" { // its reply speaks of the server
			c.Do("HELLO", "3")
			continue
		}
		for i, a := range args[1:] {
			if len(a) == 1 && strings.Contains("kjl", a) {
				args[i+1] = "{" + tag + "}" + a
			}
		}
		heard = append(heard, line+" → "+c.DoRaw(args))
	}
	return heard
}

func TestTransactionsDoWhatRedisDoes(t *testing.T) {
	direct := redistest.Start(t)
	pool := func(on string) []string { return []string{"--private_conn_pool_enabled", on} }
	for name, b := range map[string]*berthServer{
		"standalone":           startBerth(t, sharedNode(t).Addr()),
		"standalone, one loop": startBerth(t, sharedNode(t).Addr(), "--loops", "1"),
		"standalone, no pool":  startBerth(t, sharedNode(t).Addr(), pool("0")...),
		"cluster":              startBerth(t, clusterURL(sharedCluster(t))),
		"cluster, no pool":     startBerth(t, clusterURL(sharedCluster(t)), pool("0")...),
	} {
		for _, p := range transactionPlays {
			t.Run(name+"/"+p.name, func(t *testing.T) {
				tag := unique("txn")
				want, got := p.perform(t, direct.Addr(), tag), p.perform(t, b.Addr(), tag)
				for i := range want {
					if got[i] != want[i] {
						t.Errorf("\n got %q\nwant %q", got[i], want[i])
					}
				}
			})
		}
	}
}

// script sends commands one by one and compares each reply, as fmt.Sprint shows it, with what
// stands behind "→".
func script(t *testing.T, c *redistest.Conn, lines ...string) {
	t.Helper()
	for _, line := range lines {
		command, want, _ := strings.Cut(line, " → ")
		if got := fmt.Sprint(c.Do(strings.Fields(command))); got != want {
			t.Errorf("%s: got %q, want %q", command, got, want)
		}
	}
}

const crossSlot = "CROSSSLOT Keys in request don't hash to the same slot"

func TestTransactionsOverSeveralSlotsAreRefused(t *testing.T) {
	b := startBerth(t, clusterURL(sharedCluster(t)))
	c := dial(t, b.Addr())
	script(t, c,
		"MULTI → OK", "SET xs:a 1 → QUEUED", "SET xs:b 2 → QUEUED", "EXEC → "+crossSlot, "MGET xs:a xs:b → [<nil> <nil>]",
		"EXEC → ERR EXEC without MULTI",
		"WATCH xs:a xs:b → "+crossSlot,
		"WATCH {xs}a → OK", "WATCH xs:b → "+crossSlot, "WATCH {xs}b → OK",
		"MULTI → OK", "SET xs:b 1 → QUEUED", "EXEC → "+crossSlot, "GET xs:b → <nil>",
		"WATCH {xs}a → OK", "MULTI → OK", "SET {xs}b 1 → QUEUED", "EXEC → [OK]", "GET {xs}b → 1", "DEL {xs}b → 1")
}

// movable is a cluster of this test's own, whose slots it may move.
func movable(t *testing.T) (*redistest.Cluster, *berthServer) {
	t.Helper()
	cluster := redistest.StartCluster(t, 3, 0)
	return cluster, startBerth(t, clusterURL(cluster), "--loops", "1")
}

func TestTransactionsFollowTheirSlot(t *testing.T) {
	cluster, b := movable(t)
	// Each case has a slot of its own: what berth has learnt about one says nothing about the next.
	// All move the same way: nodes that give slots to each other within a second may disagree about
	// them for longer.
	const from, to = 0, 1
	home := func(tag string) int {
		slot := int(router.Slot([]byte(tag)))
		if cluster.Owner(slot) != from {
			t.Fatalf("slot of %s is not node %d's", tag, from)
		}
		return slot
	}
	t.Run("moved between MULTI and EXEC", func(t *testing.T) {
		c := dial(t, b.Addr())
		slot := home("m0")
		script(t, c, "SET {m0}k 1 → OK", "MULTI → OK", "INCR {m0}k → QUEUED", "GET {m0}k → QUEUED")
		cluster.MoveSlot(t, slot, from, to)
		script(t, c, "EXEC → [2 2]", "GET {m0}k → 2")
	})
	t.Run("a pipelined transaction", func(t *testing.T) {
		c := dial(t, b.Addr())
		slot := home("m4")
		script(t, c, "SET {m4}k 1 → OK")
		cluster.MoveSlot(t, slot, from, to)
		c.WriteString(pipeline("INCR {m4}k", "MULTI", "INCR {m4}k", "EXEC", "GET {m4}k"))
		if got := strings.Join(replies(c, 5), ""); got != ":2\r\n+OK\r\n+QUEUED\r\n*1\r\n:3\r\n$1\r\n3\r\n" {
			t.Errorf("%q", got)
		}
	})
	t.Run("asked while the slot is being moved", func(t *testing.T) {
		c := dial(t, b.Addr())
		slot := home("m8")
		script(t, c, "SET {m8}k 1 → OK")
		cluster.StartMove(t, slot, from, to)
		cluster.MigrateKeys(t, slot, from, to)
		script(t, c, "MULTI → OK", "INCR {m8}k → QUEUED", "EXEC → [2]", "GET {m8}k → 2")
		cluster.FinishMove(t, slot, from, to)
		script(t, c, "MULTI → OK", "INCR {m8}k → QUEUED", "EXEC → [3]", "GET {m8}k → 3")
	})
	t.Run("what was watched is lost", func(t *testing.T) {
		c := dial(t, b.Addr())
		slot := home("m11")
		script(t, c, "SET {m11}k 1 → OK", "WATCH {m11}k → OK", "GET {m11}k → 1", "MULTI → OK", "SET {m11}k 2 → QUEUED")
		cluster.MoveSlot(t, slot, from, to)
		script(t, c, "EXEC → <nil>", "GET {m11}k → 1",
			"WATCH {m11}k → OK", "MULTI → OK", "SET {m11}k 2 → QUEUED", "EXEC → [OK]", "GET {m11}k → 2")
	})
	t.Run("read after the move, what was watched is lost", func(t *testing.T) {
		c := dial(t, b.Addr())
		slot := home("m15")
		script(t, c, "SET {m15}k 1 → OK", "WATCH {m15}k → OK")
		cluster.MoveSlot(t, slot, from, to)
		script(t, c, "GET {m15}k → 1", "SET {m15}k 5 → OK", "MULTI → OK", "SET {m15}k 2 → QUEUED", "EXEC → <nil>", "GET {m15}k → 5")
	})
	t.Run("WATCH and more in one write behind the move", func(t *testing.T) {
		c := dial(t, b.Addr())
		slot := home("m19")
		script(t, c, "SET {m19}k 1 → OK")
		cluster.MoveSlot(t, slot, from, to)
		c.WriteString(pipeline("WATCH {m19}k", "GET {m19}k", "MULTI", "INCR {m19}k", "EXEC", "GET {m19}k"))
		got := strings.Join(replies(c, 6), "")
		executed := "+OK\r\n$1\r\n1\r\n+OK\r\n+QUEUED\r\n*1\r\n:2\r\n$1\r\n2\r\n"
		conflict := "+OK\r\n$1\r\n1\r\n+OK\r\n+QUEUED\r\n*-1\r\n$1\r\n1\r\n" // allowed: the client tries again
		if got != executed && got != conflict {
			t.Errorf("%q", got)
		}
	})
	t.Run("WATCH alone behind the move", func(t *testing.T) {
		c := dial(t, b.Addr())
		slot := home("m20")
		script(t, c, "SET {m20}k 1 → OK")
		cluster.MoveSlot(t, slot, from, to)
		script(t, c, "WATCH {m20}k → OK", "GET {m20}k → 1", "MULTI → OK", "INCR {m20}k → QUEUED", "EXEC → [2]")
	})
	t.Run("a blocked client goes along", func(t *testing.T) {
		c := dial(t, b.Addr())
		slot := home("m24")
		c.Send("BLPOP", "{m24}l", "10")
		awaitBlocked(t, cluster.Node(from), 1)
		cluster.MoveSlot(t, slot, from, to)
		awaitBlocked(t, cluster.Node(to), 1)
		script(t, dial(t, b.Addr()), "RPUSH {m24}l x → 1")
		if got := fmt.Sprint(c.Recv()); got != "[{m24}l x]" {
			t.Errorf("BLPOP: %s", got)
		}
	})
	t.Run("a client that watches and blocks holds nobody up", func(t *testing.T) {
		c, other := dial(t, b.Addr()), dial(t, b.Addr())
		slot := home("m28")
		script(t, c, "WATCH {m28}k → OK")
		cluster.MoveSlot(t, slot, from, to)
		c.Send("BLPOP", "{m28}l", "10")
		awaitBlocked(t, cluster.Node(to), 1)
		script(t, other, "SET {m28}k 5 → OK", "GET {m28}k → 5", "RPUSH {m28}l x → 1")
		if got := fmt.Sprint(c.Recv()); got != "[{m28}l x]" {
			t.Errorf("BLPOP: %s", got)
		}
		script(t, c, "MULTI → OK", "SET {m28}k 6 → QUEUED", "EXEC → <nil>", "GET {m28}k → 5")
	})
}

// awaitBlocked waits until so many clients are blocked at the node.
func awaitBlocked(t *testing.T, node *redistest.Server, n int) {
	t.Helper()
	watcher := dial(t, node.Addr())
	defer watcher.Close()
	eventually(t, fmt.Sprintf("%d blocked clients", n), func() bool {
		return strings.Contains(watcher.Do("INFO", "clients").(string), fmt.Sprintf("blocked_clients:%d\r\n", n))
	})
}

// nodeClients is the node's CLIENT LIST, a map by client, without the connection that asks.
func nodeClients(t testing.TB, node *redistest.Server, auth ...any) []map[string]string {
	t.Helper()
	c := dial(t, node.Addr())
	defer c.Close()
	if len(auth) > 0 {
		c.Do(append([]any{"AUTH"}, auth...)...)
	}
	list, ok := c.Do("CLIENT", "LIST").(string)
	if !ok {
		t.Fatal("CLIENT LIST refused")
	}
	var all []map[string]string
	for _, line := range strings.Split(strings.TrimSpace(list), "\n") {
		fields := map[string]string{}
		for _, f := range strings.Fields(line) {
			name, value, _ := strings.Cut(f, "=")
			fields[name] = value
		}
		if fields["addr"] != c.LocalAddr() {
			all = append(all, fields)
		}
	}
	return all
}

// leases sums what all pools of a berth are.
func (b *berthServer) leases() (sum pool.Stats) {
	b.srv.pools.Each(func(_, _ string, p *pool.Pool) {
		s := p.Stats()
		sum.Idle += s.Idle
		sum.Leased += s.Leased
		sum.Dialing += s.Dialing
		sum.Waiting += s.Waiting
		sum.Dials += s.Dials
		sum.OldestWait = max(sum.OldestWait, s.OldestWait)
	})
	return sum
}

func TestLostConnectionBreaksTheWatch(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr())
	direct := dial(t, node.Addr())
	kill := func() {
		t.Helper()
		watching := 0
		for _, c := range nodeClients(t, node) {
			if c["cmd"] == "watch" {
				direct.Do("CLIENT", "KILL", "ID", c["id"])
				watching++
			}
		}
		if watching != 1 {
			t.Fatalf("%d connections watch", watching)
		}
		eventually(t, "berth to know", func() bool { return b.leases().Leased == 0 })
	}
	c := dial(t, b.Addr())
	script(t, c, "SET k 1 → OK", "WATCH k → OK")
	kill()
	script(t, c, "MULTI → OK", "SET k 2 → QUEUED", "EXEC → <nil>", "GET k → 1")

	script(t, c, "WATCH k → OK", "MULTI → OK", "SET k 2 → QUEUED")
	kill()
	script(t, c, "EXEC → <nil>", "GET k → 1")

	script(t, c, "WATCH k → OK")
	kill()
	script(t, c, "WATCH j → OK", "GET k → 1", "BLPOP l 0.01 → <nil>", "MULTI → OK", "EXEC → <nil>")

	script(t, c, "WATCH k → OK")
	kill()
	script(t, c, "UNWATCH → OK", "MULTI → OK", "SET k 3 → QUEUED", "EXEC → [OK]", "WATCH k → OK", "MULTI → OK", "EXEC → []")
}

func TestWithThePoolAConnectionServesOneClientAfterAnother(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--hz", "100")
	b := startBerth(t, node.Addr(), "--loops", "1")
	for range 20 {
		c := dial(t, b.Addr())
		script(t, c, "WATCH k → OK", "MULTI → OK", "INCR k → QUEUED")
		c.Do("EXEC")
		script(t, c, "BLPOP l 0.001 → <nil>")
	}
	script(t, dial(t, b.Addr()), "GET k → 20")
	leases := 0
	for _, c := range nodeClients(t, node) {
		if c["cmd"] == "blpop" {
			leases++
		}
	}
	if leases != 1 {
		t.Errorf("%d exclusive connections for clients that came one after the other", leases)
	}
}

func TestWithoutThePoolAClientKeepsItsConnectionUntilItLeaves(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr(), "--loops", "1", "--private_conn_pool_enabled", "0")
	shared := dial(t, b.Addr())
	script(t, shared, "SET k 0 → OK")
	own := func() (n int) {
		for _, c := range nodeClients(t, node) {
			if c["cmd"] == "unwatch" || c["cmd"] == "watch" { // berth may say OK to UNWATCH first
				n++
			}
		}
		return n
	}
	var clients []*redistest.Conn
	for i := range 5 {
		c := dial(t, b.Addr())
		script(t, c, "WATCH k → OK", "MULTI → OK", "INCR k → QUEUED", fmt.Sprintf("EXEC → [%d]", i+1), "BLPOP l 0.001 → <nil>",
			"WATCH k → OK", "UNWATCH → OK")
		clients = append(clients, c)
		if got := own(); got != i+1 {
			t.Fatalf("%d clients have %d connections of their own", i+1, got)
		}
	}
	// It is quiet: nobody talks to a node on a connection that is merely kept.
	calls := func() string {
		for _, line := range strings.Split(node.Do(t, "INFO", "commandstats").(string), "\r\n") {
			if strings.HasPrefix(line, "cmdstat_unwatch:") {
				return line
			}
		}
		return ""
	}
	before := calls()
	script(t, shared, "GET k → 5", "GET k → 5", "GET k → 5")
	if after := calls(); after != before {
		t.Errorf("the node got more UNWATCH from clients that do nothing: %s, then %s", before, after)
	}
	for _, c := range clients {
		c.Close()
	}
	eventually(t, "the connections to be closed", func() bool { return own() == 0 })
}

func TestWithoutThePoolAConnectionFollowsItsClientsDatabaseAndProtocol(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr(), "--private_conn_pool_enabled", "0")
	c := dial(t, b.Addr())
	script(t, c, "WATCH k → OK", "MULTI → OK", "SET k 0 → QUEUED", "EXEC → [OK]", "SELECT 3 → OK",
		"WATCH k → OK", "MULTI → OK", "SET k 3 → QUEUED", "EXEC → [OK]", "GET k → 3", "SELECT 0 → OK", "GET k → 0")
	c.Do("HELLO", 3)
	script(t, c, "WATCH k → OK", "MULTI → OK", "HSET h f v → QUEUED", "HGETALL h → QUEUED", "EXEC → [1 [f v]]")
	c.Send("BLPOP", "nolist", "0.001")
	if got := c.RecvRaw(); got != "_\r\n" {
		t.Errorf("nil in RESP3: %q", got)
	}
}

func TestManyCompareAndSetLoopsLoseNothing(t *testing.T) {
	for name, backend := range map[string]string{"standalone": sharedNode(t).Addr(), "cluster": clusterURL(sharedCluster(t))} {
		t.Run(name, func(t *testing.T) {
			b := startBerth(t, backend)
			const clients, target = 12, 60
			done := make(chan int)
			deadline := time.Now().Add(time.Minute) // soon enough on any machine
			dial(t, b.Addr()).Do("DEL", "cas:n")
			for range clients {
				go func() {
					successes := 0
					defer func() { done <- successes }()
					c, err := redistest.TryDial(t, b.Addr())
					for err == nil && time.Now().Before(deadline) {
						_, err = c.TryDo("WATCH", "cas:n")
						if err != nil {
							return
						}
						got, _ := c.TryDo("GET", "cas:n")
						var n int
						if s, ok := got.(string); ok {
							fmt.Sscan(s, &n)
						}
						if n >= target {
							c.TryDo("UNWATCH")
							return
						}
						c.TryDo("MULTI")
						c.TryDo("SET", "cas:n", n+1)
						if reply, _ := c.TryDo("EXEC"); fmt.Sprint(reply) == "[OK]" {
							successes++
						}
					}
				}()
			}
			total := 0
			for range clients {
				total += <-done
			}
			got := dial(t, b.Addr()).Do("GET", "cas:n")
			if total != target || got != fmt.Sprint(target) {
				t.Errorf("%d successes, the counter says %v", total, got)
			}
		})
	}
}

// hasPartIn relies on it.
func TestWhatTravelsOnPipesIsNotAnsweredByBerth(t *testing.T) {
	table := router.WithOwn()
	index := newOwnIndex(table)
	for _, cmd := range table.Commands() {
		for _, c := range append(cmd.Subcommands(), cmd) {
			if own := index.of(c); c.Way == router.Shared && (own.answer != nil || own.run != nil) {
				t.Errorf("%s is both shared and answered by berth", c.Name)
			}
		}
	}
}

// The node has answered EXEC, and berth waits for another node: whoever frees the request, it is no
// reply to it.
func TestClientThatLeavesWhileExecIsPutTogetherIsOwedNothing(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 2, 0)
	b := startBerth(t, clusterURL(cluster))
	key := ""
	for i := 0; key == "" || cluster.Owner(int(router.Slot([]byte(key)))) != 0; i++ {
		key = unique("left")
	}
	c := dial(t, b.Addr())
	script(t, c, "MULTI → OK", "GET "+key+" → QUEUED", "INFO keyspace → QUEUED")
	cluster.Node(1).Pause()
	defer cluster.Node(1).Resume()
	c.Send("EXEC")
	eventually(t, "EXEC's reply to be put together", func() bool {
		return b.count(func(s *session) bool { return s.execReply != nil }) == 1
	})
	c.Reset()
	b.awaitClients(t, 0)
	cluster.Node(1).Resume()
	owesNothing(t, b)
}

// What only the node can refuse is told by EXEC: its client has read QUEUED.
func TestExecSaysWhyTheNodeRefusedWhatWasQueued(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr())
	c := dial(t, b.Addr())
	pipelined(c, "MULTI", "SET exec:k 1")
	node.Do(t, "CONFIG", "SET", "min-replicas-to-write", 2)
	const want = "EXECABORT Transaction discarded because of: NOREPLICAS Not enough good replicas to write."
	if got := fmt.Sprint(c.Do("EXEC")); got != want {
		t.Errorf("EXEC: %s", got)
	}
	if got := fmt.Sprint(pipelined(c, "WATCH exec:k", "MULTI", "GET exec:k", "SET exec:k 1", "EXEC")); got != "[OK OK QUEUED QUEUED "+want+"]" {
		t.Errorf("after WATCH: %s", got)
	}
	if got := fmt.Sprint(pipelined(c, "MULTI", "nosuch", "EXEC")[2]); !strings.HasSuffix(got, "because of previous errors.") {
		t.Errorf("what berth has refused itself: %s", got)
	}
}

// Who a client is does not rest on EXEC's reply: a library's error there may go on with a forged one.
func TestNobodyBecomesAnotherUserInATransaction(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	setUsers(t, node, "mallory on >pw ~* &* +@all -acl", "admin on >secret ~* &* +@all")
	b := startBerth(t, node.Addr())
	admin := dial(t, b.Addr())
	script(t, admin, "AUTH admin secret → OK") // berth knows the password
	const forged = "#!lua name=l\nlocal t = {} t['\\r\\n+OK\\r\\n+OK\\r\\n+'].x = 1"
	for _, login := range []string{"AUTH admin wrong", "HELLO 3 AUTH admin wrong", "HELLO 2 AUTH mallory pw"} {
		c := loggedIn(t, b.Addr(), "mallory")
		c.Do("MULTI")
		c.Do("FUNCTION", "LOAD", forged)
		if got := c.DoRaw(anys(strings.Fields(login))...); got != "-"+errAuthQueued+"\r\n" {
			t.Errorf("%s: %q", login, got)
		}
		if got := c.DoRaw("EXEC"); !strings.HasPrefix(got, "-EXECABORT") {
			t.Errorf("EXEC: %q", got)
		}
		if got := c.DoRaw("ACL", "WHOAMI"); !strings.HasPrefix(got, "-NOPERM") {
			t.Errorf("%s: ACL WHOAMI: %q", login, got)
		}
	}
}

// One that sends more after what may break its line ends nothing but its own connection.
func TestATransactionAfterABrokenLineEndsNoBerth(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr())
	bystander := dial(t, b.Addr())
	for _, end := range []string{"SELECT 1", "HELLO 3", "CLIENT TRACKING OFF"} {
		c := dial(t, b.Addr())
		c.Do("HELLO", 3)
		script(t, c, "CLIENT TRACKING ON → OK")
		all := codec.AppendCommandString(nil, "FUNCTION", "LOAD", "#!lua name=l\nlocal t = {} t['\\r\\n+OK\\r\\n+QUEUED\\r\\n*0\\r\\n+'].x = 1")
		for _, words := range [][]string{{"MULTI"}, strings.Fields(end), {"EXEC"}, {"QUIT"}} {
			all = codec.AppendCommandString(all, words...)
		}
		_ = c.TryWrite(all) // in one piece: berth may close it before it has said all
		_ = c.ReadAll()
		script(t, bystander, "ECHO well → well")
	}
}
