package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// blockingCommands are all commands of Redis 7.0 that block, on keys l, m (lists), z (sorted sets) and s (streams), and
// what another client does to wake them.
var blockingCommands = []struct {
	name    string
	command string // T is the timeout
	prepare string
	wake    string
	millis  bool // the timeout is in milliseconds, and 0 means for ever as with seconds
}{
	{name: "BLPOP", command: "BLPOP l T", wake: "RPUSH l x"},
	{name: "BLPOP of two keys", command: "BLPOP l m T", wake: "RPUSH m x"},
	{name: "BRPOP", command: "BRPOP l T", wake: "RPUSH l x"},
	{name: "BLMOVE", command: "BLMOVE l m LEFT RIGHT T", wake: "RPUSH l x"},
	{name: "BRPOPLPUSH", command: "BRPOPLPUSH l m T", wake: "RPUSH l x"},
	{name: "BLMPOP", command: "BLMPOP T 2 l m LEFT COUNT 2", wake: "RPUSH m x y"},
	{name: "BZPOPMIN", command: "BZPOPMIN z T", wake: "ZADD z 1 x"},
	{name: "BZPOPMAX", command: "BZPOPMAX z T", wake: "ZADD z 1 x"},
	{name: "BZMPOP", command: "BZMPOP T 1 z MIN", wake: "ZADD z 1 x"},
	{name: "XREAD", command: "XREAD COUNT 1 BLOCK T STREAMS s 0", wake: "XADD s 5-1 f v", millis: true},
	{name: "XREAD of what is new", command: "XREAD BLOCK T STREAMS s $", prepare: "XADD s 1-1 f old", wake: "XADD s 5-1 f v", millis: true},
	{name: "XREADGROUP", command: "XREADGROUP GROUP g me BLOCK T STREAMS s >", prepare: "XGROUP CREATE s g 0 MKSTREAM", wake: "XADD s 5-1 f v", millis: true},
}

// keyed is a line's words with the keys of a tag and the timeout put in.
func keyed(line, tag, timeout string) []string {
	words := strings.Fields(line)
	for i, w := range words {
		switch {
		case i == 0:
		case w == "T":
			words[i] = timeout
		case len(w) == 1 && strings.Contains("lmzs", w):
			words[i] = "{" + tag + "}" + w
		}
	}
	return words
}

// awaitCommand waits until a client at the node is blocked in a command.
func awaitCommand(t *testing.T, node *redistest.Server, name string) {
	t.Helper()
	watcher := dial(t, node.Addr())
	defer watcher.Close()
	eventually(t, name+" to block at the node", func() bool {
		for _, line := range strings.Split(watcher.Do("CLIENT", "LIST").(string), "\n") {
			if strings.Contains(line, " cmd="+name+" ") && strings.Contains(line, " flags=b ") {
				return true
			}
		}
		return false
	})
}

func TestBlockingCommandsAreAnsweredAndTimeOutAsInRedis(t *testing.T) {
	node, direct := redistest.Start(t, "--hz", "100"), redistest.Start(t, "--hz", "100")
	b := startBerth(t, node.Addr())
	hear := func(t *testing.T, server *redistest.Server, addr, tag string, resp, i int) (heard []string) {
		bc := blockingCommands[i]
		c, other := dial(t, addr), dial(t, addr)
		defer c.Close()
		defer other.Close()
		c.Do("HELLO", resp)
		if bc.prepare != "" {
			other.Do(keyed(bc.prepare, tag, ""))
		}
		timeout := "0.002"
		if bc.millis {
			timeout = "2"
		}
		heard = append(heard, "timed out: "+c.DoRaw(keyed(bc.command, tag, timeout)))
		c.Send(keyed(bc.command, tag, "0"))
		awaitCommand(t, server, strings.ToLower(strings.Fields(bc.name)[0]))
		other.Do(keyed(bc.wake, tag, ""))
		heard = append(heard, "woken: "+c.RecvRaw())
		other.Do(keyed("DEL l m z", tag, ""))
		other.Do(keyed(strings.Replace(bc.wake, "5-1", "6-1", 1), tag, ""))
		heard = append(heard, "at once: "+c.DoRaw(keyed(strings.Replace(bc.command, "$", "0", 1), tag, "0")))
		heard = append(heard, "wrong type: "+other.DoRaw("SET", "{"+tag+"}x", 1))
		heard = append(heard, "bad timeout: "+c.DoRaw(keyed(bc.command, tag, "never")))
		heard = append(heard, "negative timeout: "+c.DoRaw(keyed(bc.command, tag, "-1")))
		return heard
	}
	for _, resp := range []int{2, 3} {
		for i, bc := range blockingCommands {
			t.Run(fmt.Sprintf("RESP%d/%s", resp, bc.name), func(t *testing.T) {
				tag := unique("bl")
				want, got := hear(t, direct, direct.Addr(), tag, resp, i), hear(t, node, b.Addr(), tag, resp, i)
				for i := range want {
					if got[i] != want[i] {
						t.Errorf("\n got %q\nwant %q", got[i], want[i])
					}
				}
			})
		}
	}
	if s := b.leases(); s.Leased != 0 {
		t.Errorf("%d leases at the end", s.Leased)
	}
}

func TestBlockingCommandsOverAClusterGoToTheirSlot(t *testing.T) {
	b := startBerth(t, clusterURL(sharedCluster(t)))
	c, other := dial(t, b.Addr()), dial(t, b.Addr())
	for _, bc := range blockingCommands {
		for range 3 { // likely on different shards
			tag := unique("bc")
			if bc.prepare != "" {
				other.Do(keyed(bc.prepare, tag, ""))
			}
			other.Do(keyed(bc.wake, tag, ""))
			got := fmt.Sprint(c.Do(keyed(strings.Replace(bc.command, "$", "0", 1), tag, "0")))
			if !strings.Contains(got, "x") && !strings.Contains(got, "v]") {
				t.Errorf("%s: %s", bc.name, got)
			}
			other.Do(keyed("DEL l m z s", tag, ""))
		}
	}
	script(t, c, "BLPOP bc:a bc:b 1 → "+crossSlot, "BLMOVE bc:a bc:b LEFT LEFT 1 → "+crossSlot, "PING → PONG")
}

func TestBlockingCommandsDoNotBlockInsideMulti(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr())
	c := dial(t, b.Addr())
	script(t, c, "XGROUP CREATE {bm}s g 0 MKSTREAM → OK", "MULTI → OK")
	for _, bc := range blockingCommands {
		if got := c.Do(keyed(bc.command, "bm", "0")); got != "QUEUED" {
			t.Errorf("%s: %v", bc.name, got)
		}
	}
	if got := c.Do("EXEC").([]any); len(got) != len(blockingCommands) {
		t.Errorf("EXEC: %v", got)
	}
	script(t, c, "DEL {bm}s → 1")
	if s := b.leases(); s.Leased+s.Idle != 0 {
		t.Errorf("a transaction that watches nothing took an exclusive connection: %+v", s)
	}
}

func TestBlockedClientLeavingFreesItsConnectionAndTakesNoElement(t *testing.T) {
	node := redistest.Start(t, "--hz", "100")
	for _, pool := range []string{"1", "0"} {
		b := startBerth(t, node.Addr(), "--private_conn_pool_enabled", pool)
		for _, bc := range blockingCommands {
			for _, how := range []string{"FIN", "RST"} {
				t.Run("pool "+pool+"/"+bc.name+", "+how, func(t *testing.T) {
					tag := unique("lv")
					direct := dial(t, node.Addr())
					if bc.prepare != "" {
						direct.Do(keyed(bc.prepare, tag, ""))
					}
					c := dial(t, b.Addr())
					c.Send(keyed(bc.command, tag, "0"))
					awaitBlocked(t, node, 1)
					leave(t, b, c, how)
					// What is pushed right behind its leaving, through berth as directly, is there for others: where it was
					// pushed, or where the command itself has put it just before the node heard that it was to end.
					for k, pusher := range []*redistest.Conn{dial(t, b.Addr()), direct} {
						wake := strings.Replace(bc.wake, "5-1", fmt.Sprintf("5-%d", k+1), 1)
						pusher.Do(keyed(wake, tag, ""))
						taker := dial(t, node.Addr())
						command := strings.Replace(bc.command, "$", "0", 1)
						timeout := "0.5"
						if bc.millis {
							timeout = "500"
						}
						moved := direct.Do("LLEN", "{"+tag+"}m")
						if pending, ok := direct.Do("XPENDING", "{"+tag+"}s", "g").([]any); ok {
							moved = pending[0]
						}
						if got := taker.Do(keyed(command, tag, timeout)); got == nil && (pool == "0" || moved == int64(0)) {
							t.Error("the client that left has taken the element")
						}
						direct.Do(keyed("DEL l m z", tag, ""))
					}
					awaitBlocked(t, node, 0)
					eventually(t, "no lease to be held for nobody", func() bool { return b.leases().Leased == 0 })
				})
			}
		}
		b.Stop()
	}
}

func TestInputOfABlockedClientWaits(t *testing.T) {
	node := sharedNode(t)
	everyBackend(t, func(t *testing.T, b *berthServer) {
		for _, commands := range [][]string{
			{"BLPOP {in}l 0", "SET {in}k 1", "GET {in}k", "RPUSH {in}r a", "LRANGE {in}r 0 -1"},
			{"SET {in}k 2", "BLPOP {in}l 0", "GET {in}k", "MULTI", "RPUSH {in}r a", "EXEC", "LRANGE {in}r 0 -1"},
			{"SET in:far 3", "BLPOP {in}l 0", "GET in:far", "BLPOP {in}l 0.01", "PING", "RPUSH {in}r a", "LRANGE {in}r 0 -1"},
		} {
			c, other := dial(t, b.Addr()), dial(t, b.Addr())
			b.feed(c, pipeline(commands...))
			c.SetTimeout(5e9)
			// Nothing behind the blocking command may have happened when it is answered.
			b.awaitLeased(t, 1)
			if got := other.Do("LLEN", "{in}r"); got != int64(0) {
				t.Errorf("%v was overtaken: the list has %v elements", commands, got)
			}
			other.Do("RPUSH", "{in}l", "x")
			var got []string
			for range commands {
				got = append(got, fmt.Sprint(c.Recv()))
			}
			if last := got[len(got)-1]; last != "[a]" {
				t.Errorf("%v: %q", commands, got)
			}
			other.Do("DEL", "{in}k", "{in}l", "{in}r", "in:far")
			c.Close()
		}
	})
	awaitBlocked(t, node, 0)
}

// awaitWaiters waits until so many clients stand in groups.
func (b *berthServer) awaitWaiters(t *testing.T, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d waiting clients", n), func() bool {
		total := 0
		counts, _ := askLoops(b.srv, func(l *loop) int { return l.lanes.Load().Waiters })
		for _, c := range counts {
			total += c
		}
		return total == n
	})
}

// awaitLeased waits until so many leases are attached.
func (b *berthServer) awaitLeased(t *testing.T, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d leases", n), func() bool { return b.leases().Leased == n })
}

// One lane fetches elements in the order of their pushes. The replies on several may overtake each other by a hair, so there
// each push waits for the one before it to have arrived.
func TestManyBlockedClientsAreServedInTheirOrder(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	for _, lanes := range []string{"1", "4"} {
		b := startBerth(t, node.Addr(), "--loops", "3", "--blocking-lanes-max", lanes)
		other := dial(t, b.Addr())
		conns := make([]*redistest.Conn, 50)
		for i := range conns {
			conns[i] = dial(t, b.Addr())
		}
		for i, c := range conns {
			c.Send("BLPOP", "fifo", "0")
			b.awaitWaiters(t, i+1)
		}
		if s := b.leases(); s.Leased > 4 {
			t.Errorf("%d leases for clients that wait for the same", s.Leased)
		}
		if lanes == "1" {
			for i := range conns {
				other.Send("RPUSH", "fifo", i)
			}
		}
		for i, c := range conns {
			if lanes != "1" {
				other.Send("RPUSH", "fifo", i)
			}
			if got := fmt.Sprint(c.Recv()); got != fmt.Sprintf("[fifo %d]", i) {
				t.Errorf("%s lanes, client %d: %s", lanes, i, got)
			}
		}
		b.awaitLeased(t, 0)
	}
}

func TestBlockedClientsDoNotHoldOthersUp(t *testing.T) {
	everyBackend(t, func(t *testing.T, b *berthServer) {
		for range 5 {
			dial(t, b.Addr()).Send("BLPOP", "hold:l", "0")
		}
		b.awaitWaiters(t, 5)
		c := dial(t, b.Addr())
		for i := range 100 {
			script(t, c, fmt.Sprintf("SET hold:k %d → OK", i), fmt.Sprintf("GET hold:k → %d", i))
		}
		c.Do("DEL", "hold:k")
	})
}

func TestAShortenedRequestAsksForWhatIsLeft(t *testing.T) {
	table := router.Builtin()
	for _, c := range []struct {
		words, want string
		gone        time.Duration
	}{
		{"BLPOP k 1", "BLPOP k 0.6", 400 * time.Millisecond},
		{"BLPOP k 0.5", "BLPOP k 0.002", 2 * time.Second},
		{"XREAD BLOCK 500 STREAMS s $", "XREAD BLOCK 300 STREAMS s 5-1", 200 * time.Millisecond},
		{"XREAD BLOCK 5 STREAMS s $", "XREAD BLOCK 2 STREAMS s 5-1", time.Second},
		{"XREAD BLOCK 0 STREAMS s $", "XREAD BLOCK 0 STREAMS s 5-1", time.Second},
		{"BLPOP k 0", "BLPOP k 0", time.Second},
		{"BLPOP k never", "BLPOP k never", time.Second},
		{"BLPOP k 1", "BLPOP k 1", time.Microsecond},
	} {
		var args [][]byte
		ids := map[int]string{}
		for i, word := range strings.Fields(c.words) {
			args = append(args, []byte(word))
			if word == "$" {
				ids[i] = "5-1"
			}
		}
		cmd, err := table.Lookup(args)
		if err != nil {
			t.Fatal(err)
		}
		got := withTimeLeft(cmd, codec.AppendCommand(nil, args...), args, c.gone, ids)
		if want := codec.AppendCommandString(nil, strings.Fields(c.want)...); !bytes.Equal(got, want) {
			t.Errorf("%s, %v gone: %q, want %q", c.words, c.gone, got, want)
		}
	}
}
