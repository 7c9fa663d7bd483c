package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// Closing a session runs inside the loop's own flush of many: whoever else is to be flushed must not be forgotten.
func TestClientsThatQuitInOneBatchDoNotDisturbEachOther(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr(), "--loops", "1")
	const clients = 60
	for round := range 20 {
		conns := make([]*redistest.Conn, clients)
		for i := range conns {
			conns[i] = dial(t, b.Addr())
		}
		for i, c := range conns {
			c.WriteString(fmt.Sprintf("SET leave:%d %d\r\nGET leave:%d\r\n", i, i, i))
			if i%3 != 0 {
				c.WriteString("QUIT\r\n")
			}
		}
		for i, c := range conns {
			if ok, got := c.Recv(), c.Recv(); ok != "OK" || got != fmt.Sprint(i) {
				t.Fatalf("round %d client %d: %v, %v", round, i, ok, got)
			}
			if i%3 != 0 {
				if rest := c.ReadAll(); rest != "+OK\r\n" {
					t.Fatalf("round %d client %d: QUIT: %q", round, i, rest)
				}
			} else if got := c.Do("PING"); got != "PONG" {
				t.Fatalf("round %d client %d: PING: %v", round, i, got)
			}
			c.Close()
		}
	}
}

// A write to a client that has reset its connection fails, and closes the session, while others wait to be written.
func TestClientsThatResetWithRepliesOnTheWayDoNotDisturbOthers(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr(), "--loops", "1")
	value := strings.Repeat("x", 50_000)
	if got := dial(t, b.Addr()).Do("SET", "leave:big", value); got != "OK" {
		t.Fatal(got)
	}
	stays := make([]*redistest.Conn, 20)
	for i := range stays {
		stays[i] = dial(t, b.Addr())
	}
	for round := range 20 {
		leaves := make([]*redistest.Conn, 20)
		for i := range leaves {
			leaves[i] = dial(t, b.Addr())
		}
		for i := range leaves {
			leaves[i].WriteString(strings.Repeat("GET leave:big\r\n", 20))
			stays[i].WriteString(fmt.Sprintf("ECHO %d\r\nGET leave:big\r\nSTRLEN leave:big\r\n", round))
			leaves[i].Reset()
		}
		for i, c := range stays {
			if echo, big, n := c.Recv(), c.Recv(), c.Recv(); echo != fmt.Sprint(round) || big != value || n != int64(len(value)) {
				t.Fatalf("round %d client %d: %v … %v", round, i, echo, n)
			}
		}
	}
}
