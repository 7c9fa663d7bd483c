package main

import (
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/server/telemetry"
)

// expulsion closes the clients of a user whom a node does not let in any more: it accepts no password
// that is known, and no connection of the user is left. Redis closes the clients of a user that is
// deleted. It is a job.
type expulsion struct {
	sessions []*session
	why      string
}

// slice expels some clients.
func (e *expulsion) slice() (done bool) {
	n := min(len(e.sessions), sliceClients)
	for _, s := range e.sessions[:n] {
		s.expel(e.why)
	}
	e.sessions = e.sessions[n:]
	return len(e.sessions) == 0
}

// sliceClients is how many clients are closed in a slice.
const sliceClients = 256

// expel tells the client why, unless the error would stand in the midst of a reply, and closes it.
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
	s.kill(telemetry.UserRefused)
}
