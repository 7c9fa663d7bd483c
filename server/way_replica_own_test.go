package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
)

func TestClientsReadTheirOwnWritesFromReplicasThatLag(t *testing.T) {
	parallel(t)
	f := startFamily(t, 2)
	for _, policy := range []string{"prefer-replica", "any", "replica"} {
		t.Run(policy, func(t *testing.T) {
			b := startBerth(t, f.primary.Addr(), "--read-from", policy)
			awaitReadable(t, b, 2)
			o := newOwners(t, b.Addr(), anywhere())
			o.steady = true
			o.own(sized(50, 100))
			for _, w := range f.wires {
				w.stumble(o.crowd, 150*time.Millisecond)
			}
			o.awaitReads(sized[int64](20000, 200000))
			o.finish()
			_, primaries, replicas := readsAt(t, b)
			if replicas < o.reads.Load()/50 {
				t.Errorf("%d of %d reads went to replicas: nothing was tested", replicas, o.reads.Load())
			}
			figure(t, "%s: %d writes, %d reads, of them %d on the primary and %d on replicas that lag; %d of something else than the own latest write",
				policy, o.writes.Load(), o.reads.Load(), primaries, replicas, o.stale.count.Load())
		})
	}
	t.Run("without", func(t *testing.T) { // what the tests before would find
		b := startBerth(t, f.primary.Addr(), "--read-from", "prefer-replica", "--read-own-writes", "no")
		awaitReadable(t, b, 2)
		o := newOwners(t, b.Addr(), anywhere())
		o.steady = true
		o.own(20)
		for _, w := range f.wires {
			w.stumble(o.crowd, 150*time.Millisecond)
		}
		eventually(t, "somebody to read what was there before its own write", func() bool { return o.stale.count.Load() > 0 })
		o.end()
	})
}

func TestClientsReadTheirOwnWritesFromReplicasOfACluster(t *testing.T) {
	parallel(t)
	p := startPairs(t)
	b := startBerth(t, clusterURL(p.cluster), "--read-from", "prefer-replica")
	awaitReadable(t, b, 3)
	o := newOwners(t, b.Addr(), everywhereIn(p.cluster, keysOfOwner))
	o.steady = true
	o.own(sized(50, 100))
	o.done.Add(1)
	go func() { // links are lost, and replicas busy
		defer o.done.Done()
		for i := 0; !o.stopped(); i = (i + 1) % 3 {
			if i == 0 {
				p.cluster.Node(p.primary[i]).Do(t, "CLIENT", "KILL", "TYPE", "replica")
			} else {
				p.cluster.Node(p.replica[i]).Do(t, "DEBUG", "SLEEP", 0.2)
			}
			o.pause(50 * time.Millisecond)
		}
	}()
	o.awaitReads(sized[int64](20000, 200000))
	o.finish()
	_, primaries, replicas := readsAt(t, b)
	if replicas < o.reads.Load()/50 {
		t.Errorf("%d of %d reads went to replicas: nothing was tested", replicas, o.reads.Load())
	}
	figure(t, "cluster: %d writes, %d reads, of them %d on primaries and %d on replicas; %d of something else than the own latest write",
		o.writes.Load(), o.reads.Load(), primaries, replicas, o.stale.count.Load())
}

// ownWritesEveryWay are writes by every way that commands travel, and reads that must see them.
var ownWritesEveryWay = []struct{ write, read, want string }{
	{"SET k new", "GET k", "new"},
	{"SET k " + strings.Repeat("x", 3<<20), "STRLEN k", "3145728"},
	{"MSET k new k2 new", "MGET k k2", "[new new]"},
	{"DEL k k2", "EXISTS k k2", "0"},
	{"UNLINK k", "EXISTS k", "0"},
	{"GETDEL k", "GET k", "<nil>"},
	{"GETEX k EX 1000", "TTL k", "1000"},
	{"EXPIRE k 1000", "TTL k", "1000"},
	{"EVAL return(redis.call('set',KEYS[1],'new')) 1 k", "GET k", "new"},
	{"EVAL return(redis.call('set','k','new')) 0", "GET k", "new"}, // a script that does not say what it writes
	{"FCALL put 1 k new", "GET k", "new"},
	{"MULTI | SET k new | EXEC", "GET k", "new"},
	{"WATCH k | MULTI | SET k new | EXEC", "GET k", "new"},
	{"WATCH k | SET k new | UNWATCH", "GET k", "new"},
	{"BLPOP l 0", "LRANGE l 0 -1", "[b c]"},
	{"BLMOVE l l2 LEFT LEFT 0", "LRANGE l2 0 -1", "[a]"},
	{"BLMPOP 1 2 nothing l LEFT COUNT 3", "LLEN l", "0"},
	{"BZPOPMIN z 0", "ZCARD z", "1"},
	{"LMPOP 1 l LEFT", "LLEN l", "2"},
	{"XREADGROUP GROUP g c STREAMS x >", "XPENDING x g", "[1 1-0 1-0 [[c 1]]]"},
	{"XREADGROUP GROUP g c BLOCK 0 STREAMS x >", "XPENDING x g", "[1 1-0 1-0 [[c 1]]]"},
	{"RENAME k k3", "GET k3", "old"},
	{"COPY k k3", "GET k3", "old"},
	{"SORT l ALPHA DESC STORE l", "LRANGE l 0 -1", "[c b a]"},
	{"GEORADIUS geo 0 0 100 km STORE gs", "ZCARD gs", "1"},
	{"SETBIT bits 7 1", "BITCOUNT bits", "1"},
	{"BITFIELD bits SET u8 0 255", "BITCOUNT bits", "8"},
	{"PFADD hll a b c", "EXISTS hll", "1"},
	{"SPOP s 2", "SCARD s", "0"},
	{"HSET h f new", "HGETALL h", "[f new]"},
	{"FLUSHDB", "EXISTS k k2 l", "0"},
	{"FLUSHALL", "GET k", "<nil>"},
	{"SELECT 1 | SET k other | SELECT 0 | SWAPDB 0 1", "GET k", "other"},
	{"MOVE k 1", "GET k", "<nil>"},
	{"RESTORE k3 0 %dump%", "GET k3", "old"},
	{"CLIENT REPLY OFF | SET k new | CLIENT REPLY ON", "GET k", "new"},
	{"CLIENT REPLY SKIP | SET k new", "GET k", "new"},
}

// TestEveryWayOfWritingIsRemembered: a client reads what it has written from the primary, as long as the
// replica lacks it.
func TestEveryWayOfWritingIsRemembered(t *testing.T) {
	parallel(t)
	f := startFamily(t, 1)
	b := startBerth(t, f.primary.Addr(), "--read-from", "prefer-replica", "--replica-max-lag", "0")
	f.primary.Do(t, "FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('put', function(keys, args) return redis.call('set', keys[1], args[1]) end)")
	dump := ""
	for _, together := range []bool{false, true} {
		for _, way := range ownWritesEveryWay {
			f.wires[0].hold(false)
			direct := dial(t, f.primary.Addr())
			for _, command := range []string{
				"FLUSHALL", "SET k old", "SET k2 old", "RPUSH l a b c", "ZADD z 1 a 2 b", "SADD s a b", "HSET h f old", "GEOADD geo 0 0 here",
				"XADD x 1-0 f v", "XGROUP CREATE x g 0",
			} {
				direct.Do(strings.Fields(command))
			}
			dump, _ = direct.Do("DUMP", "k").(string)
			mark := unique("mark")
			direct.Do("SET", mark, "1")
			reader, c := dial(t, b.Addr()), dial(t, b.Addr())
			for _, client := range []*redistest.Conn{reader, c} {
				eventually(t, "reads to go to the replica, which is in step", func() bool {
					return client.Do("GET", mark) == "1" && readsWhere(t, b, client, "GET "+mark) == "replica"
				})
			}
			f.wires[0].hold(true)
			var in []byte
			n := 0
			for command := range strings.SplitSeq(way.write, " | ") {
				var words []any
				for _, word := range strings.Fields(command) {
					words = append(words, strings.ReplaceAll(word, "%dump%", dump))
				}
				in = append(in, redistest.Command(words)...)
				n++
			}
			switch {
			case strings.Contains(way.write, "REPLY OFF"):
				n = 1
			case strings.Contains(way.write, "REPLY SKIP"):
				n = 0
			}
			var replies []any
			if together {
				in = append(in, redistest.Command(strings.Fields(way.read))...)
			}
			c.Write(in)
			for range n {
				replies = append(replies, c.Recv())
			}
			if !together {
				c.Send(strings.Fields(way.read))
			}
			if got := fmt.Sprint(c.Recv()); got != way.want {
				t.Errorf("%.80s (%.80s), then %s: %s instead of %s; in one write: %v", way.write, fmt.Sprint(replies), way.read, got, way.want, together)
			}
			for _, client := range []*redistest.Conn{direct, reader, c} {
				client.Close()
			}
		}
	}
	f.wires[0].hold(false)
}

// TestPipelinesThatReadFromReplicasAreAnsweredAsByRedisDirectly is the test of pipelines of many clients
// over replicas that lag. Each client lets them catch up now and then.
func TestPipelinesThatReadFromReplicasAreAnsweredAsByRedisDirectly(t *testing.T) {
	parallel(t)
	direct := redistest.Start(t)
	compare := func(t *testing.T, b *berthServer, spread bool) {
		_, _, before := readsAt(t, b)
		var clients sync.WaitGroup
		for client := range 30 {
			clients.Go(func() {
				tag := unique("rep")
				g := &generator{Rand: rand.New(rand.NewPCG(9, uint64(client))), key: func(i int) string { return fmt.Sprintf("{%s}%d", tag, i) }}
				if g.spread = spread; spread {
					g.key = func(i int) string { return fmt.Sprintf("%s:%d", tag, i) }
				}
				g.rest = func() { pace(rand.N(250 * time.Millisecond)) }
				comparePipelines(t, b.Addr(), direct.Addr(), g, sized(15, 200))
			})
		}
		clients.Wait()
		_, primaries, replicas := readsAt(t, b)
		if replicas == before {
			t.Error("no read went to a replica: nothing was tested")
		}
		figure(t, "random pipelines: %d reads of primaries and %d of replicas", primaries, replicas-before)
	}
	t.Run("standalone", func(t *testing.T) {
		f := startFamily(t, 2)
		b := startBerth(t, f.primary.Addr(), "--read-from", "prefer-replica")
		awaitReadable(t, b, 2)
		lag := newCrowd(t, b.Addr())
		for _, w := range f.wires {
			w.stumble(lag, 150*time.Millisecond)
		}
		compare(t, b, false)
		lag.end()
	})
	t.Run("cluster", func(t *testing.T) {
		p := startPairs(t)
		b := startBerth(t, clusterURL(p.cluster), "--read-from", "prefer-replica")
		awaitReadable(t, b, 3)
		compare(t, b, false)
		compare(t, b, true)
	})
}

// TestAReplicaThatComesBackEmptyIsNotRead: a replica that was restarted has nothing until its primary
// has sent it everything.
func TestAReplicaThatComesBackEmptyIsNotRead(t *testing.T) {
	parallel(t)
	f := startFamily(t, 1)
	b := startBerth(t, f.primary.Addr(), "--read-from", "prefer-replica")
	c := dial(t, b.Addr())
	for i := range 20 {
		c.Do("SET", fmt.Sprint("old", i), "v")
	}
	for range sized(5, 20) {
		awaitReadable(t, b, 1)
		wrong, readers := &findings{}, newCrowd(t, b.Addr())
		readers.start(8, "reader", func(c *loadClient, i, round int) error {
			key := fmt.Sprint("old", round%20)
			got, err := c.do("GET", key)
			if err == nil && got.text != "v" {
				wrong.add("GET %s: %v", key, got)
			}
			return err
		})
		f.replicas[0].Kill()
		f.wires[0].hold(true) // it finds its primary, which says nothing
		f.replicas[0].Restart(t)
		eventually(t, "berth to find that the replica has no connection to its primary", func() bool {
			is := readable(t, b, f.replicas[0].Addr())
			return is == "" || strings.Contains(is, "no connection to its primary") // or the primary names it no more
		})
		f.wires[0].hold(false)
		readers.end()
		wrong.none(t, "reads of a replica that has nothing")
		readers.lost.none(t, "clients without replies")
		if t.Failed() {
			return
		}
	}
}

// TestClientsReadTheirOwnWritesWhileSlotsMove: a replica does not know that a slot of its primary is
// being moved, and has nothing where keys have gone.
func TestClientsReadTheirOwnWritesWhileSlotsMove(t *testing.T) {
	parallel(t)
	p := startPairs(t)
	b := startBerth(t, clusterURL(p.cluster), "--read-from", "prefer-replica")
	awaitReadable(t, b, 3)
	o := newOwners(t, b.Addr(), everywhereIn(p.cluster, keysOfOwner))
	o.own(20)
	o.awaitReads(500)
	for range sized(1, 5) {
		for _, way := range [][2]int{{0, 1}, {1, 2}, {2, 0}} {
			for _, tag := range o.tags[0] {
				p.cluster.MoveSlot(t, int(router.Slot([]byte(tag))), way[0], way[1])
				o.awaitReads(50)
			}
		}
	}
	o.finish()
	o.report("slots moved under load")
}
