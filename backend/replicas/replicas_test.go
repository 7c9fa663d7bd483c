package replicas

import (
	"testing"
	"time"
)

func TestMovesInSaysWhichSlotsLeave(t *testing.T) {
	text := "a1 10.0.0.2:6379@16379 master - 0 1 3 connected 100-200 [150->-b2]\n" +
		"b2 10.0.0.1:6379@16379 myself,master - 0 0 1 connected 0-99 300 [93->-a1] [77-<-a1] [16384->-a1] [16383->-a1]\n"
	s := &Shard{}
	if s.Moves(93) || s.Moves(-1) {
		t.Error("a shard that was not asked moves slots")
	}
	s.moves.Store(movesIn(text))
	for slot, want := range map[int]bool{93: true, 16383: true, 77: false, 150: false, 92: false, -1: true} {
		if s.Moves(slot) != want {
			t.Errorf("slot %d moves: %v", slot, !want)
		}
	}
	if s.moves.Store(movesIn("")); s.Moves(93) {
		t.Error("93 moves for ever")
	}
}

func TestMarksSayUpToWhenAReplicaHasEverything(t *testing.T) {
	var m marks
	if upTo, lacks, same := m.reached("h", 5); upTo != 0 || lacks != -1 || !same {
		t.Errorf("without a mark: %v, %v, %v", upTo, lacks, same)
	}
	for i := range 10 {
		m.add("h", mark{Instant(100 + i), int64(10 * i)})
	}
	for _, c := range []struct {
		offset int64
		upTo   Instant
		lacks  int64
	}{{-1, 0, 91}, {0, 100, 90}, {9, 100, 81}, {10, 101, 80}, {90, 109, 0}, {1000, 109, 0}} {
		if upTo, lacks, same := m.reached("h", c.offset); upTo != c.upTo || lacks != c.lacks || !same {
			t.Errorf("offset %d: %v, %v, %v, want %v, %v", c.offset, upTo, lacks, same, c.upTo, c.lacks)
		}
	}
	if upTo, _, same := m.reached("other", 90); upTo != 0 || same {
		t.Error("a replica of another history has everything")
	}
	m.add("new", mark{200, 7})
	if upTo, _, _ := m.reached("new", 6); upTo != 0 {
		t.Error("marks of an older history count")
	}
}

func TestMarksAreBoundedAndKeepOldOnes(t *testing.T) {
	var m marks
	for i := range 100 * maxMarks {
		m.add("h", mark{Instant(i + 1), int64(i)})
	}
	if len(m.latest) > maxMarks {
		t.Errorf("%d marks", len(m.latest))
	}
	last := int64(100*maxMarks - 1)
	if upTo, _, _ := m.reached("h", last); upTo != Instant(last+1) {
		t.Errorf("the newest mark is %v", upTo)
	}
	for _, lag := range []int64{1, 30, 60, 1000} { // marks lie the further apart the older they are
		if upTo, lacks, _ := m.reached("h", last-lag); upTo == 0 || upTo > Instant(last-lag+1) || lacks != lag {
			t.Errorf("a lag of %d: up to %v, lacks %d", lag, upTo, lacks)
		}
	}
}

func TestNodeIsReadByWhoWroteBeforeItHadEverything(t *testing.T) {
	n := &Node{}
	if n.Has(0) || n.LagTime() >= 0 || n.Status().Why == "" {
		t.Error("a node that was not asked may be read")
	}
	n.linked.Store(true)
	n.upTo.Store(int64(Now()))
	written := Now()
	for since, want := range map[Instant]bool{0: true, written: false, Instant(n.upTo.Load()): false, Instant(n.upTo.Load()) - 1: true} {
		if n.Has(since) != want {
			t.Errorf("written at %d, up to %d: %v", since, n.upTo.Load(), !want)
		}
	}
}

func TestNearestIsTheZoneOrTheFastest(t *testing.T) {
	node := func(rtt time.Duration, zone string, well bool) *Node {
		n := &Node{}
		n.rtt.Store(int64(rtt))
		n.well.Store(well)
		n.status.Store(&Status{Zone: zone})
		return n
	}
	primary := node(9*time.Millisecond, "a", true)
	near, far := node(time.Millisecond, "b", true), node(5*time.Millisecond, "c", true)
	dead := node(time.Microsecond, "d", false)
	s := &Shard{Primary: primary, Replicas: []*Node{near, far, dead}}
	for zone, want := range map[string]*Node{"": near, "a": primary, "c": far, "d": near, "elsewhere": near} {
		nearest := s.Nearest(zone)
		for _, n := range []*Node{primary, near, far} {
			if nearest.Holds(n) != (n == want) {
				t.Errorf("zone %q: the node in %s is near: %v", zone, n.zone(), nearest.Holds(n))
			}
		}
	}
}
