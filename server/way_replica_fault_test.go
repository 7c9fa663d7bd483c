package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
)

// replicaFaults are what befalls a replica whose primary is well.
var replicaFaults = []struct {
	name    string
	noticed bool // PROXY BACKENDS says that it is not readable
	harm    func(t *testing.T, f *family, r *redistest.Server) (heal func())
}{
	{"killed", true, func(t *testing.T, f *family, r *redistest.Server) func() {
		r.Kill()
		return func() { r.Restart(t) }
	}},
	{"hung", true, func(t *testing.T, f *family, r *redistest.Server) func() {
		r.Pause()
		return r.Resume
	}},
	{"without its primary", true, func(t *testing.T, f *family, r *redistest.Server) func() {
		r.Do(t, "REPLICAOF", "127.0.0.1", 1)
		return func() { r.Do(t, "REPLICAOF", "127.0.0.1", f.primary.Port()) }
	}},
	{"without its primary and silent", true, func(t *testing.T, f *family, r *redistest.Server) func() {
		r.Do(t, "CONFIG", "SET", "replica-serve-stale-data", "no")
		r.Do(t, "REPLICAOF", "127.0.0.1", 1)
		return func() {
			r.Do(t, "REPLICAOF", "127.0.0.1", f.primary.Port())
			r.Do(t, "CONFIG", "SET", "replica-serve-stale-data", "yes")
		}
	}},
	{"loading", true, func(t *testing.T, f *family, r *redistest.Server) func() {
		f.primary.Do(t, "DEBUG", "POPULATE", 20000, "load")
		r.Do(t, "CONFIG", "SET", "key-load-delay", 1000)
		r.Do(t, "REPLICAOF", "NO", "ONE") // another history: it must begin anew
		r.Do(t, "REPLICAOF", "127.0.0.1", f.primary.Port())
		eventually(t, "the replica to load", func() bool { return strings.HasPrefix(fmt.Sprint(r.Do(t, "DBSIZE")), "LOADING ") })
		return func() { r.Do(t, "CONFIG", "SET", "key-load-delay", 0) }
	}},
	{"asking for a password", true, func(t *testing.T, f *family, r *redistest.Server) func() {
		c := dial(t, r.Addr())
		c.Do("CONFIG", "SET", "requirepass", "secret")
		c.Do("CLIENT", "KILL", "TYPE", "normal")
		return func() { c.Do("CONFIG", "SET", "requirepass", "") }
	}},
	{"refusing reads", false, func(t *testing.T, f *family, r *redistest.Server) func() {
		r.Do(t, "ACL", "SETUSER", "default", "-@read", "-eval_ro")
		return func() { r.Do(t, "ACL", "SETUSER", "default", "+@all") }
	}},
	{"a primary", true, func(t *testing.T, f *family, r *redistest.Server) func() {
		r.Do(t, "REPLICAOF", "NO", "ONE")
		return func() { r.Do(t, "REPLICAOF", "127.0.0.1", f.primary.Port()) }
	}},
}

func TestAReplicasFaultIsNoErrorForItsClients(t *testing.T) {
	for _, fault := range replicaFaults {
		t.Run(fault.name, func(t *testing.T) {
			parallel(t)
			f := startFamily(t, 2, "--loading-process-events-interval-bytes", "1024")
			b := startBerth(t, f.primary.Addr(), "--read-from", "prefer-replica")
			awaitReadable(t, b, 2)
			o := newOwners(t, b.Addr(), anywhere())
			o.steady = true
			o.own(20)
			o.awaitReads(500)
			ill := f.replicas[1]
			heal := fault.harm(t, f, ill)
			if fault.noticed {
				eventually(t, "berth to notice", func() bool { return readable(t, b, ill.Addr()) != "yes" })
				t.Logf("berth says: %s", readable(t, b, ill.Addr()))
			}
			by, _, _ := readsAt(t, b)
			o.awaitReads(500)
			eventually(t, "reads to go to the other replica", func() bool {
				now, _, _ := readsAt(t, b)
				return now[f.replicas[0].Addr()] > by[f.replicas[0].Addr()]
			})
			heal()
			f.awaitStep(t, ill)
			awaitReadable(t, b, 2)
			by, _, _ = readsAt(t, b)
			eventually(t, "reads to come back", func() bool {
				now, _, _ := readsAt(t, b)
				return now[ill.Addr()] > by[ill.Addr()]
			})
			o.finish()
		})
	}
}

// TestAHungReplicaHoldsNobody: what it owes, other nodes answer.
func TestAHungReplicaHoldsNobody(t *testing.T) {
	parallel(t)
	f := startFamily(t, 1)
	b := startBerth(t, f.primary.Addr(), "--read-from", "prefer-replica")
	clients := make([]*redistest.Conn, 10)
	for i := range clients {
		clients[i] = dial(t, b.Addr())
		awaitRead(t, b, clients[i], 1, "k")
	}
	f.replicas[0].Pause()
	begin := time.Now()
	for _, c := range clients {
		c.Send("GET", "k")
	}
	for i, c := range clients {
		if got := c.Recv(); got != nil {
			t.Errorf("client %d: %v", i, got)
		}
		if i == 0 || i == len(clients)-1 {
			t.Logf("client %d has its reply after %s", i, time.Since(begin).Round(time.Millisecond))
		}
	}
	f.replicas[0].Resume()
}

func TestReadsGoOnWhilePrimariesChange(t *testing.T) {
	parallel(t)
	p := startPairs(t, "--cluster-require-full-coverage", "no")
	b := startBerth(t, clusterURL(p.cluster), "--read-from", "prefer-replica", "--backend-connect-timeout-ms", "60000")
	t.Run("planned", func(t *testing.T) {
		awaitReadable(t, b, 3)
		o := newOwners(t, b.Addr(), everywhereIn(p.cluster, keysOfOwner))
		o.own(sized(20, 50))
		for i := range sized(2, 12) {
			o.awaitReads(500)
			p.plan(t, i%3)
			awaitReadable(t, b, 3)
		}
		o.awaitReads(500)
		o.finish()
		o.report("planned fail-overs")
	})
	t.Run("killed", func(t *testing.T) {
		awaitReadable(t, b, 3)
		o := newOwners(t, b.Addr(), everywhereIn(p.cluster, keysOfOwner))
		const hurt = 2
		o.hurt.Store(hurt)
		o.own(sized(20, 50))
		for range sized(1, 4) {
			o.awaitReads(500)
			dead := p.primary[hurt]
			p.kill(t, hurt)
			o.awaitReads(500)
			p.cluster.Node(dead).Restart(t)
			awaitReplica(t, p.cluster.Node(dead), p.cluster.Node(p.primary[hurt]))
			awaitReadable(t, b, 3)
		}
		o.awaitReads(500)
		o.finish()
		o.report("primaries killed")
	})
}

func TestReadsGoOnWhileSentinelsChangeThePrimary(t *testing.T) {
	parallel(t)
	w := redistest.StartWatched(t, 2, 3, "--repl-ping-replica-period", "1")
	b := startBerth(t, w.URL(), "--read-from", "prefer-replica", "--backend-connect-timeout-ms", "60000")
	awaitReadable(t, b, 2)
	o := newOwners(t, b.Addr(), anywhere())
	o.own(20)
	o.awaitReads(500)
	before := b.srv.nodes.Topology().Primary(0)
	w.Failover(t)
	redistest.Eventually(t, 30*time.Second, "another primary", func() bool {
		return b.srv.nodes.Topology().Primary(0) != before
	})
	awaitReadable(t, b, 1) // Sentinels have the former primary follow the new one after eight seconds
	o.awaitReads(500)
	_, _, replicas := readsAt(t, b)
	eventually(t, "reads to go to a replica of the new primary", func() bool {
		_, _, now := readsAt(t, b)
		return now > replicas
	})
	o.end()
	o.failed.none(t, "errors on reads")
	o.lost.none(t, "clients that were disconnected or got no reply")
	o.report("fail-over by Sentinels, which loses writes")
}
