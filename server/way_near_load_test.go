package main

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
)

// readers check that nobody reads older than what he has read or written. Each key has one writer, who counts: values
// of a key only grow, and what was deleted does not come back.
type readers struct {
	*crowd
	keys    []string // the first few are asked for most
	cluster bool
	counts  []atomic.Int64 // by key: what was written last, or is being written
	reads   atomic.Int64
	writes  atomic.Int64
	wrong   findings
	errors  findings     // that clients may get while nodes are lost
	calm    bool         // and may not get otherwise
	held    sync.RWMutex // writers hold it for reading: who holds it for writing knows that nothing is being written
}

// known is what a client knows of a key.
type known struct {
	value int64
	gone  bool // it has read since that there is none
}

func newReaders(t testing.TB, addr string, keys int, cluster bool) *readers {
	r := &readers{crowd: newCrowd(t, addr), counts: make([]atomic.Int64, keys), cluster: cluster, calm: true}
	for i := range keys {
		r.keys = append(r.keys, fmt.Sprint("near:", i))
	}
	return r
}

// in has the keys lie in the slots of tags, by turns.
func (r *readers) in(tags ...string) *readers {
	for i := range r.keys {
		r.keys[i] = tags[i%len(tags)] + r.keys[i]
	}
	return r
}

// keyBeside is the name of a key in the slot of another one.
func keyBeside(name string, n int64) string {
	if strings.HasPrefix(name, "{") {
		return fmt.Sprint(name, "/", n)
	}
	return fmt.Sprintf("{%s}%d", name, n)
}

// valueOf is a value that carries a number.
func valueOf(n int64) string { return fmt.Sprintf("%012d", n) + strings.Repeat("x", int(n%200)) }

// numberOf is the number that a value carries, -1 for none.
func numberOf(a loadReply) (n int64, ok bool) {
	switch {
	case a.kind == '_':
		return -1, true
	case a.kind != '$' || len(a.text) < 12:
		return 0, false
	}
	n, err := strconv.ParseInt(a.text[:12], 10, 64)
	return n, err == nil
}

// check enters what a client has read of a key.
func (r *readers) check(who string, mine []known, key int, how string, a loadReply) {
	if a.kind == '-' {
		if r.calm {
			r.errors.add("%s %s: %v", who, how, a)
		}
		return
	}
	n, ok := numberOf(a)
	k := &mine[key]
	r.reads.Add(1)
	switch {
	case !ok:
		r.wrong.add("%s: %s of key %d is %v", who, how, key, a)
	case n < 0:
		k.gone = true
	case n < k.value:
		r.wrong.add("%s: %s of key %d is %d after %d", who, how, key, n, k.value)
	case n == k.value && k.gone:
		r.wrong.add("%s: %s of key %d is %d, which was gone", who, how, key, n)
	default:
		*k = known{value: n}
	}
}

// keyQuestion is a read in a pipeline.
type keyQuestion struct {
	key   int
	how   string
	words [][]string
	pick  func(a loadReply) loadReply // the value in the last reply
}

func itself(a loadReply) loadReply { return a }

// ask makes a question of chance. Some readers seldom ask for anything but GET.
func (r *readers) ask(dice *rand.Rand, plain bool) keyQuestion {
	key := dice.IntN(10)
	if dice.IntN(5) == 0 {
		key = dice.IntN(len(r.keys))
	}
	name := r.keys[key]
	if dice.IntN(400) == 0 {
		return keyQuestion{key, "GET after an error", [][]string{{"LRANGE", name, "a", "b"}, {"GET", name}}, itself}
	}
	first := func(a loadReply) loadReply {
		if a.kind == '*' && len(a.elems) > 0 {
			return a.elems[0]
		}
		return a
	}
	forms := 40
	if plain {
		forms = 2000
	}
	switch dice.IntN(forms) {
	case 0:
		return keyQuestion{key, "GETRANGE", [][]string{{"GETRANGE", name, "0", "11"}}, func(a loadReply) loadReply {
			if a.kind == '$' && a.text == "" {
				a.kind = '_'
			}
			return a
		}}
	case 1:
		return keyQuestion{key, "EVAL", [][]string{{"EVAL", "return redis.call('get', KEYS[1])", "1", name}}, itself}
	case 2:
		return keyQuestion{key, "MULTI", [][]string{{"MULTI"}, {"GET", name}, {"EXEC"}}, first}
	case 3:
		return keyQuestion{key, "MGET", [][]string{{"MGET", name}}, first}
	case 4:
		return keyQuestion{key, "MGET of two", [][]string{{"MGET", name, r.keys[dice.IntN(len(r.keys))]}}, first}
	}
	return keyQuestion{key, "GET", [][]string{{"GET", name}}, itself}
}

// read is a reader's round.
func (r *readers) read(resp3 bool, pipeline int) func(c *loadClient, i, round int) error {
	type state struct {
		mine []known
		dice *rand.Rand
	}
	states := make([]state, 1024)
	return func(c *loadClient, i, round int) error {
		st := &states[i]
		if round == 0 {
			*st = state{make([]known, len(r.keys)), rand.New(rand.NewPCG(uint64(i), uint64(pipeline)))}
			if resp3 {
				if a, err := c.do("HELLO", "3"); err != nil || a.kind == '-' {
					return fmt.Errorf("HELLO 3: %v, %w", a, err)
				}
			}
		}
		asked := make([]keyQuestion, 1+st.dice.IntN(pipeline))
		for n := range asked {
			asked[n] = r.ask(st.dice, i%2 == 1)
			for _, words := range asked[n].words {
				c.add(words...)
			}
		}
		return r.answers(c, fmt.Sprint("reader ", i), st.mine, asked)
	}
}

// answers takes the replies to questions.
func (r *readers) answers(c *loadClient, who string, mine []known, asked []keyQuestion) error {
	if err := c.flush(); err != nil {
		return err
	}
	for _, q := range asked {
		var a loadReply
		for range q.words {
			var err error
			if a, err = c.read(); err != nil {
				return err
			}
		}
		r.check(who, mine, q.key, q.how, q.pick(a))
	}
	return nil
}

// write is the round of a writer, who has all keys whose number has a remainder.
func (r *readers) write(writers int) func(c *loadClient, i, round int) error {
	type state struct {
		mine []known
		dice *rand.Rand
	}
	states := make([]state, writers)
	return func(c *loadClient, i, round int) error {
		r.held.RLock()
		defer r.held.RUnlock()
		st := &states[i]
		if round == 0 {
			*st = state{make([]known, len(r.keys)), rand.New(rand.NewPCG(uint64(i), 99))}
		}
		key := i + writers*st.dice.IntN(len(r.keys)/writers)
		if st.dice.IntN(2) == 0 {
			key = i % 10
		}
		name, n := r.keys[key], r.counts[key].Add(1)
		temporary := keyBeside(name, n) // one of an earlier write may be left
		value := valueOf(n)
		requests, gone := [][]string{{"SET", name, value}}, false
		switch st.dice.IntN(14) {
		case 0:
			requests = [][]string{{"SET", name, value, "PX", strconv.Itoa(1 + st.dice.IntN(50))}}
			gone = true
		case 1:
			requests = [][]string{{"EVAL", "return redis.call('set', KEYS[1], ARGV[1])", "1", name, value}}
		case 2:
			requests = [][]string{{"MULTI"}, {"SET", name, value}, {"EXEC"}}
		case 3:
			requests = [][]string{{"SET", temporary, value}, {"RENAME", temporary, name}}
		case 4:
			requests = [][]string{{"SET", temporary, value}, {"COPY", temporary, name, "REPLACE"}}
		case 5:
			requests = [][]string{{"GETSET", name, value}}
		case 6:
			requests = [][]string{{"DEL", name}}
			gone = true
		case 7:
			requests = append(requests, []string{"PEXPIRE", name, strconv.Itoa(1 + st.dice.IntN(50))})
			gone = true
		case 8:
			requests = [][]string{{"MSET", name, value}}
		case 9:
			if !r.cluster {
				requests = [][]string{{"EVAL", "return redis.call('set', ARGV[2], ARGV[1])", "0", value, name}}
			}
		}
		inOne := st.dice.IntN(2) == 0
		failed := false
		for at, words := range requests {
			c.add(words...)
			if inOne && at < len(requests)-1 {
				continue
			}
			if err := c.flush(); err != nil {
				return err
			}
			for range at + 1 - map[bool]int{true: 0, false: at}[inOne] {
				a, err := c.read()
				if err != nil {
					return err
				}
				if a.kind == ':' && a.n == 0 && words[0] == "COPY" || slices.ContainsFunc(a.elems, func(e loadReply) bool { return e.kind == '-' }) {
					failed = true // what was to be copied has gone meanwhile
				}
				if a.kind == '-' {
					failed = true
					if r.calm {
						r.errors.add("writer %d %v: %v", i, words, a)
					}
				}
			}
		}
		r.writes.Add(1)
		if !failed {
			st.mine[key] = known{value: n}
			if gone {
				st.mine[key] = known{value: n - 1, gone: false}
			}
		}
		asked := []keyQuestion{{key, "GET of an own key", [][]string{{"GET", name}}, itself}}
		c.add(asked[0].words[0]...)
		return r.answers(c, fmt.Sprint("writer ", i), st.mine, asked)
	}
}

// startAll starts readers of all kinds, and writers.
func (r *readers) startAll(each, writers int) {
	r.start(each, "RESP2 reader", r.read(false, 1))
	r.start(each, "RESP3 reader", r.read(true, 1))
	r.start(each, "RESP2 pipelining reader", r.read(false, 16))
	r.start(each, "RESP3 pipelining reader", r.read(true, 16))
	r.start(writers, "writer", r.write(writers))
}

// awaitReads waits for so many more.
func (r *readers) awaitReads(n int64) {
	r.t.Helper()
	from := r.reads.Load()
	redistest.Eventually(r.t, 5*time.Minute, "reads", func() bool { return r.reads.Load() >= from+n || r.wrong.count.Load() > 0 })
}

func TestHotKeysAreNeverReadOlder(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startLoaded(t, node.Addr(), "--loops", "2", "--cache", "yes", "--cache-hot-rate", "50")
	r := newReaders(t, b.Addr(), 64, false)
	r.startAll(sized(2, 16), 8)
	r.awaitReads(int64(sized(10_000, 1_000_000)))
	direct := redistest.Dial(t, node.Addr())
	for i := range sized(5, 50) {
		switch i % 5 {
		case 0:
			direct.Do("FLUSHALL")
		case 1:
			direct.Do("CONFIG", "SET", "tracking-table-max-keys", "3")
			direct.Do("CONFIG", "SET", "tracking-table-max-keys", "1000000")
		case 2:
			r.awaitReads(100)
			direct.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		case 3:
			admin := redistest.Dial(t, b.Addr())
			admin.Do("CONFIG", "SET", "cache", "no")
			r.awaitReads(int64(sized(500, 50_000)))
			admin.Do("CONFIG", "SET", "cache", "yes")
		case 4: // keys make room for others
			used := regexp.MustCompile(`used_memory:(\d+)`).FindStringSubmatch(fmt.Sprint(direct.Do("INFO", "memory")))[1]
			direct.Do("CONFIG", "SET", "maxmemory-policy", "allkeys-random", "maxmemory", used)
			r.awaitReads(int64(sized(500, 50_000)))
			direct.Do("CONFIG", "SET", "maxmemory", 0)
		}
		r.awaitReads(int64(sized(2_000, 200_000)))
	}
	r.finish(b)
}

// finish ends the readers, and says what they have found.
func (r *readers) finish(b *loadedBerth) {
	t := r.t
	t.Helper()
	r.end()
	r.lost.none(t, "clients that lost their connection")
	r.wrong.none(t, "replies that are too old")
	m := b.metrics()
	hits := sum(m, "berth_cache_reads_total", `outcome="hit"`)
	figure(t, "%d reads, %d writes; %.0f hits, %.0f fetched, %.0f passed", r.reads.Load(), r.writes.Load(), hits,
		sum(m, "berth_cache_reads_total", `outcome="fetch"`), sum(m, "berth_cache_reads_total", `outcome="pass_`))
	if hits == 0 {
		t.Error("nothing was answered from the cache")
	}
}

func TestHotKeysAreNeverReadOlderWhileTheirSlotMoves(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 3, 0)
	b := startLoaded(t, clusterURL(cluster), "--loops", "2", "--cache", "yes", "--cache-hot-rate", "20")
	r := newReaders(t, b.Addr(), 64, true).in("{moving}", "{moving}", "{staying}")
	r.calm = false // what is about two keys may be refused while one of them has moved
	r.startAll(sized(2, 16), 8)
	slot := int(router.Slot([]byte("moving")))
	from := cluster.Owner(slot)
	reads := int64(sized(1_000, 100_000))
	r.awaitReads(reads)
	for i := range sized(6, 60) {
		to := (from + 1) % 3
		cluster.StartMove(t, slot, from, to)
		r.awaitReads(reads)
		cluster.MigrateKeys(t, slot, from, to)
		r.awaitReads(reads)
		if i%3 == 2 {
			cluster.Node(to).Do(t, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		}
		cluster.MigrateKeys(t, slot, from, to)
		cluster.FinishMove(t, slot, from, to)
		from = to
		r.awaitReads(reads)
	}
	r.finish(b)
}

func TestHotKeysAreNeverReadOlderWhilePrimariesChange(t *testing.T) {
	parallel(t)
	p := startPairs(t, "--cluster-require-full-coverage", "no")
	b := startLoaded(t, clusterURL(p.cluster), "--loops", "2", "--cache", "yes", "--cache-hot-rate", "20")
	r := newReaders(t, b.Addr(), 64, true).in(p.tags...)
	r.calm = false
	r.startAll(sized(2, 16), 8)
	reads := int64(sized(1_000, 100_000))
	r.awaitReads(reads)
	for i := range sized(4, 30) {
		shard := i % 3
		if i%2 == 0 {
			p.plan(t, shard)
			r.awaitReads(reads)
			continue
		}
		dead := p.primary[shard]
		r.held.Lock() // what the replica has not heard of yet would be lost
		primary := redistest.Dial(t, p.cluster.Node(dead).Addr())
		primary.Do("SET", p.tags[shard], "synchronized")
		if got := primary.Do("WAIT", 1, 10_000); got != int64(1) {
			t.Errorf("WAIT: %v", got)
		}
		p.cluster.Node(dead).Kill()
		r.held.Unlock()
		p.kill(t, shard)
		r.awaitReads(reads)
		p.cluster.Node(dead).Restart(t)
		awaitReplica(t, p.cluster.Node(dead), p.cluster.Node(p.primary[shard]))
		r.awaitReads(reads)
	}
	r.finish(b)
}

// TestOthersReadAHotKeyAnewSoon measures for how long others read the old value after a write was acknowledged.
func TestOthersReadAHotKeyAnewSoon(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startLoaded(t, node.Addr(), "--loops", "2", "--cache", "yes", "--cache-hot-rate", "0")
	writer := dial(t, b.Addr())
	readers := []*redistest.Conn{dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr())}
	var old durations // from the acknowledgement to the first reply that is new
	for n := range sized(50, 5000) {
		value := fmt.Sprint(n)
		for _, c := range readers { // each loop has it
			c.Do("GET", "hot")
			c.Do("GET", "hot")
		}
		writer.Do("SET", "hot", value)
		written := time.Now()
		for _, c := range readers {
			for c.Do("GET", "hot") != value {
				if time.Since(written) > 10*time.Second {
					t.Fatalf("%s is not read after ten seconds", value)
				}
			}
		}
		old.add(time.Since(written))
	}
	figure(t, "a write is read by %d others, one after another, within %s", len(readers), &old)
}
