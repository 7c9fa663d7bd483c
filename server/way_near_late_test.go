package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/server/near"
)

// lateNear is a berth that keeps every read, and hears late of what has changed: the node's word of that can be held back, and
// so can all that comes after it by the same connection.
type lateNear struct {
	*berthServer
	node   *redistest.Server
	cable  *link
	direct *redistest.Conn
}

func startLateNear(t *testing.T) *lateNear {
	t.Helper()
	node := redistest.Start(t)
	cable := startLink(t, node.Addr())
	return &lateNear{startNear(t, cable.addr), node, cable, dial(t, node.Addr())}
}

func isWord(reply string) bool { return reply[0] == '>' }

// has sets k to "old", and other keys, and has berth keep what they are.
func (b *lateNear) has(c *redistest.Conn) {
	b.t.Helper()
	b.cable.release()
	b.direct.Do("FLUSHALL")
	b.direct.Do("MSET", "k", "old", "x", "x")
	b.warm(c, "GET", "k")
	b.warm(c, "GET", "x")
}

// feedAll sends requests in one go.
func (b *lateNear) feedAll(c *redistest.Conn, requests ...string) {
	b.t.Helper()
	var all []byte
	for _, request := range requests {
		all = append(all, redistest.Command(strings.Fields(request))...)
	}
	b.feed(c, string(all))
}

// askLate has berth take requests that are sent in one go, then releases what is held, and returns the last reply.
func (b *lateNear) askLate(c *redistest.Conn, requests ...string) (last string) {
	b.t.Helper()
	b.feedAll(c, requests...)
	b.cable.release()
	for range requests {
		last = fmt.Sprint(c.Recv())
	}
	return last
}

// runs is how often the node has run a command.
func runs(t testing.TB, node *redistest.Server, command string) string {
	t.Helper()
	_, rest, _ := strings.Cut(fmt.Sprint(node.Do(t, "INFO", "commandstats")), "cmdstat_"+command+":calls=")
	n, _, _ := strings.Cut(rest, ",")
	return n
}

// Whoever has read or written anything after a change reads what is new, though the word of the change is under way.
func TestReadsAreNotOlderThanWhatTheClientHasSeen(t *testing.T) {
	parallel(t)
	b := startLateNear(t)
	c := dial(t, b.Addr())
	for _, seen := range []string{
		"EVAL redis.call('get',KEYS[1]) 1 k", "EVAL redis.call('get','k') 0", "BITFIELD_RO k GET u8 0", "LCS k x", "TOUCH k", "TOUCH cold k", "OBJECT ENCODING k", "DUMP k", "EXPIRETIME k",
		"EXISTS k cold", "SINTERCARD 1 none", "DBSIZE", "RANDOMKEY", "MULTI|GET k|EXEC", "WATCH k|UNWATCH", "PFCOUNT none", "BLPOP none 0.001", "SET k newer KEEPTTL",
	} {
		for _, read := range []string{"GET k", "MGET k x"} {
			want := map[string]string{"GET k": "newer", "MGET k x": "[newer x]"}[read]
			b.has(c)
			b.cable.holdFrom(isWord)
			b.direct.Do("SET", "k", "newer")
			for _, request := range strings.Split(seen, "|") {
				c.Do(strings.Fields(request))
			}
			if got := b.askLate(c, read); got != want {
				t.Errorf("%s after %s: %s", read, seen, got)
			}
			b.has(c)
			b.cable.holdFrom(isWord)
			b.direct.Do("SET", "k", "newer")
			if got := b.askLate(c, append(strings.Split(seen, "|"), read)...); got != want {
				t.Errorf("%s in one go after %s: %s", read, seen, got)
			}
		}
	}
	b.restsWell()
}

// What is kept is older than a reply that the client waits for.
func TestReadsAreNotOlderThanWhatIsFetched(t *testing.T) {
	parallel(t)
	b := startLateNear(t)
	c := dial(t, b.Addr())
	for _, before := range []string{"STRLEN k", "STRLEN k|STRLEN x", "STRLEN x|STRLEN k", "MGET k cold", "MGET cold k", "MGET k cold|STRLEN x"} {
		for read, want := range map[string]string{"GET k": "newer", "MGET k x": "[newer x]"} {
			b.has(c)
			b.cable.holdFrom(isWord)
			b.direct.Do("SET", "k", "newer")
			if got := b.askLate(c, append(strings.Split(before, "|"), read)...); got != want {
				t.Errorf("%s after %s: %s", read, before, got)
			}
		}
	}
	b.restsWell()
}

// A fetch is for those who have seen nothing since it was sent, and wait for none that was sent later.
func TestFetchesAreSharedByThoseForWhomTheyAreNewEnough(t *testing.T) {
	parallel(t)
	b := startLateNear(t)
	c, first := dial(t, b.Addr()), dial(t, b.Addr())
	for _, seen := range []string{"EVAL redis.call('get','k') 0", ""} {
		b.has(c)
		b.cable.holdFrom(func(reply string) bool { return isWord(reply) || reply == "$2\r\nol\r\n" })
		before := runs(t, b.node, "getrange")
		b.feed(first, "GETRANGE k 0 1\r\n")
		eventually(t, "the node to run it", func() bool { return runs(t, b.node, "getrange") != before })
		b.direct.Do("SET", "k", "newer")
		requests := []string{"STRLEN k", "GETRANGE k 0 1"}
		if seen != "" {
			c.Do(strings.Fields(seen))
			requests = requests[1:]
		}
		if got := b.askLate(c, requests...); got != "ne" {
			t.Errorf("%v after %q: %s", requests, seen, got)
		}
		if got := first.Recv(); got != "ol" {
			t.Errorf("who asked first reads %v", got)
		}
	}
	b.restsWell()
}

func TestClientsWhoFetchAtOnceGetWhatTheyAskFor(t *testing.T) {
	parallel(t)
	b := startLateNear(t)
	requests := []string{"GETRANGE k 0 0", "GETRANGE k 1 1", "GETRANGE k 0 1", "STRLEN k", "GETRANGE k 0 0", "SUBSTR k 0 0", "SUBSTR k 1 1", "STRLEN x", "TYPE k"}
	var clients []*redistest.Conn
	for range requests {
		clients = append(clients, dial(t, b.Addr()))
	}
	b.has(clients[0])
	b.cable.hold()
	fetches := b.near().Fetches
	for i, request := range requests {
		b.feed(clients[i], request+"\r\n")
	}
	if n := b.near().Fetches - fetches; n != int64(len(requests)-1) {
		t.Errorf("%d fetches of %d requests, two of which are the same", n, len(requests))
	}
	b.cable.release()
	for i, want := range []string{"o", "l", "ol", "3", "o", "o", "l", "1", "string"} {
		if got := fmt.Sprint(clients[i].Recv()); got != want {
			t.Errorf("%s: %s", requests[i], got)
		}
	}
	b.restsWell()
}

// A request on a pipe could be run before a fetch of the same client, if it did not wait for the reply.
func TestNothingOvertakesAFetch(t *testing.T) {
	parallel(t)
	b := startLateNear(t)
	c, other := dial(t, b.Addr()), dial(t, b.Addr())
	for _, next := range []string{
		"EXISTS k x", "TOUCH k", "DUMP k", "LCS k x",
		"APPEND k x", "DEL k", "DEL cold k", "MSET cold c k c", "EVAL redis.call('append','k','x') 0", "EVAL redis.call('append',KEYS[1],'x') 1 k", "RENAME x k", "COPY x k REPLACE", "BITOP NOT k x",
		"SORT none STORE k", "GETDEL k", "FLUSHDB", "SWAPDB 0 1",
	} {
		b.has(c)
		b.cable.holdFrom(func(reply string) bool { return reply == "$2\r\nol\r\n" })
		name := strings.ToLower(strings.Fields(next)[0])
		before := runs(t, b.node, name)
		b.feedAll(c, "GETRANGE k 0 1", next)
		other.Do("RANDOMKEY") // by the same pipe
		if runs(t, b.node, name) != before {
			t.Errorf("%s overtakes the fetch", next)
		}
		b.cable.release()
		if got := c.Recv(); got != "ol" {
			t.Errorf("the read before %s: %v", next, got)
		}
		c.Recv()
	}
	b.restsWell()
}

// A request that was sent when its key was not hot yet may change it when it is.
func TestRequestsFromBeforeTheirKeyWasHot(t *testing.T) {
	parallel(t)
	b := startLateNear(t)
	for i, words := range [][]any{{"GET"}, {"MGET", "x"}, {"GET"}, {"MGET", "x"}} {
		c, other := dial(t, b.Addr()), dial(t, b.Addr())
		b.has(other)
		key := fmt.Sprint("new ", i)
		b.direct.Do("SET", key, "old")
		b.direct.Do("CLIENT", "PAUSE", 100_000, "WRITE")
		b.feed(c, string(redistest.Command("SET", key, "newer")))
		b.warm(other, "GET", key)
		b.cable.holdFrom(isWord)
		read := string(redistest.Command(append(words, key)...))
		if i < 2 { // in one go
			b.feed(c, read)
		}
		b.direct.Do("CLIENT", "UNPAUSE")
		if got := c.Recv(); got != "OK" {
			t.Error(got)
		}
		if i >= 2 {
			b.feed(c, read)
		}
		b.cable.release()
		if got := fmt.Sprint(c.Recv()); got != "newer" && got != "[x newer]" {
			t.Errorf("%v after an own write: %s", words, got)
		}
	}
	b.restsWell()
}

// A reply tells of what was there when it came, and not of when the request was sent.
func TestReadsAreNotOlderThanASlowRequest(t *testing.T) {
	parallel(t)
	b := startLateNear(t)
	c, other := dial(t, b.Addr()), dial(t, b.Addr())
	b.has(other)
	b.direct.Do("CLIENT", "PAUSE", 100_000, "WRITE")
	b.feed(c, string(redistest.Command("EVAL", "redis.call('set','k','newer')", 0)))
	other.Do("STRLEN", "k") // which proves that what is kept still holds
	b.hit(other, true, "GET", "k")
	b.cable.holdFrom(isWord)
	b.direct.Do("CLIENT", "UNPAUSE")
	c.Recv()
	if got := b.askLate(c, "GET k"); got != "newer" {
		t.Error(got)
	}
	b.restsWell()
}

// A key may be changed from another database.
func TestReadsOfADatabaseSeeWhatWasMovedThere(t *testing.T) {
	parallel(t)
	b := startLateNear(t)
	c := dial(t, b.Addr())
	for range 10 {
		b.direct.Do("FLUSHALL")
		c.Do("SELECT", 1)
		b.warm(c, "GET", "k")
		c.Do("SELECT", 0)
		c.Do("SET", "k", "moved")
		b.cable.holdFrom(isWord)
		c.Do("MOVE", "k", 1)
		c.Do("SELECT", 1)
		if got := b.askLate(c, "GET k"); got != "moved" {
			t.Error(got)
		}
	}
	b.restsWell()
}

// What a link has answered proves no more than what was there when it was asked.
func TestReplyOfALinkProvesWhatWasThereWhenItWasAsked(t *testing.T) {
	parallel(t)
	b := startLateNear(t)
	c, other := dial(t, b.Addr()), dial(t, b.Addr())
	b.has(c)
	b.cable.holdFrom(func(reply string) bool { return isWord(reply) || reply == "$2\r\nol\r\n" })
	before := runs(t, b.node, "getrange")
	b.feed(other, "GETRANGE k 0 1\r\n")
	eventually(t, "the node to run it", func() bool { return runs(t, b.node, "getrange") != before })
	b.direct.Do("SET", "k", "newer")
	c.Do("EVAL", "return 1", 0)
	b.cable.holdFrom(isWord)
	if got := other.Recv(); got != "ol" {
		t.Error(got)
	}
	if got := b.askLate(c, "GET k"); got != "newer" {
		t.Error(got)
	}
	b.restsWell()
}

// A read that was under way when databases changed places is of the database that was. Nodes say nothing of that.
func TestFetchFromBeforeDatabasesChangedPlacesIsNotKept(t *testing.T) {
	parallel(t)
	b := startLateNear(t)
	c, other := dial(t, b.Addr()), dial(t, b.Addr())
	b.has(c)
	b.cable.holdFrom(func(reply string) bool { return reply == "$2\r\nol\r\n" })
	before := runs(t, b.node, "getrange")
	b.feed(c, "GETRANGE k 0 1\r\n")
	eventually(t, "the node to run it", func() bool { return runs(t, b.node, "getrange") != before })
	other.Do("SWAPDB", 0, 1)
	b.feed(other, "GET x\r\n") // with which the loop drops what it has
	b.cable.release()
	if got := fmt.Sprint([]any{c.Recv(), other.Recv()}); got != "[ol <nil>]" {
		t.Error(got)
	}
	for range 3 {
		if got := dial(t, b.Addr()).Do("GETRANGE", "k", 0, 1); got != "" {
			t.Errorf("the database that was has %v", got)
		}
	}
}

// Nothing that was noted before the clock was put back makes anything seem new.
func TestReadsAreNotOlderAfterTheClockWasPutBack(t *testing.T) {
	parallel(t)
	b := startLateNear(t)
	c, other := dial(t, b.Addr()), dial(t, b.Addr())
	b.has(c)
	b.warm(c, "STRLEN", "x")
	b.cable.holdFrom(func(reply string) bool { return isWord(reply) || reply == "$1\r\nx\r\n" })
	before := runs(t, b.node, "getrange")
	b.feed(other, "GETRANGE x 0 0\r\n")
	eventually(t, "the node to run it", func() bool { return runs(t, b.node, "getrange") != before })
	const ahead = int64(3600e9)
	onLoops(b.berthServer, func(l *loop) bool { // as if all that had been an hour ahead
		get := b.srv.table().Find("get")
		for _, sp := range l.near.spaces {
			sp.table.Keys(func(k *near.Key[nearPending], _, _ int) {
				if e := k.Find(get.ID, nil); e != nil {
					e.Expires += ahead
				}
				for _, f := range k.Pending {
					f.(*nearFetch).sentAt += ahead
				}
			})
			for _, link := range sp.links {
				link.aliveAt += ahead
			}
		}
		l.clock += ahead
		return true
	})
	b.direct.Do("MSET", "k", "newer", "x", "y")
	c.Do("EVAL", "return 1", 0)
	b.feedAll(c, "GET k", "GETRANGE x 0 0")
	b.cable.holdFrom(isWord)
	if got := other.Recv(); got != "x" {
		t.Error(got)
	}
	b.cable.release()
	if got := fmt.Sprint([]any{c.Recv(), c.Recv()}); got != "[newer y]" {
		t.Error(got)
	}
	for _, odd := range onLoops(b.berthServer, func(l *loop) (odd bool) {
		for _, sp := range l.near.spaces {
			for _, link := range sp.links {
				odd = odd || link.aliveAt > l.clock
			}
		}
		return odd
	}) {
		if odd {
			t.Error("a link has answered in the future")
		}
	}
}

// A request that was sent before its key was hot is older than the key, also if the clock was put back since.
func TestRequestFromBeforeItsKeyWasHotAndTheClockWasPutBack(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startNear(t, node.Addr(), "--backend-timeout-ms", "60000")
	direct, c, other := dial(t, node.Addr()), dial(t, b.Addr()), dial(t, b.Addr())
	direct.Do("SET", "k", "old")
	b.warm(other, "GET", "x")
	direct.Do("CLIENT", "PAUSE", "60000", "WRITE")
	b.feed(c, "SET k new\r\n")
	onLoops(b, func(l *loop) bool { // as if it had been sent while the clock was an hour ahead
		const ahead = int64(3600e9)
		for s := l.first; s != nil; s = s.next {
			for r := s.head; r != nil; r = r.next {
				r.start += ahead
			}
		}
		l.clock += ahead
		return true
	})
	b.warm(other, "GET", "k")
	b.feed(c, "GET k\r\n")
	direct.Do("CLIENT", "UNPAUSE")
	if got := fmt.Sprint([]any{c.Recv(), c.Recv()}); got != "[OK new]" {
		t.Error(got)
	}
	b.restsWell()
}

// A node that is cut off says nothing. It need not owe a reply to any client.
func TestCachedRepliesOfASilentLinkAreDropped(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	cable := startLink(t, node.Addr())
	b := startNear(t, cable.addr, "--backend-timeout-ms", "60000")
	c := dial(t, b.Addr())
	b.warm(c, "GET", "k")
	beat := runs(t, node, "ping")
	eventually(t, "a sign of life", func() bool { return runs(t, node, "ping") != beat })
	b.hit(c, true, "GET", "k")
	cable.hold()
	b.awaitDropped()
	cable.release()
	b.warm(c, "GET", "k")
	b.restsWell()
}

// A reply is kept for as long as the key had to live when it was asked for, and is given to nobody before that is known.
func TestReplyThatComesLateIsKeptNoLonger(t *testing.T) {
	parallel(t)
	b := startLateNear(t)
	c, other := dial(t, b.Addr()), dial(t, b.Addr())
	b.has(c)
	b.direct.Do("MSET", "permanent", "v", "temporary", "v")
	b.direct.Do("PEXPIRE", "temporary", 50_000)
	left := func() int64 { return b.direct.Do("PTTL", "temporary").(int64) }
	released := map[string]int64{} // all that is kept was asked for before
	for _, key := range []string{"permanent", "temporary"} {
		b.cable.holdFrom(func(reply string) bool { return reply[0] == ':' })
		if got := c.Do("GET", key); got != "v" {
			t.Error(got)
		}
		hits, since := b.near().Hits, left()
		b.feed(other, "GET "+key+"\r\n")
		if b.near().Hits != hits {
			t.Errorf("%s is read before it is known how long it lives", key)
		}
		eventually(t, "the keys to have less left", func() bool { return left() < since-5 })
		released[key] = time.Now().UnixNano()
		b.cable.release()
		other.Recv()
		b.warm(c, "GET", key)
	}
	ends := b.direct.Do("PEXPIRETIME", "temporary").(int64) * 1e6
	onLoops(b.berthServer, func(l *loop) bool {
		get := b.srv.table().Find("get")
		for _, sp := range l.near.spaces {
			if e := sp.table.Find(near.Sum([]byte("permanent")), []byte("permanent")).Find(get.ID, nil); e.Expires > released["permanent"]+60e9 {
				t.Errorf("what is permanent is kept until %d ns after it was known", e.Expires-released["permanent"])
			}
			if e := sp.table.Find(near.Sum([]byte("temporary")), []byte("temporary")).Find(get.ID, nil); e.Expires > ends+1e6 || e.Expires < ends-20e9 {
				t.Errorf("what ends is kept for %d ns more", e.Expires-ends)
			}
		}
		return true
	})
	b.restsWell()
}

// A link may be lost in the middle of a fetch.
func TestFetchThatLosesItsLink(t *testing.T) {
	parallel(t)
	b := startLateNear(t)
	c, other := dial(t, b.Addr()), dial(t, b.Addr())
	b.has(c)
	b.cable.holdFrom(func(reply string) bool { return reply == "$2\r\nol\r\n" })
	b.feed(c, "GETRANGE k 0 1\r\n")
	eventually(t, "the reply to be the next", func() bool {
		return onLoops(b.berthServer, func(l *loop) (reads bool) {
			for _, sp := range l.near.spaces {
				sp.table.Keys(func(k *near.Key[nearPending], _, _ int) {
					for _, f := range k.Pending {
						reads = reads || f.(*nearFetch).owed == 2 // and PTTL's
					}
				})
			}
			return reads
		})[0]
	})
	b.cable.cut()
	if got := c.Recv(); got != "ol" {
		t.Errorf("%v", got)
	}
	b.warm(other, "GETRANGE", "k", 0, 1)
	onLoops(b.berthServer, func(l *loop) bool {
		for _, sp := range l.near.spaces {
			sp.table.Keys(func(k *near.Key[nearPending], _, _ int) {
				if len(k.Pending) > 0 {
					t.Errorf("%s has a fetch that was lost, for which others may wait", k.Name())
				}
			})
		}
		return true
	})
	b.restsWell()
}
