package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
)

// movedSlot is a cluster of two, a berth that was told of it, and a slot that has moved behind berth's back.
func movedSlot(t *testing.T, tag string, args ...string) (c *redistest.Cluster, b *berthServer, move func()) {
	t.Helper()
	c = redistest.StartCluster(t, 2, 0)
	b = startBerth(t, clusterURL(c), args...)
	slot := int(router.Slot([]byte(tag)))
	from := c.Owner(slot)
	return c, b, func() {
		t.Helper()
		c.MoveSlot(t, slot, from, 1-from)
	}
}

func TestTransactionPipelinedIntoAMovedSlotIsAnsweredInOrder(t *testing.T) {
	_, b, move := movedSlot(t, "k")
	c := dial(t, b.Addr())
	pipelined(c, "SET k 0")
	move()
	got := pipelined(c, "WATCH k", "GET k", "MULTI", "SET k 1", "EXEC", "PING")
	switch fmt.Sprint(got) {
	case "[OK 0 OK QUEUED [OK] PONG]", "[OK 0 OK QUEUED <nil> PONG]":
	default:
		t.Fatal(got)
	}
	eventually(t, "a transaction to go through", func() bool {
		got := pipelined(c, "WATCH k", "GET k", "MULTI", "SET k 2", "EXEC", "GET k")
		return fmt.Sprint(got[4:]) == "[[OK] 2]"
	})
}

func TestSecondWatchAfterAMoveLeavesSharedConnectionsClean(t *testing.T) {
	_, b, move := movedSlot(t, "k", "--loops", "1")
	c := dial(t, b.Addr())
	pipelined(c, "SET {k}a 0", "WATCH {k}a")
	move()
	got := pipelined(c, "WATCH {k}b", "MULTI", "SET {k}a 1", "EXEC", "GET {k}a")
	if fmt.Sprint(got) != "[OK OK QUEUED <nil> 0]" {
		t.Fatal(got)
	}
	other := dial(t, b.Addr())
	pipelined(other, "SET {k}a x", "SET {k}b x")
	if got := pipelined(other, "MULTI", "SET {k}b y", "EXEC"); fmt.Sprint(got[2]) != "[OK]" {
		t.Fatalf("another client's transaction: %v", got)
	}
}

func TestBlockingCommandAfterAWatchThatMovedBlocksNobodyElse(t *testing.T) {
	_, b, move := movedSlot(t, "k", "--loops", "1")
	c, other := dial(t, b.Addr()), dial(t, b.Addr())
	pipelined(c, "SET {k}a 0", "WATCH {k}a")
	move()
	c.Send("BLPOP", "{k}list", "0")
	eventually(t, "the slot's new owner to be known", func() bool { return b.srv.nodes.Stats().Moved > 0 })
	other.SetTimeout(3 * time.Second)
	if got := pipelined(other, "GET {k}a", "RPUSH {k}list x"); fmt.Sprint(got) != "[0 1]" {
		t.Fatal(got)
	}
	if got := c.Recv(); fmt.Sprint(got) != "[{k}list x]" {
		t.Fatalf("BLPOP: %v", got)
	}
	if got := pipelined(c, "MULTI", "SET {k}a 1", "EXEC", "GET {k}a"); fmt.Sprint(got[2:]) != "[<nil> 0]" {
		t.Fatalf("EXEC after the watched key's connection was given up: %v", got)
	}
}

// The redirected WATCH has to wait for a connection; the client does not know and goes on.
func TestTransactionGoesOnWhileItsRedirectedWatchWaitsForAConnection(t *testing.T) {
	c, b, move := movedSlot(t, "k", "--private-conn-pool-max-total", "1", "--pool-wait-timeout", "8000")
	to := c.Node(1 - c.Owner(int(router.Slot([]byte("k")))))
	var busyKey string // of a slot that the new owner has had before
	for i := 0; busyKey == "" || c.Node(c.Owner(int(router.Slot([]byte(busyKey))))) != to; i++ {
		busyKey = fmt.Sprint("busy", i)
	}
	client, busy := dial(t, b.Addr()), dial(t, b.Addr())
	pipelined(client, "SET k 0")
	move()
	busy.Send("BLPOP", busyKey, "0")
	eventually(t, "the only connection to be taken", func() bool {
		return strings.Contains(to.Do(t, "INFO", "clients").(string), "blocked_clients:1\r\n")
	})
	client.Send("WATCH", "k")
	eventually(t, "the WATCH to have been redirected", func() bool { return b.srv.nodes.Stats().Moved > 0 })
	client.WriteString("MULTI\r\nSET k 1\r\nEXEC\r\nWATCH k\r\nUNWATCH\r\nGET k\r\n")
	dial(t, b.Addr()).Do("RPUSH", busyKey, "x")
	busy.Recv()
	var got []any
	for range 7 {
		got = append(got, client.Recv())
	}
	if fmt.Sprint(got) != "[OK OK QUEUED [OK] OK OK 1]" {
		t.Fatal(got)
	}
}
