package pipe

import (
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/router"
)

// Pipes are all shared connections of one event loop, by identity and node. Owned by that loop.
type Pipes struct {
	// OnRefused is called when a node accepts no password that is known for a set's user and none
	// of the set's pipes is connected. nil: it does not matter.
	OnRefused func(set *Set, why *backend.LostError)

	// OnLost is called when a connection that carried commands of clients has ended, before what it
	// owes is lost. nil: it does not matter.
	OnLost func(addr string)

	// OnHold is called when the reply that a receiver is owed has kept others on its pipe waiting for
	// HeldFor, when it comes or while it does not come: again with each tick. nil: it does not matter.
	OnHold func(to backend.Receiver)

	// IsScript reports whether what a receiver is owed is the reply to a script, during which the node
	// does nothing else. nil: nothing is.
	IsScript func(to backend.Receiver) bool

	// OnSlow is called when a node begins to owe a reply for longer than a second, and when it no longer
	// does, for each pipe. nil: it does not matter.
	OnSlow func(addr string, slow bool)

	loop     backend.Loop
	settings *backend.LinkSettings
	sets     map[backend.Identity]*Set
	waiting  map[string]*waitingAuths // by node: see Verify
	dirty    []*Pipe                  // for the next Flush
	iov      [][]byte                 // scratch of Pipe.flush
	figures  map[string]*Figures      // by node
	stats    Stats
}

// New returns the pipes of a loop: there are none yet.
func New(loop backend.Loop, settings *backend.LinkSettings) *Pipes {
	return &Pipes{loop: loop, settings: settings, sets: map[backend.Identity]*Set{}, waiting: map[string]*waitingAuths{}, figures: map[string]*Figures{}}
}

// Attach returns the identity's set for one more session; Detach gives it back.
func (ps *Pipes) Attach(id backend.Identity) *Set {
	set := ps.sets[id]
	if set == nil {
		set = &Set{pipes: ps, identity: id, byAddr: map[string]*Pipe{}}
		ps.sets[id] = set
		ps.settings.Logins.Hold(id)
	}
	set.sessions++
	return set
}

// stranger is the identity of the pipes that carry PING and nothing else. They never authenticate.
var stranger = backend.Identity{DB: -2}

// Stranger returns the set on which a PING may be sent, to find out whether the node wants a
// password from a new connection. A node that has let a connection in once never refuses it again:
// Retire the set after any answer but NOAUTH.
func (ps *Pipes) Stranger() *Set { return ps.unattached(stranger) }

// unattached returns the identity's set for a use that ends with its requests.
func (ps *Pipes) unattached(id backend.Identity) *Set {
	set := ps.Attach(id)
	set.Detach()
	return set
}

// Beside returns a second set for the same user, in no particular database, for commands that must
// not queue after those of other clients: SCRIPT KILL would wait for ever for the script that it is
// to end.
func (ps *Pipes) Beside(id backend.Identity) *Set {
	id.DB, id.RESP = -1, 2
	return ps.unattached(id)
}

// maxAlone is how many requests of one user may have connections of their own on a loop.
const maxAlone = 16

// Alone returns a set for one request, whose replies may be more than one to each part. The set's
// connections are closed when the request has its replies. nil: there are maxAlone of them.
func (ps *Pipes) Alone(id backend.Identity) *Set {
	id.DB, id.RESP = -1, 2
	for id.Alone = 1; id.Alone <= maxAlone; id.Alone++ {
		if set := ps.sets[id]; set == nil || !set.owes() {
			if set != nil {
				set.Retire()
			}
			return ps.unattached(id)
		}
	}
	return nil
}

// touch lists a pipe for the next Flush.
func (ps *Pipes) touch(p *Pipe) {
	if len(ps.dirty) == 0 {
		ps.loop.Wake()
	}
	ps.dirty = append(ps.dirty, p)
}

// Flush writes what was queued on any pipe during this turn.
func (ps *Pipes) Flush() {
	for i := 0; i < len(ps.dirty); i++ { // dirty may grow: flush may lose a pipe, and its receivers send again
		ps.dirty[i].flush()
	}
	clear(ps.dirty)
	ps.dirty = ps.dirty[:0]
}

// pipeIdle is how long a pipe outlives its last request. Nodes and identities come and go, and a
// pipe that is no longer used must not hold a connection.
const pipeIdle = 60 * time.Second

// RetiredPatience is how long a node that serves no slot any more may owe a reply. It may have been
// replaced because it hangs.
const RetiredPatience = 2 * time.Second

// TopologyChanged marks the pipes to nodes that serve no slot any more.
func (ps *Pipes) TopologyChanged(t *router.Topology) {
	for _, set := range ps.sets {
		for addr, p := range set.byAddr {
			p.retired = !set.uses(t, addr)
			p.leaving = p.leaving && p.retired
			if p.second != nil {
				p.second.retired, p.second.leaving = p.retired, p.leaving
			}
		}
	}
}

// Moved follows to another backend, whose topology is t. What the old nodes owe has all the time that it
// would have had, and their connections are closed after it. No connection to them begins any more.
func (ps *Pipes) Moved(t *router.Topology) {
	ps.TopologyChanged(t)
	for _, set := range ps.sets {
		for _, p := range set.byAddr {
			for _, p := range []*Pipe{p, p.second} {
				if p != nil && p.retired {
					p.leave()
				}
			}
		}
	}
	ps.Reconnect("") // to nodes of both
}

// leave has a pipe to a node of another backend end when it owes nothing.
func (p *Pipe) leave() {
	p.leaving, p.lastUse = true, p.set.pipes.loop.Now()
	if s := p.link.State(); s == backend.Dialing || s == backend.Shaking { // nothing was sent
		p.end(backend.ErrRetired)
	}
}

// leavingIdle is how long a connection to a node of another backend outlives its last request: some
// commands there may have to be ended by others.
const leavingIdle = 2 * time.Second

// uses reports whether the set's requests go to a node.
func (s *Set) uses(t *router.Topology, addr string) bool {
	if s.identity.Replica != backend.NoReplica {
		return t.Replicates(addr)
	}
	return t.Serves(addr)
}

// shakePatience is how long a node may say nothing to the beginning of a connection. A node that is
// busy with a script answers sooner.
const shakePatience = 10 * time.Second

// slowAfter is how long a reply may be owed before berth asks whether the node still serves its
// slots. A host that has lost its power says nothing.
const slowAfter = time.Second

// Tick gives up replies that are overdue, relieves pipes that are stopped up, and closes pipes that
// have been idle for too long. slow is true if a node has owed a reply for so long that it may have
// been replaced.
func (ps *Pipes) Tick() (slow bool) {
	now := ps.loop.Now()
	for id, set := range ps.sets {
		for addr, p := range set.byAddr {
			slow = p.tick(now) || slow
			if p.second != nil {
				p.second.tick(now)
			}
			if p.stopped(now) {
				p.relieve()
			}
			p.tickSecond(now)
			p.replace()
			if p.idle(now) && !set.watchesBy(p) {
				p.dropSecond(backend.ErrRetired)
				p.close(backend.ErrRetired)
				delete(set.byAddr, addr)
				set.forget()
			}
		}
		set.watch()
		if id.Alone > 0 && !set.owes() {
			set.Retire()
		}
		if set.sessions == 0 && len(set.byAddr) == 0 {
			set.dropReplicas()
			delete(ps.sets, id)
			ps.settings.Logins.Release(id)
		}
	}
	return slow
}

// tick gives up replies that are overdue, and reports one that others wait for.
func (p *Pipe) tick(now int64) (slow bool) {
	p.checkHold(now)
	p.owed.Trim()
	if p.link.State() == backend.Shaking && now-p.heardAt > int64(shakePatience) {
		p.end(errSilent)
	}
	slow = p.owed.Len() > p.expired && now-p.owed.At(p.expired).queuedAt > int64(slowAfter)
	p.noteSlow(slow)
	if timeout := p.set.pipes.settings.Timeout(); p.retired && !p.leaving {
		p.expire(now, RetiredPatience)
	} else if timeout > 0 {
		p.expire(now, timeout)
	}
	if p.set.identity.Replica != backend.NoReplica {
		p.giveUpReads(now)
	}
	return slow
}

// noteSlow enters whether the node has owed a reply for long.
func (p *Pipe) noteSlow(slow bool) {
	if slow == p.slow {
		return
	}
	p.slow = slow
	if onSlow := p.set.pipes.OnSlow; onSlow != nil {
		onSlow(p.Addr(), slow)
	}
}

// Close ends every pipe and tells every receiver that is owed a reply.
func (ps *Pipes) Close() {
	for addr := range ps.waiting {
		ps.loseWaiting(addr, &backend.LostError{Addr: addr, Err: backend.ErrShutdown})
	}
	for _, set := range ps.sets {
		for _, p := range set.byAddr {
			p.dropSecond(backend.ErrShutdown)
			p.end(backend.ErrShutdown)
		}
	}
}
