package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/server/telemetry"
)

// A berth that has reached no node says so, and why, to each command that needs one. HELLO is answered:
// client libraries begin with it.
func TestBerthThatHasReachedNoNodeSaysWhy(t *testing.T) {
	parallel(t)
	for _, backend := range []string{"redis://127.0.0.1:1", "redis://127.0.0.1:1,127.0.0.1:2", "sentinel://127.0.0.1:1/mymaster"} {
		c := dial(t, startBerth(t, backend).Addr())
		for _, line := range []string{"PING", "GET a", "MGET a b", "DBSIZE", "SCAN 0", "EVAL return 0", "SUBSCRIBE x", "BLPOP a 1", "AUTH x",
			"ECHO x", "INFO", "MULTI", "WATCH a", "SELECT 0", "CLIENT ID", "PROXY STATS", "ACL SETUSER x", "CONFIG SET maxmemory 1"} {
			got := fmt.Sprint(c.Do(anys(strings.Fields(line))...))
			if !strings.HasPrefix(got, "TRYAGAIN berth: no node was reached yet (") || !strings.Contains(got, "127.0.0.1:1: connection refused") ||
				!strings.HasSuffix(got, "), command not executed") {
				t.Errorf("%s: %s: %s", backend, line, got)
			}
		}
		if got := fmt.Sprint(c.Do("HELLO", "3")); !strings.Contains(got, "server redis") || !strings.Contains(got, "version 7.0.15") {
			t.Errorf("%s: HELLO: %s", backend, got)
		}
	}
}

// One that is asked by another berth is called what it is: reasons do not stand in each other.
func TestBerthBeforeABerthWithoutNodesSaysSo(t *testing.T) {
	parallel(t)
	behind := startBerth(t, "redis://127.0.0.1:1")
	c := dial(t, startBerth(t, behind.Addr()).Addr())
	want := redistest.Error("TRYAGAIN berth: no node was reached yet (" + behind.Addr() + " is a berth that has reached no node itself), command not executed")
	if got := c.Do("GET", "a"); got != want {
		t.Errorf("got %v", got)
	}
}

// The version is the nodes', or there is none.
func TestInfoMakesUpNoVersion(t *testing.T) {
	parallel(t)
	snap := startBerth(t, sharedNode(t).Addr()).srv.look(0)
	snap.Berth.RedisVersion, snap.Berth.Server = "", nil
	wanted := telemetry.ReadSections([][]byte{[]byte("server")})
	if got := snap.Info(wanted, &telemetry.NodesSaid{}); strings.Contains(got, "redis_version") || !strings.Contains(got, "berth_version") {
		t.Errorf("no node says its version: %s", got)
	}
	said := &telemetry.NodesSaid{}
	said.Take("# Server\r\nredis_version:6.2.1\r\n")
	if got := snap.Info(wanted, said); !strings.Contains(got, "\r\nredis_version:6.2.1\r\n") {
		t.Errorf("the node says its version to the client: %s", got)
	}
}
