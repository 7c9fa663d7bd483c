package main

import (
	"bytes"
	"context"
	"log/slog"
	"time"

	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/config"
	"github.com/berth-proxy/berth/server/eventlog"
	"github.com/berth-proxy/berth/server/telemetry"
)

// A WATCH holds a connection for as long as its program thinks. One that nobody uses is taken back:
// after watch-max-idle, or when others wait for a connection and the node bears no more.

// idle is for how long the client of a WATCH has had nothing under way, wherever its commands
// travel; 0: it does not watch, has, or needs the connection for its tracking.
func (st *stay) idle() time.Duration {
	s := st.s
	if !st.watching || st.tracks() || st.lease == nil || len(st.owed) > 0 || s.waiting > 0 {
		return 0
	}
	return min(st.lease.Quiet(), time.Duration(s.loop.clock-s.lastHeard))
}

// Revoke gives the lease back because others wait for one, unless its client is at work.
func (st *stay) Revoke(*pool.Lease) {
	if st.idle() >= pool.RevokeQuiet {
		st.revoke(telemetry.RevokedForWaiters)
	}
}

// revoke ends an idle WATCH. It is as if what it watches had been changed: the client may go on,
// its reads travel on pipes, and EXEC answers nil. With the pool switched off the connection is the
// client's own.
func (st *stay) revoke(why telemetry.Revocation) {
	if !st.s.loop.srv.config().PoolEnabled {
		return
	}
	st.s.loop.stats.Revoked(why)
	level := config.LevelWarning // others want the connection
	if why == telemetry.RevokedIdle {
		level = config.LevelNotice
	}
	slog.Log(context.Background(), level, "WATCH revoked", "", st.s, "why", eventlog.Cause(why.String()), "node", st.addr, "idle", st.idle())
	lease := st.lease
	st.lose()
	lease.Detach() // its ledger knows what to undo
}

// watchKeys attaches a lease to the node of the keys and watches them there.
func watchKeys(s *session, cmd *router.Command, raw []byte, args [][]byte) bool {
	switch {
	case s.txn == nil:
		return s.watch(cmd, raw, args)
	case s.loop.srv.nodes.Topology().Sharded() && s.slotOf(cmd, args) == manySlots:
		return s.refuse(cmd, errCrossSlot)
	}
	return s.sayError(cmd, "ERR WATCH inside MULTI is not allowed")
}

func unwatchKeys(s *session, cmd *router.Command, _ []byte, _ [][]byte) bool {
	s.unwatch()
	return s.say(cmd, "OK")
}

func (s *session) watch(cmd *router.Command, raw []byte, args [][]byte) bool {
	slot := noSlot
	if s.loop.srv.nodes.Topology().Sharded() {
		if slot = s.slotOf(cmd, args); slot == manySlots {
			return s.refuse(cmd, errCrossSlot)
		}
	}
	if st := s.stay; st != nil && st.watching {
		switch {
		case st.broken:
			return s.say(cmd, "OK")
		case st.slot != slot:
			return s.refuse(cmd, errCrossSlot)
		}
	}
	ready, taken := s.attach(cmd, args, pool.ReasonTxn)
	if !ready {
		return taken
	}
	st := s.stay
	r := s.newRequest(cmd)
	r.sent = bytes.Clone(raw)
	r.watches = !st.watching
	st.unwatchNode()
	st.watching, st.slot = true, slot
	st.lease.Mark(pool.DirtWatch)
	st.send(r, raw, 1)
	return true
}

// unwatch ends a WATCH. The lease goes back as it is: its ledger knows what to undo.
func (s *session) unwatch() {
	if st := s.stay; st != nil && st.watching {
		st.broken = false
		st.endWatch()
	}
}
