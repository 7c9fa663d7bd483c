package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
)

// owners are clients that read what they have written themselves. Each has keys of its own on every
// shard, and knows what each key must hold: nothing older than its own latest acknowledged write, and
// nothing that it writes after the read.
type owners struct {
	*crowd
	tags    [][]string // by shard: hash tags
	steady  bool       // the primaries are well: an error on a write is wrong as well, and clients block
	stale   findings   // reads of something else than the client's latest write
	failed  findings   // errors on reads
	beside  findings   // errors on reads that were sent together with a write, while primaries are not well
	wrong   findings   // other replies that are not right
	reads   atomic.Int64
	writes  atomic.Int64
	refused atomic.Int64 // errors on writes
	hurt    atomic.Int64 // the shard whose acknowledged writes its nodes may lose; -1: none
	idle    atomic.Bool  // nobody writes
}

// newOwners has clients of a berth own keys with these hash tags.
func newOwners(t testing.TB, addr string, tags [][]string) *owners {
	o := &owners{crowd: newCrowd(t, addr), tags: tags}
	o.hurt.Store(-1)
	return o
}

// ownKey is a key of one client. Owned by the client's goroutine.
type ownKey struct {
	name  string
	shard int
	value int   // acknowledged last
	maybe []int // written since, and perhaps executed
}

// is reports whether the key may hold a value.
func (k *ownKey) is(value string) bool {
	return value == strconv.Itoa(k.value) || slices.ContainsFunc(k.maybe, func(n int) bool { return value == strconv.Itoa(n) })
}

// acked enters a write that was acknowledged.
func (k *ownKey) acked(n int) { k.value, k.maybe = n, nil }

// owner is one client.
type owner struct {
	of    *owners
	c     *loadClient
	name  string
	keys  []*ownKey
	next  int
	takes []func(loadReply) // of the requests that are not answered
	wrote bool              // one of them is a write
}

// keysOfOwner is how many keys a client has on each shard, each in another slot: some share what berth
// remembers of them.
const keysOfOwner = 15

// anywhere are hash tags for a single node, where slots are berth's own business.
func anywhere() [][]string {
	var tags []string
	for i := range keysOfOwner {
		tags = append(tags, fmt.Sprintf("{a%d}", i))
	}
	return [][]string{tags, tags, tags}
}

// everywhereIn are n hash tags for each shard of a Cluster.
func everywhereIn(c *redistest.Cluster, n int) [][]string {
	tags := make([][]string, c.Primaries())
	for shard := range tags {
		for i := 0; len(tags[shard]) < n; i++ {
			tag := fmt.Sprintf("{%d.%d}", shard, i)
			if c.Owner(int(router.Slot([]byte(tag)))) == shard {
				tags[shard] = append(tags[shard], tag)
			}
		}
	}
	return tags
}

// own adds n clients that do everything.
func (o *owners) own(n int) { o.run(n, (*owner).round) }

// run adds n clients.
func (o *owners) run(n int, talk func(*owner) error) {
	name := unique("own")
	all := make([]*owner, n)
	for i := range all {
		w := &owner{of: o, name: fmt.Sprint(name, ":", i)}
		for shard, tags := range o.tags {
			for _, tag := range tags {
				w.keys = append(w.keys, &ownKey{name: fmt.Sprint(w.name, ":", shard, tag), shard: shard})
			}
		}
		all[i] = w
	}
	o.start(n, "owner", func(c *loadClient, i, round int) error {
		all[i].c = c
		return talk(all[i])
	})
}

// round is one conversation of a client.
func (w *owner) round() error {
	k := w.any()
	if w.of.idle.Load() {
		w.get(k)
		w.of.pause(time.Millisecond)
		return w.flush()
	}
	w.next++
	switch rand.IntN(14) {
	case 0:
		return w.linger()
	case 1: // one after the other, in one write
		for range 1 + rand.IntN(4) {
			w.set(k)
			w.get(k)
		}
	case 2: // the write must not be seen
		w.get(k)
		w.get(w.any())
		w.set(k)
		w.get(k)
	case 3:
		return w.across()
	case 4:
		w.next++
		w.write(k, w.next, "OK", "EVAL", "return redis.call('set', KEYS[1], ARGV[1])", "1", k.name, strconv.Itoa(w.next))
		return w.thenRead(k)
	case 5:
		w.transact(k, false)
		return w.thenRead(k)
	case 6:
		w.transact(k, w.of.steady)
		return w.thenRead(k)
	case 7:
		if w.of.steady {
			return w.block(k)
		}
		w.get(k)
	case 8: // many keys, as no slot stands alone
		for range 30 {
			w.set(w.any())
			w.get(w.any())
		}
	case 9:
		w.set(k)
		w.script(k)
		w.get(k)
	default:
		w.set(k)
		return w.thenRead(k)
	}
	return w.flush()
}

func (w *owner) any() *ownKey { return w.keys[rand.IntN(len(w.keys))] }

// thenRead waits for what is owed, and reads at once.
func (w *owner) thenRead(k *ownKey) error {
	if err := w.flush(); err != nil {
		return err
	}
	if rand.IntN(4) == 0 {
		w.script(k)
	}
	w.get(k)
	return w.flush()
}

// linger reads for so long that replicas get what the client has written.
func (w *owner) linger() error {
	k := w.any()
	w.set(k)
	for range 25 {
		w.get(k)
		w.get(w.any())
		if err := w.flush(); err != nil {
			return err
		}
		w.of.pause(8 * time.Millisecond)
	}
	return nil
}

// across writes and reads keys of all shards by one command each.
func (w *owner) across() error {
	var keys []*ownKey
	mset, mget := []string{"MSET"}, []string{"MGET"}
	n := w.next + 1
	w.next = n
	for range w.of.tags {
		k := w.any()
		if slices.Contains(keys, k) {
			continue
		}
		keys = append(keys, k)
		mset, mget = append(mset, k.name, strconv.Itoa(n)), append(mget, k.name)
	}
	w.wrote = true
	w.of.writes.Add(1)
	w.ask(func(got loadReply) {
		for _, k := range keys {
			w.took(k, n, got, got.text == "OK")
		}
	}, mset...)
	if rand.IntN(2) == 0 {
		if err := w.flush(); err != nil {
			return err
		}
	}
	w.of.reads.Add(1)
	w.ask(func(got loadReply) {
		if got.kind != '*' || len(got.elems) != len(keys) {
			w.readFailed("MGET: %v", got)
			return
		}
		for i, k := range keys {
			w.check(k, got.elems[i], "MGET")
		}
	}, mget...)
	return w.flush()
}

// transact writes a key in a transaction.
func (w *owner) transact(k *ownKey, watched bool) {
	w.next++
	n := w.next
	ignore := func(loadReply) {}
	if watched {
		w.ask(ignore, "WATCH", k.name)
		w.get(k)
	}
	w.ask(ignore, "MULTI")
	w.ask(ignore, "SET", k.name, strconv.Itoa(n))
	w.ask(ignore, "GET", k.name)
	w.wrote = true
	w.of.writes.Add(1)
	w.ask(func(got loadReply) {
		if got.kind == '*' && len(got.elems) == 2 && got.elems[0].text == "OK" {
			k.acked(n)
			w.check(k, got.elems[1], "GET in MULTI")
			return
		}
		w.took(k, n, got, false)
	}, "EXEC")
}

// block pushes two elements and waits for one: the other one is left.
func (w *owner) block(k *ownKey) error {
	w.next++
	list, first, second := "l"+k.name, fmt.Sprint(w.next, "a"), fmt.Sprint(w.next, "b")
	want := func(what, text string) func(loadReply) {
		return func(got loadReply) {
			if got.String() != text {
				w.of.stale.add("%s %s: %v instead of %s", what, list, got, text)
			}
		}
	}
	w.ask(want("RPUSH", "2"), "RPUSH", list, first, second)
	w.ask(want("BLPOP", "["+list+" "+first+"]"), "BLPOP", list, "0")
	if rand.IntN(2) == 0 {
		if err := w.flush(); err != nil {
			return err
		}
	}
	w.ask(want("LRANGE", "["+second+"]"), "LRANGE", list, "0", "-1")
	w.ask(want("DEL", "1"), "DEL", list)
	w.ask(want("LLEN", "0"), "LLEN", list)
	w.of.reads.Add(2)
	w.of.writes.Add(3)
	return w.flush()
}

// set writes the next value.
func (w *owner) set(k *ownKey) {
	w.next++
	w.write(k, w.next, "OK", "SET", k.name, strconv.Itoa(w.next))
}

func (w *owner) write(k *ownKey, n int, want string, words ...string) {
	w.wrote = true
	w.of.writes.Add(1)
	w.ask(func(got loadReply) { w.took(k, n, got, got.String() == want) }, words...)
}

// took enters the reply to a write.
func (w *owner) took(k *ownKey, n int, got loadReply, done bool) {
	switch {
	case done:
		k.acked(n)
	case got.kind == '-' && !w.of.steady:
		w.of.refused.Add(1)
		k.maybe = append(k.maybe, n)
	default:
		w.of.wrong.add("write to %s: %v", k.name, got)
	}
}

func (w *owner) get(k *ownKey) { w.read(k, "GET", k.name) }

// script reads a key by a script that cannot write. No script is sent twice, so it has an error where
// a primary is lost.
func (w *owner) script(k *ownKey) {
	if !w.of.steady {
		return
	}
	w.read(k, "EVAL_RO", "return redis.call('get', KEYS[1])", "1", k.name)
}

func (w *owner) read(k *ownKey, words ...string) {
	w.of.reads.Add(1)
	w.ask(func(got loadReply) { w.check(k, got, words[0]) }, words...)
}

// check looks at what was read.
func (w *owner) check(k *ownKey, got loadReply, how string) {
	switch value := got.text; {
	case got.kind == '-':
		w.readFailed("%s %s: %v", how, k.name, got)
	case int64(k.shard) == w.of.hurt.Load():
	case got.kind == '_' && k.is("0"):
	case !k.is(value):
		w.of.stale.add("%s %s: %v instead of %d (or of %v)", how, k.name, got, k.value, k.maybe)
	}
}

func (w *owner) readFailed(format string, args ...any) {
	if w.wrote && !w.of.steady {
		w.of.beside.add(format, args...)
		return
	}
	w.of.failed.add(format, args...)
}

func (w *owner) ask(take func(loadReply), words ...string) {
	w.c.add(words...)
	w.takes = append(w.takes, take)
}

// flush sends what was asked, and takes the replies.
func (w *owner) flush() error {
	takes := w.takes
	w.takes = nil
	if err := w.c.flush(); err != nil {
		return err
	}
	for _, take := range takes {
		got, err := w.c.read()
		if err != nil {
			return err
		}
		take(got)
	}
	w.wrote = false
	return nil
}

// awaitReads waits for n more reads.
func (o *owners) awaitReads(n int64) {
	o.t.Helper()
	due := o.reads.Load() + n
	redistest.Eventually(o.t, 20*time.Second, fmt.Sprint(n, " more reads"), func() bool {
		return o.reads.Load() >= due || o.lost.count.Load() > 0
	})
}

// finish ends the clients, and fails the test for everything that was wrong.
func (o *owners) finish() {
	o.t.Helper()
	o.end()
	o.stale.none(o.t, "reads of something else than the client's own latest write")
	o.failed.none(o.t, "errors on reads")
	o.wrong.none(o.t, "wrong replies")
	o.lost.none(o.t, "clients that were disconnected or got no reply")
}

// report prints figures.
func (o *owners) report(what string) {
	o.t.Helper()
	figure(o.t, "%s: %d reads, errors %d, stale reads of own writes %d; %d writes, refused or in doubt %d, errors of reads sent together with one %d",
		what, o.reads.Load(), o.failed.count.Load(), o.stale.count.Load(), o.writes.Load(), o.refused.Load(), o.beside.count.Load())
}

// wire is the cable by which a replica hears its primary. It can be held, so that the replica lags and
// does not notice.
type wire struct {
	addr string

	mu    sync.Mutex // guards what follows
	moves *sync.Cond // signalled when held changes
	held  bool
	conns []net.Conn
}

// startWire leads to a primary.
func startWire(t testing.TB, target string) *wire {
	t.Helper()
	w := &wire{}
	w.moves = sync.NewCond(&w.mu)
	t.Cleanup(func() {
		w.hold(false)
		w.cut()
	})
	w.addr = between(t, target, &w.mu, &w.conns, w.back)
	return w
}

// back carries what the primary says.
func (w *wire) back(near, far net.Conn) {
	defer near.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := far.Read(buf)
		w.mu.Lock()
		for w.held {
			w.moves.Wait()
		}
		w.mu.Unlock()
		if _, failed := near.Write(buf[:n]); failed != nil || err != nil {
			return
		}
	}
}

// hold keeps back what the primary says, or lets it through.
func (w *wire) hold(held bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held = held
	w.moves.Broadcast()
}

// cut ends all connections. New ones work.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.conns = nil
}

// stumble has the replica lag now and then, by up to most, until the crowd has ended.
func (w *wire) stumble(k *crowd, most time.Duration) {
	k.done.Add(1)
	go func() {
		defer k.done.Done()
		defer w.hold(false)
		for !k.stopped() {
			w.hold(true)
			k.pause(rand.N(most))
			w.hold(false)
			k.pause(rand.N(most / 4))
		}
	}()
}
