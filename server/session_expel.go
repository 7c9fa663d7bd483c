package main

import (
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/server/telemetry"
)

// expel ends a client of a user whom a node does not let in any more: the node accepts no password
// that is known, and no connection of the user is left. Redis closes the clients of a user that is
// deleted.
//
// It tells the client why, unless the error would stand in the midst of a reply.
func (s *session) expel(why string) {
	if s.closed {
		return
	}
	if !s.muteAll && s.halfClosed == nil && (s.head == nil || !s.head.streams) {
		out := codec.AppendError(s.out, why)
		s.out = nil
		_, _ = s.conn.Write(out) // a failure has closed the session
		s.loop.drop(out)
	}
	s.kill(telemetry.UserRefused, "error", shown(why))
}
