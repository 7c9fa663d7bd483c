package nodes

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/router"
)

// Nodes is what berth knows of its nodes, and keeps up to date.
//
//	                                           ┌─▶ Info, Health
//	Topology ◀── topology ◀── Store ─ round ───┤ asks one node after the other until one knows
//	                                    ▲      └─▶ OnChange(old, new), one log line
//	Refresh ──▶ run ────────────────────┘
//	             ▲ every TopologyInterval, or after a failure with back-off
//
// Rounds alone write the topology. What a node answers to a client's command never does: the client
// may have chosen the words.
//
// All methods may be called from any goroutine. Three goroutines ask:
//
//	run           asks nodes for the topology, in one round at a time
//	runLoad       asks the primaries how many clients they accept, after each round
//	runSentinels  listens to Sentinels, and asks for a round when they have replaced the primary
type Nodes struct {
	target   atomic.Pointer[Target] // Move stores it
	settings *Settings
	gap      time.Duration // the least time between the beginnings of two rounds that find no change

	topology atomic.Pointer[router.Topology]
	info     atomic.Pointer[Info]
	health   atomic.Pointer[Health]
	demands  atomic.Bool // see AuthRequired
	lost     instant     // the latest call of Lost
	trouble  instant     // the latest change, or the first of the calls of Lost that came less than takeover after each other
	onChange atomic.Pointer[func(old, new *router.Topology)]
	onLoad   atomic.Pointer[func(addr string, load Load)]
	stats    counters

	refreshWanted   chan struct{} // holds one token if Refresh was called
	intervalChanged chan struct{} // holds one token if the interval has changed
	loadWanted      chan struct{} // holds one token if the primaries are to be asked for their load
	cancel          context.CancelFunc
	roundsDone      chan struct{} // closed when run has returned; nil: there are no goroutines
	loadDone        chan struct{} // closed when runLoad has returned
	sentinelsDone   chan struct{} // closed when runSentinels has returned

	// Owned by the goroutine of run, and by Connect before that starts.
	announced *router.Topology // what OnChange and the log were told last
	changedAt time.Time        // when a round last found another topology
	backOff   time.Duration    // 0 after a round that succeeded
	warned    string           // the latest complaint that is not a failure
	epoch     int64            // Sentinels' number of the failover that made the primary

	end func() // ends nodes that berth has started itself; else nil

	life   sync.Mutex // guards closed, and admits one Move at a time
	closed bool
}

// Options are given to Connect.
type Options struct {
	Settings *Settings     // nil: the defaults
	Wait     bool          // if no node answers, do not fail but keep trying; Ready is false until one does
	gap      time.Duration // for tests; 0: refreshGap
}

const (
	// refreshGap is the least time between two rounds that find no change.
	refreshGap = time.Second
	// changing is for how many gaps after a change, or after a loss, the next change is looked for
	// sooner.
	changing = 3 // longer than pipes back off, so that a node that is wanted stays lost until it answers
	// takeover is for how many gaps after the first of several losses the next owner is looked for
	// sooner. Nodes with Redis' own settings call another one dead after 15 s, and then elect.
	takeover = 30
)

// Health is how the latest round went.
type Health struct {
	Err error     // why no node answered; nil: one did
	At  time.Time // when a node answered last; zero: never
}

// counters count what Stats returns. run writes them.
type counters struct{ rounds, failures, changes atomic.Int64 }

// Stats is what Nodes has done since the start.
type Stats struct {
	Rounds   int64 // rounds in which berth asked for the topology
	Failures int64 // rounds in which no node answered
	Changes  int64 // rounds that found another topology
}

// Dialer makes the connections to the nodes.
func (n *Nodes) Dialer() *backend.Dialer { return n.settings.Dialer }

// Naming names the connections to the nodes.
func (n *Nodes) Naming() *backend.Naming { return n.settings.Naming }

// Connect asks the seeds, one after the other, what they are. It returns a *ConfigError in any
// case, other errors only without Wait.
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
	n.begin()
	return n, nil
}

// begin starts the goroutines.
func (n *Nodes) begin() {
	running, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	n.roundsDone, n.loadDone, n.sentinelsDone = make(chan struct{}), make(chan struct{}), make(chan struct{})
	go n.run(running)
	go n.runLoad(running)
	go n.runSentinels(running)
}

// rest ends the goroutines, and returns when they are gone. It reports whether there were any.
func (n *Nodes) rest() bool {
	if n.roundsDone == nil {
		return false
	}
	n.cancel()
	<-n.roundsDone
	<-n.loadDone
	<-n.sentinelsDone
	return true
}

// Fixed returns nodes that berth has started itself. Each owns an even range of the slots, until Move
// or the end of berth, and is not asked for anything. Close calls end, which may be called more than
// once.
func Fixed(addrs []string, info Info, end func()) *Nodes {
	n := newNodes(Target{Addrs: addrs}, &Settings{}, refreshGap)
	n.end = end
	n.topology.Store(router.Even(addrs))
	n.info.Store(&info)
	n.demands.Store(info.AuthRequired)
	n.health.Store(&Health{At: time.Now()})
	return n
}

func newNodes(target Target, settings *Settings, gap time.Duration) *Nodes {
	n := &Nodes{
		settings: settings, gap: gap,
		refreshWanted: make(chan struct{}, 1), intervalChanged: make(chan struct{}, 1), loadWanted: make(chan struct{}, 1),
	}
	if settings.link == "" {
		settings.link = newLink()
	}
	if settings.Dialer == nil {
		settings.Dialer = &backend.Dialer{}
	}
	n.target.Store(&target)
	n.topology.Store(router.Even(nil)) // no node owns a slot
	n.info.Store(&Info{Kind: Standalone})
	n.health.Store(&Health{Err: errors.New("not asked yet")})
	return n
}

// Topology says which node owns which slot now. It costs one atomic load. No node owns a slot until
// a node has answered.
func (n *Nodes) Topology() *router.Topology { return n.topology.Load() }

// Info says what the nodes are. The caller must not change it.
func (n *Nodes) Info() *Info { return n.info.Load() }

// AuthRequired reports whether a client that gives no password gets NOAUTH, as far as is known.
func (n *Nodes) AuthRequired() bool { return n.demands.Load() }

// Demands is called with what a node has just said of that on a new connection, between two rounds. A
// node that is no primary, or none any more, does not count.
func (n *Nodes) Demands(addr string, wanted bool) {
	if !n.Topology().Serves(addr) {
		return
	}
	if n.demands.Swap(wanted) != wanted {
		n.Refresh()
	}
}

// Target returns what Connect was given, or Move after it.
func (n *Nodes) Target() Target { return *n.target.Load() }

// Health is how the latest round went.
func (n *Nodes) Health() Health { return *n.health.Load() }

// Ready reports whether a node answered in the latest round.
func (n *Nodes) Ready() bool { return n.health.Load().Err == nil }

// Stats returns what was done so far.
func (n *Nodes) Stats() Stats {
	s := &n.stats
	return Stats{Rounds: s.rounds.Load(), Failures: s.failures.Load(), Changes: s.changes.Load()}
}

// OnChange makes Nodes call f after each change of the topology, with the topology of the call
// before and the present one. There is one call at a time, on run's goroutine. f must not block for
// long, because no round happens meanwhile.
func (n *Nodes) OnChange(f func(old, new *router.Topology)) { n.onChange.Store(&f) }

// SetDialTimeout changes how long connecting to a node may take, and each answer to a question of
// berth's.
func (n *Nodes) SetDialTimeout(d time.Duration) { n.settings.SetDialTimeout(d) }

// SetTopologyInterval changes how often the topology is asked for if there is no other cause.
func (n *Nodes) SetTopologyInterval(d time.Duration) {
	n.settings.SetTopologyInterval(d)
	offer(n.intervalChanged)
}

// Refresh asks for a round and returns at once. However often it is called, there is one round at a
// time, and rounds begin at least a second apart, or a tenth of that while rounds find changes or
// after Lost. A call during a round leads to one more round.
func (n *Nodes) Refresh() { offer(n.refreshWanted) }

// Lost is Refresh after a connection to a node was lost or refused. In a Cluster another node may
// be taking over, so rounds follow each other as closely as while they find changes. They do so for
// a while only: a node that stays dead must not cost the others ten rounds a second for ever.
func (n *Nodes) Lost() {
	if !n.lost.within(takeover * n.gap) {
		n.trouble.set()
	}
	n.lost.set()
	n.Refresh()
}

// instant is a time that any goroutine may set.
type instant struct{ nanoseconds atomic.Int64 } // unix; 0: never

func (i *instant) set() { i.nanoseconds.Store(time.Now().UnixNano()) }

// within reports whether the time was set no longer than d ago.
func (i *instant) within(d time.Duration) bool {
	return time.Since(time.Unix(0, i.nanoseconds.Load())) < d
}

// Suspect is called when a node has not answered for long. In a Cluster another node may know that
// it was replaced, so Suspect asks for a round. Sentinels report a replaced primary by themselves.
// A single node may run a long script, and asking it would only make it seem gone.
func (n *Nodes) Suspect() {
	if t := n.Topology(); t.Sharded() && len(t.Shards()) > 1 {
		n.Refresh()
	}
}

// Describe says which nodes berth has, for the log line that says that berth is ready.
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

// where says where the nodes are, or which Sentinels know.
func (n *Nodes) where() string {
	addrs := strings.Join(n.Target().Addrs, ",")
	switch {
	case n.Target().Master == "":
		return addrs
	case n.Health().At.IsZero():
		return fmt.Sprintf("%s by Sentinels %s", n.Target().Master, addrs)
	}
	return fmt.Sprintf("%s, primary of %s", n.Topology().Primary(0), n.Target().Master)
}

// Close ends the goroutines, and the nodes that berth has started itself. It returns when they are
// gone. A second call does nothing.
func (n *Nodes) Close() {
	n.life.Lock()
	defer n.life.Unlock()
	n.closed = true
	n.rest()
	if n.end != nil {
		n.end()
	}
}
