package main

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/berth-proxy/berth/backend/feed"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// headcount makes a node's count one of clients. A node counts connections: a feed once, however
// many of berth's clients listen on it. A client reads
//
//	node's count − feeds that the node may count + clients
//
// The feeds are looked at when the request is sent and when the reply comes, and the larger number
// holds: a feed may have come or gone in between. So while subscriptions begin or end, another
// client of the node may be left out; berth's own are counted as they are.
type headcount interface {
	// look looks at the feeds, before the request is sent to the node at addr; "": to all nodes.
	look(a *feed.Audience, addr string)
	// clients makes a reply of nodes one of clients. again reports that the request was sent again,
	// perhaps to another node.
	clients(srv *server, reply []byte, again bool) []byte
}

// headcountOf returns nil if the command counts no clients. It keeps nothing of args.
func headcountOf(cmd *router.Command, args [][]byte) headcount {
	switch {
	case cmd.Is(router.Echoes):
		return &publication{kind: kindOf(cmd), channel: bytes.Clone(args[1])}
	case cmd.Is(router.Listeners):
		c := &census{kind: kindOf(cmd), join: cmd.Join}
		if cmd.Join == router.JoinPairs {
			for _, name := range args[2:] {
				c.names = append(c.names, bytes.Clone(name))
			}
		}
		return c
	}
	return nil
}

// countClients has PUBLISH, SPUBLISH and what PUBSUB tells of subscribers answered for clients. A
// subscriber's own PUBLISH is answered after its message, in the order that Redis has.
func (s *session) countClients(r *request, args [][]byte, addr string) {
	if r.cmd.Traits&(router.Echoes|router.Listeners) == 0 {
		return
	}
	audience := s.loop.srv.audience
	if kind := kindOf(r.cmd); r.cmd.Is(router.Echoes) && audience.Empty(kind) && !s.subscribed() {
		return
	}
	h := headcountOf(r.cmd, args)
	h.look(audience, addr)
	r.ends = counted{h}
}

// counted ends a request by its headcount. It is an ender.
type counted struct{ headcount }

func (counted) replies() int  { return 1 }
func (counted) queued([]byte) {}
func (counted) whole() bool   { return true }
func (counted) again() bool   { return true }

func (c counted) end(r *request, reply []byte) {
	s := r.s
	reply = c.clients(s.loop.srv, reply, r.hops > 0)
	var feeds []*feed.Feed
	if s.sub != nil && r.cmd.Is(router.Echoes) {
		feeds = s.sub.talking()
	}
	if len(feeds) == 0 {
		r.done(reply)
		return
	}
	reply = slices.Clone(reply)
	afterAll(feeds, func() { r.done(reply) })
}

// publication counts whom a message reaches.
type publication struct {
	kind    feed.ChannelKind
	channel []byte
	addr    string // the node's
	feeds   int    // how many the node may have counted when the message was sent
}

func (p *publication) look(a *feed.Audience, addr string) {
	p.addr = addr
	_, p.feeds = a.Hears(p.kind, p.channel, addr)
}

func (p *publication) clients(srv *server, reply []byte, again bool) []byte {
	count, err := integer(reply)
	if err != nil {
		return reply
	}
	if count == 0 { // not even a feed has heard it: whoever listens by now has come later
		return reply
	}
	if again {
		p.addr = ""
	}
	clients, feeds := srv.audience.Hears(p.kind, p.channel, p.addr)
	return codec.AppendInt(nil, beside(count, p.feeds, feeds)+int64(clients))
}

// beside is how many a node counts beside the feeds, of which there were so many before and after.
func beside(count int64, before, after int) int64 {
	return max(0, count-int64(max(before, after)))
}

// census counts who listens: PUBSUB CHANNELS, NUMSUB, NUMPAT and the like.
type census struct {
	kind     feed.ChannelKind
	join     router.Join
	names    [][]byte // NUMSUB: the channels
	feeds    []int    // NUMSUB: how many nodes may have counted for each
	patterns feed.Patterns
}

func (c *census) look(a *feed.Audience, _ string) {
	c.feeds = make([]int, len(c.names))
	for i, name := range c.names {
		_, c.feeds[i] = a.Of(c.kind, name)
	}
	if c.join == router.JoinMost {
		c.patterns = a.Patterns()
	}
}

func (c *census) clients(srv *server, reply []byte, _ bool) []byte {
	if reply[0] == '-' {
		return reply
	}
	switch c.join {
	case router.JoinPairs:
		return c.subscribers(srv.audience, reply)
	case router.JoinUnion:
		return c.channels(srv.audience, reply)
	}
	count, err := integer(reply)
	if err != nil {
		return reply
	}
	now := srv.audience.Patterns()
	if srv.countsPatternsTwice() {
		return codec.AppendInt(nil, beside(count, c.patterns.Feeds, now.Feeds)+int64(now.Listeners))
	}
	return codec.AppendInt(nil, beside(count, c.patterns.Asked, now.Asked)+int64(now.Listened))
}

// countsPatternsTwice reports whether PUBSUB NUMPAT counts a pattern once for each client, as
// before Redis 6.2.
func (srv *server) countsPatternsTwice() bool {
	var major, minor int
	if _, err := fmt.Sscanf(srv.nodes.Info().Version, "%d.%d", &major, &minor); err != nil {
		return false
	}
	return major < 6 || major == 6 && minor < 2
}

// subscribers is the answer to NUMSUB.
func (c *census) subscribers(a *feed.Audience, reply []byte) []byte {
	out := codec.AppendArray(nil, 2*len(c.names))
	err := elements(reply, func(i int, e []byte) {
		count, err := integer(e)
		if i%2 == 1 && i/2 < len(c.names) && err == nil {
			clients, feeds := a.Of(c.kind, c.names[i/2])
			out = codec.AppendInt(out, beside(count, c.feeds[i/2], feeds)+int64(clients))
			return
		}
		out = append(out, e...)
	})
	if n, _, _ := header(reply); err != nil || n != 2*len(c.names) {
		return reply
	}
	return out
}

// channels is the answer to CHANNELS, without the channels of which berth has only the feed left.
func (c *census) channels(a *feed.Audience, reply []byte) []byte {
	var out []byte
	n := 0
	err := elements(reply, func(_ int, e []byte) {
		if v, err := codec.ParseValue(e); err == nil {
			if clients, feeds := a.Of(c.kind, v.Str); clients == 0 && feeds > 0 {
				return
			}
		}
		n++
		out = append(out, e...)
	})
	if err != nil {
		return reply
	}
	return append(codec.AppendArray(nil, n), out...)
}

// countedInExec is a queued request that counts clients.
type countedInExec struct {
	headcount
	at int // its place among the requests that go to the node
}

// noteCount remembers a queued request that counts clients: its reply stands in EXEC's.
func (t *transaction) noteCount(cmd *router.Command, raw []byte, args [][]byte) {
	if h := headcountOf(cmd, args); h != nil {
		t.counted = append(t.counted, countedInExec{h, t.sent})
		t.held += len(raw) + countedCost*len(args)
	}
}

// countedCost bounds what a headcount holds for each word of its request besides the word, bytes.
const countedCost = 64

// countClients makes EXEC's reply one of clients.
func (b *blob) countClients(r *request, reply []byte) []byte {
	_, rest, ok := header(reply)
	if !ok || len(b.counted) == 0 {
		return reply
	}
	next := b.counted
	out := slices.Clone(reply[:len(reply)-len(rest)])
	_ = elements(reply, func(i int, e []byte) { // the reply is whole
		if len(next) > 0 && next[0].at == i {
			e = next[0].clients(r.s.loop.srv, e, r.hops > 0)
			next = next[1:]
		}
		out = append(out, e...)
	})
	return out
}
