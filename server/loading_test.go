package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// slowLoader are the arguments of a node that looks at its clients often while it loads.
var slowLoader = []string{"--enable-debug-command", "yes", "--loading-process-events-interval-bytes", "1024"}

// load has a node load its data until loaded is called.
func load(t *testing.T, node *redistest.Server) (loaded func()) {
	t.Helper()
	c := dial(t, node.Addr())
	node.Do(t, "DEBUG", "POPULATE", 60000, "load{"+tagOf(t, node)+"}")
	node.Do(t, "CONFIG", "SET", "key-load-delay", 1000)
	c.Send("DEBUG", "RELOAD")
	eventually(t, "the node to load", func() bool { return strings.HasPrefix(fmt.Sprint(node.Do(t, "DBSIZE")), "LOADING ") })
	return func() {
		node.Do(t, "CONFIG", "SET", "key-load-delay", 0)
		if got := c.Recv(); got != "OK" {
			t.Errorf("DEBUG RELOAD: %v", got)
		}
	}
}

// tagOf is one of a, b, c: a hash tag that a node serves.
func tagOf(t *testing.T, node *redistest.Server) string {
	for _, tag := range []string{"a", "b", "c"} {
		if got := fmt.Sprint(node.Do(t, "EXISTS", tag)); !strings.HasPrefix(got, "MOVED ") {
			return tag
		}
	}
	t.Fatal("the node serves none of a, b, c")
	return ""
}

func TestLoadingNodeSaysSoToClients(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, slowLoader...)
	before := startBerth(t, node.Addr())
	c := dial(t, before.Addr())
	script(t, c, "SET k v → OK", "GET k → v")
	loaded := load(t, node)
	after := startBerth(t, node.Addr()) // its own questions are answered all the same
	for _, b := range []*berthServer{before, after} {
		sameFromBoth(t, b, node, "LOADING", append(slices.Clone(writesEveryWay[:len(writesEveryWay)-1]),
			"BLPOP {ne}a 5", "BLMOVE {ne}a {ne}b LEFT LEFT 5", "DBSIZE", "SCAN 0", "EVAL return(1) 0", "SELECT 1", "GET k", "SELECT 0", "ECHO x", "CLIENT GETNAME",
			"CONFIG GET maxmemory", "SUBSCRIBE x", "UNSUBSCRIBE x", "PUBLISH nobody y", "ACL USERS", "WAIT 0 0", "RANDOMKEY")...)
		if info := dial(t, b.Addr()).Do("INFO", "persistence").(string); !strings.Contains(info, "\nloading:1\r\n") {
			t.Errorf("INFO: %.100q", info)
		}
	}
	loaded()
	for _, b := range []*berthServer{before, after} {
		c := dial(t, b.Addr())
		script(t, c, "GET k → v")
		if info := c.Do("INFO", "persistence").(string); !strings.Contains(info, "\nloading:0\r\n") {
			t.Errorf("INFO: %.100q", info)
		}
	}
	script(t, c, "GET k → v")
}

func TestLoadingPrimaryHoldsUpNoOther(t *testing.T) {
	parallel(t)
	three := redistest.StartCluster(t, 3, 0, slowLoader...)
	before := startBerth(t, clusterURL(three))
	c := dial(t, before.Addr())
	script(t, c, "MSET a 1 b 2 c 3 → OK")
	node := three.Node(0)
	tag := tagOf(t, node)
	loaded := load(t, node)
	after := startBerth(t, clusterURL(three))
	for _, b := range []*berthServer{before, after} {
		c := dial(t, b.Addr())
		for i, key := range []string{"a", "b", "c"} {
			got := fmt.Sprint(c.Do("GET", key))
			if loads := key == tag; loads != strings.HasPrefix(got, "LOADING ") || !loads && got != fmt.Sprint(i+1) {
				t.Errorf("GET %s: %s", key, got)
			}
		}
		for _, line := range []string{"MGET a b c", "DBSIZE", "KEYS x"} {
			if got := fmt.Sprint(c.Do(strings.Fields(line))); !strings.HasPrefix(got, "LOADING ") {
				t.Errorf("%s: %s", line, got)
			}
		}
	}
	loaded()
	script(t, c, "MGET a b c → [1 2 3]")
	script(t, dial(t, after.Addr()), "MGET a b c → [1 2 3]")
}
