package main

import (
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// In a Cluster each node has its own users. A password is replaced on one node after the other, and
// both are needed meanwhile.
func TestAPasswordIsReplacedOnOneNodeOfAClusterAfterTheOther(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 3, 0)
	each := func(words string) {
		t.Helper()
		for _, addr := range cluster.Addrs() {
			if got := dial(t, addr).Do(toWords(words)...); got != "OK" && got != int64(1) {
				t.Fatal(got)
			}
		}
	}
	each("ACL SETUSER roller on >old ~* &* +@all")
	b := startBerth(t, clusterURL(cluster))
	c, idle := dial(t, b.Addr()), dial(t, b.Addr())
	keys := []string{"a", "b", "c", "d", "e"} // on all three nodes
	use := func(c *redistest.Conn) {
		t.Helper()
		for _, key := range keys {
			script(t, c, "SET "+key+" 1 → OK", "WATCH "+key+" → OK", "UNWATCH → OK", "BLPOP l"+key+" 0.01 → <nil>")
		}
	}
	for _, one := range []*redistest.Conn{c, idle} {
		script(t, one, "AUTH roller old → OK")
		use(one)
	}
	for _, addr := range cluster.Addrs() {
		node := dial(t, addr)
		node.Do("ACL", "SETUSER", "roller", "<old", ">new")
		for { // until the node that checks the login is one that knows the password
			fresh := dial(t, b.Addr())
			if fresh.Do("AUTH", "roller", "new") == "OK" {
				break
			}
			fresh.Close()
		}
		node.Do("CLIENT", "KILL", "USER", "roller")
		for _, key := range keys {
			eventually(t, "the lost connections to be noticed", func() bool { return c.Do("SET", key, 1) == "OK" })
		}
		use(c)
	}
	each("ACL DELUSER roller")
	for _, one := range []*redistest.Conn{c, idle} {
		if got := one.ReadAll(); !strings.Contains(got, "-"+wrongPass+"\r\n") {
			t.Errorf("told %q", got)
		}
	}
}
