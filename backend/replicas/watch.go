// Package replicas knows which replicas may be read, and by whom.
//
// As long as somebody reads, each primary is asked every so often how much it has executed, and then
// each of its replicas how much of that it has:
//
//	primary ◀─ INFO replication ─ shard ─ INFO replication ─▶ replica … replica
//	           at 12:00:00.0: 4711         4711: it has what was answered before 12:00:00.0
//
// So a client reads its own writes: it reads a replica only if that is later than the answer to its
// latest write. The package sends no client's command, and says nothing of who is read: the server
// chooses.
package replicas

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-proxy/berth/backend/nodes"
	"github.com/berth-proxy/berth/router"
)

// Limits are how far a replica that is read may lag.
type Limits struct {
	Lag   time.Duration // 0: any
	Bytes int64         // 0: any
}

// Watch asks the nodes, from the first read on until nobody has read for idle.
//
// All methods may be called from any goroutine.
type Watch struct {
	nodes    *nodes.Nodes
	settings *nodes.Settings // of the questions
	limits   func() Limits

	view atomic.Pointer[View] // nil: nobody reads
	used atomic.Int64         // Instant of the latest read, to a second

	distrusted atomic.Int64 // how often Distrust was called

	mu     sync.Mutex // admits one change of the view at a time
	closed bool
	ends   sync.WaitGroup // the goroutines
}

const (
	// every is how often a node is asked. A client's own write comes to be read from a replica after
	// so long, and some milliseconds.
	every = 100 * time.Millisecond
	// perNode bounds what the questions cost: with very many nodes each is asked less often.
	perNode = 2 * time.Millisecond
	// So many replicas of a shard may be read, and so many nodes are asked, primaries included: each takes
	// a connection, and others to read from.
	maxPerShard = 16
	maxNodes    = 1000
	// idle is how long nodes are asked though nobody reads.
	idle = time.Minute
	// patience is how long a node may owe an answer and still be read.
	patience = time.Second
)

// New returns a Watch of the nodes. Nobody is asked yet.
func New(n *nodes.Nodes, limits func() Limits) *Watch {
	w := &Watch{nodes: n, settings: &nodes.Settings{Dialer: n.Dialer(), Naming: n.Naming()}, limits: limits}
	w.settings.SetDialTimeout(patience)
	return w
}

// View returns the nodes of a topology, for somebody who is about to read. nil: they are not known yet.
func (w *Watch) View(t *router.Topology) *View {
	now := int64(Now())
	if now-w.used.Load() > int64(time.Second) {
		w.used.Store(now)
	}
	if v := w.view.Load(); v != nil && v.Topology == t {
		return v
	}
	if w.nodes.Topology() == t && w.mu.TryLock() {
		defer w.mu.Unlock()
		return w.change(t)
	}
	return nil
}

// Look returns the nodes as they are known, for reports; nil if nobody reads.
func (w *Watch) Look() *View { return w.view.Load() }

// change makes the view of a topology. Shards with the same primary go on, and so do their replicas.
func (w *Watch) change(t *router.Topology) *View {
	old := w.view.Load()
	if w.closed || old != nil && old.Topology == t {
		return old
	}
	before := map[string]*Shard{}
	nodes := 0
	if old != nil {
		for _, s := range old.Shards {
			before[s.Primary.Addr] = s
		}
	}
	for _, s := range t.Shards() {
		nodes += 1 + len(s.Replicas)
	}
	next := &View{Topology: t}
	pause := max(every, time.Duration(nodes)*perNode)
	for _, s := range t.Shards() {
		if len(s.Replicas) > maxPerShard || nodes > maxNodes {
			s.Replicas = s.Replicas[:min(len(s.Replicas), maxPerShard, max(maxNodes/len(t.Shards())-1, 0))]
		}
		was := before[s.Primary]
		if was != nil && was.has(s.Replicas) {
			delete(before, s.Primary)
			next.Shards = append(next.Shards, was)
			continue
		}
		next.Shards = append(next.Shards, w.begin(s, !t.Sharded(), pause))
	}
	for _, gone := range before {
		gone.stop()
	}
	w.view.Store(next)
	return next
}

// has reports whether these are the shard's replicas, in this order.
func (s *Shard) has(addrs []string) bool {
	return slices.EqualFunc(s.Replicas, addrs, func(n *Node, addr string) bool { return n.Addr == addr })
}

// begin has the nodes of a shard asked.
func (w *Watch) begin(of router.Shard, single bool, pause time.Duration) *Shard {
	s := &Shard{Primary: &Node{Addr: of.Primary}, single: single}
	for _, addr := range of.Replicas {
		s.Replicas = append(s.Replicas, &Node{Addr: addr})
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	if len(s.Replicas) == 0 { // there is nothing to choose yet
		pause *= 10
	}
	told := make([]chan struct{}, len(s.Replicas))
	for i, n := range s.Replicas {
		told[i] = make(chan struct{}, 1)
		q := &questions{watch: w, shard: s, node: n}
		w.ends.Go(func() { q.askReplica(ctx, told[i], 2*pause) })
	}
	q := &questions{watch: w, shard: s, node: s.Primary}
	w.ends.Go(func() { q.askPrimary(ctx, told, pause) })
	return s
}

// rest ends all questions if nobody has read for long.
func (w *Watch) rest() {
	if int64(Now())-w.used.Load() < int64(idle) || !w.mu.TryLock() {
		return
	}
	defer w.mu.Unlock()
	w.drop()
}

// drop forgets the view.
func (w *Watch) drop() {
	v := w.view.Swap(nil)
	if v == nil {
		return
	}
	for _, s := range v.Shards {
		s.stop()
	}
}

// Forget drops all that is known, because the nodes are others now.
func (w *Watch) Forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drop()
}

// Close ends the questions. It returns when the goroutines are gone.
func (w *Watch) Close() {
	w.mu.Lock()
	w.closed = true
	w.drop()
	w.mu.Unlock()
	w.ends.Wait()
}
