package main

import (
	"errors"
	"runtime"
	"time"

	"github.com/berth-proxy/berth/backend/feed"
	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/build"
)

// loopSnapshot is what a loop knows at one moment, copied on the loop.
type loopSnapshot struct {
	stats                   loopStats
	pipes                   pipe.Stats
	counts                  map[string]pipe.Count // by node
	feeds                   feed.Stats
	feedCounts              map[string]feed.Count // by node
	inputBytes, outputBytes int

	sessions   int
	blocked    int // in a blocking command
	waiting    int // for a lease
	pinned     int // hold a lease until they leave
	subscribed int // to channels
	lanes      int
}

// snapshot copies the loop's counters. It runs on the loop.
func (l *loop) snapshot() *loopSnapshot {
	snap := newLoopSnapshot()
	snap.stats.add(&l.stats)
	snap.pipes = l.pipes.Stats()
	l.pipes.Count(snap.counts)
	snap.feeds = l.feeds.Stats()
	l.feeds.Count(snap.feedCounts)
	for _, g := range l.groups {
		snap.lanes += len(g.lanes)
	}
	for s := l.first; s != nil; s = s.next {
		snap.sessions++
		switch s.pause {
		case pauseBlocked:
			snap.blocked++
		case pauseLeasing:
			snap.waiting++
		}
		if s.sub != nil && s.sub.pin != nil || s.tracking != nil {
			snap.pinned++
		}
		if s.subscribed() {
			snap.subscribed++
		}
		snap.inputBytes += cap(s.in) + s.large.held()
		snap.outputBytes += cap(s.out) + s.conn.OutboundBuffered()
	}
	return snap
}

// newLoopSnapshot is one of nothing, for add.
func newLoopSnapshot() *loopSnapshot {
	snap := &loopSnapshot{counts: map[string]pipe.Count{}, feedCounts: map[string]feed.Count{}}
	snap.stats.init()
	return snap
}

// add counts what another loop knows in.
func (snap *loopSnapshot) add(o *loopSnapshot) {
	snap.stats.add(&o.stats)
	snap.pipes.Add(o.pipes)
	for addr, c := range o.counts {
		all := snap.counts[addr]
		all.Add(c)
		snap.counts[addr] = all
	}
	snap.feeds.Add(o.feeds)
	for addr, c := range o.feedCounts {
		all := snap.feedCounts[addr]
		all.Add(c)
		snap.feedCounts[addr] = all
	}
	snap.sessions += o.sessions
	snap.blocked += o.blocked
	snap.waiting += o.waiting
	snap.pinned += o.pinned
	snap.subscribed += o.subscribed
	snap.lanes += o.lanes
	snap.inputBytes += o.inputBytes
	snap.outputBytes += o.outputBytes
}

// snapshotWait bounds how long a scrape waits for a loop; then the loop's previous figures are shown.
const snapshotWait = time.Second

// snapshots asks every loop for its figures.
func (srv *server) snapshots() []*loopSnapshot {
	loops := srv.eachLoop()
	answers := make([]chan *loopSnapshot, len(loops))
	for i, l := range loops {
		answer := make(chan *loopSnapshot, 1)
		answers[i] = answer
		l.Post(func() { answer <- l.snapshot() })
	}
	late := time.After(snapshotWait)
	all := make([]*loopSnapshot, 0, len(loops))
	for i, l := range loops {
		select {
		case snap := <-answers[i]:
			srv.mu.Lock()
			srv.stale[l] = snap
			srv.mu.Unlock()
			all = append(all, snap)
		case <-late:
			late = time.After(0)
			srv.mu.Lock()
			if snap := srv.stale[l]; snap != nil {
				all = append(all, snap)
			}
			srv.mu.Unlock()
		}
	}
	return all
}

// healthy tells whether every loop answers.
func (srv *server) healthy() error {
	late := time.After(snapshotWait)
	for _, l := range srv.eachLoop() {
		alive := make(chan struct{})
		l.Post(func() { close(alive) })
		select {
		case <-alive:
		case <-late:
			return errors.New("an event loop does not answer")
		}
	}
	return nil
}

// ready tells whether clients are served.
func (srv *server) ready() error {
	if srv.stopping.Load() {
		return errors.New("shutting down")
	}
	return srv.nodes.Health().Err
}

// startAdmin serves metrics and health.
func (srv *server) startAdmin() error {
	cfg := srv.config()
	exposition := NewExposition()
	exposition.Collect(srv.collect)
	var err error
	if cfg.AdminPort == 0 {
		srv.admin = &Admin{}
		return nil
	}
	page := &status{srv: srv}
	srv.admin, err = ListenAdmin(cfg.AdminBind, cfg.AdminPort, AdminSource{
		Metrics: exposition, Healthy: srv.healthy, Ready: srv.ready, Status: page.json,
	})
	return err
}

// collect writes what a scrape shows.
func (srv *server) collect(m *MetricsWriter) {
	m.Gauge(metricBuildInfo, 1, build.Version, build.Revision(), runtime.Version())
	m.Gauge(metricStartTime, float64(srv.started.UnixMilli())/1e3)
	m.Gauge(metricReady, boolGauge(srv.ready() == nil))
	m.Gauge(metricClientsMax, float64(srv.clientCap.Load()))
	m.Counter(metricClientsAccepted, uint64(srv.accepted.Load()))
	m.Counter(metricClientsRefused, uint64(srv.refused.Load()))
	snaps := srv.snapshots()
	m.Gauge(metricLoops, float64(len(snaps)))
	table := srv.table()
	for _, snap := range snaps {
		snap.collectClients(m)
		snap.collectCommands(m, table)
		snap.collectPipes(m)
		snap.collectFeeds(m)
	}
	srv.pools.Each(func(addr, _ string, p *pool.Pool) { collectPool(m, addr, p.Stats()) })
	srv.collectNodes(m)
}

func boolGauge(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (snap *loopSnapshot) collectClients(m *MetricsWriter) {
	st := &snap.stats
	m.Gauge(metricClients, float64(snap.sessions))
	m.Gauge(metricClientsBlocked, float64(snap.blocked))
	m.Gauge(metricClientsPinned, float64(snap.pinned))
	m.Gauge(metricClientsSubscribed, float64(snap.subscribed))
	m.Gauge(metricClientBuffers, float64(snap.inputBytes), "input")
	m.Gauge(metricClientBuffers, float64(snap.outputBytes), "output")
	m.Counter(metricClientBytes, uint64(st.bytesIn), "in")
	m.Counter(metricClientBytes, uint64(st.bytesOut), "out")
	for reason, n := range st.closedBy {
		m.Counter(metricClientsClosed, uint64(n), reason)
	}
	for option, n := range st.limits {
		m.Counter(metricLimitHits, uint64(n), option)
	}
	m.Histogram(metricLoopLag, &st.lag)
	m.Gauge(metricLanes, float64(snap.lanes))
	m.Counter(metricCancels, uint64(st.cancels.unblocked), "unblocked")
	m.Counter(metricCancels, uint64(st.cancels.closed), "closed")
	for outcome, n := range st.orphans {
		m.Counter(metricOrphans, uint64(n), outcome)
	}
}

func (snap *loopSnapshot) collectCommands(m *MetricsWriter, table *router.Table) {
	st := &snap.stats
	commands := table.Commands()
	count := func(name string, c commandStats) {
		if c.ok > 0 {
			m.Counter(metricCommands, uint64(c.ok), name, "ok")
		}
		if c.failed > 0 {
			m.Counter(metricCommands, uint64(c.failed), name, "error")
		}
	}
	for id, c := range st.commands {
		if id < len(commands) {
			count(commands[id].Name, c)
		}
	}
	count("unknown", st.unknown)
	for way := range st.durations {
		m.Histogram(metricCommandDuration, &st.durations[way], router.Way(way).String())
	}
	for word, n := range st.errors {
		m.Counter(metricErrors, uint64(n), word)
	}
	redirects := st.allRedirects()
	m.Counter(metricRedirects, uint64(redirects.moved), "moved")
	m.Counter(metricRedirects, uint64(redirects.asked), "ask")
	for _, why := range []string{"waiters", "watch-max-idle"} {
		m.Counter(metricPoolRevoked, uint64(st.revoked[why]), why)
	}
}

func (snap *loopSnapshot) collectPipes(m *MetricsWriter) {
	for addr, c := range snap.counts {
		m.Gauge(metricNodeConnections, float64(c.Up), addr, "pipe", "up")
		m.Gauge(metricNodeConnections, float64(c.Dialing), addr, "pipe", "dialing")
		m.Gauge(metricNodePending, float64(c.Owed), addr)
		m.Gauge(metricNodeBuffers, float64(c.Buffered), addr)
	}
	p := snap.pipes
	m.Counter(metricNodeDials, uint64(p.Dials-p.DialErrors), "pipe", "ok")
	m.Counter(metricNodeDials, uint64(p.DialErrors), "pipe", "error")
	m.Counter(metricNodeClosed, uint64(p.Lost-p.DialErrors), "pipe", "lost")
	m.Counter(metricNodeBytes, uint64(p.BytesIn), "in")
	m.Counter(metricNodeBytes, uint64(p.BytesOut), "out")
	m.Counter(metricNodeTimeouts, uint64(p.Timeouts))
}

func (snap *loopSnapshot) collectFeeds(m *MetricsWriter) {
	for addr, c := range snap.feedCounts {
		m.Gauge(metricNodeConnections, float64(c.Up), addr, "feed", "up")
		m.Gauge(metricNodeConnections, float64(c.Dialing), addr, "feed", "dialing")
		m.Gauge(metricChannels, float64(c.Channels), addr)
	}
	f := snap.feeds
	m.Counter(metricNodeDials, uint64(f.Dials-f.DialErrors), "feed", "ok")
	m.Counter(metricNodeDials, uint64(f.DialErrors), "feed", "error")
	m.Counter(metricNodeClosed, uint64(f.Lost-f.DialErrors), "feed", "lost")
	m.Counter(metricNodeClosed, uint64(f.Retired), "feed", "idle")
	m.Counter(metricNodeTimeouts, uint64(f.Timeouts))
	m.Counter(metricNodeBytes, uint64(f.BytesIn), "in")
	m.Counter(metricNodeBytes, uint64(f.BytesOut), "out")
	m.Counter(metricMessages, uint64(f.Messages), "in")
	m.Counter(metricMessages, uint64(f.Deliveries), "out")
}

// leaseBuckets are the pools' own bounds.
var leaseBuckets = func() *Buckets {
	bounds := make([]uint64, len(pool.Buckets))
	for i, b := range pool.Buckets {
		bounds[i] = uint64(b)
	}
	return NewBuckets(1e-9, bounds...)
}()

func collectPool(m *MetricsWriter, addr string, st pool.Stats) {
	m.Gauge(metricNodeConnections, float64(st.Idle), addr, "lease", "idle")
	m.Gauge(metricNodeConnections, float64(st.Leased), addr, "lease", "leased")
	m.Gauge(metricNodeConnections, float64(st.Dialing), addr, "lease", "dialing")
	m.Counter(metricNodeDials, st.Dials-st.DialErrors, "lease", "ok")
	m.Counter(metricNodeDials, st.DialErrors, "lease", "error")
	for reason, n := range st.Closes {
		m.Counter(metricNodeClosed, n, "lease", reason)
	}
	m.Counter(metricPoolHits, st.Hits, addr)
	m.Counter(metricPoolMisses, st.Misses, addr)
	m.Counter(metricPoolEvictions, st.Evictions, addr)
	m.Counter(metricPoolWaits, st.Waits-st.WaitTimeout, addr, "answered")
	m.Counter(metricPoolWaits, st.WaitTimeout, addr, "timeout")
	m.Gauge(metricPoolWaiting, float64(st.Waiting-st.WaitingLong), addr, "transaction")
	m.Gauge(metricPoolWaiting, float64(st.WaitingLong), addr, "blocking")
	for _, reason := range pool.Reasons() {
		wait := HistogramOf(leaseBuckets, st.Wait[reason].Counts[:], uint64(st.Wait[reason].Sum))
		m.Histogram(metricPoolWait, &wait, reason.String())
		hold := HistogramOf(leaseBuckets, st.Hold[reason].Counts[:], uint64(st.Hold[reason].Sum))
		m.Histogram(metricPoolHold, &hold, reason.String())
	}
}

func (srv *server) collectNodes(m *MetricsWriter) {
	t := srv.nodes.Topology()
	m.Gauge(metricShards, float64(len(t.Shards())))
	m.Gauge(metricSlotsServed, float64(t.Served()))
	for _, s := range t.Shards() {
		all, blocking := srv.pools.Limit(s.Primary)
		m.Gauge(metricPoolLimit, float64(all), s.Primary, "all")
		m.Gauge(metricPoolLimit, float64(blocking), s.Primary, "blocking")
	}
	st := srv.nodes.Stats()
	m.Counter(metricRefreshes, uint64(st.Rounds-st.Failures-st.Changes), "same")
	m.Counter(metricRefreshes, uint64(st.Changes), "changed")
	m.Counter(metricRefreshes, uint64(st.Failures), "error")
}
