package main

import (
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// What cannot go through berth is refused with the reason. That a user may not run it, only a node
// says.
func TestCommandsThatCannotGoThroughBerthAreRefusedWithTheReason(t *testing.T) {
	parallel(t)
	const noCluster = "ERR This instance has cluster support disabled"
	const about = " is not possible through berth: it is about one node, and clients of berth see one for all; send it to the node"
	node := redistest.Start(t)
	setUsers(t, node, "u on >pw ~* &* +@all -shutdown -replicaof -failover -cluster|reset")
	b := startBerth(t, "redis://"+node.Addr())
	over := startBerth(t, clusterURL(sharedCluster(t)))
	one, cluster, u := dial(t, b.Addr()), dial(t, over.Addr()), loggedIn(t, b.Addr(), "u")
	for _, c := range []struct{ request, one, cluster string }{
		{"SHUTDOWN NOSAVE", "ERR SHUTDOWN is not possible through berth: it stops a node that all clients share; send it to the node", ""},
		{"REPLICAOF NO ONE", "ERR REPLICAOF is not possible through berth: it changes the role of a node; send it to the node", "ERR REPLICAOF not allowed in cluster mode."},
		{"FAILOVER", "ERR FAILOVER is not possible through berth: it changes the role of a node; send it to the node",
			"ERR FAILOVER not allowed in cluster mode. Use CLUSTER FAILOVER command instead."},
		{"CLUSTER RESET", noCluster, "ERR CLUSTER RESET" + about},
		{"CLUSTER FAILOVER", noCluster, "ERR CLUSTER FAILOVER" + about},
		{"CLUSTER FORGET x", noCluster, "ERR CLUSTER FORGET" + about},
		{"SLAVEOF x 1", "ERR SLAVEOF is not possible through berth: it changes the role of a node; send it to the node", "ERR REPLICAOF not allowed in cluster mode."},
	} {
		words := anys(strings.Fields(c.request))
		if c.cluster == "" {
			c.cluster = c.one
		}
		if got := text(one.Do(words...)); got != c.one {
			t.Errorf("%s: %q", c.request, got)
		}
		if got := text(cluster.Do(words...)); got != c.cluster {
			t.Errorf("%s over a Cluster: %q", c.request, got)
		}
		denied := !strings.Contains(c.request, " x") && c.request != "CLUSTER FAILOVER"
		if got := u.Do(words...); refusedFor(got, "NOPERM") != denied {
			t.Errorf("%s without the right: %v", c.request, got)
		}
	}
}

// MIGRATE goes where its keys are, on a connection of its own.
func TestMigrateGoesToTheOwnerOfItsKeys(t *testing.T) {
	parallel(t)
	target := redistest.Start(t)
	_, port, _ := strings.Cut(target.Addr(), ":")
	over := startBerth(t, clusterURL(sharedCluster(t)))
	c := dial(t, over.Addr())
	tag := unique("mig")
	k := func(name string) string { return "{" + tag + "}" + name }
	c.Do("MSET", k("a"), 1, k("b"), 2, k("c"), 3)
	for _, step := range []struct {
		words []any
		want  string
	}{
		{[]any{"MIGRATE", "127.0.0.1", port, k("a"), 0, 5000}, "OK"},
		{[]any{"MIGRATE", "127.0.0.1", port, "", 0, 5000, "COPY", "KEYS", k("b"), k("c")}, "OK"},
		{[]any{"MIGRATE", "127.0.0.1", port, "", 0, 5000, "KEYS", k("b"), tag + "elsewhere"}, errCrossSlot},
		{[]any{"MIGRATE", "127.0.0.1", port, k("a"), 0, 5000}, "NOKEY"},
		{[]any{"MGET", k("a"), k("b")}, "[<nil> 2]"},
	} {
		if got := text(c.Do(step.words...)); got != step.want {
			t.Errorf("%v: %v, want %v", step.words, got, step.want)
		}
	}
	if got := text(target.Do(t, "MGET", k("a"), k("b"), k("c"))); got != "[1 2 3]" {
		t.Errorf("the target has %v", got)
	}
	node := redistest.Start(t)
	b := startBerth(t, "redis://"+node.Addr())
	c = dial(t, b.Addr())
	script(t, c, "SET x 9 → OK", "MULTI → OK", "MIGRATE 127.0.0.1 "+port+" x 0 5000 COPY → QUEUED", "EXEC → [OK]",
		"MIGRATE 127.0.0.1 "+port+" x 0 5000 REPLACE → OK", "GET x → <nil>")
	if s := b.leases(); s.Dials != 1 || s.Leased != 0 {
		t.Errorf("%+v at the end", s)
	}
}
