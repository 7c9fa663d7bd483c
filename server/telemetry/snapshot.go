package telemetry

import (
	"time"

	"github.com/berth-proxy/berth/backend/feed"
	"github.com/berth-proxy/berth/backend/lane"
	"github.com/berth-proxy/berth/backend/nodes"
	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/router"
)

// Snapshot is berth at one moment. The server makes it, and every report is a function of a
// Snapshot alone. One goroutine uses a Snapshot.
type Snapshot struct {
	At, Started time.Time
	Berth       Berth
	Loops       []*Loop
	Silent      int    // loops that have not answered in time
	Pools       []Pool // by node and user
	Limits      map[string]PoolLimit
	Topology    *router.Topology
	Sources     map[string]Source // by node, those that are asked how far they are
	Nodes       nodes.Stats
	Handshakes  Handshakes
	Doors       []Door // that are open
	Commands    *router.Table

	sum *Loop // made by Total when it is first needed
}

// Berth is what the process knows without asking its loops.
type Berth struct {
	RunID          string
	Chain          string        // see nodes.Chain
	Backend        string        // which nodes berth has, in words
	Ready          error         // nil: clients are served
	Sharded        bool          // clients see a cluster
	RedisVersion   string        // of the nodes; "": no node says it
	Server         []nodes.Field // what a node says it is; nil: no node says it
	Listener       string        // the first TCP listener, in the form of INFO; "": there is none
	Port           int
	ConfigFile     string // empty: none
	TicksPerSecond int64
	Clients        int64 // accepted and not closed
	ClientsLimit   int64
	Accepted       int64
	Refused        int64
	Unheard        int64         // accepts that failed
	Paused         string        // what CLIENT PAUSE stops, "all" or "write"
	PauseLeft      time.Duration // 0: nothing is paused
	PoolEnabled    bool
	PoolMaxTotal   int
	SlowCommands   string // that travel on leases because they have held up pipes
}

// Door is an address that clients come to.
type Door struct {
	Name    string `json:"door"`
	Clients int64  `json:"clients"` // connected now
}

// Handshakes counts TLS handshakes of clients that ended, and those that are under way.
type Handshakes struct {
	Full, Resumed, TimedOut, Failed uint64
	Now                             int
}

// Source is a node as reads go to it.
type Source struct {
	Readable string        // "yes", or why not
	LagTime  time.Duration // since when a replica may lack writes; -1: not known
	Lag      int64         // bytes that it lacks; -1: not known
	RTT      time.Duration
	Zone     string
}

// PoolLimit is how many exclusive connections berth makes to a node at most, and how many of them
// blocking commands and the like may hold; 0: no limit.
type PoolLimit struct{ All, Blocking int }

// LearnLimit asks for the limit of a node and enters it.
func (s *Snapshot) LearnLimit(addr string, limit func(addr string) (all, blocking int)) {
	all, blocking := limit(addr)
	s.Limits[addr] = PoolLimit{all, blocking}
}

// Total returns the figures of all loops, added up.
func (s *Snapshot) Total() *Loop {
	if s.sum == nil {
		s.sum = NewLoop()
		for _, l := range s.Loops {
			s.sum.add(l)
		}
	}
	return s.sum
}

// Loop is what one loop, or several added up, have done and hold now.
type Loop struct {
	Loops     int
	Counters  Counters
	Rates     []Rates // of each loop
	PipeStats pipe.Stats
	Pipes     map[string]pipe.Count   // by node
	Figures   map[string]pipe.Figures // by node
	FeedStats feed.Stats
	Feeds     map[string]feed.Count // by node
	LaneStats lane.Stats
	Holders   map[PoolName]int // clients that hold a connection
	Pins      []PinRow         // the connections held longest
	PinsTotal int              // all connections that are held

	InputBytes, OutputBytes int // memory held for clients

	Clients    int
	Blocked    int // in a blocking command, or by CLIENT PAUSE
	Waiting    int // for a lease
	Pinned     int // hold a connection until they leave
	Subscribed int // to channels
	Tracking   int // with CLIENT TRACKING on
	Near       Near
	Lanes      int // connections on which clients are blocked together
}

// NewLoop makes a Loop in which every figure is 0.
func NewLoop() *Loop {
	f := &Loop{Pipes: map[string]pipe.Count{}, Figures: map[string]pipe.Figures{}, Feeds: map[string]feed.Count{}, Holders: map[PoolName]int{}}
	f.Counters.Init()
	return f
}

// timeouts is how many requests nodes have not answered in time.
func (f *Loop) timeouts() (n int64) {
	for _, node := range f.Figures {
		n += int64(node.Timeouts)
	}
	return n
}

// add adds the figures of another loop. A new field of Loop is added here, and a test fails until
// it is.
func (f *Loop) add(o *Loop) {
	f.Loops += o.Loops
	f.Counters.Add(&o.Counters)
	f.Rates = append(f.Rates, o.Rates...)
	f.PipeStats.Add(o.PipeStats)
	for addr, c := range o.Pipes {
		all := f.Pipes[addr]
		all.Add(c)
		f.Pipes[addr] = all
	}
	for addr, n := range o.Figures {
		all := f.Figures[addr]
		all.Add(n)
		f.Figures[addr] = all
	}
	f.FeedStats.Add(o.FeedStats)
	for addr, c := range o.Feeds {
		all := f.Feeds[addr]
		all.Add(c)
		f.Feeds[addr] = all
	}
	f.LaneStats.Add(o.LaneStats)
	for name, n := range o.Holders {
		f.Holders[name] += n
	}
	f.Pins = append(f.Pins, o.Pins...)
	f.PinsTotal += o.PinsTotal
	f.InputBytes += o.InputBytes
	f.OutputBytes += o.OutputBytes
	f.Clients += o.Clients
	f.Blocked += o.Blocked
	f.Waiting += o.Waiting
	f.Pinned += o.Pinned
	f.Subscribed += o.Subscribed
	f.Tracking += o.Tracking
	f.Near.add(o.Near)
	f.Lanes += o.Lanes
}
