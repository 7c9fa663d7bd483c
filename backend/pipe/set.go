package pipe

import (
	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/router"
)

// Set is the pipes of one identity, one for each node, and a second one while the first is stopped
// up. Owned by the loop.
type Set struct {
	pipes     *Pipes
	identity  backend.Identity
	sessions  int              // how many send on these pipes
	turns     uint32           // how often a pipe was passed by
	byAddr    map[string]*Pipe // the current ones
	topology  *router.Topology // which byShard and byReplica were made for
	byShard   []*Pipe          // nil where no pipe was asked for
	byReplica [][]*Pipe        // by shard and place; nil where no pipe was asked for
	listener  Listener         // nil: the node may push nothing
	replicas  *Set             // of the same user, to read from replicas; nil: not asked for
}

// Identity is as whom these pipes speak.
func (s *Set) Identity() backend.Identity { return s.identity }

// Turns changes when what is sent to some node travels on another pipe than before. Whoever is owed
// replies since before then must not send on: the node would run what comes later first.
func (s *Set) Turns() uint32 { return s.turns }

// Since returns what to send on instead of a current pipe, for somebody who is owed replies since Turns
// was turns: the pipe that p took the place of meanwhile, as long as that owes replies.
func (s *Set) Since(turns uint32, p *Pipe) *Pipe {
	if int32(p.turn-turns) > 0 && !p.probing && p.second != nil && p.second.owed.Len() > 0 {
		return p.second
	}
	return p
}

// Replicas returns the set by which the same user reads from replicas. It lives as long as s.
func (s *Set) Replicas(kind backend.ReplicaKind) *Set {
	if s.replicas == nil || s.replicas.identity.Replica != kind {
		id := s.identity
		id.Replica = kind
		s.dropReplicas()
		s.replicas = s.pipes.Attach(id)
	}
	return s.replicas
}

func (s *Set) dropReplicas() {
	if s.replicas != nil {
		s.replicas.Detach()
		s.replicas = nil
	}
}

// Detach is the opposite of Pipes.Attach.
func (s *Set) Detach() { s.sessions-- }

// Shard returns the pipe to a shard's primary.
func (s *Set) Shard(t *router.Topology, shard int) *Pipe {
	s.follow(t)
	p := s.byShard[shard]
	if p == nil {
		p = s.Node(t.Shards()[shard].Primary)
		s.byShard[shard] = p
	}
	return p
}

// Replica returns the pipe to a replica of a shard, by its place there.
func (s *Set) Replica(t *router.Topology, shard, replica int) *Pipe {
	s.follow(t)
	of := s.byReplica[shard]
	if of == nil {
		of = make([]*Pipe, len(t.Shards()[shard].Replicas))
		s.byReplica[shard] = of
	}
	if of[replica] == nil {
		of[replica] = s.Node(t.Shards()[shard].Replicas[replica])
	}
	return of[replica]
}

// follow readies byShard and byReplica for a topology.
func (s *Set) follow(t *router.Topology) {
	if s.topology != t {
		s.topology = t
		s.byShard, s.byReplica = make([]*Pipe, len(t.Shards())), make([][]*Pipe, len(t.Shards()))
	}
}

// Node returns the pipe to an address.
func (s *Set) Node(addr string) *Pipe {
	p := s.byAddr[addr]
	if p == nil {
		p = &Pipe{set: s, link: backend.NewLink(s.kind(), addr), figures: s.pipes.figuresOf(addr)}
		s.byAddr[addr] = p
	}
	return p
}

// kind is what the log and the nodes call the pipes.
func (s *Set) kind() string {
	if s.identity.Tracks {
		return "cache"
	}
	return "pipe"
}

// carriesCommands reports whether clients share these pipes for their commands.
func (s *Set) carriesCommands() bool {
	return s.identity.RESP > 0 && s.identity.Alone == 0 && !s.identity.Tracks
}

// speaksFor reports whether what a node says of the set's user to these pipes holds for its clients.
func (s *Set) speaksFor() bool {
	return s.identity.Replica == backend.NoReplica && !s.identity.Tracks
}

// Listener hears what nodes say on pipes unasked, in order with their replies.
type Listener interface {
	// Pushed takes a push. It is valid during the call only.
	Pushed(p *Pipe, push []byte)

	// Down is called when a connection has ended, before what it owes is lost.
	Down(p *Pipe)
}

// Listen has what nodes say unasked on the set's pipes go to a listener.
func (s *Set) Listen(l Listener) { s.listener = l }

// owes reports whether somebody waits for a reply.
func (s *Set) owes() bool {
	for _, p := range s.byAddr {
		if p.owed.Len() > p.expired || p.second != nil && p.second.owed.Len() > p.second.expired {
			return true
		}
	}
	return false
}

// forget drops byShard and byReplica, because a pipe was removed.
func (s *Set) forget() { s.topology, s.byShard, s.byReplica = nil, nil, nil }

// live reports whether a pipe of the set is connected.
func (s *Set) live() bool {
	for _, p := range s.byAddr {
		if p.link.State() == backend.Up {
			return true
		}
	}
	return false
}

// watched reports whether the set must notice that its user is deleted. A node closes the
// connections of a user that it deletes, and Redis the clients of that user with them: clients that
// do nothing for long must be closed as well, and must not be taken for a later user of the same
// name. So a pipe is kept for them.
func (s *Set) watched() bool {
	return s.sessions > 0 && s.identity.User != "" && s.speaksFor()
}

// watchesBy reports whether p is the last pipe by which the set notices that its user is deleted.
func (s *Set) watchesBy(p *Pipe) bool {
	if !s.watched() || p.retired {
		return false
	}
	for _, other := range s.byAddr {
		if other != p && !other.retired && other.link.State() != backend.Down {
			return false
		}
	}
	return true
}

// watch connects again by the pipe that was lost, if no other is connected.
func (s *Set) watch() {
	if !s.watched() {
		return
	}
	var lost *Pipe
	for _, p := range s.byAddr {
		switch {
		case p.retired:
		case p.link.State() != backend.Down:
			return
		default:
			lost = p
		}
	}
	if lost != nil {
		lost.Ready()
	}
}

// Retire closes the set's pipes. What they owe is lost.
func (s *Set) Retire() {
	for addr, p := range s.byAddr {
		delete(s.byAddr, addr)
		p.dropSecond(backend.ErrRetired)
		p.close(backend.ErrRetired)
	}
	s.forget()
}
