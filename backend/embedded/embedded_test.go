package embedded

import (
	"bytes"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/nodes"
	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
)

const embeddedPatience = 10 * time.Second

func embed(t *testing.T) (*nodes.Nodes, []*redistest.Conn) {
	t.Helper()
	_, n, conns := embedServers(t)
	return n, conns
}

func embedServers(t *testing.T) (*embedded, *nodes.Nodes, []*redistest.Conn) {
	t.Helper()
	t.Cleanup(func() {
		redistest.Eventually(t, embeddedPatience, "goroutines to end", func() bool {
			stacks := make([]byte, 1<<20)
			return !bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte(".(*embedded)"))
		})
	})
	e, err := startServers(3)
	if err != nil {
		t.Fatal(err)
	}
	n := e.nodes()
	t.Cleanup(n.Close) // a second time in some tests
	var conns []*redistest.Conn
	for _, s := range n.Topology().Shards() {
		conns = append(conns, redistest.Dial(t, s.Primary))
	}
	return e, n, conns
}

func TestEmbeddedBackendIsThreeShardsThatServeEverySlot(t *testing.T) {
	n, _ := embed(t)
	if got := n.Describe(); got != "embedded try-out of 3 shards, not a store" {
		t.Error(got)
	}
	if n.Topology().Served() != router.Slots || len(n.Topology().Shards()) != 3 || n.Info().Kind != nodes.Embedded || !n.Ready() {
		t.Errorf("%s, %+v", n.Topology(), *n.Info())
	}
	before := n.Topology()
	n.Refresh()
	if n.Topology() != before {
		t.Error("the embedded topology changed")
	}
}

func TestEmbeddedBackendRunsTransactionsAndBlocks(t *testing.T) {
	n, conns := embed(t)
	c := conns[0]
	for _, step := range []struct {
		args []any
		want any
	}{
		{[]any{"SET", "k", "1"}, "OK"},
		{[]any{"GET", "k"}, "1"},
		{[]any{"WATCH", "k"}, "OK"},
		{[]any{"MULTI"}, "OK"},
		{[]any{"INCR", "k"}, "QUEUED"},
		{[]any{"EXEC"}, []any{int64(2)}},
		{[]any{"BLPOP", "l", "0.05"}, nil},
	} {
		if got := c.Do(step.args...); !reflect.DeepEqual(got, step.want) {
			t.Errorf("%v: %v, want %v", step.args, got, step.want)
		}
	}
	c.Send("BLPOP", "l", "0")
	if got := redistest.Dial(t, n.Topology().Shards()[0].Primary).Do("RPUSH", "l", "x"); got != int64(1) {
		t.Errorf("RPUSH: %v", got)
	}
	if got := c.Recv(); !reflect.DeepEqual(got, []any{"l", "x"}) {
		t.Errorf("BLPOP: %v", got)
	}
}

func TestEmbeddedBackendLetsTimePass(t *testing.T) {
	_, conns := embed(t)
	c := conns[1]
	c.Do("SET", "long", "v", "PX", "60000")
	begin := time.Now()
	c.Do("SET", "short", "v", "PX", "100")
	redistest.Eventually(t, embeddedPatience, "the key to expire", func() bool { return c.Do("GET", "short") == nil })
	if lived := time.Since(begin); lived < 80*time.Millisecond {
		t.Errorf("a key of 100 ms lived %s", lived)
	}
	passed := time.Since(begin).Milliseconds()
	if left := c.Do("PTTL", "long").(int64); left > 60000-50 || left < 60000-passed-100 {
		t.Errorf("%d ms are left of 60000 after %d", left, passed)
	}
}

func TestEmbeddedBackendPublishesOnAllShards(t *testing.T) {
	n, conns := embed(t)
	var subscribers []*redistest.Conn
	for _, s := range n.Topology().Shards() {
		c := redistest.Dial(t, s.Primary)
		c.Do("SUBSCRIBE", "news")
		subscribers = append(subscribers, c)
	}
	var want []string
	for i, c := range conns {
		for j := range 3 {
			want = append(want, fmt.Sprintf("%d.%d", i, j))
			if got := c.Do("PUBLISH", "news", want[len(want)-1]); got != int64(1) {
				t.Errorf("PUBLISH: %v", got)
			}
		}
		// What a transaction publishes is delivered when it is executed, not before, and not when
		// it is discarded.
		c.Do("MULTI")
		c.Do("PUBLISH", "news", "discarded")
		c.Do("DISCARD")
		c.Do("MULTI")
		c.Do("PUBLISH", "news", fmt.Sprintf("%d.txn", i))
		want = append(want, fmt.Sprintf("%d.between", i), fmt.Sprintf("%d.txn", i))
		redistest.Dial(t, n.Topology().Shards()[i].Primary).Do("PUBLISH", "news", fmt.Sprintf("%d.between", i))
		c.Do("EXEC")
		for shard, s := range subscribers {
			for _, w := range want {
				if got := s.Recv(); !reflect.DeepEqual(got, []any{"message", "news", w}) {
					t.Fatalf("subscriber on shard %d got %v, want %s", shard, got, w)
				}
			}
		}
		want = nil
	}
}

func TestEmbeddedBackendClosesUnderAClientThatBlocks(t *testing.T) {
	e, n, conns := embedServers(t)
	shard := e.shards[0]
	before := shard.CommandCount()
	conns[0].Send("BLPOP", "l", "0")
	redistest.Eventually(t, embeddedPatience, "BLPOP to arrive", func() bool { return shard.CommandCount() > before })
	closesInTime(t, n)
}

func TestEmbeddedBackendClosesUnderASubscriberThatDoesNotRead(t *testing.T) {
	n, conns := embed(t)
	conns[0].Send("SUBSCRIBE", "news")
	publisher := redistest.Dial(t, n.Topology().Shards()[0].Primary)
	publisher.SetTimeout(200 * time.Millisecond)
	message := strings.Repeat("x", 1<<20)
	for blocked := false; !blocked; { // when the sockets' buffers are full, miniredis blocks
		_, err := publisher.TryDo("PUBLISH", "news", message)
		blocked = err != nil
	}
	closesInTime(t, n)
}

func closesInTime(t *testing.T, n *nodes.Nodes) {
	t.Helper()
	closed := make(chan struct{})
	go func() {
		n.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(embeddedPatience):
		t.Fatal("Close hangs")
	}
}
