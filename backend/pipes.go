package backend

import (
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"

	"github.com/berth-proxy/berth/router"
)

// PipeSettings are what a pipe looks up while berth runs; shared by all loops.
type PipeSettings struct {
	dialTimeout atomic.Int64
	timeout     atomic.Int64
}

// SetDialTimeout bounds connecting to a node.
func (s *PipeSettings) SetDialTimeout(d time.Duration) { s.dialTimeout.Store(int64(d)) }

// SetTimeout bounds the wait for a reply on a pipe; 0: no bound.
func (s *PipeSettings) SetTimeout(d time.Duration) { s.timeout.Store(int64(d)) }

// DialTimeout is what SetDialTimeout set.
func (s *PipeSettings) DialTimeout() time.Duration { return time.Duration(s.dialTimeout.Load()) }

// PipeStats counts what the pipes of one loop have done. Plain numbers: read them on the loop.
type PipeStats struct {
	Dials, DialErrors, Lost int64
	Timeouts                int64 // requests given up
	BytesIn, BytesOut       int64
}

// Add counts what another loop's pipes have done in.
func (s *PipeStats) Add(o PipeStats) {
	s.Dials += o.Dials
	s.DialErrors += o.DialErrors
	s.Lost += o.Lost
	s.Timeouts += o.Timeouts
	s.BytesIn += o.BytesIn
	s.BytesOut += o.BytesOut
}

// Loop is the event loop that owns Pipes. All methods but Post run on it.
type Loop interface {
	Enter()              // a visit begins: the clock is read
	Now() int64          // the clock, unix nanoseconds
	After()              // a visit ends: replies have been handed out
	Wake()               // asks for a Flush at the end of this turn
	Post(f func())       // runs f on the loop; any goroutine may call it
	Net() gnet.EventLoop // where sockets are enrolled
}

// Pipes are all shared connections of one event loop, by identity and node. Owned by that loop.
type Pipes struct {
	loop     Loop
	settings *PipeSettings
	sets     map[Identity]*PipeSet
	dirty    []*Pipe
	iov      [][]byte // scratch of flush
	stats    PipeStats
}

// NewPipes makes the pipes of a loop.
func NewPipes(loop Loop, settings *PipeSettings) *Pipes {
	return &Pipes{loop: loop, settings: settings, sets: map[Identity]*PipeSet{}}
}

// Attach returns the identity's set for one more session; Detach gives it back.
func (ps *Pipes) Attach(id Identity) *PipeSet {
	set := ps.sets[id]
	if set == nil {
		set = &PipeSet{pipes: ps, identity: id, byAddr: map[string]*Pipe{}}
		ps.sets[id] = set
	}
	set.sessions++
	return set
}

// verifier is the identity of the pipes that carry nothing but clients' AUTH: each reply speaks of its own AUTH alone, so
// one connection serves them all, and no other command ever runs as whom such a connection has become.
var verifier = Identity{DB: -1}

// Verifier is the set on which an AUTH may be sent to find out whether the node accepts it.
func (ps *Pipes) Verifier() *PipeSet {
	set := ps.sets[verifier]
	if set == nil {
		set = ps.Attach(verifier)
		set.sessions = 0
	}
	return set
}

// Beside is a set for the same user in no particular database, for commands that must not stand behind what others have sent:
// SCRIPT KILL behind the script it is to end would wait for ever.
func (ps *Pipes) Beside(id Identity) *PipeSet {
	id.DB, id.RESP = -1, 2
	set := ps.Attach(id)
	set.Detach()
	return set
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
	for i := 0; i < len(ps.dirty); i++ { // flush may lose a pipe, whose receivers send again: dirty grows
		ps.dirty[i].flush()
	}
	clear(ps.dirty)
	ps.dirty = ps.dirty[:0]
}

// pipeIdle is how long a pipe outlives its last request. Nodes and identities come and go: what is no longer used must
// not hold a connection.
const pipeIdle = 60 * time.Second

// RetiredPatience is how long replies of a node that serves no slot any more are waited for: it may have been replaced
// because it hangs.
const RetiredPatience = 2 * time.Second

// TopologyChanged says who serves slots now.
func (ps *Pipes) TopologyChanged(t *router.Topology) {
	for _, set := range ps.sets {
		for addr, p := range set.byAddr {
			p.retired = !t.Serves(addr)
		}
	}
}

// slowAfter is how long a reply may be owed before it is worth asking whether the node still serves its slots: a host that has
// lost its power says nothing.
const slowAfter = time.Second

// Tick gives up replies that are overdue and closes pipes that nobody has used for long. slow: a node has owed one for so long
// that it may have been replaced.
func (ps *Pipes) Tick() (slow bool) {
	now := ps.loop.Now()
	timeout := time.Duration(ps.settings.timeout.Load())
	for id, set := range ps.sets {
		for addr, p := range set.byAddr {
			if p.owed.len() > p.expired && now-p.owed.at(p.expired).at > int64(slowAfter) {
				slow = true
			}
			if p.retired {
				p.expire(now, RetiredPatience)
			} else if timeout > 0 {
				p.expire(now, timeout)
			}
			if p.owed.len() == 0 && p.state != pipeDialing && now-p.lastUse > int64(pipeIdle) {
				if p.state != pipeDown {
					p.end(errRetired)
				}
				delete(set.byAddr, addr)
				set.forget()
			}
		}
		if set.sessions == 0 && len(set.byAddr) == 0 {
			delete(ps.sets, id)
		}
	}
	return slow
}

// Close ends every pipe; all who are owed a reply are told.
func (ps *Pipes) Close() {
	for _, set := range ps.sets {
		for _, p := range set.byAddr {
			p.end(errShutdown)
		}
	}
}

// Stats are the counters so far.
func (ps *Pipes) Stats() PipeStats { return ps.stats }

// PipeCount is how a node's pipes are: those of one loop, or, added up, of several.
type PipeCount struct {
	Up, Dialing int
	Owed        int // replies the node owes on them
	Buffered    int // bytes that wait for the node to read

	UpSince   int64 // since when one has been up without a break, unix nanoseconds; 0: none is up
	DownSince int64 // when the latest one to fail was lost, or failed first, unix nanoseconds; 0: none has failed
	LastErr   error // why one was lost last, nil: none was; also when it is up again
	LastErrAt int64 // when, unix nanoseconds
}

// Add counts other pipes of the same node in.
func (c *PipeCount) Add(o PipeCount) {
	c.Up += o.Up
	c.Dialing += o.Dialing
	c.Owed += o.Owed
	c.Buffered += o.Buffered
	if c.UpSince == 0 || o.UpSince != 0 && o.UpSince < c.UpSince {
		c.UpSince = o.UpSince
	}
	c.DownSince = max(c.DownSince, o.DownSince)
	if o.LastErrAt > c.LastErrAt {
		c.LastErr, c.LastErrAt = o.LastErr, o.LastErrAt
	}
}

// Count adds this loop's pipes to counts, by node address.
func (ps *Pipes) Count(counts map[string]PipeCount) {
	for _, set := range ps.sets {
		for addr, p := range set.byAddr {
			c := counts[addr]
			c.Add(p.count())
			counts[addr] = c
		}
	}
}

// count is the pipe alone.
func (p *Pipe) count() PipeCount {
	c := PipeCount{LastErrAt: p.lostAt}
	for i := range p.owed.len() {
		c.Owed += p.owed.at(i).left
	}
	if p.lastErr != nil {
		c.LastErr = p.lastErr
	}
	switch p.state {
	case pipeUp:
		c.Up, c.UpSince = 1, p.since
		c.Buffered = p.conn.OutboundBuffered()
		return c
	case pipeDialing, pipeShaking:
		c.Dialing = 1
	}
	c.DownSince = p.since
	return c
}

// PipeSet is the pipes of one identity, one to a node. Owned by the loop.
type PipeSet struct {
	pipes    *Pipes
	identity Identity
	sessions int // that send through it
	byAddr   map[string]*Pipe
	topology *router.Topology // of byShard
	byShard  []*Pipe          // nil where not asked for yet
}

// Identity is as whom these pipes speak.
func (s *PipeSet) Identity() Identity { return s.identity }

// Detach gives back what Attach gave.
func (s *PipeSet) Detach() { s.sessions-- }

// Shard is the pipe to a shard's primary.
func (s *PipeSet) Shard(t *router.Topology, shard int) *Pipe {
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

// Node is the pipe to an address.
func (s *PipeSet) Node(addr string) *Pipe {
	p := s.byAddr[addr]
	if p == nil {
		p = &Pipe{set: s, addr: addr}
		s.byAddr[addr] = p
	}
	return p
}

// forget drops what byShard remembers, since a pipe was removed.
func (s *PipeSet) forget() { s.topology, s.byShard = nil, nil }
