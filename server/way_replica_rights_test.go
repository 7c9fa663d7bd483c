package main

import (
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// A rule that is changed while nobody reads holds at the replicas before anybody does.
func TestRulesOfUsersReachReplicasThatNobodyHasReadYet(t *testing.T) {
	parallel(t)
	primary := redistest.Start(t)
	replica := redistest.Start(t, "--replicaof", strings.ReplaceAll(primary.Addr(), ":", " "), "--repl-diskless-sync-delay", "0")
	awaitReplica(t, replica, primary)
	for _, node := range []*redistest.Server{primary, replica} {
		if got := node.Do(t, "ACL", "SETUSER", "alice", "on", ">a", "~*", "+@all"); got != "OK" {
			t.Fatal(got)
		}
	}
	b := startBerth(t, "redis://"+primary.Addr(), "--read-from", "prefer-replica")
	admin := dial(t, b.Addr())
	eventually(t, "berth to know the replica", func() bool { return len(b.srv.nodes.Topology().Shards()[0].Replicas) == 1 || admin.Do("PROXY", "RECONNECT") == nil })
	if got := admin.Do("ACL", "SETUSER", "alice", "reset", "on", ">a", "~pub*", "+@all"); got != "OK" {
		t.Fatal(got)
	}
	if got, want := replica.Do(t, "ACL", "LIST"), primary.Do(t, "ACL", "LIST"); !strings.Contains(got.([]any)[0].(string), "~pub*") {
		t.Errorf("the replica has the rules %v, the primary %v", got, want)
	}
	c := dial(t, b.Addr())
	if got := c.Do("AUTH", "alice", "a"); got != "OK" {
		t.Fatal(got)
	}
	for range 20 {
		if got, refused := c.Do("GET", "secret").(error); !refused || !strings.HasPrefix(got.Error(), "NOPERM") {
			t.Fatalf("GET secret: %v", got)
		}
	}
}
