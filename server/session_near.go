package main

import "github.com/berth-proxy/berth/router"

// learned enters what the client has learned by a reply that came by no link.
func (s *session) learned(r *request, reply []byte) {
	if s.loop.near != nil && r.cmd.Join == router.JoinMGet && s.space != nil && s.spaceOf == s.pipes {
		s.space.sawMGET(reply)
	}
	switch {
	case r.passes:
		r.passes = false
		s.passing--
	case s.loop.near == nil:
	case r.fromLink, r.cmd.Way == router.Local, r.cold && s.loop.near.addedAt <= r.moment: // no key has become hot since
		return
	}
	if r.cmd.Is(router.Swaps) {
		s.loop.srv.forgetNear()
	}
	s.saw = s.loop.moment
}
