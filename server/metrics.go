package main

import (
	"errors"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/router"
)

// loopSnapshot is what a loop knows at one moment, copied on the loop.
type loopSnapshot struct {
	stats                     loopStats
	pipes                     backend.PipeStats
	counts                    map[string]backend.PipeCount
	sessions, blocked, pinned int
	inputBytes, outputBytes   int
}

// snapshot copies the loop's counters. It runs on the loop.
func (l *loop) snapshot() *loopSnapshot {
	snap := &loopSnapshot{counts: map[string]backend.PipeCount{}, pipes: l.pipes.Stats()}
	snap.stats.init()
	snap.stats.add(&l.stats)
	l.pipes.Count(snap.counts)
	for s := l.first; s != nil; s = s.next {
		snap.sessions++
		if s.pause == pauseBlocked {
			snap.blocked++
		}
		if s.sub != nil {
			snap.pinned++
		}
		snap.inputBytes += cap(s.in)
		snap.outputBytes += cap(s.out) + s.conn.OutboundBuffered()
	}
	return snap
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
	srv.admin, err = ListenAdmin(cfg.AdminBind, cfg.AdminPort, AdminSource{Metrics: exposition, Healthy: srv.healthy, Ready: srv.ready})
	return err
}

// collect writes what a scrape shows.
func (srv *server) collect(m *MetricsWriter) {
	var sum loopSnapshot
	sum.stats.init()
	sum.counts = map[string]backend.PipeCount{}
	for _, snap := range srv.snapshots() {
		sum.stats.add(&snap.stats)
		sum.pipes.Dials += snap.pipes.Dials
		sum.pipes.DialErrors += snap.pipes.DialErrors
		sum.pipes.Lost += snap.pipes.Lost
		sum.pipes.BytesIn += snap.pipes.BytesIn
		sum.pipes.BytesOut += snap.pipes.BytesOut
		sum.sessions += snap.sessions
		sum.blocked += snap.blocked
		sum.pinned += snap.pinned
		sum.inputBytes += snap.inputBytes
		sum.outputBytes += snap.outputBytes
		for addr, c := range snap.counts {
			all := sum.counts[addr]
			all.Up += c.Up
			all.Dialing += c.Dialing
			all.Owed += c.Owed
			all.Buffered += c.Buffered
			sum.counts[addr] = all
		}
	}
	_ = router.Shared
	_ = m
}
