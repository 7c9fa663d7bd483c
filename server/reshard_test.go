package main

import (
	"fmt"
	"os/exec"
	"strings"
	"sync/atomic"
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
	parallel(t)
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
	parallel(t)
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
	parallel(t)
	_, b, move := movedSlot(t, "k", "--loops", "1")
	c, other := dial(t, b.Addr()), dial(t, b.Addr())
	pipelined(c, "SET {k}a 0", "WATCH {k}a")
	move()
	c.Send("BLPOP", "{k}list", "0")
	eventually(t, "the slot's new owner to be known", func() bool { return b.redirected() > 0 })
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
	parallel(t)
	c, b, move := movedSlot(t, "k", "--private-conn-pool-max-total", "1", "--pool-wait-timeout", "8000")
	to := c.Node(1 - c.Owner(int(router.Slot([]byte("k")))))
	client := dial(t, b.Addr())
	pipelined(client, "SET k 0")
	move()
	release := takeOnlyLease(t, c, b, to)
	client.Send("WATCH", "k")
	eventually(t, "the WATCH to have been redirected", func() bool { return b.redirected() > 0 })
	client.WriteString("MULTI\r\nSET k 1\r\nEXEC\r\nWATCH k\r\nUNWATCH\r\nGET k\r\n")
	release()
	var got []any
	for range 7 {
		got = append(got, client.Recv())
	}
	if fmt.Sprint(got) != "[OK OK QUEUED [OK] OK OK 1]" {
		t.Fatal(got)
	}
}

// inOrder pipelines writes to one key with a read behind each, which must see the write before it.
func (s *soak) inOrder(c *loadClient, i, round int) error {
	const writes = 10
	key := fmt.Sprint("order:", s.tag, i)
	for n := range writes {
		c.add("SET", key, fmt.Sprint(key, " ", round, " ", n))
		c.add("GET", key)
	}
	if err := c.flush(); err != nil {
		return err
	}
	for n := range writes {
		set, err := c.read()
		if err != nil {
			return err
		}
		get, err := c.read()
		if err != nil {
			return err
		}
		if want := fmt.Sprint(key, " ", round, " ", n); set.text != "OK" || get.text != want {
			s.wrong.add("SET, GET %s: %v, %v instead of %s", key, set, get, want)
		}
	}
	s.requests.Add(2 * writes)
	s.pause(time.Millisecond)
	return nil
}

// pair writes two keys of one slot in one transaction, and reads them in another. While some keys of a slot have moved
// and others have not, Redis refuses with TRYAGAIN; nothing else may happen, and never half.
func (s *soak) pair(refused *atomic.Int64) func(c *loadClient, i, round int) error {
	return func(c *loadClient, i, round int) error {
		x, y := fmt.Sprint("x:", s.tag, i), fmt.Sprint("y:", s.tag, i)
		value := fmt.Sprint(i, " ", round)
		for _, words := range [][]string{{"MULTI"}, {"SET", x, value}, {"SET", y, value}, {"EXEC"},
			{"MULTI"}, {"GET", x}, {"GET", y}, {"EXEC"}} {
			c.add(words...)
		}
		if err := c.flush(); err != nil {
			return err
		}
		var got [8]loadReply
		for k := range got {
			var err error
			if got[k], err = c.read(); err != nil {
				return err
			}
		}
		s.requests.Add(8)
		write, read := got[3], got[7]
		switch {
		case write.isError("TRYAGAIN"):
			refused.Add(1)
		case write.String() != "[OK OK]":
			s.wrong.add("EXEC of two writes: %v", got)
		}
		switch {
		case read.isError("TRYAGAIN"):
			refused.Add(1)
		case read.kind != '*' || len(read.elems) != 2 || read.elems[0].String() != read.elems[1].String():
			s.wrong.add("half a transaction: %v", got)
		case write.kind == '*' && read.elems[0].text != value:
			s.wrong.add("EXEC of two reads behind writes of %s: %v", value, got)
		}
		s.pause(time.Millisecond)
		return nil
	}
}

func TestSlotMovedUnderLoadCostsNoErrorAndNoOrder(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 3, 0)
	b := startLoaded(t, clusterURL(cluster))
	s := newSoak(t, b.Addr())
	s.tag = "{moving}"
	var refused atomic.Int64
	s.start(sized(20, 200), "order", s.inOrder)
	s.start(sized(10, 100), "pair", s.pair(&refused))
	s.start(sized(10, 100), "swap", s.swap)
	s.start(sized(10, 100), "pop", s.pop)
	s.start(5, "push", s.push)
	s.start(sized(20, 100), "plain", s.plain)

	slot := int(router.Slot([]byte("moving")))
	from := cluster.Owner(slot)
	moves := sized(6, 20)
	var longest time.Duration
	for range moves {
		to := (from + 1) % 3
		begin := time.Now()
		cluster.StartMove(t, slot, from, to)
		s.pause(20 * time.Millisecond)
		cluster.MigrateKeys(t, slot, from, to)
		s.pause(20 * time.Millisecond)
		cluster.MigrateKeys(t, slot, from, to) // none should have come since
		cluster.FinishMove(t, slot, from, to)
		longest = max(longest, time.Since(begin))
		from = to
		s.pause(50 * time.Millisecond)
	}
	s.popAll()
	s.end()
	s.check(dial(t, b.Addr()))
	var swapped int64
	for i := range s.swapped {
		swapped += s.swapped[i].Load()
	}
	m := b.metrics()
	figure(t, "a slot moved %d times under load (%s at most): %d requests, errors or wrong replies %d, %d transactions of two keys refused with TRYAGAIN, "+
		"compare and swap %d through %d in conflict, %d popped; redirects followed: MOVED %.0f, ASK %.0f",
		moves, longest.Round(time.Millisecond), s.requests.Load(), s.wrong.count.Load(), refused.Load(), swapped, s.conflicts.Load(), s.pops.Load(),
		sum(m, "berth_redirects_total", "moved"), sum(m, "berth_redirects_total", "ask"))
}

func TestReshardByRedisCliUnderLoadCostsNoError(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 3, 0)
	b := startLoaded(t, clusterURL(cluster))
	s := newSoak(t, b.Addr())
	s.tag = tagOn(cluster, 0)
	k := newBookkeeper(t, b.Addr(), cluster, -1)
	s.start(sized(20, 200), "order", s.inOrder)
	s.start(sized(20, 200), "plain", s.plain)
	s.start(sized(10, 100), "swap", s.swap)
	s.start(sized(10, 100), "pop", s.pop)
	s.start(5, "push", s.push)
	k.keep(sized(20, 100))
	k.awaitServed(0)
	begin := time.Now()
	slots := sized(200, 600)
	for from := range 3 {
		cli := exec.Command("redis-cli", "--cluster", "reshard", cluster.Node(0).Addr(), "--cluster-from", cluster.ID(from),
			"--cluster-to", cluster.ID((from+1)%3), "--cluster-slots", fmt.Sprint(slots), "--cluster-yes")
		if out, err := cli.CombinedOutput(); err != nil {
			t.Fatalf("redis-cli --cluster reshard: %v\n%s", err, out)
		}
	}
	took := time.Since(begin)
	s.popAll()
	s.end()
	k.end()
	s.check(dial(t, b.Addr()))
	k.check(dial(t, b.Addr()))
	if n := k.unknown.Load() + k.refused.Load(); n > 0 {
		t.Errorf("%d errors: %v", n, k.words)
	}
	m := b.metrics()
	if sum(m, "berth_redirects_total") == 0 {
		t.Error("no request was redirected: nothing was tested")
	}
	figure(t, "redis-cli moved %d slots in %s under load: %d requests, errors or wrong replies %d; redirects followed: MOVED %.0f, ASK %.0f",
		3*slots, took.Round(time.Millisecond), s.requests.Load()+k.acked.Load(), s.wrong.count.Load(),
		sum(m, "berth_redirects_total", "moved"), sum(m, "berth_redirects_total", "ask"))
}

// However often its slot moves, a client waits as long as it asked for, and is not told of any of it.
func TestBlockedClientWhoseSlotMovesAgainAndAgainWaitsNoLonger(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 2, 0)
	b := startBerth(t, clusterURL(cluster))
	slot := int(router.Slot([]byte("k")))
	from := cluster.Owner(slot)
	for _, request := range []string{"BLPOP {k}nothing 4", "XREAD BLOCK 4000 STREAMS {k}nothing $"} {
		c, forever := dial(t, b.Addr()), dial(t, b.Addr())
		answered := make(chan time.Time, 1)
		begin := time.Now()
		c.Send(strings.Fields(request))
		go func() {
			if got, err := c.TryRecv(); got != nil || err != nil {
				t.Errorf("%s: %v, %v", request, got, err)
			}
			answered <- time.Now()
		}()
		forever.Send("BRPOP", "{k}list", "0")
		var moved time.Time
		for moves := 0; len(answered) == 0 && (moves < 8 || time.Since(begin) < 2500*time.Millisecond); moves++ {
			eventually(t, "the clients to block at the slot's owner", func() bool {
				return strings.Contains(cluster.Node(from).Do(t, "INFO", "clients").(string), "blocked_clients:2\r\n") ||
					len(answered) > 0
			})
			cluster.MoveSlot(t, slot, from, 1-from)
			from = 1 - from
			moved = time.Now()
		}
		at := <-answered
		if at.Sub(begin) < 3900*time.Millisecond || at.Sub(moved) > 3500*time.Millisecond {
			t.Errorf("%s took %s, and %s of it after the last move", request, at.Sub(begin), at.Sub(moved))
		}
		c.Do("RPUSH", "{k}list", "x")
		if got := forever.Recv(); fmt.Sprint(got) != "[{k}list x]" {
			t.Errorf("BRPOP without a timeout: %v", got)
		}
	}
}

// keyAt returns a key, one of many with this prefix, of a slot that the node serves.
func keyAt(c *redistest.Cluster, node *redistest.Server, prefix string) (key string) {
	for i := 0; key == "" || c.Node(c.Owner(int(router.Slot([]byte(key))))) != node; i++ {
		key = fmt.Sprint(prefix, i)
	}
	return key
}

// takeOnlyLease has another client block at a node that bears one lease, until release.
func takeOnlyLease(t *testing.T, c *redistest.Cluster, b *berthServer, node *redistest.Server) (release func()) {
	t.Helper()
	key := keyAt(c, node, "busy")
	busy := dial(t, b.Addr())
	busy.Send("BLPOP", key, "0")
	eventually(t, "the only connection to be taken", func() bool {
		return strings.Contains(node.Do(t, "INFO", "clients").(string), "blocked_clients:1\r\n")
	})
	return func() {
		t.Helper()
		dial(t, b.Addr()).Do("RPUSH", key, "x")
		busy.Recv()
	}
}

// mustReceive compares the next replies with want, which is as fmt prints them.
func mustReceive(t *testing.T, c *redistest.Conn, want string) {
	t.Helper()
	var got []any
	for range strings.Count(want, " ") + 1 {
		got = append(got, c.Recv())
	}
	if fmt.Sprint(got) != want {
		t.Fatalf("got %v, want %s", got, want)
	}
}

// The redirected WATCH waits for a connection, and its client ends it meanwhile.
func TestRedirectedWatchIsAnsweredThoughItsClientHasEndedIt(t *testing.T) {
	parallel(t)
	for text, want := range map[string]string{
		"UNWATCH\r\nMULTI\r\nSET k 1\r\nEXEC\r\nGET k\r\n":                     "[OK OK OK QUEUED [OK] 1]",
		"MULTI\r\nDISCARD\r\nWATCH k\r\nMULTI\r\nSET k 1\r\nEXEC\r\nGET k\r\n": "[OK OK OK OK OK QUEUED [OK] 1]",
		"UNWATCH\r\nBLPOP {k}l 0.001\r\nPING\r\n":                              "[OK OK <nil> PONG]",
	} {
		t.Run(strings.Fields(text)[0], func(t *testing.T) {
			parallel(t)
			c, b, move := movedSlot(t, "k", "--private-conn-pool-max-total", "1")
			to := c.Node(1 - c.Owner(int(router.Slot([]byte("k")))))
			client := dial(t, b.Addr())
			pipelined(client, "MULTI", "DISCARD") // that MULTI is allowed need not be asked again
			move()
			release := takeOnlyLease(t, c, b, to)
			client.Send("WATCH", "k")
			eventually(t, "the WATCH to have been redirected", func() bool { return b.redirected() > 0 })
			b.feed(client, text)
			release()
			mustReceive(t, client, want)
			client.Close()
			eventually(t, "the leases to be given back", func() bool { return b.leases().Leased == 0 })
		})
	}
}

// The slot is on its way: the topology says that it is where it was, and the redirected WATCH waits
// for a connection to the node to which it goes.
func TestCommandsOnALeaseWaitForAWatchThatWasAskedToGoElsewhere(t *testing.T) {
	parallel(t)
	for text, want := range map[string]string{
		"WATCH {k}2\r\nPING\r\n":                        "[OK OK PONG]",
		"BLPOP {k}l 0.001\r\nMULTI\r\nEXEC\r\nPING\r\n": "[OK <nil> OK <nil> PONG]",
	} {
		t.Run(strings.Fields(text)[0], func(t *testing.T) {
			parallel(t)
			c, b, _ := movedSlot(t, "k", "--private-conn-pool-max-total", "1")
			slot := int(router.Slot([]byte("k")))
			from := c.Owner(slot)
			client := dial(t, b.Addr())
			pipelined(client, "MULTI", "DISCARD")
			c.StartMove(t, slot, from, 1-from)
			release := takeOnlyLease(t, c, b, c.Node(1-from))
			client.Send("WATCH", "k")
			eventually(t, "the WATCH to wait", func() bool { return b.leases().Waiting > 0 })
			b.feed(client, text)
			release()
			mustReceive(t, client, want)
		})
	}
}

// invalidates has a client that tracks keys read until it is told to drop a key, or all keys.
func invalidates(t *testing.T, c *redistest.Conn, key string) {
	t.Helper()
	for {
		push, ok := c.Recv().(redistest.Push)
		if ok && len(push) == 2 && (push[1] == nil || fmt.Sprint(push[1]) == "["+key+"]") {
			return
		}
	}
}

func TestTrackingClientWhoseBlockingCommandIsRedirectedKeepsNothingStale(t *testing.T) {
	parallel(t)
	c, b, move := movedSlot(t, "k")
	from := c.Owner(int(router.Slot([]byte("k"))))
	there, here := keyAt(c, c.Node(1-from), "there"), keyAt(c, c.Node(from), "here")
	client, other := dial(t, b.Addr()), dial(t, b.Addr())
	client.Do("HELLO", 3)
	pipelined(client, "CLIENT TRACKING ON", "GET "+there, "GET "+here)
	move()
	client.Send("BLPOP", "{k}l", "0.001")
	other.Do("SET", here, 1)
	invalidates(t, client, here)
	for _, key := range []string{there, here} {
		client.WriteString("GET " + key + "\r\nECHO read\r\n")
		for client.Recv() != "read" {
		}
		other.Do("SET", key, 2)
		invalidates(t, client, key)
	}
	client.Close()
	eventually(t, "the leases to be given back", func() bool { return b.leases().Leased == 0 })
}

func TestWatchRedirectedToANodeWithALeaseOfItsClientLeavesNoneBehind(t *testing.T) {
	parallel(t)
	c, b, move := movedSlot(t, "k", "--private_conn_pool_enabled", "0")
	from := c.Owner(int(router.Slot([]byte("k"))))
	client := dial(t, b.Addr())
	pipelined(client, "BLPOP "+keyAt(c, c.Node(1-from), "there")+" 0.001")
	move()
	script(t, client, "WATCH k → OK", "MULTI → OK", "SET k 1 → QUEUED", "EXEC → [OK]")
	client.Close()
	eventually(t, "the leases to be closed", func() bool { s := b.leases(); return s.Leased+s.Idle == 0 })
}
