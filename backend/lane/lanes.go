package lane

import (
	"hash/maphash"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/router"
)

// Loop is the event loop on which groups have their home.
type Loop interface {
	backend.Loop
	Pipes() *pipe.Pipes
	Inbox() *pool.Inbox
}

// Client is who waits.
type Client interface {
	// Answer takes the reply that ends the wait, on the client's own loop. The bytes are the
	// caller's.
	Answer(reply []byte)
}

// Settings are what lanes look up while berth runs.
type Settings struct {
	MaxLanes     int  // of a group
	Share        bool // clients with the same words wait together
	DropOrphans  bool // an element popped for nobody is dropped, not pushed back
	MaxRedirects int

	UnblockPanics bool // of nodes: see unblocking
}

// Shared is what the lanes of all loops have in common. Its functions may be called on any loop.
type Shared struct {
	Nodes    backend.Places
	Pools    *pool.Pools
	Settings func() Settings

	// TakesOver reports whether another node becomes the primary when one is demoted: blocked
	// clients go on there.
	TakesOver func() bool

	// AsUser returns the identity for berth's own questions in a user's name.
	AsUser func(id backend.Identity) backend.Identity

	// What clients read. The words are the caller's.
	Lost      func(err *backend.LostError) (reply []byte)   // a reply that will not come
	NoLease   func(addr string, err error) (refusal string) // there is no connection
	NotServed string                                        // no node serves the slot

	// TimedOut hears of each client that has waited too long for a connection to a node; nil: nobody
	// wants to know.
	TimedOut func(w *Waiter, addr string)

	homes     atomic.Pointer[[]*Lanes]
	loners    atomic.Int64 // numbers for groups of one
	unsettled atomic.Int64 // lanes, and elements on their way back
}

// Unsettled is how many lanes there are, and elements on their way back to a node: a stop waits for
// them.
func (sh *Shared) Unsettled() int64 { return sh.unsettled.Load() }

var homeSeed = maphash.MakeSeed()

// homeOf is where the clients of a signature meet.
func (sh *Shared) homeOf(signature string) *Lanes {
	homes := *sh.homes.Load()
	return homes[maphash.String(homeSeed, signature)%uint64(len(homes))]
}

// Lanes are the groups whose home is one loop. Owned by that loop.
type Lanes struct {
	loop     Loop
	shared   *Shared
	followed func(to router.Redirect)
	groups   map[string]*group // by signature
	waiters  map[int64]*Waiter // of all these groups, by client
	scratch  []byte
	stats    Stats
	dbs      []dbChange // one for each move to another backend
}

// dbChange says that clients in a database are in another one since a move.
type dbChange struct{ from, to int }

// New makes a loop's lanes. Loops must all have theirs before the first client joins, and one call
// at a time may run. followed is told of each redirect.
func New(loop Loop, shared *Shared, followed func(to router.Redirect)) *Lanes {
	ls := &Lanes{loop: loop, shared: shared, followed: followed, groups: map[string]*group{}, waiters: map[int64]*Waiter{}}
	var homes []*Lanes
	if old := shared.homes.Load(); old != nil {
		homes = slices.Clone(*old)
	}
	homes = append(homes, ls)
	shared.homes.Store(&homes)
	return ls
}

// follow is backend.Follow for a command of the slot. It counts a redirect that is followed.
func (ls *Lanes) follow(reply []byte, slot int, hops *uint8) (to router.Redirect, how backend.Redirection) {
	to, how = backend.Follow(reply, slot, *hops, ls.shared.Settings().MaxRedirects, ls.shared.Nodes)
	if how == backend.Followed {
		*hops++
		ls.followed(to)
	}
	return to, how
}

// Load is how many groups a loop is the home of, how many clients wait in them, and how many lanes
// there are, of which some wait at a node: armed.
type Load struct{ Groups, Waiters, Lanes, Armed int }

// Load counts.
func (ls *Lanes) Load() Load {
	n := Load{Groups: len(ls.groups), Waiters: len(ls.waiters)}
	for _, g := range ls.groups {
		n.Lanes += len(g.lanes)
		for _, ln := range g.lanes {
			if ln.state == armed {
				n.Armed++
			}
		}
	}
	return n
}

// Holding is a connection on which clients are blocked together. The client named is the one that
// has waited longest; a connection that is being freed may have none.
type Holding struct {
	Lease   *pool.Lease
	User    string
	Command string
	Waiters int
	Client  int64
	Addr    net.Addr // the client's; nil: no client
	Name    string   // the client's
}

// Each visits the connections that lanes hold.
func (ls *Lanes) Each(visit func(h Holding)) {
	for _, g := range ls.groups {
		for _, ln := range g.lanes {
			if ln.lease == nil {
				continue
			}
			h := Holding{Lease: ln.lease, User: g.identity.User, Command: g.cmd.Name, Waiters: g.n}
			if w := g.first; w != nil {
				h.Client, h.Addr, h.Name = w.id, w.addr, w.name
			}
			visit(h)
		}
	}
}

// TopologyChanged takes lanes along whose slot belongs to another node now: the old one may be
// beyond saying so.
func (ls *Lanes) TopologyChanged() {
	for _, g := range ls.groups {
		for _, ln := range slices.Clone(g.lanes) {
			if ln.state == armed && ln.moved() {
				ln.stray = true
				ln.leave()
			}
		}
		g.adjust()
	}
}

// ChangeDB says that the clients in a database go on in another one at another backend. What is popped for
// none of them goes back there.
func (ls *Lanes) ChangeDB(from, to int) { ls.dbs = append(ls.dbs, dbChange{from, to}) }

// identityNow is as whom those are by now who have waited with a command.
func (ls *Lanes) identityNow(c *command) backend.Identity {
	id := c.identity
	for _, change := range ls.dbs[c.dbs:] {
		if id.DB == change.from {
			id.DB = change.to
		}
	}
	return id
}

// Close ends what is left when berth ends.
func (ls *Lanes) Close() {
	for _, g := range ls.groups {
		for len(g.lanes) > 0 {
			ln := g.lanes[0]
			if ln.unblock != nil {
				ln.unblock.stop()
			}
			ln.end()
		}
	}
}

// Rested is how long a blocking command must have waited at a node for that node's redirect not to
// count towards max-redirects: the slot it waits for may move many times in its life. Nodes that
// point at each other answer at once.
const Rested = 10 * time.Millisecond
