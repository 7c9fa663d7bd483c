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

// A key that was changed at one node, and FLUSHALL at all, are told to a client that has read at all.
func TestFlushOfAllNodesIsOneInvalidation(t *testing.T) {
	cluster := sharedCluster(t)
	b := startBerth(t, clusterURL(cluster))
	c, other := dial(t, b.Addr()), dial(t, b.Addr())
	c.Do("HELLO", 3)
	script(t, c, "CLIENT TRACKING ON → OK")
	keys := keysOfAllNodes(cluster, "flushed")
	for _, by := range []string{"other", "itself", "other", "itself"} {
		for _, key := range keys {
			c.Do("GET", key)
		}
		if by == "itself" {
			c.WriteString("FLUSHALL\r\nGET " + keys[0] + "\r\n")
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
