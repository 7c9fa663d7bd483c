package nodes

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/berth-proxy/berth/router"
)

// Nodes is what berth knows of its nodes, and keeps that true.
//
//	Moved ──────────┐ CAS                      ┌─▶ Info, Health
//	                ▼                          │
//	Topology ◀── topology ◀── Store ─ round ───┤ asks one node after the other until one knows
//	                                    ▲      └─▶ OnChange(old, new), one log line
//	Refresh ──▶ asked ──▶ run ──────────┘
//	                       ▲ every TopologyInterval, or after a failure with back-off
//
// All methods may be called from any goroutine. Only run's goroutine asks nodes for the topology;
// it has at most one round under way. runLoad's asks the primaries how many clients they bear;
// runSentinels' listens for the word that Sentinels have replaced the primary, which asks for a
// round.
type Nodes struct {
	target   Target
	settings *Settings
	gap      time.Duration // between the beginnings of two rounds, at least

	// A round's Store races with Moved's compare-and-swap. If Moved loses, it tries again; if it
	// wins just before, its patch is lost, but it has asked for another round.
	topology atomic.Pointer[router.Topology]
	info     atomic.Pointer[Info]
	health   atomic.Pointer[Health]
	onChange atomic.Pointer[func(old, new *router.Topology)]
	onLoad   atomic.Pointer[func(addr string, maxClients, connected int)]
	stats    counters

	refreshWanted   chan struct{} // holds one token while a refresh is wanted
	intervalChanged chan struct{} // holds one token while the interval has changed
	loadWanted      chan struct{} // holds one token while the primaries are to be asked for their load
	cancel          context.CancelFunc
	roundsDone      chan struct{} // closed when run has returned; nil when there is none
	loadDone        chan struct{} // closed when runLoad has returned
	sentinelsDone   chan struct{} // closed when runSentinels has returned

	// Of the goroutine that runs rounds, and of Connect before that runs.
	announced *router.Topology // what OnChange and the log were told last
	backOff   time.Duration    // 0 after a round that succeeded
	warned    string           // the last complaint that is not a failure
	epoch     int64            // of the failover, as Sentinels count them, that made the primary

	end func() // of nodes that berth has started itself, whose topology never changes; else nil
}

// Options are given to Connect.
type Options struct {
	Settings *Settings     // nil: the defaults
	Wait     bool          // do not fail when no node answers: keep trying, with Ready() false until one does
	gap      time.Duration // for tests; 0: refreshGap
}

// refreshGap is the least time between two rounds.
const refreshGap = time.Second

// Health is how the latest round went.
type Health struct {
	Err error     // nil: a node answered; else why none did
	At  time.Time // of the latest round in which a node answered; zero: never
}

// nodesStats counts; written by the goroutine of the rounds and by Moved, read by Stats.
type counters struct{ rounds, failures, changes, moved atomic.Int64 }

// Stats is what Nodes has done since the start.
type Stats struct {
	Rounds   int64 // times berth asked for the topology
	Failures int64 // of them, how often no node knew
	Changes  int64 // times the topology was another one
	Moved    int64 // slots patched because of a MOVED error
}

// Connect asks the seeds, in turn, what they are. A *ConfigError is returned in any case; other
// errors only without Wait.
func Connect(ctx context.Context, target Target, options Options) (*Nodes, error) {
	if options.Settings == nil {
		options.Settings = &Settings{}
	}
	if options.gap == 0 {
		options.gap = refreshGap
	}
	n := newNodes(target, options.Settings, options.gap)
	err := n.discover(ctx)
	if err != nil && (mistake(err) != "" || !options.Wait) {
		return nil, fmt.Errorf("backend %s: %w", target, err)
	}
	n.finishRound(err)
	if err != nil {
		n.logFailure(err)
	}
	n.announced = n.Topology()
	running, cancel := context.WithCancel(context.Background())
	n.cancel, n.roundsDone, n.loadDone, n.sentinelsDone = cancel, make(chan struct{}), make(chan struct{}), make(chan struct{})
	go n.run(running)
	go n.runLoad(running)
	go n.runSentinels(running)
	return n, nil
}

// Fixed returns nodes that berth has started itself: each owns an even range of the slots, for as
// long as berth runs. They are not asked for anything. end is called by Close and ends them; it may
// be called more than once.
func Fixed(addrs []string, info Info, end func()) *Nodes {
	n := newNodes(Target{Addrs: addrs}, &Settings{}, refreshGap)
	n.end = end
	n.topology.Store(router.Even(addrs))
	n.info.Store(&info)
	n.health.Store(&Health{At: time.Now()})
	return n
}

func newNodes(target Target, settings *Settings, gap time.Duration) *Nodes {
	n := &Nodes{
		target: target, settings: settings, gap: gap,
		refreshWanted: make(chan struct{}, 1), intervalChanged: make(chan struct{}, 1), loadWanted: make(chan struct{}, 1),
	}
	n.topology.Store(router.Even(nil)) // nobody owns anything
	n.info.Store(&Info{Kind: Standalone})
	n.health.Store(&Health{Err: errors.New("not asked yet")})
	return n
}

// Topology is who owns which slot now: one atomic load. It serves no slot until a node has
// answered.
func (n *Nodes) Topology() *router.Topology { return n.topology.Load() }

// Info is what the nodes are. Not to be changed.
func (n *Nodes) Info() *Info { return n.info.Load() }

// Target is where berth was told to look.
func (n *Nodes) Target() Target { return n.target }

// Health is how the latest round went.
func (n *Nodes) Health() Health { return *n.health.Load() }

// Ready is whether a node answered in the latest round.
func (n *Nodes) Ready() bool { return n.health.Load().Err == nil }

// Stats is what was done so far.
func (n *Nodes) Stats() Stats {
	s := &n.stats
	return Stats{Rounds: s.rounds.Load(), Failures: s.failures.Load(), Changes: s.changes.Load(), Moved: s.moved.Load()}
}

// OnChange has f called after each change of the topology, with what f was told last and what holds
// now, one call at a time, on a goroutine of Nodes. Slots patched by Moved are told with the
// refresh that follows. f must not block for long: no refresh happens meanwhile.
func (n *Nodes) OnChange(f func(old, new *router.Topology)) { n.onChange.Store(&f) }

// SetTopologyInterval changes how often the topology is asked for without cause, from now on.
func (n *Nodes) SetTopologyInterval(d time.Duration) {
	n.settings.SetTopologyInterval(d)
	offer(n.intervalChanged)
}

// Refresh asks for a refresh of the topology and returns at once. However often it is called, there
// is one round at a time, they begin at least a second apart, and a call during a round leads to
// one more after it.
func (n *Nodes) Refresh() { offer(n.refreshWanted) }

// Suspect says that a node is silent for long. In a Cluster another node may say that it has been
// replaced; Sentinels say so by themselves. One node alone may run a long script: to ask it would
// only make it seem gone.
func (n *Nodes) Suspect() {
	if t := n.Topology(); t.Sharded() && len(t.Shards()) > 1 {
		n.Refresh()
	}
}

// Moved says that a node answered MOVED: addr ("host:port", see router.ParseRedirect) owns the
// slot. The topology says so at once, and a refresh is asked for, since a slot seldom moves alone.
func (n *Nodes) Moved(slot uint16, addr string) {
	for n.end == nil {
		old := n.topology.Load()
		if old.Primary(slot) == addr { // another session was told first
			return
		}
		if n.topology.CompareAndSwap(old, old.Moved(slot, addr)) {
			n.stats.moved.Add(1)
			break
		}
	}
	n.Refresh()
}

// Describe is which nodes berth has, in the words of the ready line.
func (n *Nodes) Describe() string {
	info := n.Info()
	name := strings.TrimSpace(info.Product + " " + info.Release)
	switch {
	case info.Kind == Embedded:
		return fmt.Sprintf("embedded try-out of %d shards, not a store", len(n.Topology().Shards()))
	case n.Health().At.IsZero():
		return n.where() + " (not reachable yet)"
	case info.Kind == Cluster:
		return fmt.Sprintf("cluster of %d primaries (%s)", len(n.Topology().Shards()), name)
	case name == "":
		return n.where() + " (asks for a password)"
	}
	return fmt.Sprintf("%s (%s)", n.where(), name)
}

// where is where the nodes are, or who knows.
func (n *Nodes) where() string {
	addrs := strings.Join(n.target.Addrs, ",")
	switch {
	case n.target.Master == "":
		return addrs
	case n.Health().At.IsZero():
		return fmt.Sprintf("%s by Sentinels %s", n.target.Master, addrs)
	}
	return fmt.Sprintf("%s, primary of %s", n.Topology().Primary(0), n.target.Master)
}

// Close ends the goroutines, and the embedded backend if there is one, and returns when they are
// gone. A second call does nothing.
func (n *Nodes) Close() {
	if n.roundsDone != nil {
		n.cancel()
		<-n.roundsDone
		<-n.loadDone
		<-n.sentinelsDone
	}
	if n.end != nil {
		n.end()
	}
}
