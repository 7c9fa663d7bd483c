package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
)

func TestClusterCommandsOverAStandaloneNodeAnswerAsRedis(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	asRedis(t, startBerth(t, node.Addr()), node,
		"cluster", "cluster nothing", "cluster slots", "cluster shards", "cluster nodes", "cluster info", "cluster myid", "cluster help",
		"cluster keyslot a", "cluster keyslot", "cluster countkeysinslot 1", "cluster countkeysinslot x", "cluster getkeysinslot 1 1",
		"cluster links", "cluster replicas x", "cluster slaves x", "cluster count-failure-reports x", "cluster meet a 1",
		"cluster reset", "cluster addslots 1", "cluster forget x", "readonly", "readwrite", "asking", "info cluster")
}

func TestClusterCommandsOverAClusterAnswerAsRedis(t *testing.T) {
	cluster := sharedCluster(t)
	asRedis(t, startBerth(t, clusterURL(cluster)), cluster.Node(0),
		"cluster", "cluster nothing", "cluster slots x", "cluster keyslot foo", "cluster keyslot {a}b", "cluster keyslot",
		"cluster countkeysinslot x", "cluster countkeysinslot -1", "cluster countkeysinslot 16384", "cluster countkeysinslot",
		"cluster getkeysinslot 1 -1", "cluster getkeysinslot 1 x", "cluster getkeysinslot x 1", "cluster getkeysinslot 16384 1",
		"cluster getkeysinslot 1", "cluster replicas abc", "cluster slaves abc", "cluster count-failure-reports abc",
		"readonly", "readwrite", "info cluster")
}

// A cluster of one real node, and berth, which looks like one: their answers differ in names,
// addresses and epochs only.
func TestClusterLooksLikeOneNodeOfRedis(t *testing.T) {
	parallel(t)
	node := redistest.StartCluster(t, 1, 0)
	b := startBerth(t, clusterURL(node))
	for _, resp := range []int{2, 3} {
		ours, theirs := dial(t, b.Addr()), dial(t, node.Addrs()[0])
		ours.Do("HELLO", resp)
		theirs.Do("HELLO", resp)
		id := theirs.Do("CLUSTER", "MYID").(string)
		_, port, _ := net.SplitHostPort(node.Addrs()[0])
		_, ourPort, _ := net.SplitHostPort(b.Addr())
		portNumber, _ := strconv.Atoi(port)
		ourPortNumber, _ := strconv.Atoi(ourPort)
		for _, command := range []string{"SLOTS", "SHARDS", "NODES", "INFO", "LINKS", "MYID"} {
			got := ours.DoRaw("CLUSTER", command)
			want := theirs.DoRaw("CLUSTER", command)
			// A node that never met another does not know its own address, and says "".
			want = strings.ReplaceAll(want, "$0\r\n\r\n", "$9\r\n127.0.0.1\r\n")
			want = strings.ReplaceAll(want, " :"+port, " 127.0.0.1:"+port)
			for _, replace := range [][2]string{{id, nodeID}, {port + "@" + strconv.Itoa(portNumber+10000),
				ourPort + "@" + strconv.Itoa(ourPortNumber+10000)}, {":" + port, ":" + ourPort}} {
				want = strings.ReplaceAll(want, replace[0], replace[1])
			}
			if withoutLengths(got) != withoutLengths(want) {
				t.Errorf("RESP%d CLUSTER %s:\n got %q\nwant %q", resp, command, got, want)
			}
		}
	}
}

// withoutLengths leaves out what the length of an address changes.
func withoutLengths(reply string) string {
	if reply[0] == '$' || reply[0] == '=' {
		_, reply, _ = strings.Cut(reply, "\r\n")
	}
	return reply
}

func TestClusterClientIsToldTheAddressItCameTo(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	b := startBerth(t, clusterURL(sharedCluster(t)), "--bind", "127.0.0.1", "127.0.0.2", "--unixsocket", socket)
	_, port, _ := net.SplitHostPort(b.Addr())
	for addr, want := range map[string]string{
		"127.0.0.1:" + port: "127.0.0.1", "127.0.0.2:" + port: "127.0.0.2", socket: "127.0.0.1",
	} {
		c := dial(t, addr)
		c.Do("HELLO", 3)
		entry := c.Do("CLUSTER", "SLOTS").([]any)[0].([]any)
		node := entry[2].([]any)
		if entry[0] != int64(0) || entry[1] != int64(router.Slots-1) || node[0] != want || fmt.Sprint(node[1]) != port ||
			node[2] != c.Do("CLUSTER", "MYID") {
			t.Errorf("at %s: %v", addr, entry)
		}
	}
}

func TestKeysInSlotAreAskedOfTheSlotsOwner(t *testing.T) {
	cluster := sharedCluster(t)
	c := dial(t, startBerth(t, clusterURL(cluster)).Addr())
	for i := range 30 {
		tag := fmt.Sprintf("{kis%d}", i)
		slot := c.Do("CLUSTER", "KEYSLOT", tag)
		if want := cluster.Node(0).Do(t, "CLUSTER", "KEYSLOT", tag); slot != want {
			t.Fatalf("KEYSLOT %s: %v, want %v", tag, slot, want)
		}
		before := c.Do("CLUSTER", "COUNTKEYSINSLOT", slot).(int64)
		c.Do("SET", tag, i)
		if got := c.Do("CLUSTER", "COUNTKEYSINSLOT", slot); got != before+1 {
			t.Errorf("slot %v: %v keys after %d and one more", slot, got, before)
		}
		if got := fmt.Sprint(c.Do("CLUSTER", "GETKEYSINSLOT", slot, 10)); !strings.Contains(got, tag) {
			t.Errorf("slot %v: keys %s", slot, got)
		}
	}
}

func TestOnlyBerthItselfIsANode(t *testing.T) {
	c := dial(t, startBerth(t, clusterURL(sharedCluster(t))).Addr())
	id := c.Do("CLUSTER", "MYID")
	if got := c.DoRaw("CLUSTER", "REPLICAS", id); got != "*0\r\n" {
		t.Errorf("REPLICAS: %q", got)
	}
	if got := c.DoRaw("CLUSTER", "COUNT-FAILURE-REPORTS", id); got != ":0\r\n" {
		t.Errorf("COUNT-FAILURE-REPORTS: %q", got)
	}
	if got, ok := c.Do("CLUSTER", "MEET", "127.0.0.1", 7000).(redistest.Error); !ok || !strings.HasPrefix(string(got), "ERR CLUSTER MEET is not possible") {
		t.Errorf("MEET: %v", got)
	}
	if got := c.Do("HELLO").([]any); got[8] != "mode" || got[9] != "cluster" {
		t.Errorf("HELLO: %v", got)
	}
}

// Every backend with slots serves cluster clients, the embedded one too.
func TestClusterClientOfGoRedisWorks(t *testing.T) {
	parallel(t)
	for name, url := range map[string]string{"cluster": clusterURL(sharedCluster(t)), "embedded": ""} {
		t.Run(name, func(t *testing.T) {
			b := startBerth(t, url)
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{b.Addr()}})
			defer c.Close()
			useClusterClient(t, ctx, c)
		})
	}
}

func useClusterClient(t *testing.T, ctx context.Context, c *redis.ClusterClient) {
	const n = 200
	pipe := c.Pipeline()
	for i := range n {
		pipe.Set(ctx, fmt.Sprint("gr:", i), i, 0)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		t.Fatalf("pipeline: %v", err)
	}
	for i := range n {
		if got, err := c.Get(ctx, fmt.Sprint("gr:", i)).Int(); err != nil || got != i {
			t.Fatalf("key %d: %d, %v", i, got, err)
		}
	}
	if _, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Incr(ctx, "{gr}:a")
		p.Incr(ctx, "{gr}:b")
		return nil
	}); err != nil {
		t.Errorf("transaction: %v", err)
	}
	if err := c.Watch(ctx, func(tx *redis.Tx) error {
		_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Incr(ctx, "{gr}:a")
			return nil
		})
		return err
	}, "{gr}:a"); err != nil {
		t.Errorf("watch: %v", err)
	}
	if got, err := c.Get(ctx, "{gr}:a").Int(); err != nil || got != 2 {
		t.Errorf("after a transaction and a watch: %d, %v", got, err)
	}
	nodes := 0
	err := c.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		nodes++
		return node.Ping(ctx).Err()
	})
	if err != nil || nodes != 1 {
		t.Errorf("%d primaries, %v", nodes, err)
	}
	if err := c.Del(ctx, "{gr}:a", "{gr}:b").Err(); err != nil {
		t.Errorf("DEL: %v", err)
	}
	if _, err := c.BLPop(ctx, time.Second, "gr:nothing").Result(); !errors.Is(err, redis.Nil) {
		t.Errorf("BLPOP: %v", err)
	}
}

// Clients that reach berth through a port mapping are told what is configured, at once.
func TestClusterAnswersGiveTheAnnouncedAddress(t *testing.T) {
	parallel(t)
	b := startBerth(t, clusterURL(sharedCluster(t)), "--announce-port", "7001")
	c := dial(t, b.Addr())
	host, _, _ := strings.Cut(b.Addr(), ":")
	check := func(host, port string) {
		t.Helper()
		slots, shards, nodes := text(c.Do("CLUSTER", "SLOTS")), text(c.Do("CLUSTER", "SHARDS")), text(c.Do("CLUSTER", "NODES"))
		if !strings.Contains(slots, "["+host+" "+port+" ") || !strings.Contains(nodes, " "+host+":"+port+"@") ||
			!strings.Contains(shards, "port "+port+" ip "+host+" endpoint "+host+" ") {
			t.Errorf("want %s and %s in\n%s\n%s\n%s", host, port, slots, shards, nodes)
		}
	}
	check(host, "7001")
	script(t, c, "CONFIG SET announce-ip 192.0.2.7 announce-port 7002 → OK")
	check("192.0.2.7", "7002")
	script(t, c, "CONFIG SET announce-ip redis.example announce-port 7002 → OK")
	check("redis.example", "7002")
	if got := c.Do("CONFIG", "SET", "announce-ip", "192.0.2.7:1"); !refusedFor(got, "ERR CONFIG SET failed") {
		t.Error(got)
	}
	_, port, _ := strings.Cut(b.Addr(), ":")
	c.Do("CONFIG", "SET", "announce-ip", "", "announce-port", "0")
	check(host, port)
}
