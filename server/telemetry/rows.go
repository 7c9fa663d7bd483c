package telemetry

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/router"
)

// The rows of PROXY and of the status page. A field has the name in its json tag, both in RESP and
// in JSON. Every number is an int64, in the unit that the name ends in. A field that does not apply
// is 0 or "".

// PoolRow is the pool of a node and user, in the columns of PgBouncer's SHOW POOLS: cl_ counts
// clients, sv_ counts connections.
type PoolRow struct {
	Node         string `json:"node"`
	User         string `json:"user"`
	ClActive     int64  `json:"cl_active"`           // hold a connection
	ClWaiting    int64  `json:"cl_waiting"`          // wait for a connection
	ClBlocking   int64  `json:"cl_waiting_blocking"` // wait for a connection for a blocking command or the like
	SvActive     int64  `json:"sv_active"`           // leased
	SvBlocking   int64  `json:"sv_active_blocking"`  // leased for a blocking command or the like
	SvIdle       int64  `json:"sv_idle"`
	SvLogin      int64  `json:"sv_login"`   // being dialled
	MaxWait      int64  `json:"maxwait_us"` // of the client that has waited longest and still waits
	Hits         int64  `json:"hits"`
	Misses       int64  `json:"misses"`
	Dials        int64  `json:"dials"`
	DialErrors   int64  `json:"dial_errors"`
	Evictions    int64  `json:"evictions"`
	Waits        int64  `json:"waits"`          // waits that have ended, in any way
	WaitTimeouts int64  `json:"wait_timeouts"`  // waits that have ended without a connection
	Limit        int64  `json:"limit"`          // connections to the node, of all its pools together; 0: any number
	LimitBlock   int64  `json:"limit_blocking"` // connections for blocking commands and the like
}

// PoolName identifies a row of pools. A user's old and new password have a pool each, and both
// pools make one row.
type PoolName struct{ Node, User string }

// Pool is the figures of one pool.
type Pool struct {
	PoolName
	pool.Stats
}

// PoolRows returns a row for each node and user. It relies on the order of Pools.
func (s *Snapshot) PoolRows() []PoolRow {
	var rows []PoolRow
	holders := s.Total().Holders
	for _, f := range s.Pools {
		if n := len(rows); n == 0 || rows[n-1].Node != f.Node || rows[n-1].User != f.User {
			rows = append(rows, PoolRow{Node: f.Node, User: f.User, ClActive: int64(holders[f.PoolName])})
		}
		r := &rows[len(rows)-1]
		r.ClWaiting += int64(f.Waiting)
		r.ClBlocking += int64(f.WaitingLong)
		r.SvBlocking += int64(f.LeasedLong)
		r.Limit, r.LimitBlock = int64(f.Limit), int64(f.LimitLong)
		r.SvActive += int64(f.Leased)
		r.SvIdle += int64(f.Idle)
		r.SvLogin += int64(f.Dialing)
		r.MaxWait = max(r.MaxWait, f.OldestWait.Microseconds())
		r.Hits += int64(f.Hits)
		r.Misses += int64(f.Misses)
		r.Dials += int64(f.Dials)
		r.DialErrors += int64(f.DialErrors)
		r.Evictions += int64(f.Evictions)
		r.Waits += int64(f.Waits)
		r.WaitTimeouts += int64(f.WaitTimeout)
	}
	return rows
}

// BackendRow is a node: what its pipes and its pools, of all users, are and have done.
type BackendRow struct {
	Node      string `json:"node"`
	Role      string `json:"role"` // primary, replica; "none": it is in no topology, but there are connections
	Slots     int64  `json:"slots"`
	Replicas  string `json:"replicas"`      // their addresses, with blanks between
	State     string `json:"state"`         // up, slow (a reply is owed for longer than a second), idle (no connection, none was lost), dialing, down
	Since     int64  `json:"state_seconds"` // for how long it has been up, slow or down
	PipesUp   int64  `json:"pipes_up"`
	PipesDial int64  `json:"pipes_dialing"`
	Owed      int64  `json:"owed"`           // replies that the node owes on pipes
	GivenUp   int64  `json:"given_up"`       // requests that were not answered in time
	Feeds     int64  `json:"feeds"`          // connections for subscriptions that clients share
	Channels  int64  `json:"channels"`       // subscribed on these feeds
	Buffered  int64  `json:"buffered_bytes"` // that wait for the node to read
	Leased    int64  `json:"leases"`
	Idle      int64  `json:"leases_idle"`
	Dialing   int64  `json:"leases_dialing"`
	Blocking  int64  `json:"leases_blocking"`       // in use by blocking commands and the like
	Limit     int64  `json:"leases_limit"`          // in use, idle and being dialled; 0: any number
	LimitLong int64  `json:"leases_limit_blocking"` // in use by blocking commands and the like
	Waiting   int64  `json:"waiting"`               // clients that wait for a lease
	WaitBlock int64  `json:"waiting_blocking"`      // clients that wait for a lease for a blocking command or the like
	Redirects int64  `json:"redirects"`             // MOVED and ASK that lead to the node
	Reads     int64  `json:"reads"`                 // that could have gone to several nodes, and went here
	Readable  string `json:"readable"`              // "yes", or why not; "": nobody reads from replicas now
	LagBytes  int64  `json:"lag_bytes"`             // that a replica lacks of its primary's writes; -1: not known
	LagMillis int64  `json:"lag_ms"`                // since when it may lack some; -1: not known
	RTT       int64  `json:"rtt_us"`                // of berth's questions
	Zone      string `json:"zone"`
	DialErrs  int64  `json:"dial_errors"`
	Timeouts  int64  `json:"wait_timeouts"`
	LastError string `json:"last_error"` // why the latest pipe was lost, or the latest dial failed
	ErrorAge  int64  `json:"last_error_seconds"`
}

// BackendRows returns the primaries in the order of their slots. After them come the replicas and the
// other nodes to which there are connections, by address.
func (s *Snapshot) BackendRows() []BackendRow {
	t, sum, now := s.Topology, s.Total(), s.At
	rows := make([]BackendRow, len(t.Shards()))
	place := map[string]int{}
	for i, shard := range t.Shards() {
		rows[i] = BackendRow{Node: shard.Primary, Role: "primary", Replicas: strings.Join(shard.Replicas, " ")}
		place[shard.Primary] = i
	}
	row := func(addr string) *BackendRow {
		if _, known := place[addr]; !known {
			place[addr] = len(rows)
			rows = append(rows, BackendRow{Node: addr, Role: roleOf(t, addr)})
		}
		return &rows[place[addr]]
	}
	for _, shard := range t.Shards() {
		for _, addr := range shard.Replicas {
			row(addr)
		}
	}
	for addr, f := range sum.Figures {
		r := row(addr)
		r.Reads, r.GivenUp = int64(f.PrimaryReads+f.ReplicaReads), int64(f.Timeouts)
	}
	for addr, from := range s.Sources {
		row(addr).takeSource(from)
	}
	for _, r := range t.Ranges() {
		if r.Shard >= 0 {
			rows[r.Shard].Slots += int64(r.To) - int64(r.From) + 1
		}
	}
	errs := map[string]nodeError{}
	for addr, c := range sum.Pipes {
		row(addr).takePipes(c, now)
		errs[addr] = nodeError{c.LastErr, c.LastErrAt}
	}
	for addr, c := range sum.Feeds {
		r := row(addr)
		r.Feeds, r.Channels = int64(c.Up), int64(c.Channels)
	}
	for _, f := range s.Pools {
		r := row(f.Node)
		r.Leased += int64(f.Leased)
		r.Idle += int64(f.Idle)
		r.Dialing += int64(f.Dialing)
		r.Blocking += int64(f.LeasedLong)
		r.WaitBlock += int64(f.WaitingLong)
		r.Waiting += int64(f.Waiting)
		r.DialErrs += int64(f.DialErrors)
		r.Timeouts += int64(f.WaitTimeout)
		if at := f.DialErrAt.UnixNano(); f.DialErr != nil && at > errs[f.Node].at {
			errs[f.Node] = nodeError{f.DialErr, at}
		}
	}
	for addr, n := range sum.Counters.redirects {
		row(addr).Redirects = n.moved + n.asked
	}
	for i := range rows {
		rows[i].wordState()
		limit := s.Limits[rows[i].Node]
		rows[i].Limit, rows[i].LimitLong = int64(limit.All), int64(limit.Blocking)
		if e := errs[rows[i].Node]; e.err != nil {
			rows[i].LastError, rows[i].ErrorAge = e.err.Error(), secondsSince(e.at, now)
		}
	}
	others := rows[len(t.Shards()):]
	slices.SortFunc(others, func(a, b BackendRow) int { return strings.Compare(a.Node, b.Node) })
	return rows
}

// roleOf is the role of a node that is no primary.
func roleOf(t *router.Topology, addr string) string {
	if t.Replicates(addr) {
		return "replica"
	}
	return "none"
}

// takeSource enters what the node is to those who read.
func (r *BackendRow) takeSource(from Source) {
	r.Readable, r.RTT, r.Zone = from.Readable, from.RTT.Microseconds(), from.Zone
	if r.Role == "replica" {
		r.LagBytes, r.LagMillis = from.Lag, -1
		if from.LagTime >= 0 {
			r.LagMillis = from.LagTime.Milliseconds()
		}
	}
}

// takePipes enters the figures of the node's pipes.
func (r *BackendRow) takePipes(c pipe.Count, now time.Time) {
	r.PipesUp, r.PipesDial, r.Owed, r.Buffered = int64(c.Up), int64(c.Dialing), int64(c.Owed), int64(c.Buffered)
	since := int64(0)
	switch {
	case c.OwedSince > 0:
		r.State, since = "slow", c.OwedSince
	case c.Up > 0:
		r.State, since = "up", c.UpSince
	case c.DownSince > 0:
		r.State, since = "down", c.DownSince
	case c.Dialing > 0:
		r.State = "dialing"
	}
	r.Since = secondsSince(since, now)
}

// nodeError is the latest error of a node, and when it was, in unix nanoseconds.
type nodeError struct {
	err error
	at  int64
}

// wordState finds the state of a node without pipes from its other connections.
func (r *BackendRow) wordState() {
	switch {
	case r.State != "":
	case r.Leased+r.Idle+r.Feeds > 0:
		r.State = "up"
	case r.Dialing > 0:
		r.State = "dialing"
	default:
		r.State = "idle"
	}
}

// secondsSince returns how many seconds ago unixNano was. An unixNano of 0 is never, and gives 0.
func secondsSince(unixNano int64, now time.Time) int64 {
	if unixNano == 0 {
		return 0
	}
	return max(0, now.UnixNano()-unixNano) / int64(time.Second)
}

// SlotRow is a range of slots of one owner.
type SlotRow struct {
	From     int64  `json:"from"`
	To       int64  `json:"to"`
	Slots    int64  `json:"slots"`
	Node     string `json:"node"` // "": no node serves the slots
	Replicas string `json:"replicas"`
}

// SlotRows returns a row for each range of slots that one node serves, or none.
func (s *Snapshot) SlotRows() []SlotRow {
	t := s.Topology
	var rows []SlotRow
	for _, r := range t.Ranges() {
		row := SlotRow{From: int64(r.From), To: int64(r.To), Slots: int64(r.To) - int64(r.From) + 1}
		if r.Shard >= 0 {
			shard := t.Shards()[r.Shard]
			row.Node, row.Replicas = shard.Primary, strings.Join(shard.Replicas, " ")
		}
		rows = append(rows, row)
	}
	return rows
}

// StatsRow is berth as a whole. Counters count since the start, or since CONFIG RESETSTAT.
type StatsRow struct {
	Uptime         int64 `json:"uptime_seconds"`
	Loops          int64 `json:"loops"`
	Clients        int64 `json:"clients"`
	ClientsLimit   int64 `json:"clients_limit"`
	Blocked        int64 `json:"clients_blocked"` // in a blocking command, or by CLIENT PAUSE
	Waiting        int64 `json:"clients_waiting"` // for a lease
	Subscribed     int64 `json:"clients_subscribed"`
	Pinned         int64 `json:"clients_pinned"` // hold a connection until they leave: MONITOR, and subscribers without pubsub-sharing
	Accepted       int64 `json:"clients_accepted"`
	Refused        int64 `json:"clients_refused"`
	Unheard        int64 `json:"accepts_failed"` // no descriptor was free: clients wait in the kernel
	Requests       int64 `json:"requests"`
	RequestsRate   int64 `json:"requests_per_second"` // mean of the last ten seconds
	Errors         int64 `json:"errors"`
	ErrorsRate     int64 `json:"errors_per_second"`
	BytesIn        int64 `json:"client_bytes_in"`
	BytesOut       int64 `json:"client_bytes_out"`
	NodeBytesIn    int64 `json:"node_bytes_in"`
	NodeBytesOut   int64 `json:"node_bytes_out"`
	PipesUp        int64 `json:"pipes_up"`
	PipesLost      int64 `json:"pipes_lost"`
	Owed           int64 `json:"owed"`
	Timeouts       int64 `json:"node_timeouts"`
	Leases         int64 `json:"leases"`
	LeasesIdle     int64 `json:"leases_idle"`
	Hits           int64 `json:"hits"`
	Misses         int64 `json:"misses"`
	WaitTimeouts   int64 `json:"wait_timeouts"`
	Revoked        int64 `json:"watches_revoked"` // their lease was taken back: EXEC answers nil
	CacheHits      int64 `json:"cache_hits"`      // reads of hot keys that berth has answered itself
	Moved          int64 `json:"redirects_moved"`
	Asked          int64 `json:"redirects_ask"`
	Shards         int64 `json:"shards"`
	SlotsServed    int64 `json:"slots_served"`
	TopologyRounds int64 `json:"topology_refreshes"`
	Topologies     int64 `json:"topology_changes"`

	SlowCommands string `json:"slow_commands"` // on leases, because a reply has held up others
}

// rateSpan is how many seconds a rate is the mean of.
const rateSpan = 10

// StatsRow returns the row of berth as a whole.
func (s *Snapshot) StatsRow() StatsRow {
	sum, t := s.Total(), s.Topology
	commands, redirects, rates := sum.Counters.allCommands(), sum.Counters.allRedirects(), s.rates()
	row := StatsRow{
		Uptime: int64(s.At.Sub(s.Started) / time.Second), Loops: int64(sum.Loops),
		Clients: int64(sum.Clients), ClientsLimit: s.Berth.ClientsLimit,
		Blocked: int64(sum.Blocked), Waiting: int64(sum.Waiting), Subscribed: int64(sum.Subscribed), Pinned: int64(sum.Pinned),
		Accepted: s.Berth.Accepted, Refused: s.Berth.Refused, Unheard: s.Berth.Unheard,
		Requests: commands.ok + commands.failed, RequestsRate: perSecond(rates.Requests),
		Errors: commands.failed, ErrorsRate: perSecond(rates.Errors),
		BytesIn: sum.Counters.BytesIn, BytesOut: sum.Counters.BytesOut,
		NodeBytesIn: sum.PipeStats.BytesIn, NodeBytesOut: sum.PipeStats.BytesOut,
		PipesLost: sum.PipeStats.Lost, Timeouts: sum.timeouts(),
		Moved: redirects.moved, Asked: redirects.asked, CacheHits: sum.Counters.Near.Hits,
		Shards: int64(len(t.Shards())), SlotsServed: int64(t.Served()),
		TopologyRounds: s.Nodes.Rounds, Topologies: s.Nodes.Changes,
		SlowCommands: s.Berth.SlowCommands,
	}
	for _, n := range sum.Counters.revoked {
		row.Revoked += n
	}
	for _, c := range sum.Pipes {
		row.PipesUp += int64(c.Up)
		row.Owed += int64(c.Owed)
	}
	for _, f := range s.Pools {
		row.Leases += int64(f.Leased)
		row.LeasesIdle += int64(f.Idle)
		row.Hits += int64(f.Hits)
		row.Misses += int64(f.Misses)
		row.WaitTimeouts += int64(f.WaitTimeout)
	}
	return row
}

// rates returns what all loops have answered in each of the last seconds.
func (s *Snapshot) rates() rateSeries { return sumRates(s.Total().Rates, s.Started, s.At) }

// perSecond returns the present rate.
func perSecond(series []int64) int64 { return int64(math.Round(lastSeconds(series, rateSpan))) }
