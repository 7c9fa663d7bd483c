package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// sliceTurns is how many turns berth's loops have made for work in slices.
func (b *berthServer) sliceTurns() (n int) {
	for _, l := range b.srv.eachLoop() {
		turns := make(chan int)
		l.Post(func() { turns <- l.slicing.turns })
		n += <-turns
	}
	return n
}

// manyKeys are so many keys, over all slots.
func manyKeys(prefix string, n int) (keys []any) {
	for i := range n {
		keys = append(keys, fmt.Sprintf("%s:%d", prefix, i))
	}
	return keys
}

func TestRequestsWithVeryManyKeysAreMadeInSlices(t *testing.T) {
	b := startBerth(t, clusterURL(sharedCluster(t)), "--loops", "1")
	c := dial(t, b.Addr())
	const n = 5*sliceKeys + 3
	keys := manyKeys(unique("many"), n)
	mset, mget := []any{"MSET"}, append([]any{"MGET"}, keys...)
	for i, k := range keys {
		mset = append(mset, k, fmt.Sprint("v", i))
	}
	atLeast := func(what string, before, slices int) {
		t.Helper()
		if made := b.sliceTurns() - before; made < slices {
			t.Errorf("%s was made in %d turns, want at least %d", what, made, slices)
		}
	}
	before := b.sliceTurns()
	c.Send(mset...)
	c.Send("ECHO", "behind")
	if got := c.Recv(); got != "OK" {
		t.Fatalf("MSET: %.100v", got)
	}
	if got := c.Recv(); got != "behind" {
		t.Fatalf("ECHO: %.100v", got)
	}
	atLeast("MSET", before, 5)
	before = b.sliceTurns()
	c.Send(mget...)
	c.Send("GET", keys[7])
	values, _ := c.Recv().([]any)
	if len(values) != n {
		t.Fatalf("MGET: %d values", len(values))
	}
	for i, v := range values {
		if v != fmt.Sprint("v", i) {
			t.Fatalf("MGET: value %d is %.100v", i, v)
		}
	}
	if got := c.Recv(); got != "v7" {
		t.Fatalf("GET: %.100v", got)
	}
	atLeast("MGET", before, 3*5)
	if got := c.Do(append([]any{"DEL"}, keys...)...); got != int64(n) {
		t.Fatalf("DEL: %.100v", got)
	}
}

func TestClientThatLeavesWithinASlicedRequestLeavesNothing(t *testing.T) {
	b := startBerth(t, clusterURL(sharedCluster(t)), "--loops", "1")
	defer startBystander(t, b.Addr()).end()
	keys := manyKeys(unique("many"), 3*sliceKeys)
	for _, name := range []string{"MGET", "DEL"} {
		before := b.srv.clients.Load()
		c := dial(t, b.Addr())
		b.feed(c, string(redistest.Command(append([]any{name}, keys...)...)))
		c.Reset()
		b.awaitClients(t, before)
		if got := dial(t, b.Addr()).Do(append([]any{"EXISTS"}, keys[:100]...)...); got != int64(0) {
			t.Fatalf("%s: EXISTS: %v", name, got)
		}
	}
	eventually(t, "no job to be left", func() bool {
		for _, l := range b.srv.eachLoop() {
			left := make(chan int)
			l.Post(func() { left <- len(l.slicing.jobs) + len(l.slicing.sessions) })
			if <-left > 0 {
				return false
			}
		}
		return true
	})
}

// A pipeline that waited in a client's input is not taken at one go, and every request of it is
// answered once.
func TestLongPipelineIsTakenInSlices(t *testing.T) {
	node := redistest.Start(t, "--hz", "100")
	b := startBerth(t, node.Addr(), "--loops", "1", "--client-pipeline-limit", "1000000")
	const n = 20 * sliceWork / workPerRequest
	c := dial(t, b.Addr())
	c.Send("BLPOP", "list", "0")
	awaitBlocked(t, node, 1)
	go c.TryWrite([]byte(strings.Repeat(pipeline("ECHO x"), n)))
	before := b.sliceTurns()
	dial(t, node.Addr()).Do("RPUSH", "list", "x")
	c.Recv()
	for i := range n {
		if got := c.Recv(); got != "x" {
			t.Fatalf("reply %d: %v", i, got)
		}
	}
	if made := b.sliceTurns() - before; made < 20 {
		t.Errorf("taken in %d turns, want at least 20", made)
	}
}
