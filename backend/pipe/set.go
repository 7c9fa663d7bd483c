package pipe

import (
	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/router"
)

// Set is the pipes of one identity, one for each node. Owned by the loop.
type Set struct {
	pipes    *Pipes
	identity backend.Identity
	sessions int // how many send on these pipes
	byAddr   map[string]*Pipe
	topology *router.Topology // which byShard was made for
	byShard  []*Pipe          // nil where no pipe was asked for
}

// Identity is as whom these pipes speak.
func (s *Set) Identity() backend.Identity { return s.identity }

// Detach is the opposite of Pipes.Attach.
func (s *Set) Detach() { s.sessions-- }

// Shard returns the pipe to a shard's primary.
func (s *Set) Shard(t *router.Topology, shard int) *Pipe {
	if s.topology != t {
		s.topology = t
		s.byShard = make([]*Pipe, len(t.Shards()))
	}
	p := s.byShard[shard]
	if p == nil {
		p = s.Node(t.Shards()[shard].Primary)
		s.byShard[shard] = p
	}
	return p
}

// Node returns the pipe to an address.
func (s *Set) Node(addr string) *Pipe {
	p := s.byAddr[addr]
	if p == nil {
		p = &Pipe{set: s, link: backend.NewLink("pipe", addr)}
		s.byAddr[addr] = p
	}
	return p
}

// forget drops byShard, because a pipe was removed.
func (s *Set) forget() { s.topology, s.byShard = nil, nil }
