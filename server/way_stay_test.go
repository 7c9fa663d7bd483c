package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/backend/redistest"
)

// pipelined sends all requests, words separated by blanks, in one write and returns their replies.
func pipelined(c *redistest.Conn, requests ...string) []any {
	var b []byte
	for _, r := range requests {
		b = append(b, redistest.Command(strings.Fields(r))...)
	}
	c.Write(b)
	replies := make([]any, len(requests))
	for i := range replies {
		replies[i] = c.Recv()
	}
	return replies
}

// exclusiveCounts are the connections of all pools of a berth.
func exclusiveCounts(b *berthServer) (idle, leased int) {
	b.srv.pools.Each(func(_, _ string, p *pool.Pool) {
		st := p.Stats()
		idle, leased = idle+st.Idle, leased+st.Leased
	})
	return idle, leased
}

// The second WATCH is sent before the first EXEC's reply is in; what that reply proves clean is not the second's.
func TestWatchPipelinedBehindExecIsUndoneForTheNextClient(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr(), "--loops", "1")
	pipelined(dial(t, b.Addr()), "WATCH k", "MULTI", "SET k 1", "EXEC", "WATCH k", "UNWATCH")
	eventually(t, "the lease to be idle", func() bool {
		idle, leased := exclusiveCounts(b)
		return idle == 1 && leased == 0
	})
	node.Do(t, "SET", "k", "2")
	got := pipelined(dial(t, b.Addr()), "WATCH other", "MULTI", "SET other 1", "EXEC")
	if exec, _ := got[3].([]any); len(exec) != 1 {
		t.Fatalf("a transaction whose keys nobody touched: %v", got)
	}
}

// Redis forgets the first key at UNWATCH, so must the lease that carries both.
func TestUnwatchInAPipelineEndsTheFirstWatch(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr())
	c := dial(t, b.Addr())
	pipelined(c, "WATCH first", "UNWATCH", "WATCH second")
	node.Do(t, "SET", "first", "x")
	got := pipelined(c, "MULTI", "SET second 1", "EXEC")
	if exec, _ := got[2].([]any); len(exec) != 1 {
		t.Fatalf("EXEC: %v", got[2])
	}
}

func TestConnectionKeptWithThePoolOffIsSilentWhileUnused(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr(), "--private_conn_pool_enabled", "0")
	c := dial(t, b.Addr())
	for range 3 {
		if got := c.Do("BLPOP", "nothing", "0.01"); got != nil {
			t.Fatalf("BLPOP: %v", got)
		}
	}
	calls := 0
	if _, rest, ok := strings.Cut(node.Do(t, "INFO", "commandstats").(string), "cmdstat_unwatch:calls="); ok {
		fmt.Sscanf(rest, "%d", &calls)
	}
	if calls > 3 {
		t.Fatalf("%d UNWATCH for 3 BLPOP", calls)
	}
}

// The reply to the WATCH must not be taken for that of the BLPOP behind it.
func TestBlockingCommandPipelinedBehindAWatchHoldsWhatFollows(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr())
	c := dial(t, b.Addr())
	c.WriteString("WATCH k\r\nGET k\r\nBLPOP list 5\r\nMULTI\r\nSET k 1\r\nEXEC\r\nGET k\r\n")
	c.Recv()
	c.Recv()
	eventually(t, "the client to block", func() bool {
		return strings.Contains(node.Do(t, "INFO", "clients").(string), "blocked_clients:1\r\n")
	})
	node.Do(t, "RPUSH", "list", "x")
	var got []any
	for range 5 {
		got = append(got, c.Recv())
	}
	if fmt.Sprint(got) != "[[list x] OK QUEUED [OK] 1]" {
		t.Fatal(got)
	}
}

// What was watched is gone with the connection. A blocking command still gets one, and EXEC still says nil.
func TestBlockingCommandAfterALostWatchGetsAConnection(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr())
	c := dial(t, b.Addr())
	pipelined(c, "SET k 0", "WATCH k")
	node.Do(t, "CLIENT", "KILL", "TYPE", "normal")
	eventually(t, "the lease to be lost", func() bool {
		_, leased := exclusiveCounts(b)
		return leased == 0
	})
	node.Do(t, "RPUSH", "list", "x")
	if got := c.Do("BLPOP", "list", "1"); fmt.Sprint(got) != "[list x]" {
		t.Fatalf("BLPOP: %v", got)
	}
	if got := pipelined(c, "MULTI", "SET k 1", "EXEC", "GET k"); got[2] != nil || got[3] != "0" {
		t.Fatalf("EXEC: %v", got)
	}
	if got := pipelined(c, "WATCH k", "MULTI", "SET k 2", "EXEC", "GET k"); got[4] != "2" {
		t.Fatalf("the next transaction: %v", got)
	}
}

func TestAStayMovesAlongItsDrawingOnly(t *testing.T) {
	for from := stayNew; from <= stayEnded; from++ {
		for to := stayNew; to <= stayEnded; to++ {
			moved := func() (ok bool) {
				defer func() { ok = recover() == nil }()
				st := stay{state: from}
				st.move(to)
				return st.state == to
			}()
			if moved != slices.Contains(stayMoves[from], to) {
				t.Errorf("from %d to %d: moved %v", from, to, moved)
			}
		}
	}
	if len(stayMoves[stayEnded]) != 0 {
		t.Error("a stay that has ended goes on")
	}
}
