package main

import (
	"fmt"
	"strings"
	"testing"
)

// everybodyHasAlice makes the user at all nodes of a family.
func (f *family) everybodyHasAlice(t *testing.T) {
	t.Helper()
	for _, node := range append(f.replicas, f.primary) {
		if got := node.Do(t, "ACL", "SETUSER", "alice", "on", ">a", "~*", "+@all"); got != "OK" {
			t.Fatal(got)
		}
	}
}

// A rule that is changed while nobody reads holds at the replicas before anybody does.
func TestRulesOfUsersReachReplicasThatNobodyHasReadYet(t *testing.T) {
	parallel(t)
	f := startFamily(t, 1)
	f.everybodyHasAlice(t)
	b := startBerth(t, "redis://"+f.primary.Addr(), "--read-from", "prefer-replica")
	script(t, dial(t, b.Addr()), "ACL SETUSER alice reset on >a ~pub* +@all → OK")
	if got, want := fmt.Sprint(f.replicas[0].Do(t, "ACL", "LIST")), fmt.Sprint(f.primary.Do(t, "ACL", "LIST")); got != want {
		t.Errorf("the replica has the rules %v, the primary %v", got, want)
	}
}

// A replica may have an older rule for years. Others than its user read there.
func TestAUserWhoseRuleDiffersReadsFromThePrimary(t *testing.T) {
	parallel(t)
	f := startFamily(t, 1)
	f.everybodyHasAlice(t)
	script(t, dial(t, f.primary.Addr()), "SET secret s → OK", "ACL SETUSER alice reset on >a ~pub* +@all → OK")
	b := startBerth(t, "redis://"+f.primary.Addr(), "--read-from", "any")
	c := dial(t, b.Addr())
	script(t, c, "AUTH alice a → OK")
	awaitReadable(t, b, 1)
	const noperm = "NOPERM this user has no permissions to access one of the keys used as arguments"
	for range 50 {
		if got := fmt.Sprint(c.Do("GET", "secret")); got != noperm {
			t.Fatalf("GET secret: %v", got)
		}
	}
	other := dial(t, b.Addr())
	eventually(t, "another user to read at the replica", func() bool {
		other.Do("GET", "secret")
		by, _, _ := readsAt(t, b)
		return by[f.replicas[0].Addr()] > 0
	})
}

// A replica that was away while a rule changed is not read by that user when it is back.
func TestAReplicaThatMissedAChangeOfRulesIsNotRead(t *testing.T) {
	parallel(t)
	f := startFamily(t, 1)
	f.everybodyHasAlice(t)
	script(t, dial(t, f.primary.Addr()), "SET secret s → OK")
	b := startBerth(t, "redis://"+f.primary.Addr(), "--read-from", "prefer-replica", "--backend-timeout-ms", "1000")
	c := dial(t, b.Addr())
	script(t, c, "AUTH alice a → OK")
	awaitRead(t, b, c, 1, "secret")
	f.replicas[0].Pause()
	if got := fmt.Sprint(dial(t, b.Addr()).Do("ACL", "SETUSER", "alice", "reset", "on", ">a", "~pub*", "+@all")); !strings.HasPrefix(got, "ERR ") {
		t.Errorf("a rule that did not reach the replica: %v", got)
	}
	f.replicas[0].Resume()
	awaitReadable(t, b, 1)
	for range 50 {
		if got := fmt.Sprint(c.Do("GET", "secret")); !strings.HasPrefix(got, "NOPERM ") {
			t.Fatalf("GET secret: %v", got)
		}
	}
}

// Whoever follows through berth might name any address, and berth would tell it passwords.
func TestAReplicaThatFollowsThroughBerthNamesNoAddress(t *testing.T) {
	parallel(t)
	f := startFamily(t, 0)
	b := startBerth(t, "redis://"+f.primary.Addr())
	c := dial(t, b.Addr())
	script(t, c, "REPLCONF listening-port 21190 ip-address 10.9.8.7 capa psync2 → OK")
	c.WriteString("PSYNC ? -1\r\n")
	eventually(t, "the primary to know the replica", func() bool {
		return strings.Contains(text(f.primary.Do(t, "INFO", "replication")), "\r\nslave0:")
	})
	if is := text(f.primary.Do(t, "INFO", "replication")); strings.Contains(is, "21190") || strings.Contains(is, "10.9.8.7") {
		t.Errorf("the primary says %s", is)
	}
	c.WriteString("*3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$5\r\n21190\r\n")
	eventually(t, "the client to be closed", func() bool { return !strings.Contains(text(f.primary.Do(t, "INFO", "replication")), "\r\nslave0:") })
}

// A cursor means something at the node that gave it.
func TestScansOfAKeyStayWithThePrimary(t *testing.T) {
	parallel(t)
	f := startFamily(t, 2)
	b := startBerth(t, "redis://"+f.primary.Addr(), "--read-from", "prefer-replica")
	c := dial(t, b.Addr())
	awaitRead(t, b, c, 2, "k")
	for range 20 {
		c.Do("HSCAN", "h", "0")
		c.Do("SSCAN", "s", "0")
		c.Do("ZSCAN", "z", "0")
	}
	for _, r := range f.replicas {
		if n := calls(t, r, "hscan") + calls(t, r, "sscan") + calls(t, r, "zscan"); n > 0 {
			t.Errorf("a replica was sent %d scans", n)
		}
	}
}
