package main

import (
	"strings"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/lane"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/telemetry"
)

// clientUnblock ends the blocking command of a client: as its timeout would, or with an error.
func clientUnblock(s *session, cmd *router.Command, _ []byte, args [][]byte) bool {
	withError := false
	if len(args) > 4 && !s.loop.srv.isValkeySince(8, 1) { // which then looks at none after the ID
		return s.refuse(cmd, wrongSubcommand(args[1]))
	}
	if len(args) == 4 {
		switch strings.ToLower(string(args[3])) {
		case "timeout":
		case "error":
			withError = true
		default:
			return s.refuse(cmd, "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
		}
	}
	id, ok := parseInt(args[2])
	if !ok {
		return s.refuse(cmd, errNotNumber)
	}
	by := s.loop.srv.asUser(s.pipes.Identity())
	unblock := func(l *loop, answer func(unblocked int64)) {
		if l.lanes.Unblock(id, withError) {
			answer(1)
			return
		}
		unblocked := int64(0)
		l.walk(func(c *session) {
			if c.id == id && c.unblock(by, withError) {
				unblocked++
			}
		}, func() { answer(unblocked) })
	}
	return askEveryLoop(s, cmd, unblock, func(unblocked []int64) []byte {
		total := int64(0)
		for _, n := range unblocked {
			total += n
		}
		return codec.AppendInt(nil, total)
	})
}

// unblock ends the command that the client blocks in by itself, on leases of its own: WAIT, or one
// after WATCH or CLIENT TRACKING. false: it does not block, or its command has not gone out yet.
func (s *session) unblock(by backend.Identity, withError bool) bool {
	st := s.stay
	switch {
	case s.pause != pauseBlocked:
		return false
	case s.replicaCount != nil:
		s.replicaCount.unblock(by, withError)
		return true
	case st == nil:
		return false
	case st.redirected != nil: // between two nodes: its slot has moved
		r := st.redirected
		st.redirected = nil
		st.waiter.Cancel()
		st.waiter = nil
		st.giveUpAsking()
		st.broken = st.watching
		st.endBlocked(r, withError)
		return true
	case st.lease == nil || s.waiting != 1 || len(st.owed) == 0:
		return false
	}
	lease, sentAt := st.lease, st.sentAt
	waits := func() bool {
		return !s.closed && s.stay == st && st.lease == lease && st.sentAt == sentAt && s.pause == pauseBlocked && len(st.owed) > 0
	}
	s.loop.lanes.UnblockLease(lease, by, withError, waits, func() {
		r := st.owed[len(st.owed)-1].r
		lease.Close("client unblocked")
		st.lose()
		if st.tracks() { // on it: what the client has cached would go stale
			s.end(telemetry.TrackingLost)
		}
		st.endBlocked(r, withError)
	})
	return true
}

// endBlocked answers a blocking command for which there is no connection any more.
func (st *stay) endBlocked(r *request, withError bool) {
	reply := codec.AppendNullArray(nil, st.s.resp())
	if withError {
		reply = codec.AppendError(nil, lane.ErrUnblocked)
	}
	r.done(reply)
}
