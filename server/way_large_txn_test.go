package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/backend/redistest"
)

// A transaction of many megabytes must not stand on a pipe in front of others; on its way it is what any other is.
func TestLargeTransactionTravelsOnALease(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr())
	c := dial(t, b.Addr())
	value := strings.Repeat("v", 400_000)
	for round := range 3 {
		c.Do("MULTI")
		for i := range 5 {
			c.Do("SET", fmt.Sprint("k", i), value)
		}
		c.Do("INCR", "n")
		if got := c.Do("EXEC"); fmt.Sprint(got) != fmt.Sprintf("[OK OK OK OK OK %d]", round+1) {
			t.Fatalf("EXEC: %.100v", got)
		}
		if got := c.Do("GET", "k4"); got != value {
			t.Fatalf("GET: %.100v", got)
		}
	}
	var st pool.Stats
	b.srv.pools.Each(func(_, _ string, p *pool.Pool) { st = p.Stats() })
	if st.Dials != 1 || st.Hits != 2 || st.Leased != 0 {
		t.Errorf("dials %d, hits %d, leased %d, want one connection, used three times", st.Dials, st.Hits, st.Leased)
	}
}

func TestLargeTransactionFollowsItsSlot(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 2, 0)
	b := startBerth(t, clusterURL(cluster))
	c := dial(t, b.Addr())
	key := "k"
	slot := int(c.Do("CLUSTER", "KEYSLOT", key).(int64))
	from := cluster.Owner(slot)
	c.Do("SET", key, "1")
	c.Do("MULTI")
	c.Do("SET", key, strings.Repeat("v", 3<<20))
	cluster.MoveSlot(t, slot, from, 1-from)
	if got := c.Do("EXEC"); fmt.Sprint(got) != "[OK]" {
		t.Fatalf("EXEC: %.100v", got)
	}
	if got := c.Do("STRLEN", key); got != int64(3<<20) {
		t.Fatalf("STRLEN: %v", got)
	}
}
