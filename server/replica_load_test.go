package main

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
)

// commonKeys are keys that all clients read and nobody writes. Their values are their numbers.
const commonKeys = 10000

func commonKey(n int) string { return "common:" + strconv.Itoa(n) }

// setCommonKeys writes them.
func setCommonKeys(t testing.TB, addr string) {
	t.Helper()
	c, err := dialLoad(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	for n := range commonKeys {
		c.add("SET", commonKey(n), strconv.Itoa(n))
	}
	if err := c.flush(); err != nil {
		t.Fatal(err)
	}
	for range commonKeys {
		if got, err := c.read(); err != nil || got.text != "OK" {
			t.Fatalf("SET: %v %v", got, err)
		}
	}
}

// mix is one request of a client that writes its own keys in one of five, and reads its own keys and
// common ones.
func (w *owner) mix() error {
	switch n := rand.IntN(10); {
	case n < 2:
		w.set(w.any())
	case n < 4:
		w.get(w.any())
	default:
		n := rand.IntN(commonKeys)
		w.of.reads.Add(1)
		w.ask(func(got loadReply) {
			switch {
			case got.kind == '-':
				w.readFailed("GET %s: %v", commonKey(n), got)
			case got.text != strconv.Itoa(n):
				w.of.stale.add("GET %s: %v", commonKey(n), got)
			}
		}, "GET", commonKey(n))
	}
	return w.flush()
}

// pace lets the clients be for a while, and returns how many reads they made in a second.
func (o *owners) pace(d time.Duration) float64 {
	before, begin := o.reads.Load(), time.Now()
	o.pause(d)
	return float64(o.reads.Load()-before) / time.Since(begin).Seconds()
}

// TestReadsFromReplicasUnderLoad: replicas come and go, and nobody notices.
func TestReadsFromReplicasUnderLoad(t *testing.T) {
	parallel(t)
	p := startPairs(t, "--cluster-require-full-coverage", "no")
	b := startLoaded(t, clusterURL(p.cluster), "--backend-connect-timeout-ms", "30000")
	setCommonKeys(t, b.Addr())
	for shard := range p.primary {
		if got := p.cluster.Node(shard).Do(t, "WAIT", 1, 10000); got != int64(1) {
			t.Fatalf("WAIT: %v", got)
		}
	}
	o := newOwners(t, b.Addr(), everywhereIn(p.cluster, 40))
	clients := sized(20, 200)
	o.run(clients, (*owner).mix)
	o.awaitReads(int64(clients))
	admin := dial(t, b.Addr())
	well := sized(500*time.Millisecond, 15*time.Second)

	// Turn by turn, for others use the machine as well.
	const turns = 3
	var fromPrimary, withReplicas float64
	var primaries, replicas int64
	for range turns {
		script(t, admin, "CONFIG SET read-from primary → OK")
		o.pause(well / 10)
		fromPrimary += o.pace(well/turns) / turns
		script(t, admin, "CONFIG SET read-from prefer-replica → OK")
		awaitReadable(t, b, 3)
		o.pause(well / 10)
		_, primariesThen, replicasThen := readsAt(t, b)
		withReplicas += o.pace(well/turns) / turns
		_, primariesNow, replicasNow := readsAt(t, b)
		primaries, replicas = primaries+primariesNow-primariesThen, replicas+replicasNow-replicasThen
	}
	share := 100 * float64(primaries) / float64(primaries+replicas)
	figure(t, "%d clients, 80/20: %.0f reads a second with read-from primary, %.0f with prefer-replica; %.1f %% of them from primaries while all replicas are well",
		clients, fromPrimary, withReplicas, share)
	if loadFull && share > 5 {
		t.Errorf("%.1f %% of the reads went to primaries", share)
	}

	between := sized(100*time.Millisecond, 3*time.Second)
	event := func(what string, run func()) {
		errors, stale, writes := o.failed.count.Load(), o.stale.count.Load(), o.refused.Load()
		begin := time.Now()
		run()
		took := time.Since(begin)
		awaitReadable(t, b, 3)
		rate := o.pace(between)
		figure(t, "%s (%s, replicas read again after %s): errors on reads %d, stale reads %d, writes refused or in doubt %d; then %.0f reads a second",
			what, took.Round(10*time.Millisecond), time.Since(begin).Round(10*time.Millisecond)-between.Round(10*time.Millisecond),
			o.failed.count.Load()-errors, o.stale.count.Load()-stale, o.refused.Load()-writes, rate)
	}
	event("a planned fail-over", func() { p.plan(t, 0) })
	event("a replica killed and restarted", func() {
		r := p.cluster.Node(p.replica[1])
		r.Kill()
		o.pause(between)
		r.Restart(t)
		awaitReplica(t, r, p.cluster.Node(p.primary[1]))
	})
	event("a replica asleep (DEBUG SLEEP)", func() {
		p.cluster.Node(p.replica[2]).Do(t, "DEBUG", "SLEEP", sized("1", "3"))
	})
	event("a replica without its link", func() {
		primary, replica := p.cluster.Node(p.primary[2]), p.cluster.Node(p.replica[2])
		c := redistest.Dial(t, primary.Addr())
		defer c.Close()
		for begin := time.Now(); time.Since(begin) < between; {
			c.Do("CLIENT", "KILL", "TYPE", "replica")
		}
		awaitReplica(t, replica, primary)
	})
	o.pause(well)
	o.report(fmt.Sprint(clients, " clients in all"))
	o.finish()
}
