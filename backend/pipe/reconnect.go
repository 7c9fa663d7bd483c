package pipe

import "github.com/berth-proxy/berth/backend"

// Reconnect has each connection to a node replaced, and each one to all nodes if addr is "". No reply
// is lost, and no request overtakes another of its session:
//
//	owes nothing ─▶ closed; the next request dials
//	owes replies ─▶ the second one is current ··· last reply ─▶ closed
//
// A current pipe whose second one owes replies as well goes on until one of the two owes nothing.
func (ps *Pipes) Reconnect(addr string) {
	for _, set := range ps.sets {
		for at, p := range set.byAddr {
			if addr != "" && addr != at || p.leaving {
				continue
			}
			p.outdate()
			if p.second != nil {
				p.second.outdate()
			}
			p.replace()
		}
	}
}

// outdate marks the connection, if there is one.
func (p *Pipe) outdate() { p.outdated = p.link.State() != backend.Down }

// isOver reports whether the connection is outdated and owes nothing.
func (p *Pipe) isOver() bool {
	return p.outdated && p.owed.Len() == 0 && p.link.State() == backend.Up
}

// replace goes on with the replacement of a current pipe and of its second one.
func (p *Pipe) replace() {
	if p.second != nil && p.second.isOver() {
		p.second.end(backend.ErrRetired)
	}
	switch {
	case p.isOver():
		p.end(backend.ErrRetired)
	case p.outdated && p.mayBeReplaced():
		p.haveSecond()
		if p.second.owed.Len() == 0 && p.second.begins() {
			p.giveWay()
		}
	}
}

// mayBeReplaced reports whether the second one may take the place of a pipe that owes replies. One that
// carries AUTHs carries one at a time, and keeps it: so it soon owes nothing.
func (p *Pipe) mayBeReplaced() bool {
	return p.link.State() == backend.Up && !p.probing && p.set.byAddr[p.Addr()] == p && p.set.carriesCommands() &&
		p.set.pipes.settings.Logins.Refused(p.set.identity, p.Addr()) == nil
}
