package pipe

import (
	"time"

	"github.com/berth-proxy/berth/backend"
)

// Takes reports whether what is sent on the pipe may reach the node: it is connected, or may be.
func (p *Pipe) Takes() bool {
	return p.link.State() != backend.Down || p.link.MayBegin(p.set.pipes.loop.Now())
}

// UpBefore reports whether the pipe has been connected since before a time, in unix nanoseconds.
func (p *Pipe) UpBefore(at int64) bool { return p.link.State() == backend.Up && p.link.Since() < at }

// Owes is how many requests wait for the node's answer on the pipe.
func (p *Pipe) Owes() int { return p.owed.Len() - p.expired }

// CountRead counts a plain read that is sent on the pipe.
func (p *Pipe) CountRead() {
	if p.set.identity.Replica == backend.NoReplica {
		p.figures.PrimaryReads++
	} else {
		p.figures.ReplicaReads++
	}
}

// How long a replica may owe the answer to a read that another node can give. The first one may be what
// the node works on, and would take another node as long, above all a script.
const (
	readPatience   = time.Second
	firstPatience  = 3 * time.Second
	scriptPatience = 10 * time.Second
)

// giveUpReads has reads go elsewhere for which a replica has owed the answer for long.
func (p *Pipe) giveUpReads(now int64) {
	isScript := p.set.pipes.IsScript
	for i := p.expired; i < p.owed.Len(); i++ {
		place := p.owed.At(i)
		to, patience := place.to, readPatience
		switch {
		case to == (swallow{}):
			continue
		case i == 0 && isScript != nil && isScript(to):
			patience = scriptPatience
		case i == 0:
			patience = firstPatience
		}
		if now-place.queuedAt < int64(patience) {
			if i == 0 {
				continue
			}
			return
		}
		place.to = swallow{}
		p.figures.Timeouts++
		to.Lost(&backend.LostError{Addr: p.Addr(), Sent: true, Err: backend.ErrTimeout}, place.request.bytes())
	}
}
