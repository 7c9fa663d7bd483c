package telemetry

import (
	"maps"
	"runtime"
	"time"

	"github.com/berth-proxy/berth/backend/lane"
	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/build"
)

// Prometheus writes berth's part of a scrape. A counter whose label values are known is written before
// its first event, as 0: rate() would not see that event otherwise.
func (s *Snapshot) Prometheus(m *Writer) {
	m.Gauge(metricBuildInfo, 1, build.Version, build.Revision(), runtime.Version())
	m.Gauge(metricStartTime, float64(s.Started.UnixMilli())/1e3)
	m.Gauge(metricReady, boolGauge(s.Berth.Ready == nil))
	for _, d := range s.Doors {
		m.Gauge(metricClientsByDoor, float64(d.Clients), d.Name)
	}
	m.Gauge(metricClientsMax, float64(s.Berth.ClientsLimit))
	m.Counter(metricClientsAccepted, uint64(s.Berth.Accepted))
	m.Counter(metricClientsRefused, uint64(s.Berth.Refused))
	m.Counter(metricAcceptsFailed, uint64(s.Berth.Unheard))
	m.Counter(metricHandshakes, s.Handshakes.Full, "full")
	m.Counter(metricHandshakes, s.Handshakes.Resumed, "resumed")
	m.Counter(metricHandshakes, s.Handshakes.TimedOut, "timeout")
	m.Counter(metricHandshakes, s.Handshakes.Failed, "error")
	m.Gauge(metricHandshakesNow, float64(s.Handshakes.Now))
	m.Gauge(metricLoops, float64(len(s.Loops)))
	f := s.Total()
	f.collectClients(m)
	f.collectCommands(m, s.Commands)
	s.collectPipes(m)
	f.collectFeeds(m)
	for _, shard := range s.Topology.Shards() {
		collectPool(m, shard.Primary, pool.Stats{}) // it may have none yet
	}
	for _, p := range s.Pools {
		collectPool(m, p.Node, p.Stats)
	}
	s.collectNodes(m)
}

// errorWords are the first words of errors that berth itself says, and of those that nodes say when
// something is wrong with them or with a user.
var errorWords = []string{
	"ERR", "TRYAGAIN", "CLUSTERDOWN", "CROSSSLOT", "NOAUTH", "WRONGPASS", "NOPERM", "EXECABORT", "UNBLOCKED",
	"LOADING", "BUSY", "READONLY", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM",
}

// leaseEnds are why a lease's connection is closed when something is wrong with the node.
var leaseEnds = []string{"lost", "hung up", "health check"}

func boolGauge(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (f *Loop) collectClients(m *Writer) {
	st := &f.Counters
	m.Gauge(metricClients, float64(f.Clients))
	m.Gauge(metricClientsBlocked, float64(f.Blocked))
	m.Gauge(metricClientsPinned, float64(f.Pinned))
	m.Gauge(metricClientsSubscribed, float64(f.Subscribed))
	m.Gauge(metricClientBuffers, float64(f.InputBytes), "input")
	m.Gauge(metricClientBuffers, float64(f.OutputBytes), "output")
	m.Counter(metricClientBytes, uint64(st.BytesIn), "in")
	m.Counter(metricClientBytes, uint64(st.BytesOut), "out")
	for reason := NotClosed + 1; reason < numReasons; reason++ {
		m.Counter(metricClientsClosed, uint64(st.closedBy[reason]), reason.String())
	}
	m.Counter(metricClientsStopped, uint64(st.Stopped))
	for limit, n := range st.LimitHits {
		m.Counter(metricLimitHits, uint64(n), Limit(limit).String())
	}
	m.Histogram(metricLoopLag, &st.Lag)
	f.collectNear(m)
	m.Gauge(metricLanes, float64(f.Lanes))
	m.Counter(metricCancels, uint64(f.LaneStats.Unblocked), "unblocked")
	m.Counter(metricCancels, uint64(f.LaneStats.Closed), "closed")
	for outcome, n := range f.LaneStats.Orphans {
		m.Counter(metricOrphans, uint64(n), lane.Outcome(outcome).String())
	}
}

func (f *Loop) collectCommands(m *Writer, table *router.Table) {
	st := &f.Counters
	commands := table.Commands()
	count := func(name string, c commandStats) {
		m.Counter(metricCommands, uint64(c.ok), name, "ok")
		m.Counter(metricCommands, uint64(c.failed), name, "error")
	}
	for id, c := range st.commands {
		if id < len(commands) && c.ok+c.failed > 0 { // there are hundreds
			count(commands[id].Name, c)
		}
	}
	count("unknown", st.unknown)
	for way := range st.durations {
		all := st.byWay(router.Way(way))
		m.Histogram(metricCommandDuration, &all, router.Way(way).String())
	}
	for f := range router.NumFamilies {
		all := st.byFamily(router.Family(f))
		m.Histogram(metricFamilyDuration, &all, router.Family(f).String())
	}
	for why := range st.waits {
		m.Histogram(metricWaits, &st.waits[why], Wait(why).String())
	}
	for _, word := range errorWords {
		m.Counter(metricErrors, 0, word)
	}
	for word, n := range st.errors {
		m.Counter(metricErrors, uint64(n), word)
	}
	redirects := st.allRedirects()
	m.Counter(metricRedirects, uint64(redirects.moved), "moved")
	m.Counter(metricRedirects, uint64(redirects.asked), "ask")
	for why, n := range st.revoked {
		m.Counter(metricPoolRevoked, uint64(n), Revocation(why).String())
	}
}

func (s *Snapshot) collectPipes(m *Writer) {
	f := s.Total()
	for addr, c := range f.Pipes {
		m.Gauge(metricNodeConnections, float64(c.Up), addr, "pipe", "up")
		m.Gauge(metricNodeConnections, float64(c.Dialing), addr, "pipe", "dialing")
		m.Gauge(metricNodePending, float64(c.Owed), addr)
		m.Gauge(metricNodeBuffers, float64(c.Buffered), addr)
	}
	for addr, n := range s.figures() {
		m.Counter(metricNodeReads, n.PrimaryReads, addr, "primary")
		m.Counter(metricNodeReads, n.ReplicaReads, addr, "replica")
		m.Counter(metricNodeTimeouts, n.Timeouts, addr)
		answers := HistogramOf(answerBuckets, n.Answers.Counts[:], n.Answers.Sum)
		m.Histogram(metricNodeDuration, &answers, addr)
	}
	p := f.PipeStats
	m.Counter(metricNodeDials, uint64(p.Dials-p.DialErrors), "pipe", "ok")
	m.Counter(metricNodeDials, uint64(p.DialErrors), "pipe", "error")
	m.Counter(metricNodeClosed, uint64(p.Lost-p.DialErrors), "pipe", "lost")
	m.Counter(metricNodeClosed, uint64(p.Retired), "pipe", "idle")
	m.Counter(metricNodeBytes, uint64(p.BytesIn), "in")
	m.Counter(metricNodeBytes, uint64(p.BytesOut), "out")
	m.Counter(metricNodePassed, uint64(p.Passed))
}

// figures are those of each node, also of a primary that was asked nothing yet.
func (s *Snapshot) figures() map[string]pipe.Figures {
	all := maps.Clone(s.Total().Figures)
	for _, shard := range s.Topology.Shards() {
		if _, asked := all[shard.Primary]; !asked {
			all[shard.Primary] = pipe.Figures{}
		}
	}
	return all
}

// answerBuckets are the bounds at which the pipes count.
var answerBuckets = func() *Buckets {
	bounds := make([]uint64, len(pipe.Durations{}.Counts)-1)
	for i := range bounds {
		bounds[i] = pipe.FirstBound << i
	}
	return NewBuckets(1e-6, bounds...)
}()

func (f *Loop) collectFeeds(m *Writer) {
	for addr, c := range f.Feeds {
		m.Gauge(metricNodeConnections, float64(c.Up), addr, "feed", "up")
		m.Gauge(metricNodeConnections, float64(c.Dialing), addr, "feed", "dialing")
		m.Gauge(metricChannels, float64(c.Channels), addr)
	}
	s := f.FeedStats
	m.Counter(metricNodeDials, uint64(s.Dials-s.DialErrors), "feed", "ok")
	m.Counter(metricNodeDials, uint64(s.DialErrors), "feed", "error")
	m.Counter(metricNodeClosed, uint64(s.Lost-s.DialErrors), "feed", "lost")
	m.Counter(metricNodeClosed, uint64(s.Retired), "feed", "idle")
	m.Counter(metricFeedTimeouts, uint64(s.Timeouts))
	m.Counter(metricNodeBytes, uint64(s.BytesIn), "in")
	m.Counter(metricNodeBytes, uint64(s.BytesOut), "out")
	m.Counter(metricMessages, uint64(s.Messages), "in")
	m.Counter(metricMessages, uint64(s.Deliveries), "out")
}

// leaseBuckets are the bounds at which the pools count.
var leaseBuckets = func() *Buckets {
	bounds := make([]uint64, len(pool.Buckets))
	for i, b := range pool.Buckets {
		bounds[i] = uint64(b)
	}
	return NewBuckets(1e-9, bounds...)
}()

func collectPool(m *Writer, addr string, st pool.Stats) {
	m.Gauge(metricNodeConnections, float64(st.Idle), addr, "lease", "idle")
	m.Gauge(metricNodeConnections, float64(st.Leased), addr, "lease", "leased")
	m.Gauge(metricNodeConnections, float64(st.Dialing), addr, "lease", "dialing")
	m.Counter(metricNodeDials, st.Dials-st.DialErrors, "lease", "ok")
	m.Counter(metricNodeDials, st.DialErrors, "lease", "error")
	for _, reason := range leaseEnds {
		m.Counter(metricNodeClosed, 0, "lease", reason)
	}
	for reason, n := range st.Closes {
		m.Counter(metricNodeClosed, n, "lease", reason)
	}
	m.Counter(metricPoolHits, st.Hits, addr)
	m.Counter(metricPoolMisses, st.Misses, addr)
	m.Counter(metricPoolEvictions, st.Evictions, addr)
	m.Counter(metricPoolWaits, st.Waits-st.WaitTimeout, addr, "answered")
	m.Counter(metricPoolWaits, st.WaitTimeout, addr, "timeout")
	m.Gauge(metricPoolWaiting, float64(st.Waiting-st.WaitingLong), addr, "exclusive")
	m.Gauge(metricPoolWaiting, float64(st.WaitingLong), addr, "blocking")
	for _, reason := range pool.Reasons() {
		wait := HistogramOf(leaseBuckets, st.Wait[reason].Counts[:], uint64(st.Wait[reason].Sum))
		m.Histogram(metricPoolWait, &wait, reason.String())
		hold := HistogramOf(leaseBuckets, st.Hold[reason].Counts[:], uint64(st.Hold[reason].Sum))
		m.Histogram(metricPoolHold, &hold, reason.String())
	}
}

func (s *Snapshot) collectNodes(m *Writer) {
	t := s.Topology
	m.Gauge(metricShards, float64(len(t.Shards())))
	m.Gauge(metricSlotsServed, float64(t.Served()))
	for _, shard := range t.Shards() {
		limit := s.Limits[shard.Primary]
		m.Gauge(metricPoolLimit, float64(limit.All), shard.Primary, "all")
		m.Gauge(metricPoolLimit, float64(limit.Blocking), shard.Primary, "blocking")
	}
	for _, row := range s.BackendRows() {
		if row.Role != "none" { // without clients nobody finds out that the node is back
			m.Gauge(metricNodeUp, boolGauge(row.State != "down" || row.ErrorAge > 60), row.Node)
		}
	}
	for addr, c := range s.Total().Pipes {
		owed := 0.0
		if c.OwedSince > 0 {
			owed = s.At.Sub(time.Unix(0, c.OwedSince)).Seconds()
		}
		m.Gauge(metricNodeOwed, owed, addr)
	}
	for addr, from := range s.Sources {
		if !t.Replicates(addr) {
			continue
		}
		m.Gauge(metricNodeReadable, boolGauge(from.Readable == "yes"), addr)
		if from.LagTime >= 0 {
			m.Gauge(metricNodeLag, from.LagTime.Seconds(), addr)
		}
		if from.Lag >= 0 {
			m.Gauge(metricNodeLagBytes, float64(from.Lag), addr)
		}
	}
	st := s.Nodes
	m.Counter(metricRefreshes, uint64(st.Rounds-st.Failures-st.Changes), "same")
	m.Counter(metricRefreshes, uint64(st.Changes), "changed")
	m.Counter(metricRefreshes, uint64(st.Failures), "error")
}
