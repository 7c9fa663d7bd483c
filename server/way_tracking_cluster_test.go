package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
)

// keysOfAllNodes has a key of each node.
func keysOfAllNodes(c *redistest.Cluster, name string) (keys []string) {
	for i := range c.Primaries() {
		keys = append(keys, keyAt(c, c.Node(i), name))
	}
	return keys
}

func keyPush(key string) string {
	return fmt.Sprintf("%s*1\r\n$%d\r\n%s\r\n", invalidation, len(key), key)
}

func TestBroadcastTrackingOverAClusterIsOfAllNodes(t *testing.T) {
	cluster := sharedCluster(t)
	b := startBerth(t, clusterURL(cluster))
	for _, redirect := range []bool{false, true} {
		c, hears, other := dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr())
		c.Do("HELLO", 3)
		to := ""
		if !redirect {
			hears = c
		} else {
			hears.Do("HELLO", 3)
			to = fmt.Sprint(" REDIRECT ", hears.Do("CLIENT", "ID"))
		}
		script(t, c, "CLIENT TRACKING ON BCAST PREFIX all"+to+" → OK")
		all, more := keysOfAllNodes(cluster, "all"), keysOfAllNodes(cluster, "more")
		for _, key := range all {
			other.Do("SET", key, 1)
			if got := hears.RecvRaw(); got != keyPush(key) {
				t.Errorf("heard %q", got)
			}
		}
		script(t, c, "CLIENT TRACKING ON BCAST PREFIX more"+to+" → OK")
		if got := fmt.Sprint(c.Do("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "mo")); !strings.Contains(got, "overlaps") {
			t.Error(got)
		}
		for _, key := range append(all, more...) {
			other.Do("SET", key, 2)
			if got := hears.RecvRaw(); got != keyPush(key) {
				t.Errorf("heard %q", got)
			}
		}
		other.Do("FLUSHALL")
		if got := hears.RecvRaw(); got != forgetAll {
			t.Errorf("heard %q", got)
		}
		if got := c.DoRaw("FLUSHALL"); got != "+OK\r\n" {
			t.Errorf("%q comes before the reply to FLUSHALL", got)
		}
		if got := hears.RecvRaw(); got != forgetAll {
			t.Errorf("heard %q", got)
		}
		other.Do("SET", all[0], 1) // the next that is heard: there was one invalidation of all keys
		if got := hears.RecvRaw(); got != keyPush(all[0]) {
			t.Errorf("heard %q", got)
		}
		script(t, c, "CLIENT TRACKING OFF → OK")
		eventually(t, "all connections to be closed", func() bool { return b.leases().Leased == 0 })
	}
}

// A key that was changed at one node, and FLUSHALL at all, are told to a client that has read at
// all.
func TestFlushOfAllNodesIsOneInvalidation(t *testing.T) {
	cluster := sharedCluster(t)
	b := startBerth(t, clusterURL(cluster))
	c, other := dial(t, b.Addr()), dial(t, b.Addr())
	c.Do("HELLO", 3)
	script(t, c, "CLIENT TRACKING ON → OK")
	keys := keysOfAllNodes(cluster, "flushed")
	for round := range 100 {
		by := []string{"other", "itself"}[round%2]
		for _, key := range keys {
			c.Do("GET", key)
		}
		if by == "itself" {
			c.WriteString("FLUSHALL\r\nGET " + keys[2] + "\r\n")
			if got := c.RecvRaw(); got != "+OK\r\n" {
				t.Errorf("%q comes before the reply", got)
			}
		} else {
			other.Do("FLUSHALL")
		}
		if got := c.RecvRaw(); got != forgetAll {
			t.Errorf("heard %q", got)
		}
		if by == "itself" {
			if got := c.RecvRaw(); got != "_\r\n" {
				t.Errorf("the next reply is %q", got)
			}
		}
		c.Do("GET", keys[1])
		other.Do("SET", keys[1], 1)
		if got := c.RecvRaw(); got != keyPush(keys[1]) {
			t.Errorf("heard %q", got)
		}
	}
	// One node alone: nobody waits for the others for long.
	cluster.Node(0).Do(t, "FLUSHALL")
	if got := c.RecvRaw(); got != forgetAll {
		t.Errorf("heard %q", got)
	}
}

func TestCachedReadsOfRueidisOverACluster(t *testing.T) {
	parallel(t)
	cluster := sharedCluster(t)
	b := startBerth(t, clusterURL(cluster))
	for _, options := range [][]string{nil, {"BCAST", "PREFIX", "rueidis"}} {
		client, err := rueidis.NewClient(rueidis.ClientOption{
			InitAddress: []string{b.Addr()}, Dialer: net.Dialer{Timeout: 5 * time.Second}, ClientTrackingOptions: options,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		other := dial(t, b.Addr())
		for _, key := range keysOfAllNodes(cluster, "rueidis") {
			read := func() (string, bool) {
				got := client.DoCache(ctx, client.B().Get().Key(key).Cache(), time.Minute)
				value, err := got.ToString()
				if err != nil {
					t.Fatal(err)
				}
				return value, got.IsCacheHit()
			}
			other.Do("SET", key, "old")
			eventually(t, "the client to read from its cache", func() bool { v, hit := read(); return v == "old" && hit })
			other.Do("SET", key, "new")
			eventually(t, "the client to see the new value", func() bool { v, _ := read(); return v == "new" })
		}
	}
}

// hearsOf has a key be set until c hears of it, and returns how often c was told meanwhile to
// forget all.
func hearsOf(t *testing.T, c, other *redistest.Conn, key string) (forgot int) {
	t.Helper()
	for heard := false; !heard; {
		other.Do("SET", key, 1)
		c.Send("ECHO", "mark")
		for got := ""; got != "$4\r\nmark\r\n"; {
			switch got = c.RecvRaw(); got {
			case keyPush(key):
				heard = true
			case forgetAll:
				forgot++
			}
		}
	}
	return forgot
}

func TestBroadcastTrackingOutlivesAConnectionToANode(t *testing.T) {
	cluster := sharedCluster(t)
	b := startBerth(t, clusterURL(cluster))
	for _, redirect := range []bool{false, true} {
		c, other := dial(t, b.Addr()), dial(t, b.Addr())
		c.Do("HELLO", 3)
		words := "CLIENT TRACKING ON BCAST PREFIX lost"
		if redirect {
			words += fmt.Sprint(" REDIRECT ", c.Do("CLIENT", "ID"))
		}
		script(t, c, words+" → OK")
		for i, key := range keysOfAllNodes(cluster, "lost") {
			node := cluster.Node(i)
			for line := range strings.Lines(node.Do(t, "CLIENT", "LIST").(string)) {
				if strings.Contains(field(line, "flags"), "t") {
					node.Do(t, "CLIENT", "KILL", "ID", field(line, "id"))
				}
			}
			for got := c.RecvRaw(); got != forgetAll; got = c.RecvRaw() {
				if !strings.Contains(got, "invalidate") { // of what hearsOf has set last
					t.Fatalf("heard %q", got)
				}
			}
			if n := hearsOf(t, c, other, key); n != 1 {
				t.Errorf("told to forget all %d times once the node tracks again", n)
			}
		}
		c.Close()
		eventually(t, "all connections to be closed", func() bool { return b.leases().Leased == 0 })
	}
}

// FLUSHALL waits for what the nodes push because of it.
func TestFlushOfAClientThatTracksEndsThoughANodeIsSilent(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 3, 0)
	b := startBerth(t, clusterURL(cluster))
	plain, redirected := dial(t, b.Addr()), dial(t, b.Addr())
	plain.Do("HELLO", 3)
	script(t, plain, "CLIENT TRACKING ON BCAST → OK")
	script(t, redirected, fmt.Sprint("CLIENT TRACKING ON BCAST REDIRECT ", plain.Do("CLIENT", "ID"), " → OK"), "CONFIG SET backend-timeout-ms 300 → OK")
	cluster.Node(1).Pause()
	defer cluster.Node(1).Resume()
	for _, c := range []*redistest.Conn{redirected, plain} {
		c.WriteString("FLUSHALL\r\n")
		got := c.RecvRaw()
		for strings.Contains(got, "invalidate") {
			got = c.RecvRaw()
		}
		if got[0] != '-' {
			t.Errorf("%q", got)
		}
	}
}

func TestBroadcastTrackingFollowsThePrimaries(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 2, 1)
	b := startBerth(t, clusterURL(cluster))
	c, other := dial(t, b.Addr()), dial(t, b.Addr())
	c.Do("HELLO", 3)
	script(t, c, "CLIENT TRACKING ON BCAST PREFIX moved → OK")
	forgets := func() {
		t.Helper()
		for c.RecvRaw() != forgetAll {
		}
	}
	key, second := keyAt(cluster, cluster.Node(0), "moved"), keyAt(cluster, cluster.Node(1), "moved")
	hearsOf(t, c, other, key)
	to := cluster.Join(t)
	cluster.MoveSlot(t, int(router.Slot([]byte(key))), 0, to)
	other.Do("SET", key, 1) // berth learns of the new primary
	forgets()
	if n := hearsOf(t, c, other, key); n != 0 {
		t.Errorf("told to forget all %d times more", n)
	}
	if got := cluster.Node(3).Do(t, "CLUSTER", "FAILOVER"); got != "OK" {
		t.Fatal(got)
	}
	awaitReplica(t, cluster.Node(1), cluster.Node(3))
	heard, written := make(chan bool), make(chan bool)
	go func() { // each write has berth ask again: the node that it asks may not have heard of the new primary yet
		defer close(written)
		for writer := dial(t, b.Addr()); ; {
			select {
			case <-heard:
				return
			case <-time.After(100 * time.Millisecond):
				writer.Do("SET", second, 1)
			}
		}
	}()
	forgets() // the new one tracks, or the old one is no primary any more: a connection in use may stay
	close(heard)
	<-written
	hearsOf(t, c, other, second)
}
