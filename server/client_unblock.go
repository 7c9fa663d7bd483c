package main

import (
	"strings"

	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

func init() { sessionFuncs["client|unblock"] = permitted(clientUnblock) }

// clientUnblock ends the blocking command of a client: as its timeout would, or with an error.
func clientUnblock(s *session, cmd *router.Command, _ []byte, args [][]byte) bool {
	withError := false
	if len(args) > 4 {
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
	unblock := func(l *loop) int64 {
		if l.unblock(id, withError) {
			return 1
		}
		for c := l.first; c != nil; c = c.next {
			if c.id == id && c.unblock(withError) {
				return 1
			}
		}
		return 0
	}
	return survey(s, cmd, unblock, func(unblocked []int64) []byte {
		total := int64(0)
		for _, n := range unblocked {
			total += n
		}
		return codec.AppendInt(nil, total)
	})
}

// unblock answers the blocking command that the client waits in, and closes the lease on which it waits: the node must
// not give it an element any more. false: it does not block, or its command has not gone out yet.
//
// An element that the node has given away at this very moment is lost with the lease.
func (s *session) unblock(withError bool) bool {
	st := s.stay
	if s.pause != pauseBlocked || st == nil {
		return false
	}
	var r *request
	switch {
	case st.again != nil: // between two nodes: its slot has moved
		r, st.again = st.again, nil
		st.waiter.Cancel()
		st.waiter = nil
	case st.lease != nil && s.waiting == 1 && len(st.owed) > 0:
		r = st.owed[len(st.owed)-1].r
		st.lease.Close("client unblocked")
		st.lease, st.owed = nil, nil
		if st.tracks() { // on it: what the client has cached would go stale
			s.end("tracking connection lost")
		}
	default:
		return false
	}
	if st.watching {
		st.broken = true
	} else {
		s.stay = nil
	}
	reply := codec.AppendNullArray(nil, s.resp())
	if withError {
		reply = codec.AppendError(nil, "UNBLOCKED client unblocked via CLIENT UNBLOCK")
	}
	r.done(reply)
	return true
}
