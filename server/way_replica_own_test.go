package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

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
