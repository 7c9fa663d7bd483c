package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
)

// contextFor ends by itself.
func contextFor(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}

// soak is a crowd of all kinds of clients, and what they know must be true.
type soak struct {
	*crowd
	wrong    findings // replies that are not the right ones
	requests atomic.Int64

	counters  int            // keys that are counted up by compare and swap
	swapped   []atomic.Int64 // successes, by counter
	conflicts atomic.Int64

	tag     string // of the keys of counters and lists; "": they lie anywhere
	lists   int
	pushed  atomic.Int64
	popped  sync.Map // element → how often
	pops    atomic.Int64
	timeout atomic.Int64 // BLPOP that found nothing in time

	unpush  chan struct{} // closed: no more elements are pushed
	pushing atomic.Int64  // pushes under way
}

func newSoak(t testing.TB, addr string) *soak {
	s := &soak{crowd: newCrowd(t, addr), counters: sized(16, 64), lists: sized(8, 50), unpush: make(chan struct{})}
	s.swapped = make([]atomic.Int64, s.counters)
	return s
}

// swap counts a key up: WATCH, GET, think, MULTI, SET, EXEC.
func (s *soak) swap(c *loadClient, i, _ int) error {
	n := rand.IntN(s.counters)
	key := fmt.Sprint("cas:", s.tag, n)
	s.requests.Add(5)
	c.add("WATCH", key)
	c.add("GET", key)
	if err := c.flush(); err != nil {
		return err
	}
	watch, err := c.read()
	if err != nil {
		return err
	}
	get, err := c.read()
	if err != nil {
		return err
	}
	if watch.text != "OK" || get.kind == '-' {
		s.wrong.add("WATCH, GET: %v, %v", watch, get)
		return nil
	}
	s.pause(time.Duration(rand.IntN(10)) * time.Millisecond)
	next := int64(1)
	if get.kind != '_' {
		text, owner, _ := strings.Cut(get.text, " ")
		now, err := strconv.ParseInt(text, 10, 64)
		if err != nil || owner != key {
			s.wrong.add("GET %s: %v", key, get)
			return nil
		}
		next = now + 1
	}
	c.add("MULTI")
	c.add("SET", key, fmt.Sprint(next, " ", key))
	c.add("EXEC")
	if err := c.flush(); err != nil {
		return err
	}
	var got [3]loadReply
	for k := range got {
		if got[k], err = c.read(); err != nil {
			return err
		}
	}
	switch {
	case got[0].text != "OK" || got[1].text != "QUEUED":
		s.wrong.add("MULTI, SET, EXEC: %v", got)
	case got[2].kind == '_':
		s.conflicts.Add(1)
	case got[2].kind == '*' && len(got[2].elems) == 1 && got[2].elems[0].text == "OK":
		s.swapped[n].Add(1)
	default:
		s.wrong.add("EXEC: %v", got[2])
	}
	return nil
}

// errNoMore ends a client that has nothing to do any more.
var errNoMore = errors.New("no more")

// popAll ends the pushing and waits until every element is popped.
func (s *soak) popAll() {
	s.t.Helper()
	close(s.unpush)
	if !redistest.Await(10*time.Second, func() bool { return s.pushing.Load() == 0 && s.pops.Load() >= s.pushed.Load() }) {
		left := []any{}
		c := dial(s.t, s.addr)
		for n := range s.lists {
			left = append(left, c.Do("LRANGE", fmt.Sprint("list:", s.tag, n), "0", "-1"))
		}
		s.t.Fatalf("%d of %d elements were popped; %d are being pushed; left in the lists: %v; wrong replies: %v; lost: %v",
			s.pops.Load(), s.pushed.Load(), s.pushing.Load(), left, s.wrong.texts(), s.lost.texts())
	}
}

// push adds one element to a list, then thinks.
func (s *soak) push(c *loadClient, i, round int) error {
	s.pushing.Add(1)
	defer s.pushing.Add(-1)
	select {
	case <-s.unpush:
		return errNoMore
	default:
	}
	s.requests.Add(1)
	list := rand.IntN(s.lists)
	got, err := c.do("RPUSH", fmt.Sprint("list:", s.tag, list), fmt.Sprintf("list:%s%d %d %d", s.tag, list, i, round))
	if err != nil {
		return err
	}
	if got.kind != ':' {
		s.wrong.add("RPUSH: %v", got)
		return nil
	}
	s.pushed.Add(1)
	s.pause(time.Duration(rand.IntN(20)) * time.Millisecond)
	return nil
}

// pop takes one element, or waits for a second in vain.
func (s *soak) pop(c *loadClient, i, _ int) error {
	s.requests.Add(1)
	list := fmt.Sprint("list:", s.tag, i%s.lists)
	got, err := c.do("BLPOP", list, "1")
	switch {
	case err != nil:
		return err
	case got.kind == '_':
		s.timeout.Add(1)
	case got.kind == '*' && len(got.elems) == 2 && got.elems[0].text == list && strings.HasPrefix(got.elems[1].text, list+" "):
		if _, twice := s.popped.LoadOrStore(got.elems[1].text, true); twice {
			s.wrong.add("popped twice: %s", got.elems[1].text)
		}
		s.pops.Add(1)
	default:
		s.wrong.add("BLPOP %s: %v", list, got)
	}
	return nil
}

// plain writes and reads the client's own keys; every value names its key, its owner and its round.
func (s *soak) plain(c *loadClient, i, round int) error {
	key := func(k int) string { return fmt.Sprintf("own:%d:%d", i, k) }
	value := func(k, round int) string { return fmt.Sprintf("%s round %d", key(k), round) }
	var want []string
	ask := func(expect string, args ...string) {
		c.add(args...)
		want = append(want, expect)
	}
	keys := round%3 + 2
	for k := range keys {
		ask("OK", "SET", key(k), value(k, round))
	}
	all := []string{"MGET"}
	var values []string
	for k := range keys {
		ask(value(k, round), "GET", key(k))
		all, values = append(all, key(k)), append(values, value(k, round))
	}
	ask("["+strings.Join(values, " ")+"]", all...)
	tag := fmt.Sprintf("echo %d %d", i, round)
	ask(tag, "ECHO", tag)
	if round%2 == 0 {
		ask("OK", "MULTI")
		ask("QUEUED", "GET", key(0))
		ask("["+value(0, round)+"]", "EXEC")
	}
	ask(fmt.Sprint(keys), append([]string{"DEL"}, all[1:]...)...)
	ask("nil", "GET", key(0))
	s.requests.Add(int64(len(want)))
	if round%4 == 3 { // in pieces that end in the middle of a request
		rest := c.out
		for len(rest) > 0 {
			n := min(len(rest), 1+rand.IntN(100))
			c.out = rest[:n:n]
			if err := c.flush(); err != nil {
				return err
			}
			rest = rest[n:]
		}
		c.out = nil
	} else if err := c.flush(); err != nil {
		return err
	}
	for k, expect := range want {
		got, err := c.read()
		if err != nil {
			return err
		}
		if got.String() != expect {
			s.wrong.add("client %d round %d, reply %d: %v instead of %s", i, round, k, got, expect)
		}
	}
	s.pause(time.Duration(rand.IntN(20)) * time.Millisecond)
	return nil
}

// check says whether all that was written is there, once.
func (s *soak) check(c *redistest.Conn) {
	s.t.Helper()
	s.lost.none(s.t, "clients that lost their connection or waited in vain")
	s.wrong.none(s.t, "wrong replies")
	for n := range s.counters {
		got, _ := c.Do("GET", fmt.Sprint("cas:", s.tag, n)).(string)
		count, _, _ := strings.Cut(got, " ")
		if want := s.swapped[n].Load(); count != fmt.Sprint(want) && want > 0 {
			s.t.Errorf("counter %d is %q after %d successful transactions", n, got, want)
		}
	}
	if pushed, popped := s.pushed.Load(), s.pops.Load(); pushed != popped {
		s.t.Errorf("%d elements were pushed and %d popped", pushed, popped)
	}
}

// sample is how many connections there are, at one moment.
type sample struct {
	atNodes       int // connected_clients of all nodes, less the sampler's own
	pipes, leases int // what berth says it has; leases: idle, in use and being dialled
}

// take asks the nodes and berth.
func takeSample(t testing.TB, b *loadedBerth, nodes []*redistest.Conn) (s sample) {
	for _, n := range nodes {
		info := n.Do("INFO", "clients").(string)
		var connected int
		_, rest, _ := strings.Cut(info, "connected_clients:")
		if _, err := fmt.Sscanf(rest, "%d", &connected); err != nil {
			t.Fatalf("INFO clients: %q", info)
		}
		s.atNodes += connected - 1
	}
	m := b.metrics()
	s.pipes = int(sum(m, "berth_node_connections", `kind="pipe"`))
	s.leases = int(sum(m, "berth_node_connections", `kind="lease"`))
	return s
}

func TestManyClientsShareFewConnections(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 3, 0, "--maxclients", "10000")
	const loops, minIdle = 2, 2
	b := startLoaded(t, clusterURL(cluster), "--loops", fmt.Sprint(loops),
		"--private_conn_idle_time_sec", "1", "--private_conn_pool_min_idle_per_db", fmt.Sprint(minIdle),
		"--pool-wait-timeout", "10000") // a crowd that comes at once, on a machine that has other things to do
	var nodes []*redistest.Conn
	for _, addr := range cluster.Addrs() {
		nodes = append(nodes, redistest.Dial(t, addr))
	}
	warm(t, b, cluster)
	quiet := loops*3 + minIdle*3
	settled := func() bool {
		now := takeSample(t, b, nodes)
		return now.atNodes <= quiet && now.leases == minIdle*3
	}
	eventually(t, "the least of connections", settled)
	before := b.metrics()

	s := newSoak(t, b.Addr())
	swaps, pops := sized(50, 500), sized(50, 500)
	pushers, plains := sized(10, 50), sized(90, 950)
	begin := time.Now()
	s.start(swaps, "swap", s.swap)
	s.start(pops, "pop", s.pop)
	s.start(pushers, "push", s.push)
	s.start(plains, "plain", s.plain)
	var most sample
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for range sized(5, 150) {
		<-look.C
		now := takeSample(t, b, nodes)
		most.atNodes, most.leases = max(most.atNodes, now.atNodes), max(most.leases, now.leases)
		most.pipes = max(most.pipes, now.pipes)
	}
	s.popAll()
	took := time.Since(begin)
	s.end()
	check := dial(t, b.Addr())
	s.check(check)
	check.Close()

	clients := swaps + pops + pushers + plains
	var swapped int64
	for i := range s.swapped {
		swapped += s.swapped[i].Load()
	}
	figure(t, "%d clients, %s: %d requests (%.0f/s), %d transactions through and %d in conflict, %d elements popped, %d BLPOP timed out",
		clients, took.Round(100*time.Millisecond), s.requests.Load(), float64(s.requests.Load())/took.Seconds(),
		swapped, s.conflicts.Load(), s.pops.Load(), s.timeout.Load())
	figure(t, "wrong, foreign or reordered replies %d, lost %d", s.wrong.count.Load(), s.lost.count.Load())
	figure(t, "connected_clients of 3 nodes together at most %d, pipes at most %d, leases and idle at most %d", most.atNodes, most.pipes, most.leases)
	const pipes = 2 * loops * 3 // on a busy machine a reply may be late enough for a second pipe
	if most.pipes > pipes {
		t.Errorf("%d pipes for %d loops and 3 nodes", most.pipes, loops)
	}
	// The nodes are asked a moment before berth is, one after the other, while leases come and go.
	if limit := pipes + most.leases; float64(most.atNodes) > 1.05*float64(limit)+3 {
		t.Errorf("nodes had %d connections, more than 2 × loops × nodes + leases = %d", most.atNodes, limit)
	}

	// Idle connections go, the least of them stay, nothing is left over.
	ended := time.Now()
	eventually(t, "idle connections to go, and the least of them to stay", settled)
	figure(t, "idle connections gone %s after the last client (idle time 1 s), %d stay (min-idle %d on each of 3 nodes)",
		time.Since(ended).Round(10*time.Millisecond), minIdle*3, minIdle)
	var after map[string]float64
	eventually(t, "descriptors and goroutines as before", func() bool {
		after = b.metrics()
		second := sum(after, "berth_node_connections") - sum(before, "berth_node_connections") // of a pipe that was slow
		return after["process_open_fds"] <= before["process_open_fds"]+1+max(second, 0) && after["go_goroutines"] <= before["go_goroutines"]+4
	})
	figure(t, "descriptors %v → %v, goroutines %v → %v", before["process_open_fds"], after["process_open_fds"],
		before["go_goroutines"], after["go_goroutines"])
	if code, _ := b.terminate(5 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	eventually(t, "nodes without connections of berth's", func() bool {
		left := 0
		for _, n := range nodes {
			left += strings.Count(n.Do("CLIENT", "LIST", "TYPE", "normal").(string), "\n") - 1
		}
		return left == 0
	})
	figure(t, "connections left at the nodes after the end: 0")
}

// warm has berth make what it will keep: the pipes of every loop, and a pool for every node.
func warm(t testing.TB, b *loadedBerth, cluster *redistest.Cluster) {
	t.Helper()
	eventually(t, "every loop to have its pipes", func() bool {
		c, err := dialLoad(b.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.close()
		for i := range 30 {
			c.add("WATCH", fmt.Sprint("warm", i))
			c.add("UNWATCH")
			c.add("GET", fmt.Sprint("warm", i))
		}
		if err := c.flush(); err != nil {
			t.Fatal(err)
		}
		for range 90 {
			if a, err := c.read(); err != nil || a.kind == '-' {
				t.Fatalf("%v %v", a, err)
			}
		}
		return sum(b.metrics(), "berth_node_connections", `kind="pipe"`) == 6
	})
}
