package main

import (
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

func refusedFor(v any, prefix string) bool {
	e, _ := v.(redistest.Error)
	return strings.HasPrefix(string(e), prefix)
}

// berth answers MULTI itself. What a user who may not run it queues must not be executed command by command.
func TestUserWithoutMultiIsToldSoAtMulti(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	node.Do(t, "ACL", "SETUSER", "u", "on", ">pw", "~*", "+@all", "-multi")
	b := startBerth(t, node.Addr())
	for range 3 {
		c := dial(t, b.Addr())
		c.Do("AUTH", "u", "pw")
		got := pipelined(c, "MULTI", "SET k 1", "GET k")
		if !refusedFor(got[0], b.noCommand("u", "multi")) || got[1] != "OK" || got[2] != "1" {
			t.Fatalf("got %v", got)
		}
	}
}

func TestUserWithoutExecExecutesNothing(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	node.Do(t, "ACL", "SETUSER", "u", "on", ">pw", "~*", "+@all", "-exec")
	b := startBerth(t, node.Addr())
	c := dial(t, b.Addr())
	c.Do("AUTH", "u", "pw")
	got := pipelined(c, "MULTI", "SET k 1", "EXEC", "GET k")
	if got[0] != "OK" || got[1] != "QUEUED" || !refusedFor(got[2], "EXECABORT Transaction discarded because of: NOPERM") || got[3] != nil {
		t.Fatalf("got %v", got)
	}
}

func TestUserWhoLosesMultiWhileBerthRunsIsToldSoNextTime(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	node.Do(t, "ACL", "SETUSER", "u", "on", ">pw", "~*", "+@all")
	b := startBerth(t, node.Addr())
	c := dial(t, b.Addr())
	c.Do("AUTH", "u", "pw")
	pipelined(c, "MULTI", "SET k 1", "EXEC")
	node.Do(t, "ACL", "SETUSER", "u", "-multi")
	if got := pipelined(c, "MULTI", "SET k 2", "EXEC"); !refusedFor(got[2], "ERR EXEC without MULTI") {
		t.Fatalf("EXEC: %v", got[2])
	}
	if got := c.Do("MULTI"); !refusedFor(got, "NOPERM") {
		t.Fatalf("the next MULTI: %v", got)
	}
}
