package main

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
)

// pairs are the two nodes of each shard of a Cluster, and which of them is the primary now.
type pairs struct {
	cluster *redistest.Cluster
	primary []int    // by shard
	replica []int    // by shard
	tags    []string // by shard: a hash tag of its slots
}

func startPairs(t testing.TB, args ...string) *pairs {
	p := &pairs{cluster: redistest.StartCluster(t, 3, 1, args...)}
	for shard := range p.cluster.Primaries() {
		p.primary, p.replica = append(p.primary, shard), append(p.replica, shard+p.cluster.Primaries())
		p.tags = append(p.tags, tagOn(p.cluster, shard))
	}
	return p
}

// swap says that the replica of a shard has become its primary.
func (p *pairs) swap(shard int) {
	p.primary[shard], p.replica[shard] = p.replica[shard], p.primary[shard]
}

// plan has the replica of a shard take over, and returns when its primary has become its replica.
func (p *pairs) plan(t testing.TB, shard int) {
	t.Helper()
	old, next := p.cluster.Node(p.primary[shard]), p.cluster.Node(p.replica[shard])
	if got := next.Do(t, "CLUSTER", "FAILOVER"); got != "OK" {
		t.Fatalf("CLUSTER FAILOVER: %v", got)
	}
	p.swap(shard)
	awaitReplica(t, old, next)
}

// awaitReplica waits until a node has all that its primary has.
func awaitReplica(t testing.TB, replica, primary *redistest.Server) {
	t.Helper()
	redistest.Eventually(t, 30*time.Second, "the former primary to be a replica", func() bool {
		is, _ := replica.Do(t, "INFO", "replication").(string)
		return strings.Contains(is, "master_link_status:up") && strings.Contains(is, fmt.Sprintf("master_port:%d\r", primary.Port()))
	})
}

// kill ends the primary of a shard, and returns when one of the nodes left says that the replica
// owns its slots.
func (p *pairs) kill(t testing.TB, shard int) (known time.Time) {
	t.Helper()
	var nodes []*redistest.Conn
	for i := range p.cluster.Len() {
		if i != p.primary[shard] {
			nodes = append(nodes, redistest.Dial(t, p.cluster.Node(i).Addr()))
		}
	}
	heir := p.cluster.Node(p.replica[shard]).Addr()
	p.cluster.Node(p.primary[shard]).Kill()
	redistest.Eventually(t, 30*time.Second, "a node to name the new owner", func() bool {
		return slices.ContainsFunc(nodes, func(n *redistest.Conn) bool {
			return ownerAt(n, router.Slot([]byte(p.tags[shard]))) == heir
		})
	})
	p.swap(shard)
	return time.Now()
}

// ownerAt is the owner of a slot by CLUSTER SLOTS of a node, "" if the answer has none.
func ownerAt(node *redistest.Conn, slot uint16) string {
	entries, _ := node.Do("CLUSTER", "SLOTS").([]any)
	for _, e := range entries {
		entry := e.([]any)
		if first, last := entry[0].(int64), entry[1].(int64); int64(slot) >= first && int64(slot) <= last {
			owner := entry[2].([]any)
			return fmt.Sprint(owner[0], ":", owner[1])
		}
	}
	return ""
}

// sleepers are clients that wait for an element of a list of their own, for as long as it takes.
type sleepers struct {
	*crowd
	tags  []string
	n     int
	round atomic.Int64 // of the elements pushed last
	woken atomic.Int64
	wrong findings
}

func startSleepers(t testing.TB, addr string, tags []string, n int) *sleepers {
	z := &sleepers{crowd: newCrowd(t, addr), tags: tags, n: n}
	z.crowd.start(n, "sleeper", func(c *loadClient, i, round int) error {
		got, err := c.do("BLPOP", z.list(i), "0")
		if err != nil {
			return err
		}
		switch want := fmt.Sprintf("[%s %d]", z.list(i), round+1); {
		case got.String() == fmt.Sprintf("[%s end]", z.list(i)):
			return errNoMore
		case got.String() != want:
			z.wrong.add("BLPOP: %v instead of %s", got, want)
		}
		z.woken.Add(1)
		return nil
	})
	return z
}

func (z *sleepers) list(i int) string { return fmt.Sprint("sleep:", z.tags[i%len(z.tags)], i) }

// wake pushes one element to each, and waits until each has got it.
func (z *sleepers) wake(c *redistest.Conn) {
	z.t.Helper()
	round := z.round.Add(1)
	for i := range z.n {
		if got := c.Do("RPUSH", z.list(i), round); got != int64(1) {
			z.wrong.add("RPUSH: %v", got)
		}
	}
	eventually(z.t, "all that wait to be woken", func() bool { return z.woken.Load() >= round*int64(z.n) })
}

// finish ends them.
func (z *sleepers) finish(c *redistest.Conn) {
	z.t.Helper()
	for i := range z.n {
		c.Do("RPUSH", z.list(i), "end")
	}
	z.crowd.end()
	z.lost.none(z.t, "blocked clients that were disconnected")
	z.wrong.none(z.t, "blocked clients with wrong replies")
}

func TestReplicasTakeOverUnderLoad(t *testing.T) {
	parallel(t)
	p := startPairs(t, "--cluster-require-full-coverage", "no")
	b := startLoaded(t, clusterURL(p.cluster))
	t.Run("planned", func(t *testing.T) { takeOverAsPlanned(t, p, b) })
	t.Run("killed", func(t *testing.T) { takeOverFromKilled(t, p, b) })
}

// takeOverAsPlanned has replicas take over while clients of all kinds are at work: none may notice.
func takeOverAsPlanned(t *testing.T, p *pairs, b *loadedBerth) {
	k := newBookkeeper(t, b.Addr(), p.cluster, -1)
	k.keep(sized(5, 50))
	s := newSoak(t, b.Addr())
	s.start(sized(5, 50), "swap", s.swap)
	s.start(sized(8, 50), "pop", s.pop)
	s.start(sized(2, 5), "push", s.push)
	s.start(sized(5, 50), "plain", s.plain)
	z := startSleepers(t, b.Addr(), p.tags, sized(3, 60))
	c := dial(t, b.Addr())
	var longest time.Duration
	times := sized(1, 14)
	for i := range times {
		shard := i % len(p.tags)
		z.wake(c)
		k.awaitServed(shard)
		begin := time.Now()
		p.plan(t, shard)
		k.awaitServed(shard)
		longest = max(longest, time.Since(begin))
	}
	z.wake(c)
	z.finish(c)
	s.popAll()
	s.end()
	k.end()
	s.check(c)
	k.check(c)
	if n := k.unknown.Load() + k.refused.Load(); n > 0 {
		t.Errorf("%d errors: %v", n, k.words)
	}
	var swapped int64
	for i := range s.swapped {
		swapped += s.swapped[i].Load()
	}
	m := b.metrics()
	figure(t, "%d planned fail-overs under load (%s at most): %d requests, errors or wrong replies %d, "+
		"compare and swap %d through %d in conflict, %d popped, %d blocked across a fail-over and woken; MOVED followed %.0f",
		times, longest.Round(time.Millisecond), s.requests.Load(), s.wrong.count.Load(),
		swapped, s.conflicts.Load(), s.pops.Load(), z.woken.Load(), sum(m, "berth_redirects_total", "moved"))
}

// takeOverFromKilled kills primaries. What Redis itself loses of that shard is not counted:
// replication is asynchronous.
func takeOverFromKilled(t *testing.T, p *pairs, b *loadedBerth) {
	const hurt = 2
	k := newBookkeeper(t, b.Addr(), p.cluster, hurt)
	k.keep(sized(5, 50))
	var late []time.Duration
	for range sized(1, 4) {
		k.awaitServed(hurt)
		dead := p.primary[hurt]
		killed := time.Now()
		known := p.kill(t, hurt)
		k.awaitServed(hurt)
		late = append(late, time.Since(known).Round(time.Millisecond))
		figure(t, "a node names the replica as the owner %s after the kill; berth serves its slots %s later",
			known.Sub(killed).Round(time.Millisecond), late[len(late)-1])
		p.cluster.Node(dead).Restart(t)
		awaitReplica(t, p.cluster.Node(dead), p.cluster.Node(p.primary[hurt]))
	}
	k.end()
	k.lost.none(t, "clients that were disconnected or got no reply")
	k.others.none(t, "errors on shards that were well")
}
