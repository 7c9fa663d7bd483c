package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/berth-proxy/berth/backend/lane"
	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/backend/replicas"
	"github.com/berth-proxy/berth/server/admin"
	"github.com/berth-proxy/berth/server/telemetry"
)

// look reads the whole server for a report: metrics, INFO, PROXY or the status page. It lists no
// more than pins of the connections that clients hold, the ones held longest. It waits for the
// loops no longer than snapshotWait: a late loop is shown with its previous figures. No loop may
// call it, because it blocks.
func (srv *server) look(pins int) *telemetry.Snapshot {
	t, node := srv.nodes.Topology(), srv.nodes.Info()
	snap := &telemetry.Snapshot{
		At: time.Now(), Started: srv.started, Topology: t, Nodes: srv.nodes.Stats(), Commands: srv.table(),
		Berth: telemetry.Berth{
			RunID: runID, Chain: srv.nodes.Chain(), Backend: srv.nodes.Describe(), Ready: srv.ready(), Sharded: srv.sharded(), RedisVersion: node.Version,
			Server: node.Server, Listener: srv.listener(),
			Port: srv.port(), ConfigFile: srv.settings.File(), TicksPerSecond: int64(time.Second / tickEvery),
			Clients: srv.clients.Load(), ClientsLimit: srv.clientCap.Load(), Accepted: srv.accepted.Load(), Refused: srv.refused.Load(),
			Unheard: srv.unheard.Load(),
			Paused:  srv.gate.stopped(), PauseLeft: srv.gate.left(),
			PoolEnabled: srv.config().PoolEnabled, PoolMaxTotal: srv.config().PoolMaxTotal,
			SlowCommands: srv.commands.slowNames(),
		},
		Limits: map[string]telemetry.PoolLimit{}, Handshakes: srv.greetings.look(),
	}
	snap.Sources = srv.sources()
	for _, d := range *srv.doors.Load() {
		snap.Doors = append(snap.Doors, telemetry.Door{Name: d.way.name, Clients: d.way.clients.Load()})
	}
	snap.Loops, snap.Silent = srv.lookAtLoops(pins)
	srv.pools.Each(func(addr, user string, p *pool.Pool) {
		snap.Pools = append(snap.Pools, telemetry.Pool{PoolName: telemetry.PoolName{Node: addr, User: cmp.Or(user, "default")}, Stats: p.Stats()})
		snap.LearnLimit(addr, srv.pools.Limit)
	})
	for _, s := range t.Shards() {
		snap.LearnLimit(s.Primary, srv.pools.Limit)
	}
	slices.SortFunc(snap.Pools, func(a, b telemetry.Pool) int {
		return cmp.Or(strings.Compare(a.Node, b.Node), strings.Compare(a.User, b.User))
	})
	for _, l := range snap.Loops {
		for addr := range l.Pipes {
			snap.LearnLimit(addr, srv.pools.Limit)
		}
	}
	return snap
}

// sources tells of the nodes that are asked how far they are.
func (srv *server) sources() map[string]telemetry.Source {
	all := map[string]telemetry.Source{}
	view := srv.replicas.Look()
	if view == nil {
		return all
	}
	enter := func(n *replicas.Node) {
		st := n.Status()
		readable := st.Why
		if st.Readable {
			readable = "yes"
		}
		all[n.Addr] = telemetry.Source{Readable: readable, LagTime: n.LagTime(), Lag: st.Lag, RTT: n.RTT(), Zone: st.Zone}
	}
	for _, of := range view.Shards {
		if len(of.Replicas) > 0 {
			enter(of.Primary)
		}
		for _, n := range of.Replicas {
			enter(n)
		}
	}
	return all
}

// port returns the port of the first TCP listener, or the configured one without such a listener.
func (srv *server) port() int {
	if addr := srv.firstTCP(); addr != nil {
		return addr.Port
	}
	return srv.config().Port
}

// listener describes the first TCP listener in the form of INFO; "": there is none.
func (srv *server) listener() string {
	addr := srv.firstTCP()
	if addr == nil {
		return ""
	}
	bind := srv.config().Bind
	if addr.Port != srv.config().Port && addr.Port != srv.config().TLSPort {
		bind = []string{addr.IP.String()}
	}
	return fmt.Sprintf("name=tcp,bind=%s,port=%d", strings.Join(bind, ",bind="), addr.Port)
}

// lookAtLoops asks every loop for its figures. A loop that does not answer in time is counted in
// silent, and its previous figures, if there are any, stand for it.
func (srv *server) lookAtLoops(pins int) (all []*telemetry.Loop, silent int) {
	all, late := askLoopsInSlices(srv, func(l *loop, answer func(*telemetry.Loop)) {
		l.look(pins, func(figures *telemetry.Loop) {
			l.latest.Store(figures)
			answer(figures)
		})
	})
	for _, l := range late {
		if figures := l.latest.Load(); figures != nil {
			all = append(all, figures)
		}
	}
	return all, len(late)
}

// look copies what the loop knows, and calls then with the copy when all sessions are counted. It
// runs on the loop, and so does then.
func (l *loop) look(pins int, then func(f *telemetry.Loop)) {
	f, held := telemetry.NewLoop(), newPins(pins)
	l.walk(func(s *session) {
		s.addTo(f)
		s.eachHolding(held.add)
	}, func() {
		l.addTo(f)
		l.lanes.Each(func(h lane.Holding) {
			held.add(holding{shared: &h, lease: h.Lease, reason: "blocking", held: h.Lease.Held()})
		})
		f.Holders, f.Pins, f.PinsTotal = held.holders, held.rows(), held.total
		then(f)
	})
}

// addTo adds what the loop counts itself to its figures.
func (l *loop) addTo(f *telemetry.Loop) {
	f.Loops, f.Rates = 1, []telemetry.Rates{l.rates}
	f.Counters.Add(&l.stats)
	f.PipeStats = l.pipes.Stats()
	l.pipes.Count(f.Pipes)
	l.pipes.FiguresByNode(func(addr string, n pipe.Figures) { f.Figures[addr] = n })
	f.FeedStats = l.feeds.Stats()
	l.feeds.Count(f.Feeds)
	f.Near = l.near.figures()
	f.Lanes = l.lanes.Load().Lanes
	f.LaneStats = l.lanes.Stats()
}

// addTo adds the session to the figures of its loop.
func (s *session) addTo(f *telemetry.Loop) {
	f.Clients++
	switch s.pause {
	case pauseBlocked, pauseGated:
		f.Blocked++
	case pauseLeasing:
		f.Waiting++
	}
	if s.tracking != nil {
		f.Tracking++
	}
	if s.sub != nil && s.sub.own != nil || s.tracking != nil {
		f.Pinned++
	}
	if s.subscribed() {
		f.Subscribed++
	}
	f.InputBytes += cap(s.in) + s.large.held()
	f.OutputBytes += cap(s.out) + s.conn.OutboundBuffered()
}

// healthy returns an error if a loop does not answer.
func (srv *server) healthy() error {
	if _, silent := askLoops(srv, func(*loop) struct{} { return struct{}{} }); len(silent) > 0 {
		return errors.New("an event loop does not answer")
	}
	return nil
}

// ready returns why clients are not served, nil if they are.
func (srv *server) ready() error {
	if srv.retiring.Load() {
		return errors.New("shutting down")
	}
	return srv.nodes.Health().Err
}

// startAdmin serves metrics, health and the status page over HTTP. Another berth has had the listeners
// that are given.
func (srv *server) startAdmin(given ...net.Listener) error {
	cfg := srv.config()
	if cfg.AdminPort == 0 {
		srv.admin = &admin.Endpoint{}
		return nil
	}
	page := telemetry.NewSharedReport(srv.look)
	var err error
	srv.admin, err = admin.Listen(cfg.AdminBind, cfg.AdminPort, given, admin.Source{
		Metrics: telemetry.NewExposition(func(m *telemetry.Writer) { srv.look(0).Prometheus(m) }).Write,
		Healthy: srv.healthy, Ready: srv.ready, Remark: srv.slow.String, Status: page.JSON, Pprof: cfg.AdminPprof,
	})
	return err
}
