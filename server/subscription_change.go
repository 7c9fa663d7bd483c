package main

import (
	"slices"
	"strings"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/router"
)

// subscriptionChange is a SUBSCRIBE or UNSUBSCRIBE under way on the feeds. Those of plain channels and patterns that a
// client has sent one behind the other are under way at the same time: they are asked on one feed, and answered there in
// the same order. Each takes effect when its answer comes, which is its place among the messages.
//
// Answers come out of order from a lost feed, on which every UNSUBSCRIBE is answered at once, and from two feeds: the client
// has subscribed as another user before, or the cluster has changed. Who is answered too early waits for its turn; a
// SUBSCRIBE has itself confirmed anew then. It is a backend.Subscriber.
type subscriptionChange struct {
	*subscriber
	r   *request
	due func() // what it does when its turn comes; nil: the answer is to come first
}

// begin enters one, behind the others.
func (b *subscriber) begin(cmd *router.Command) *subscriptionChange {
	s := b.s
	s.sub = b
	c := &subscriptionChange{subscriber: b, r: s.newRequest(cmd)}
	b.underWay = append(b.underWay, c)
	if kindOf(cmd) == backend.ShardChannel || s.splicing != nil {
		s.pause = pauseSubscribe // its feed may be another one, or what follows is no request of its own
	}
	return c
}

// maySubscribe tells whether a request may be taken, if others change what the client listens to.
func (s *session) maySubscribe(cmd *router.Command) bool {
	if s.sub == nil || len(s.sub.underWay) == 0 {
		return true
	}
	return cmd != nil && s.txn == nil && strings.HasSuffix(cmd.Name, "subscribe") && kindOf(cmd) != backend.ShardChannel
}

// ask has the node confirm channels.
func (c *subscriptionChange) ask(names [][]byte) {
	s := c.s
	if err := s.loop.feeds.Of(s.pipes.Identity()).Subscribe(kindOf(c.r.cmd), names, c); err != nil {
		c.Refused(err)
	}
}

// turn does what it is for, now if nothing is ahead of it.
func (c *subscriptionChange) turn(do func()) {
	switch {
	case c.s.closed:
		c.r.done(nil)
	case c.underWay[0] != c:
		c.due = do
	default:
		do()
	}
}

// Subscribed is the node's word that the client may listen, from here on.
func (c *subscriptionChange) Subscribed(channels []*backend.Channel) {
	if !c.s.closed && c.underWay[0] != c {
		var names [][]byte
		for _, ch := range channels {
			names = append(names, []byte(ch.Name()))
		}
		c.due = func() { c.ask(names) }
		return
	}
	c.turn(func() {
		cmd, l := c.r.cmd, c.s.loop
		kind := kindOf(cmd)
		out := l.scratch[:0]
		for _, ch := range channels {
			if _, has := c.names[kind][ch.Name()]; !has {
				c.add(kind, ch.Name(), ch.Join(c.subscriber))
			}
			out = c.confirm(out, cmd, ch.Name(), c.count(kind))
		}
		l.scratch = out
		c.confirmed(out)
	})
}

// Refused says why the client's SUBSCRIBE is in vain.
func (c *subscriptionChange) Refused(err *backend.LostError) {
	c.turn(func() {
		l := c.s.loop
		l.scratch = appendLost(l.scratch[:0], err)
		c.finish(l.scratch)
	})
}

// unsubscribe ends subscriptions, after what was published before has been delivered.
func (b *subscriber) unsubscribe(cmd *router.Command, args [][]byte) bool {
	s := b.s
	kind := kindOf(cmd)
	var named []string
	for _, a := range args[1:] {
		named = append(named, string(a))
	}
	leave := func() []byte {
		names := named
		if len(args) == 1 {
			names = b.ofKind(kind)
		}
		return b.leave(cmd, names)
	}
	feeds := b.talkingOrAsked()
	if len(feeds) == 0 && len(b.underWay) == 0 {
		s.muteThis = false
		s.answer(cmd, leave())
		b.end()
		return true
	}
	c := b.begin(cmd)
	do := func() { c.confirmed(leave()) }
	if len(feeds) == 0 {
		c.turn(do)
	} else {
		afterAll(feeds, func() { c.turn(do) })
	}
	return true
}

// leave ends the subscriptions of those names, and returns the confirmations.
func (b *subscriber) leave(cmd *router.Command, names []string) (out []byte) {
	kind := kindOf(cmd)
	for _, name := range names {
		if sub, has := b.names[kind][name]; has {
			delete(b.names[kind], name)
			sub.Leave()
		}
		out = b.confirm(out, cmd, name, b.count(kind))
	}
	if len(names) == 0 {
		out = b.confirmNothing(out, cmd, kind)
	}
	return out
}

// talkingOrAsked lists the feeds on which messages for the client may be on their way, and that of what is under way.
func (b *subscriber) talkingOrAsked() (feeds []*backend.Feed) {
	feeds = b.talking()
	if len(b.underWay) > 0 {
		home := b.s.loop.feeds.Of(b.s.pipes.Identity()).Home()
		if home != nil && !slices.Contains(feeds, home) {
			feeds = append(feeds, home)
		}
	}
	return feeds
}

// confirmed ends it with its confirmations, which are pushes: CLIENT REPLY does not hold them up.
func (c *subscriptionChange) confirmed(out []byte) {
	c.r.mute = false
	c.finish(out)
}

// finish ends it, the oldest under way, and the subscriber if nothing is left of it.
func (c *subscriptionChange) finish(reply []byte) {
	b, s := c.subscriber, c.s
	b.underWay[0] = nil
	b.underWay = b.underWay[1:] // no move: a client may have as many as client-pipeline-limit
	b.end()
	c.r.done(reply)
	switch {
	case s.closed:
	case len(b.underWay) == 0:
		if s.pause == pauseSubscribe || s.splicing != nil {
			s.release()
		}
	case b.underWay[0].due != nil:
		next := b.underWay[0]
		do := next.due
		next.due = nil
		do()
	}
}
