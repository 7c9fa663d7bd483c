package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
)

// bookkeeper writes on every shard and keeps books of what was acknowledged. Each client has one
// counter and one list per shard; the counter shows writes that were lost or done twice, the list
// which ones.
type bookkeeper struct {
	*crowd
	tags    []string // a hash tag for each shard
	wrong   findings
	others  findings // errors on shards that are well
	hurt    int      // the shard that is not; -1: errors are allowed on all
	books   []*book
	acked   atomic.Int64
	unknown atomic.Int64 // may have been executed
	refused atomic.Int64 // was surely not executed
	mu      sync.Mutex   // guards words
	words   map[string]int
	served  []atomic.Int64 // by shard: unix nanoseconds of the last acknowledgement
}

// book is one client's, on one shard. Owned by the client's goroutine until the crowd has ended.
type book struct {
	shard   int
	counter string
	list    string
	count   int64 // the counter's last known value
	maybe   int64 // increments since then that may have been executed
	next    int
	acked   []int // elements acknowledged
	unknown []int // elements that may have been pushed
}

func newBookkeeper(t testing.TB, addr string, cluster *redistest.Cluster, hurt int) *bookkeeper {
	k := &bookkeeper{crowd: newCrowd(t, addr), hurt: hurt, words: map[string]int{}}
	for shard := range cluster.Primaries() {
		k.tags = append(k.tags, tagOn(cluster, shard))
	}
	k.served = make([]atomic.Int64, len(k.tags))
	return k
}

// tagOn is a hash tag whose slot is one of the lowest hundred that a shard began with: those
// redis-cli moves first.
func tagOn(cluster *redistest.Cluster, shard int) string {
	for i := 0; ; i++ {
		tag := fmt.Sprint("t", i)
		slot := int(router.Slot([]byte(tag)))
		if cluster.Owner(slot) == shard && (slot < 100 || cluster.Owner(slot-100) != shard) {
			return "{" + tag + "}"
		}
	}
}

// keep adds n clients, each with books of its own.
func (k *bookkeeper) keep(n int) {
	name := unique("of")
	all := make([][]*book, n)
	for i := range all {
		for shard, tag := range k.tags {
			b := &book{shard: shard, counter: fmt.Sprint("count:", name, tag, i), list: fmt.Sprint("ledger:", name, tag, i)}
			all[i] = append(all[i], b)
			k.books = append(k.books, b)
		}
	}
	k.start(n, "bookkeeper", func(c *loadClient, i, round int) error {
		for _, b := range all[i] {
			if err := k.write(c, b); err != nil {
				return err
			}
		}
		k.pause(time.Millisecond)
		return nil
	})
}

// write counts up and pushes in one pipeline, and enters what came of it.
func (k *bookkeeper) write(c *loadClient, b *book) error {
	b.next++
	c.add("INCR", b.counter)
	c.add("RPUSH", b.list, strconv.Itoa(b.next))
	c.add("ECHO", b.list)
	if err := c.flush(); err != nil {
		return err
	}
	var got [3]loadReply
	for n := range got {
		var err error
		if got[n], err = c.read(); err != nil { // what was not answered may have been executed
			if n == 0 {
				b.maybe++
			}
			if n <= 1 {
				b.unknown = append(b.unknown, b.next)
			}
			return err
		}
		if n == 0 {
			k.enterIncr(b, got[0])
		}
	}
	if got[2].text != b.list {
		k.wrong.add("ECHO %s: %v", b.list, got[2])
	}
	switch push := got[1]; {
	case push.kind == ':':
		b.acked = append(b.acked, b.next)
		k.acked.Add(1)
	case push.kind == '-' && k.doubtful(b.shard, push):
		b.unknown = append(b.unknown, b.next)
	case push.kind != '-':
		k.wrong.add("RPUSH %s: %v", b.list, push)
	}
	return nil
}

func (k *bookkeeper) enterIncr(b *book, incr loadReply) {
	switch {
	case incr.kind == ':' && incr.n > b.count && incr.n <= b.count+b.maybe+1:
		b.count, b.maybe = incr.n, 0
		k.acked.Add(1)
		k.served[b.shard].Store(time.Now().UnixNano())
	case incr.kind == '-' && k.doubtful(b.shard, incr):
		b.maybe++
	case incr.kind != '-':
		k.wrong.add("INCR %s: %v after %d and %d in doubt", b.counter, incr, b.count, b.maybe)
	}
}

// doubtful counts an error, and reads whether the write may have been executed.
func (k *bookkeeper) doubtful(shard int, e loadReply) bool {
	if k.hurt >= 0 && shard != k.hurt {
		k.others.add("shard %d: %v", shard, e)
	}
	word, _, _ := strings.Cut(e.text, " ")
	k.mu.Lock()
	k.words[word]++
	k.mu.Unlock()
	switch {
	case strings.Contains(e.text, "may have been executed"):
		k.unknown.Add(1)
		return true
	case e.isError("TRYAGAIN"), e.isError("CLUSTERDOWN"), e.isError("LOADING"), e.isError("MASTERDOWN"), e.isError("READONLY"):
		k.refused.Add(1)
	default:
		k.wrong.add("an error that does not say what became of the write: %v", e)
	}
	return false
}

// check compares the books with the nodes, and fails the test for every client that was
// disconnected.
func (k *bookkeeper) check(c *redistest.Conn) {
	k.t.Helper()
	k.lost.none(k.t, "clients that were disconnected or got no reply")
	k.audit(func(*book) *redistest.Conn { return c })
}

// audit compares the books with the nodes; from says where a book's keys can be read.
func (k *bookkeeper) audit(from func(*book) *redistest.Conn) {
	k.t.Helper()
	k.wrong.none(k.t, "wrong replies")
	k.others.none(k.t, "errors on shards that were well")
	var lost, doubled, ghosts, miscounted int
	for _, b := range k.books {
		c := from(b)
		counter, _ := c.Do("GET", b.counter).(string)
		if n, _ := strconv.ParseInt(counter, 10, 64); n < b.count || n > b.count+b.maybe {
			miscounted++
			k.t.Errorf("%s is %d, not between %d and %d", b.counter, n, b.count, b.count+b.maybe)
		}
		seen := map[int]int{}
		last := 0
		for _, e := range c.Do("LRANGE", b.list, 0, -1).([]any) {
			n, _ := strconv.Atoi(e.(string))
			seen[n]++
			if n < last {
				k.t.Errorf("%s: %d is behind %d", b.list, n, last)
			}
			last = n
		}
		for _, n := range b.acked {
			switch seen[n] {
			case 0:
				lost++
			case 1:
			default:
				doubled++
			}
			delete(seen, n)
		}
		for n, times := range seen {
			if !slices.Contains(b.unknown, n) {
				ghosts++
			} else if times > 1 {
				doubled++
			}
		}
	}
	if lost+doubled+ghosts > 0 {
		k.t.Errorf("acknowledged and lost %d, done twice %d, refused and done %d", lost, doubled, ghosts)
	}
	figure(k.t, "%d writes acknowledged, %d in doubt, %d refused %v; lost %d, done twice %d, miscounted %d, errors on other shards %d, disconnects %d",
		k.acked.Load(), k.unknown.Load(), k.refused.Load(), k.words, lost+ghosts, doubled, miscounted, k.others.count.Load(), k.lost.count.Load())
}

// awaitServed waits until the shard has acknowledged a write that began after now, and returns how
// long that took.
func (k *bookkeeper) awaitServed(shard int) time.Duration {
	k.t.Helper()
	begin := time.Now()
	redistest.Eventually(k.t, 30*time.Second, "the shard to serve again", func() bool {
		return k.served[shard].Load() > begin.UnixNano()
	})
	return time.Since(begin)
}

// durable are settings of a node that never forgets what it has acknowledged, in a cluster where
// one shard's loss is that shard's alone.
var durable = []string{"--appendonly", "yes", "--appendfsync", "always", "--cluster-require-full-coverage", "no"}

func TestAcknowledgedWritesSurviveAPrimaryKilledUnderLoad(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 3, 0, durable...)
	b := startLoaded(t, clusterURL(cluster))
	const hurt = 1
	k := newBookkeeper(t, b.Addr(), cluster, hurt)
	k.keep(sized(20, 200))
	for range sized(1, 3) {
		k.awaitServed(hurt)
		k.pause(sized(300*time.Millisecond, 2*time.Second))
		cluster.Node(hurt).Kill()
		k.pause(sized(200*time.Millisecond, time.Second))
		cluster.Node(hurt).Restart(t)
		up := time.Now()
		redistest.Eventually(t, 20*time.Second, "the node to serve", func() bool {
			return strings.Contains(cluster.Node(hurt).Do(t, "CLUSTER", "INFO").(string), "cluster_state:ok")
		})
		ok := time.Now()
		k.awaitServed(hurt)
		figure(t, "killed with -9 and restarted: the node is ready to serve %s after it answers PING, berth serves its shard %s later",
			ok.Sub(up).Round(time.Millisecond), time.Since(ok).Round(time.Millisecond))
	}
	k.pause(sized(200*time.Millisecond, time.Second))
	k.end()
	k.check(dial(t, b.Addr()))
}

// No node answers MOVED for a slot that nobody serves, so berth has to ask by itself.
func TestSlotThatNobodyServedIsServedSoonAfterSomebodyDoes(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 2, 0, "--cluster-require-full-coverage", "no")
	slot := router.Slot([]byte("k"))
	owner := cluster.Owner(int(slot))
	for i := range 2 {
		cluster.Node(i).Do(t, "CLUSTER", "DELSLOTS", slot)
	}
	c := dial(t, startBerth(t, clusterURL(cluster)).Addr())
	if got := c.Do("SET", "k", "1"); got != redistest.Error("CLUSTERDOWN Hash slot not served") {
		t.Fatalf("before: %v", got)
	}
	// Not even the keys are written that somebody serves.
	if got := pipelined(c, "MSET other 1 k 1", "MGET other third", "DEL k other", "GET other"); fmt.Sprint(got) !=
		"[CLUSTERDOWN Hash slot not served [<nil> <nil>] CLUSTERDOWN Hash slot not served <nil>]" {
		t.Errorf("before: %v", got)
	}
	cluster.Node(owner).Do(t, "CLUSTER", "ADDSLOTS", slot)
	eventually(t, "the slot to be served", func() bool { return c.Do("SET", "k", "1") == "OK" })
}

// What berth knows is older than the request: a node is asked, and says who serves the slot now.
func TestSlotOfWhichBerthKnowsNoOwnerIsAskedFor(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 2, 0, "--cluster-require-full-coverage", "no")
	slot := router.Slot([]byte("k"))
	for i := range 2 {
		cluster.Node(i).Do(t, "CLUSTER", "DELSLOTS", slot)
	}
	clients := map[string]*redistest.Conn{}
	for _, command := range []string{"SET k 1 → OK", "MSET k 1 other 2 → OK", "WATCH k → OK", "BLPOP none{k} 0.01 → <nil>"} {
		clients[command] = dial(t, startBerth(t, clusterURL(cluster), "--topology-refresh-interval", "0").Addr())
	}
	cluster.Node(0).Do(t, "CLUSTER", "ADDSLOTS", slot)
	eventually(t, "both nodes to know", func() bool {
		text, _ := cluster.Node(1).Do(t, "GET", "k").(redistest.Error)
		return strings.HasPrefix(string(text), "MOVED ")
	})
	for command, c := range clients {
		script(t, c, command)
	}
}

func TestNodeThatStandsStillLosesNothing(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 3, 0, "--cluster-require-full-coverage", "no")
	b := startLoaded(t, clusterURL(cluster))
	k := newBookkeeper(t, b.Addr(), cluster, 0)
	k.keep(sized(20, 100))
	for range sized(1, 3) {
		k.awaitServed(0)
		k.pause(200 * time.Millisecond)
		cluster.Node(0).Pause()
		k.pause(sized(500*time.Millisecond, time.Second))
		cluster.Node(0).Resume()
		k.awaitServed(0)
	}
	k.end()
	k.check(dial(t, b.Addr()))
	if n := k.unknown.Load() + k.refused.Load(); n > 0 {
		t.Errorf("%d errors for a node that only stood still: %v", n, k.words)
	}
}

func TestConnectionsResetByTheNodesUnderLoadLoseNothing(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 3, 0)
	b := startLoaded(t, clusterURL(cluster))
	k := newBookkeeper(t, b.Addr(), cluster, -1)
	s := newSoak(t, b.Addr())
	standing := redistest.Dial(t, cluster.Node(2).Addr())
	k.keep(sized(20, 100))
	s.start(sized(20, 100), "plain", s.plainOrDoubt)
	for range sized(10, 60) {
		k.pause(50 * time.Millisecond)
		for i := range 2 {
			cluster.Node(i).Do(t, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		}
		standing.Do("MULTI") // what arrives while the node stands still is surely on its way at the kill
		standing.Do("DEBUG", "SLEEP", "0.02")
		standing.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		standing.Do("EXEC")
	}
	k.end()
	s.end()
	k.check(dial(t, b.Addr()))
	s.lost.none(t, "clients that were disconnected or got no reply")
	s.wrong.none(t, "wrong replies")
	if k.unknown.Load() == 0 {
		t.Error("no request was on its way when its connection was reset: nothing was tested")
	}
}

// plainOrDoubt writes and reads one key. The only errors it takes are those that say what became of
// the command.
func (s *soak) plainOrDoubt(c *loadClient, i, round int) error {
	key := fmt.Sprint("own:", i)
	value := func(round int) string { return fmt.Sprint(key, " ", round) }
	c.add("SET", key, value(round))
	c.add("GET", key)
	c.add("ECHO", key)
	if err := c.flush(); err != nil {
		return err
	}
	var got [3]loadReply
	for k := range got {
		var err error
		if got[k], err = c.read(); err != nil {
			return err
		}
	}
	for _, e := range got[:2] {
		if e.kind == '-' && !e.isError("TRYAGAIN") && !strings.Contains(e.text, "may have been executed") {
			s.wrong.add("%v", e)
		}
	}
	if got[0].text == "OK" && got[1].kind != '-' && got[1].text != value(round) {
		s.wrong.add("GET %s in round %d: %v", key, round, got[1])
	}
	if got[1].kind == '$' && !strings.HasPrefix(got[1].text, key+" ") || got[2].text != key {
		s.wrong.add("foreign: %v to client %d", got, i)
	}
	return nil
}

func TestBackendThatClosesIdleConnectionsCostsNoError(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--timeout", "1")
	b := startLoaded(t, node.Addr())
	c := dial(t, b.Addr())
	killed := func() bool { // both the pipe's and the lease's connection
		return strings.Contains(node.Do(t, "INFO", "clients").(string), "connected_clients:1\r\n")
	}
	for round := range sized(2, 5) {
		if got := pipelined(c, "SET k 1", "WATCH k", "MULTI", "INCR k", "EXEC", "GET k"); fmt.Sprint(got) != "[OK OK OK QUEUED [2] 2]" {
			t.Fatalf("round %d: %v", round, got)
		}
		eventually(t, "the node to have closed what was idle", killed)
	}
}

func TestBerthStartedBeforeItsBackendServesWhenThatComes(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	node.Stop()
	b := startLoaded(t, node.Addr())
	c := dial(t, b.Addr())
	if got, _ := c.Do("SET", "k", "1").(redistest.Error); !retryable(string(got)) {
		t.Fatalf("without a backend: %q", got)
	}
	node.Restart(t)
	begin := time.Now()
	eventually(t, "the backend to be served", func() bool { return c.Do("SET", "k", "1") == "OK" })
	figure(t, "serves %s after its backend came up", time.Since(begin).Round(time.Millisecond))
	node.Kill() // the descriptors of its second process are none of berth's
}

// retryable tells whether an error's prefix is one on which clients try again.
func retryable(text string) bool {
	return strings.HasPrefix(text, "TRYAGAIN ") || strings.HasPrefix(text, "CLUSTERDOWN ") || strings.HasPrefix(text, "LOADING ")
}

func TestStopUnderLoadAnswersWhatWasSent(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 3, 0)
	b := startLoaded(t, clusterURL(cluster))
	k := newBookkeeper(t, b.Addr(), cluster, -1)
	k.keep(sized(50, 500))
	s := newSoak(t, b.Addr())
	s.start(sized(10, 100), "pop", s.pop)
	k.awaitServed(0)
	k.pause(sized(300*time.Millisecond, 2*time.Second))
	code, took := b.terminate(redistest.Patience(10 * time.Second))
	if code != 0 || took > redistest.Patience(5*time.Second) {
		t.Errorf("exit code %d after %s", code, took)
	}
	eventually(t, "all clients to see the end", func() bool { return int(k.lost.count.Load()) == sized(50, 500) })
	k.end()
	s.end()
	k.wrong.none(t, "wrong replies")
	if n := k.unknown.Load() + k.refused.Load(); n > 0 {
		t.Errorf("%d errors while berth was stopping: %v", n, k.words)
	}
	nodes := make([]*redistest.Conn, 3)
	for i := range nodes {
		nodes[i] = redistest.Dial(t, cluster.Node(i).Addr())
	}
	k.audit(func(b *book) *redistest.Conn { return nodes[b.shard] })
	figure(t, "stopped under load in %s, exit code %d", took.Round(time.Millisecond), code)
}
