package main

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	miniredis "github.com/alicebob/miniredis/v2/server"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
)

// scriptedShards are primaries of a Cluster that know CLUSTER SHARDS, SCAN and little else. Their
// first shard owns the first slots, and so on.
type scriptedShards struct {
	t     *testing.T
	nodes []*scriptedPrimary

	mu     sync.Mutex // guards what follows
	shards []scriptedShard
}

// scriptedShard is a shard by its nodes' places in scriptedShards.nodes.
type scriptedShard struct {
	primary, replica int // replica -1: there is none
	failed           bool
}

// scriptedPrimary gives a list of keys. Its cursors are base and the place of the next key.
type scriptedPrimary struct {
	addr string
	base uint64
	keys []string
	asks int
}

// startScriptedShards starts shards of one primary each, with so many keys.
func startScriptedShards(t *testing.T, base uint64, keys ...int) *scriptedShards {
	t.Helper()
	c := &scriptedShards{t: t}
	for i, n := range keys {
		p := c.startNode(base)
		for k := range n {
			p.keys = append(p.keys, fmt.Sprintf("%d:%d", i, k))
		}
		c.shards = append(c.shards, scriptedShard{primary: i, replica: -1})
	}
	return c
}

func (c *scriptedShards) startNode(base uint64) *scriptedPrimary {
	c.t.Helper()
	s, err := miniredis.NewServer("127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(s.Close)
	p := &scriptedPrimary{addr: s.Addr().String(), base: base}
	c.nodes = append(c.nodes, p)
	s.SetPreHook(func(peer *miniredis.Peer, command string, args ...string) bool {
		switch strings.ToUpper(command + " " + strings.Join(args, " ")) {
		case "PING ":
			peer.WriteInline("PONG")
		case "INFO SERVER":
			peer.WriteBulk("redis_version:7.0.15\r\nredis_mode:cluster\r\n")
		case "CLUSTER INFO":
			peer.WriteBulk("cluster_state:ok\r\n")
		case "CLUSTER SLOTS":
			peer.WriteError("NOPERM this user has no permissions to run the 'cluster|slots' command")
		case "CLUSTER SHARDS": // which tells who is down, too
			c.writeShards(peer)
		case "COMMAND ":
			peer.WriteLen(0)
		default:
			if command == "SCAN" {
				c.scan(p, peer, args)
			} else if command == "INFO" {
				peer.WriteBulk("")
			} else {
				peer.WriteError("ERR unknown command")
			}
		}
		return true
	})
	return p
}

// writeShards answers CLUSTER SHARDS.
func (c *scriptedShards) writeShards(peer *miniredis.Peer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	peer.WriteLen(len(c.shards))
	for i, shard := range c.shards {
		peer.WriteLen(4)
		peer.WriteBulk("slots")
		peer.WriteLen(2)
		peer.WriteInt(i * router.Slots / len(c.shards))
		peer.WriteInt((i+1)*router.Slots/len(c.shards) - 1)
		peer.WriteBulk("nodes")
		peer.WriteLen(1 + min(1, shard.replica+1))
		c.writeNode(peer, shard.primary, "master", map[bool]string{false: "online", true: "fail"}[shard.failed])
		if shard.replica >= 0 {
			c.writeNode(peer, shard.replica, "replica", "online")
		}
	}
}

func (c *scriptedShards) writeNode(peer *miniredis.Peer, node int, role, health string) {
	host, port, _ := net.SplitHostPort(c.nodes[node].addr)
	n, _ := strconv.Atoi(port)
	peer.WriteLen(8)
	peer.WriteBulk("endpoint")
	peer.WriteBulk(host)
	peer.WriteBulk("port")
	peer.WriteInt(n)
	peer.WriteBulk("role")
	peer.WriteBulk(role)
	peer.WriteBulk("health")
	peer.WriteBulk(health)
}

// scan answers SCAN with COUNT keys, and refuses a cursor that is not its own.
func (c *scriptedShards) scan(p *scriptedPrimary, peer *miniredis.Peer, args []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.asks++
	from, _ := strconv.ParseUint(args[0], 10, 64)
	if from != 0 {
		from -= p.base
	}
	if from > uint64(len(p.keys)) {
		peer.WriteError("ERR another node's cursor: " + args[0])
		return
	}
	count, _ := strconv.Atoi(args[2])
	to := min(int(from)+count, len(p.keys))
	cursor := p.base + uint64(to)
	if to == len(p.keys) {
		cursor = 0
	}
	peer.WriteLen(2)
	peer.WriteBulk(strconv.FormatUint(cursor, 10))
	peer.WriteStrings(p.keys[from:to])
}

// asks is how often a node was sent SCAN.
func (c *scriptedShards) asks(node int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[node].asks
}

// url is the shards as berth's backend.
func (c *scriptedShards) url() string {
	var addrs []string
	for _, p := range c.nodes {
		addrs = append(addrs, p.addr)
	}
	return "redis://" + strings.Join(addrs, ",")
}

// change changes the shards and waits until berth knows.
func (c *scriptedShards) change(b *berthServer, change func(shards []scriptedShard) []scriptedShard) {
	c.t.Helper()
	before := b.srv.nodes.Topology()
	c.mu.Lock()
	c.shards = change(slices.Clone(c.shards))
	c.mu.Unlock()
	b.srv.nodes.Refresh()
	eventually(c.t, "berth to know the shards", func() bool { return b.srv.nodes.Topology() != before })
}

// all are the keys of the shards, sorted.
func (c *scriptedShards) all() (keys []string) {
	for _, shard := range c.shards {
		keys = append(keys, c.nodes[shard.primary].keys...)
	}
	slices.Sort(keys)
	return keys
}

// scanAll scans to the end and calls between after each call but the last. It returns each key
// once.
func scanAll(t *testing.T, c *redistest.Conn, between func(calls int, cursor string), words ...any) (keys []string, calls int) {
	t.Helper()
	met := map[string]bool{}
	for cursor := "0"; ; {
		got, ok := c.Do(append([]any{"SCAN", cursor}, words...)...).([]any)
		if !ok || calls > 10_000 {
			t.Fatalf("call %d, SCAN %s: %v", calls, cursor, got)
		}
		for _, key := range got[1].([]any) {
			met[key.(string)] = true
		}
		calls++
		if cursor = got[0].(string); cursor == "0" {
			return slices.Sorted(maps.Keys(met)), calls
		}
		if between != nil {
			between(calls, cursor)
		}
	}
}

// What kvrocks and ElastiCache do: cursors of nodes have all their bits.
const largeCursors = 1<<63 | 1<<40

func TestScanLeavesNoShardOutWhenTheListIsReordered(t *testing.T) {
	parallel(t)
	for _, base := range []uint64{0, largeCursors} {
		shards := startScriptedShards(t, base, 40, 35, 0, 30)
		b := startBerth(t, shards.url())
		last := func(s []scriptedShard) []scriptedShard { return append(s[1:], s[0]) }
		keys, _ := scanAll(t, dial(t, b.Addr()), func(calls int, _ string) {
			if calls%2 == 1 {
				shards.change(b, last)
			}
		}, "COUNT", 10)
		if want := shards.all(); !slices.Equal(keys, want) {
			t.Errorf("base %d: %d keys, want %d", base, len(keys), len(want))
		}
	}
}

func TestScanGoesOnWhereAReplicaTakesOver(t *testing.T) {
	parallel(t)
	shards := startScriptedShards(t, 0, 40, 40, 40)
	for i := range 3 {
		replica := shards.startNode(0)
		replica.keys = slices.Clone(shards.nodes[i].keys)
		slices.Reverse(replica.keys) // another hash table
		shards.shards[i].replica = 3 + i
	}
	b := startBerth(t, shards.url())
	swap := func(s []scriptedShard) []scriptedShard {
		for i := range s {
			s[i].primary, s[i].replica = s[i].replica, s[i].primary
		}
		return s
	}
	keys, _ := scanAll(t, dial(t, b.Addr()), func(calls int, _ string) {
		if calls == 2 || calls == 8 {
			shards.change(b, swap)
		}
	}, "COUNT", 10)
	if want := shards.all(); !slices.Equal(keys, want) {
		t.Errorf("%d keys, want %d", len(keys), len(want))
	}
}

func TestScanIsRefusedWhileAShardHasNoPrimary(t *testing.T) {
	parallel(t)
	shards := startScriptedShards(t, 0, 20, 20)
	b := startBerth(t, shards.url())
	c := dial(t, b.Addr())
	fail := func(s []scriptedShard) []scriptedShard {
		s[1].failed = !s[1].failed
		return s
	}
	keys, _ := scanAll(t, c, func(_ int, cursor string) {
		shards.change(b, fail)
		if got := c.Do("SCAN", cursor, "COUNT", 10); got != redistest.Error(errNotServed) {
			t.Errorf("SCAN %s while a shard is down: %v", cursor, got)
		}
		shards.change(b, fail)
	}, "COUNT", 10)
	if want := shards.all(); !slices.Equal(keys, want) {
		t.Errorf("%d keys, want %d", len(keys), len(want))
	}
}

func TestAnotherBerthTakesScanCursorsUnlessTheyHaveTooManyBits(t *testing.T) {
	parallel(t)
	for _, base := range []uint64{0, largeCursors} {
		shards := startScriptedShards(t, base, 40, 40)
		b := startBerth(t, shards.url())
		c := dial(t, b.Addr())
		another := dial(t, startBerth(t, shards.url()).Addr())
		_, _ = scanAll(t, c, func(_ int, cursor string) {
			got := another.Do("SCAN", cursor, "COUNT", 5)
			number, _ := strconv.ParseUint(cursor, 10, 64)
			if number >= scanRemembered {
				if got != redistest.Error(errScanForgotten) {
					t.Errorf("another berth about %s: %v", cursor, got)
				}
				return
			}
			pair, _ := got.([]any)
			same, _ := c.Do("SCAN", cursor, "COUNT", 5).([]any)
			if len(pair) != 2 || len(same) != 2 || fmt.Sprint(pair[1]) != fmt.Sprint(same[1]) {
				t.Errorf("another berth about %s: %v, the same berth: %v", cursor, pair, same)
			}
		}, "COUNT", 10)
	}
}

func TestScanOverFewKeysAsksSeveralShardsInOneCall(t *testing.T) {
	parallel(t)
	shards := startScriptedShards(t, 0, 2, 3, 0, 1)
	c := dial(t, startBerth(t, shards.url()).Addr())
	keys, calls := scanAll(t, c, nil, "COUNT", 10)
	if calls != 1 || len(keys) != 6 {
		t.Errorf("%d keys in %d calls", len(keys), calls)
	}
	for i := range shards.nodes {
		if n := shards.asks(i); n != 1 {
			t.Errorf("shard %d was asked %d times", i, n)
		}
	}
	if keys, calls = scanAll(t, c, nil, "COUNT", 2); calls == 1 || len(keys) != 6 {
		t.Errorf("COUNT 2: %d keys in %d calls", len(keys), calls)
	}
	many := startScriptedShards(t, 0, make([]int, 2*maxScanHops)...)
	if _, calls = scanAll(t, dial(t, startBerth(t, many.url()).Addr()), nil, "COUNT", 10); calls != 2 {
		t.Errorf("%d shards without keys: %d calls", len(many.nodes), calls)
	}
}

func TestScanCursorsThatAClientMakesUpMeanSomeShard(t *testing.T) {
	parallel(t)
	c := dial(t, startBerth(t, startScriptedShards(t, 0, 20, 20).url()).Addr())
	for range 200 {
		number := rand.Uint64() >> rand.IntN(64)
		got := c.Do("SCAN", strconv.FormatUint(number, 10), "COUNT", 10)
		_, isPair := got.([]any)
		text := fmt.Sprint(got)
		if number >= scanRemembered && text != errScanForgotten || number < scanRemembered && !isPair && !strings.Contains(text, "another node's") {
			t.Errorf("SCAN %d: %s", number, text)
		}
	}
}

func TestScanOfOneNodePassesAllBitsOfACursor(t *testing.T) {
	parallel(t)
	const large = "9286422431638134784"
	s, err := miniredis.NewServer("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	s.SetPreHook(func(peer *miniredis.Peer, command string, args ...string) bool {
		switch {
		case command == "PING":
			peer.WriteInline("PONG")
		case command == "INFO":
			peer.WriteBulk("redis_version:7.0.15\r\nredis_mode:standalone\r\nrole:master\r\n")
		case command == "COMMAND":
			peer.WriteLen(0)
		case command == "SCAN":
			peer.WriteLen(2)
			peer.WriteBulk(large)
			peer.WriteStrings(args)
		default:
			peer.WriteError("ERR unknown command")
		}
		return true
	})
	c := dial(t, startBerth(t, s.Addr().String()).Addr())
	script(t, c, "SCAN "+large+" → ["+large+" ["+large+"]]", "SCAN 18446744073709551615 COUNT 7 → ["+large+" [18446744073709551615 COUNT 7]]")
}

func TestScanCursorsCarryTheirPlace(t *testing.T) {
	m := &scanMemory{}
	for _, at := range []scanPlace{
		{key: 2}, {1, 63, 1}, {scanKeyMask, 0, 1<<scanNodeBits - 1}, {7, 1, 1 << scanNodeBits}, {7, 1, 1<<64 - 1}, {7, 1, 9286422431638134784},
	} {
		number := m.number(at)
		if got, ok := m.place(number); !ok || got != at || number == 0 || number >= 1<<63 {
			t.Errorf("%v: cursor %d, %v %v", at, number, got, ok)
		}
	}
	if n := m.number(scanPlace{scanKeyMask, scanCheckMask, 1<<31 - 1}); n >= 1<<53 {
		t.Errorf("%d is no floating-point number", n)
	}
	first := m.number(scanPlace{7, 1, 1 << 63})
	for i := range uint64(maxScansKept) {
		m.number(scanPlace{7, 1, 1<<63 + i})
	}
	if _, ok := m.place(first); ok || len(m.kept) != maxScansKept {
		t.Errorf("of %d cursors the first is remembered", len(m.kept))
	}
}

func TestShardsKeepTheirNamesInScanCursors(t *testing.T) {
	var shards []router.Shard
	for i := range router.MaxShards {
		shards = append(shards, router.Shard{Primary: fmt.Sprintf("10.0.%d.%d:6379", i/256, i%256)})
	}
	last := uint64(0)
	for _, s := range orderForScan(shards) {
		if s.key <= last || s.key >= scanKeyMask || s.check > scanCheckMask {
			t.Fatalf("%v comes after %d", s, last)
		}
		last = s.key
	}
	few := []router.Shard{{Primary: "a:1", Replicas: []string{"b:1", "c:1"}}, {Primary: "d:1"}, {Primary: "e:1", Replicas: []string{"f:1"}}}
	before := orderForScan(few)
	few[0], few[2] = few[2], router.Shard{Primary: "c:1", Replicas: []string{"a:1", "b:1"}}
	after := orderForScan(few)
	for i := range before {
		if before[i].key != after[i].key || before[i].index != 2-after[i].index {
			t.Errorf("shard %d was %v, and is %v", i, before[i], after[i])
		}
		if tookOver := before[i].index == 0; tookOver != (before[i].check != after[i].check) {
			t.Errorf("the primary of shard %d: %v, %v", i, before[i], after[i])
		}
	}
}

func TestScanCursorsTellAShardsNodesApart(t *testing.T) {
	var nodes []string
	for i := range scanCheckMask + 1 {
		nodes = append(nodes, fmt.Sprintf("10.0.0.%d:6379", i))
	}
	primaryOf := map[uint64]string{}
	for i, primary := range nodes {
		check := scanCheck(router.Shard{Primary: primary, Replicas: slices.Concat(nodes[i+1:], nodes[:i])})
		if other, taken := primaryOf[check]; taken {
			t.Errorf("%s and %s have the check %d", other, primary, check)
		}
		primaryOf[check] = primary
	}
	scanCheck(router.Shard{Primary: "z:1", Replicas: nodes}) // it ends
}

// Slot 0 goes from the first shard to the last: both change their place in the list.
func TestScanLeavesNoShardOutWhenItsFirstSlotMoves(t *testing.T) {
	parallel(t)
	three := redistest.StartCluster(t, 3, 0)
	b := startBerth(t, clusterURL(three))
	c := dial(t, b.Addr())
	var want []string
	for i := range sized(300, 3000) {
		key := fmt.Sprint("k", i)
		if router.Slot([]byte(key)) == 0 { // it moves
			continue
		}
		want = append(want, key)
		c.Send("SET", key, i)
	}
	for range want {
		c.Recv()
	}
	slices.Sort(want)
	keys, _ := scanAll(t, c, func(calls int, _ string) {
		if calls != 3 {
			return
		}
		before := b.srv.nodes.Topology()
		three.MoveSlot(t, 0, 0, 2)
		b.srv.nodes.Refresh()
		eventually(t, "berth to know the owner of slot 0", func() bool {
			return b.srv.nodes.Topology() != before && b.srv.nodes.Topology().Primary(0) == three.Node(2).Addr()
		})
	}, "COUNT", 10)
	if !slices.Equal(keys, want) {
		t.Errorf("%d keys, want %d", len(keys), len(want))
	}
}
