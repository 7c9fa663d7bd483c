package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// zipfian makes so many requests for keys of which a few are asked for most, and counts them.
func zipfian(requests int, key func(n uint64) string) (raw [][]byte, counts map[string]int) {
	zipf := rand.NewZipf(rand.New(rand.NewPCG(5, 6)), 1.3, 1, 1<<20)
	counts = map[string]int{}
	for range requests {
		k := key(zipf.Uint64())
		counts[k]++
		raw = append(raw, codec.AppendCommandString(nil, "GET", k))
	}
	return raw, counts
}

// sendAll sends requests in pipelines and waits for the replies.
func sendAll(c *redistest.Conn, requests [][]byte) {
	for batch := range slices.Chunk(requests, 100) {
		c.Write(slices.Concat(batch...))
		for range batch {
			c.Recv()
		}
	}
}

func TestHotKeysAreThoseThatAreAskedForMost(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 3, 0)
	b := startBerth(t, clusterURL(cluster), "--proxy-key-sampling", "10")
	requests, counts := zipfian(30000, func(n uint64) string { return fmt.Sprint("user:", n) })
	clients := []*redistest.Conn{dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr())}
	for i, part := range slices.Collect(slices.Chunk(requests, 10000)) {
		sendAll(clients[i], part)
	}
	rows := proxy(t, clients[0], "HOTKEYS", "COUNT", "5")
	if len(rows) != 5 {
		t.Fatalf("%d rows", len(rows))
	}
	for i, key := range []string{"user:0", "user:1"} { // each of these is asked for far more often than the next
		if rows[i]["key"] != key {
			t.Errorf("row %d: %v, want %s", i, rows[i], key)
		}
		got, want := rows[i]["samples"].(int64)*10, int64(counts[key])
		if got < want*3/4 || got > want*4/3 {
			t.Errorf("%s was asked for %d times: %v", key, want, rows[i])
		}
	}
	topology := b.srv.nodes.Topology()
	for i, r := range rows {
		key := r["key"].(string)
		if counts[key] < 200 {
			t.Errorf("%s was asked for %d times only", key, counts[key])
		}
		if i > 0 && rows[i-1]["requests_per_second"].(int64) < r["requests_per_second"].(int64) {
			t.Errorf("not the busiest first: %v", rows)
		}
		if r["node"] != topology.Primary(router.Slot([]byte(key))) || r["reads_per_second"] != r["requests_per_second"] || r["writes_per_second"] != int64(0) {
			t.Errorf("%s: %v", key, r)
		}
	}
}

func TestHotKeysAreSeenOnAllWays(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 3, 0)
	b := startBerth(t, clusterURL(cluster), "--proxy-key-sampling", "1")
	c := dial(t, b.Addr())
	long := strings.Repeat("k", 1000)
	for _, line := range []string{
		"MSET a 1 b 2 c 3", "MGET a b c", // split
		"WATCH a", "MULTI", "SET a 1", "GET a", "EXEC", // on a lease
		"LPUSH q x", "BLPOP q 0", // on a lane
		"EVAL return(0) 1 s",
		"GET " + long, "PING", "GET",
	} {
		c.Do(words(line)...)
	}
	rows := proxy(t, c, "HOTKEYS", "COUNT", "100")
	for key, want := range map[string]int64{"a": 5, "b": 2, "c": 2, "q": 2, "s": 1, long[:128]: 1} {
		if r := only(t, rows, "key", key); r["samples"] != want || r["db"] != int64(0) {
			t.Errorf("%s: %v, want %d", key, r, want)
		}
	}
	if r := only(t, rows, "key_bytes", int64(len(long))); r["key"] != long[:128] {
		t.Errorf("a long key: %v", r)
	}
	if len(rows) != 6 {
		t.Errorf("%d rows: %v", len(rows), rows)
	}
}

func TestHotKeysAreToldApartByDatabase(t *testing.T) {
	parallel(t)
	b := startBerth(t, redistest.Start(t).Addr(), "--proxy-key-sampling", "1")
	c := dial(t, b.Addr())
	c.Do("GET", "k")
	c.Do("SELECT", "3")
	c.Do("SET", "k", "v")
	rows := proxy(t, c, "HOTKEYS")
	first, third := only(t, rows, "db", int64(0)), only(t, rows, "db", int64(3))
	if first["key"] != "k" || first["writes_per_second"] != int64(0) || third["key"] != "k" || third["reads_per_second"] != int64(0) {
		t.Errorf("got %v", rows)
	}
}

func TestNoKeyIsRememberedWithSamplingOff(t *testing.T) {
	parallel(t)
	b := startBerth(t, redistest.Start(t).Addr(), "--proxy-key-sampling", "1")
	c := dial(t, b.Addr())
	c.Do("SET", "k", strings.Repeat("v", 2*bigValue))
	b.set("proxy-key-sampling", "0")
	for _, what := range []string{"HOTKEYS", "BIGKEYS"} {
		if got := c.Do("PROXY", what); got != redistest.Error(errNoSampling) {
			t.Errorf("%s: %v", what, got)
		}
	}
	eventually(t, "all loops to forget the key", func() bool {
		kept, _ := askLoops(b.srv, func(l *loop) int { return len(l.hotKeys()) + len(l.bigKeys()) })
		return slices.Max(kept) == 0
	})
	c.Do("SET", "k", strings.Repeat("v", 2*bigValue))
	b.set("proxy-key-sampling", "1")
	if rows := proxy(t, c, "BIGKEYS"); len(rows) != 0 {
		t.Errorf("got %v", rows)
	}
}

func TestBigKeysAreThoseWithTheLongestValues(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 3, 0)
	b := startBerth(t, clusterURL(cluster))
	c := dial(t, b.Addr())
	value := func(bytes int) string { return strings.Repeat("v", bytes) }
	c.Do("SET", "small", value(bigValue-100))
	c.Do("SET", "set", value(20000))
	c.Do("SET", "aside", value(3<<20))
	c.Do("MSET", "m1", value(30000), "m2", "v", "m3", value(40000))
	c.Do("MULTI")
	c.Do("SET", "queued", value(50000))
	c.Do("EXEC")
	for i := range 100 { // each is small
		c.Do("RPUSH", "list", value(600+i))
	}
	direct := dial(t, b.Addr())
	direct.Do("LRANGE", "list", "0", "-1")
	for i := range 3 {
		node := cluster.Node(i)
		for _, key := range []string{"got", "streamed", "mget"} {
			node.Do(t, "SET", key, value(map[string]int{"got": 60000, "streamed": 2 << 20, "mget": 70000}[key]))
		}
	}
	direct.Do("GET", "got")
	direct.Do("GET", "streamed")
	direct.Do("GET", "streamed") // on a lease
	direct.Do("MGET", "m2", "mget")
	direct.Do("GET", "small")
	rows := proxy(t, c, "BIGKEYS", "COUNT", "100")
	topology := b.srv.nodes.Topology()
	for key, want := range map[string]struct {
		bytes   int64
		command string
	}{
		"set": {20000, "set"}, "aside": {3 << 20, "set"}, "m1": {30000, "mset"}, "m3": {40000, "mset"}, "queued": {50000, "set"},
		"list": {60000, "lrange"}, "got": {60000, "get"}, "streamed": {2 << 20, "get"}, "mget": {70000, "mget"},
	} {
		r := only(t, rows, "key", key)
		if bytes := r["bytes"].(int64); bytes < want.bytes || bytes > want.bytes+10000 || r["command"] != want.command ||
			r["node"] != topology.Primary(router.Slot([]byte(key))) {
			t.Errorf("%s: %v, want %v", key, r, want)
		}
	}
	if len(rows) != 9 {
		t.Errorf("%d rows: %v", len(rows), rows)
	}
	if rows := proxy(t, c, "BIGKEYS", "COUNT", "1"); len(rows) != 1 || rows[0]["key"] != "aside" {
		t.Errorf("the largest: %v", rows)
	}
}

// Sampling costs no memory once the lists are full.
func TestLookingAtKeysAllocatesNothing(t *testing.T) {
	get, err := router.WithOwn().Lookup([][]byte{[]byte("get")})
	if err != nil {
		t.Fatal(err)
	}
	var k keyWatch
	k.sample(100, 0)
	keys := make([][]byte, 2*busiestKeys)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "key:%d", i)
	}
	round := func() {
		for i, key := range keys {
			if k.isDue(30) && k.takesSample() || i%2 == 0 {
				k.use(key, 0, false)
			}
			k.pass(key, 0, bigValue+i, get)
		}
	}
	round()
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
