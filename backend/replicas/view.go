package replicas

import (
	"sync/atomic"
	"time"

	"github.com/berth-proxy/berth/router"
)

// Instant is a moment of this process, on a clock that is never set back.
type Instant int64

var epoch = time.Now()

// Now is the present moment. It is never 0.
func Now() Instant { return Instant(time.Since(epoch)) + 1 }

// View is the nodes of one topology as sources of reads. It is immutable; its Nodes are not.
type View struct {
	Topology *router.Topology
	Shards   []*Shard // as in the topology
}

// Shard is a primary and its replicas.
type Shard struct {
	Primary  *Node
	Replicas []*Node

	single bool // the topology has no slots
	rules  atomic.Pointer[primaryRules]
	marks  marks
	moves  atomic.Pointer[moves] // nil: none
	stop   func()                // ends the goroutines that ask its nodes
}

// moves is a set of slots that are being moved elsewhere.
type moves [router.Slots / 64]uint64

// Moves reports whether a slot is being moved elsewhere. The primary knows which keys have left already;
// its replicas say that they do not exist. slot < 0: whether any slot is.
func (s *Shard) Moves(slot int) bool {
	m := s.moves.Load()
	return m != nil && (slot < 0 || m[slot/64]&(1<<(slot%64)) != 0)
}

// Node is what is known of a node as a source of reads. Any goroutine may load it; the goroutine
// that asks the node stores it.
type Node struct {
	Addr string

	well    atomic.Bool                     // it is what the topology says, and answers in time
	askedAt atomic.Int64                    // when it was asked what it has answered last, unix nanoseconds
	linked  atomic.Bool                     // of a replica: it is connected to its primary, and lags no more than it may
	upTo    atomic.Int64                    // of a replica, an Instant: it has what its primary had executed by then; 0: not known
	rtt     atomic.Int64                    // nanoseconds, smoothed; 0: not measured
	differs atomic.Pointer[map[string]bool] // of a replica: users whose rules are not those of its primary; nil: not compared
	status  atomic.Pointer[Status]
}

// Status is what a node has said of itself, for people.
type Status struct {
	Readable bool
	Why      string // it is not readable; "": it is
	Lag      int64  // bytes of its primary's writes that a replica lacks; -1: not known
	Zone     string // availability zone; "": the node does not say
}

// Status returns what the node has said last.
func (n *Node) Status() Status {
	if s := n.status.Load(); s != nil {
		return *s
	}
	return Status{Why: "not asked yet", Lag: -1}
}

// LagTime is since when the replica may lack writes of its primary, as a duration; -1: not known.
func (n *Node) LagTime() time.Duration {
	upTo := n.upTo.Load()
	if upTo == 0 {
		return -1
	}
	return time.Duration(int64(Now()) - upTo)
}

// RTT is how long the node takes to answer; 0: not known.
func (n *Node) RTT() time.Duration { return time.Duration(n.rtt.Load()) }

// Has reports whether the replica may be read by a client whose latest write was answered at since;
// 0: it has written nothing.
func (n *Node) Has(since Instant) bool {
	return n.linked.Load() && (since == 0 || Instant(n.upTo.Load()) > since)
}

// HadOnce is Has for a replica that may have lost its primary: it answers, and has not lagged for
// longer than it may.
func (n *Node) HadOnce(since Instant) bool {
	upTo := Instant(n.upTo.Load())
	return n.well.Load() && upTo != 0 && (since == 0 || upTo > since)
}

// AskedAt is when the node was asked that which it has answered last, in unix nanoseconds. It may have
// begun anew since then, without data: only what was connected to it before is known to be so well.
func (n *Node) AskedAt() int64 { return n.askedAt.Load() }

// Well reports whether the node answers in time.
func (n *Node) Well() bool { return n.well.Load() }

// Near says which nodes are near enough.
type Near struct {
	zone string
	rtt  int64 // at most, in nanoseconds; 0: any
}

// Everywhere holds all nodes.
var Everywhere Near

// Nearest holds those nodes of a shard to which no other is much nearer: those in the zone, if one of
// them is well; else those that take little longer to answer than the fastest.
func (s *Shard) Nearest(zone string) Near {
	fastest := int64(0)
	for i := -1; i < len(s.Replicas); i++ {
		n := s.Primary
		if i >= 0 {
			n = s.Replicas[i]
		}
		if !n.Well() {
			continue
		}
		if zone != "" && n.zone() == zone {
			return Near{zone: zone}
		}
		if rtt := n.rtt.Load(); fastest == 0 || rtt < fastest {
			fastest = rtt
		}
	}
	return Near{rtt: fastest + fastest/4 + int64(jitter)}
}

// jitter is by how much round trips to equally near nodes differ.
const jitter = 300 * time.Microsecond

// Holds reports whether a node is among these.
func (near Near) Holds(n *Node) bool {
	if near.zone != "" {
		return n.zone() == near.zone
	}
	return near.rtt == 0 || n.rtt.Load() <= near.rtt
}

func (n *Node) zone() string {
	if s := n.status.Load(); s != nil {
		return s.Zone
	}
	return ""
}
