package feed

import (
	"sync"
	"sync/atomic"
)

// Audience is who listens to what, over all loops and users: berth's listeners, and berth's
// connections to nodes, which a node counts in place of the listeners. A node's count that is told
// to a client has the listeners in place of the connections.
//
// A listener is counted from its Join until it is Leaving. A connection is counted from when the node is
// asked until it has confirmed the end: the node may count it.
type Audience struct {
	match func(pattern string, name []byte, steps *int) bool

	mu    sync.RWMutex // guards heard and, but for listeners, what is in it; nothing blocks under it
	heard [ChannelKinds]named[*heard]
}

// heard is the audience of one name. Every Channel of the name has it.
type heard struct {
	listeners atomic.Int64 // written by the loops, each for its own; read by any
	channels  int          // of loops and users
	feeds     []seats
}

// seats is on how many of berth's connections a node may count a subscription. The order of a
// channel's nodes means nothing.
type seats struct {
	addr string
	n    int
}

// matchSteps bounds what one message may cost: how many bytes of patterns are compared with the
// name of its channel. A pattern that is not compared matches nothing.
const matchSteps = 1 << 20

// NewAudience returns an audience that is empty. match says whether a pattern matches the name of a
// channel, and takes what it has compared off steps.
func NewAudience(match func(pattern string, name []byte, steps *int) bool) *Audience {
	return &Audience{match: match}
}

// enter returns the audience of a name, for one more channel of that name.
func (a *Audience) enter(kind ChannelKind, name string) *heard {
	a.mu.Lock()
	defer a.mu.Unlock()
	h := a.heard[kind].of[name]
	if h == nil {
		h = &heard{}
		a.heard[kind].put(name, h)
	}
	h.channels++
	return h
}

// leave takes back one enter.
func (a *Audience) leave(kind ChannelKind, name string, h *heard) {
	a.mu.Lock()
	defer a.mu.Unlock()
	h.channels--
	a.release(kind, name, h)
}

// seat counts more or fewer connections to the node at addr.
func (a *Audience) seat(ch *Channel, addr string, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	h := ch.heard
	for i := range h.feeds {
		at := &h.feeds[i]
		if at.addr != addr {
			continue
		}
		if at.n += n; at.n == 0 {
			*at = h.feeds[len(h.feeds)-1]
			h.feeds = h.feeds[:len(h.feeds)-1]
			a.release(ch.kind, ch.name, h)
		}
		return
	}
	h.feeds = append(h.feeds, seats{addr, n})
}

// release forgets a name of which nothing is left.
func (a *Audience) release(kind ChannelKind, name string, h *heard) {
	if h.channels == 0 && len(h.feeds) == 0 {
		a.heard[kind].remove(name)
	}
}

// at is how many connections the node at addr may count; "": all nodes together.
func (h *heard) at(addr string) (n int) {
	for _, at := range h.feeds {
		if addr == "" || at.addr == addr {
			n += at.n
		}
	}
	return n
}

// Empty reports whether there is no listener, and no connection, that a message could reach. A
// message of a plain channel may reach patterns as well.
func (a *Audience) Empty(kind ChannelKind) bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return len(a.heard[kind].of) == 0 && (kind != PlainChannel || len(a.heard[PatternChannel].of) == 0)
}

// Of returns how many listeners a channel has, and how many connections nodes may count for it.
func (a *Audience) Of(kind ChannelKind, name []byte) (listeners, feeds int) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if h := a.heard[kind].of[string(name)]; h != nil {
		return int(h.listeners.Load()), h.at("")
	}
	return 0, 0
}

// Hears returns how many listeners a message reaches that is published to a channel, and how many
// connections the node at addr may count for the message; "": all nodes together. A listener counts
// for its subscription to the channel and for each pattern, as in Redis.
func (a *Audience) Hears(kind ChannelKind, name []byte, addr string) (listeners, feeds int) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if h := a.heard[kind].of[string(name)]; h != nil {
		listeners, feeds = int(h.listeners.Load()), h.at(addr)
	}
	if kind != PlainChannel {
		return listeners, feeds
	}
	steps := matchSteps
	for pattern, h := range a.heard[PatternChannel].of {
		if a.match(pattern, name, &steps) {
			listeners += int(h.listeners.Load())
			feeds += h.at(addr)
		}
		if steps <= 0 {
			break
		}
	}
	return listeners, feeds
}

// Patterns is what there is of patterns.
type Patterns struct {
	Listened  int // patterns that have listeners
	Listeners int // of all of them
	Asked     int // patterns that nodes may count for berth
	Feeds     int // subscriptions to patterns that nodes may count for berth
}

// Patterns counts the patterns.
func (a *Audience) Patterns() (p Patterns) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	for _, h := range a.heard[PatternChannel].of {
		if n := int(h.listeners.Load()); n > 0 {
			p.Listened++
			p.Listeners += n
		}
		if n := h.at(""); n > 0 {
			p.Asked++
			p.Feeds += n
		}
	}
	return p
}
