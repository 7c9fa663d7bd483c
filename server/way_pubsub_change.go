package main

import (
	"slices"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/feed"
	"github.com/berth-proxy/berth/router"
)

// subscriptionChange is a SUBSCRIBE or UNSUBSCRIBE under way on the feeds. Those of plain channels
// and patterns that a client has sent one after the other are under way at the same time: they are
// asked on one feed, and answered there in the same order. Each takes effect when its answer comes,
// which is its place among the messages.
//
// Answers come out of order from a lost feed, on which every UNSUBSCRIBE is answered at once, and
// from two feeds: the client has subscribed as another user before, or the cluster has changed. Who
// is answered too early waits for its turn; a SUBSCRIBE has itself confirmed anew then. It is a
// backend.Subscriber.
//
// One of very many channels claims them, and leaves them, in slices: it is a job. The node confirms
// them read by read, which is slices, too.
//
//	SUBSCRIBE   ─▶ claim … claim ─▶ one SUBSCRIBE on the feed ─▶ Subscribed … Subscribed
//	UNSUBSCRIBE ─▶ PING on the feeds ─▶ its turn ─▶ leave … leave
type subscriptionChange struct {
	*subscriber
	r             *request
	words         wordReader // the client's request, as far as it is not dealt with
	set           *feed.Set
	asks          []*feed.Channel // claimed so far
	stage         func(*subscriptionChange) (done bool)
	early         bool   // a confirmation came before its turn: it is to be asked anew
	confirmations []byte // confirmations that wait, since they are for the midst of EXEC's reply
	due           func() // what it does when its turn comes; nil: the answer is to come first
}

// begin enters one, after the others.
func (b *subscriber) begin(cmd *router.Command, raw []byte, args [][]byte) *subscriptionChange {
	s := b.s
	s.sub = b
	c := &subscriptionChange{subscriber: b, words: newWordReader(s.give(raw)), r: s.newRequest(cmd)}
	b.underWay = append(b.underWay, c)
	if kindOf(cmd) == feed.ShardChannel || s.execReply != nil || len(args) > sliceChannels {
		s.pauseFor(pauseSubscribing) // its feed may be another one, what follows is no request of its own, or would overtake it
	}
	return c
}

// maySubscribe reports whether a request may be taken, if others change what the client listens to.
func (s *session) maySubscribe(cmd *router.Command) bool {
	if s.sub == nil || len(s.sub.underWay) == 0 {
		return true
	}
	return cmd != nil && s.txn == nil && (cmd.Is(router.Subscribes) || cmd.Is(router.Unsubscribes)) && kindOf(cmd) != feed.ShardChannel
}

// ask has the node confirm the channels of the request.
func (c *subscriptionChange) ask() {
	c.set = c.s.loop.feeds.Of(c.s.pipes.Identity())
	c.words = newWordReader(c.words.raw)
	c.words.next()
	c.start((*subscriptionChange).claim)
}

func (c *subscriptionChange) start(stage func(*subscriptionChange) (done bool)) {
	c.stage = stage
	c.s.loop.addJob(c)
}

// slice does a part of the work.
func (c *subscriptionChange) slice() (done bool) {
	if c.s.closed {
		if c.asks != nil {
			c.set.Disclaim(c.asks)
		}
		c.r.done(nil)
		return true
	}
	return c.stage(c)
}

// claim collects the channels, and asks for them when it has all.
func (c *subscriptionChange) claim() (done bool) {
	for n := sliceChannels; c.words.left(); n-- {
		if n == 0 {
			return false
		}
		c.asks = append(c.asks, c.set.Claim(kindOf(c.r.cmd), c.words.next()))
	}
	asks := c.asks
	c.asks = nil
	if err := c.set.Subscribe(asks, c.words.raw, c); err != nil {
		c.Refused(err)
	}
	return true
}

// inTurn runs do when nothing of the client is ahead of this change: at once, or later.
func (c *subscriptionChange) inTurn(do func()) {
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
func (c *subscriptionChange) Subscribed(ch *feed.Channel, last bool) {
	switch {
	case !c.s.closed && !c.early && c.underWay[0] == c:
		c.listen(ch, last)
	case last:
		c.early = false
		c.inTurn(c.ask)
	default:
		c.early = true
	}
}

// listen joins a channel and confirms it.
func (c *subscriptionChange) listen(ch *feed.Channel, last bool) {
	cmd, l := c.r.cmd, c.s.loop
	kind := kindOf(cmd)
	if _, has := c.names[kind][ch.Name()]; !has {
		c.add(kind, ch.Name(), ch.Join(c.subscriber))
	}
	l.scratch = c.confirm(l.scratch[:0], cmd, ch.Name(), c.count(kind))
	c.say(l.scratch, last)
}

// say gives the client confirmations; with the last ones it ends.
func (c *subscriptionChange) say(out []byte, last bool) {
	switch {
	case last && c.confirmations == nil:
		c.confirmed(out)
	case last:
		c.confirmed(append(c.confirmations, out...))
	case c.s.head == c.r:
		c.s.write(out)
	default:
		c.confirmations = append(c.confirmations, out...)
	}
}

// Refused says why the client's SUBSCRIBE is in vain.
func (c *subscriptionChange) Refused(err *backend.LostError) {
	c.inTurn(func() {
		l := c.s.loop
		l.scratch = appendLost(l.scratch[:0], err)
		c.finish(l.scratch)
	})
}

// unsubscribe ends subscriptions, after what was published before has been delivered.
func (b *subscriber) unsubscribe(cmd *router.Command, raw []byte, args [][]byte) bool {
	feeds := b.talkingOrAsked()
	b.leaves(kindOf(cmd), args[1:])
	c := b.begin(cmd, raw, args)
	c.words.next()
	stage := (*subscriptionChange).leave
	if len(args) == 1 {
		stage = (*subscriptionChange).leaveAll
	}
	do := func() { c.start(stage) }
	if len(feeds) == 0 {
		c.inTurn(do)
	} else {
		afterAll(feeds, func() { c.inTurn(do) })
	}
	return true
}

// leaves has publishers not count what is about to end, names or all of a kind: unless those are
// many, or something is under way that may begin it.
func (b *subscriber) leaves(kind feed.ChannelKind, names [][]byte) {
	if len(b.underWay) > 0 || max(len(names), len(b.names[kind])) > sliceChannels {
		return
	}
	goes := func(sub subscription) {
		if sub.Subscription != nil {
			sub.Leaving()
		}
	}
	for _, name := range names {
		goes(b.names[kind][string(name)])
	}
	if len(names) == 0 {
		for _, sub := range b.names[kind] {
			goes(sub)
		}
	}
}

// leave ends the subscriptions that the request names.
func (c *subscriptionChange) leave() (done bool) {
	l := c.s.loop
	out := l.scratch[:0]
	for n := sliceChannels; n > 0 && c.words.left(); n-- {
		out = c.leaveOne(out, string(c.words.next()))
	}
	l.scratch = out
	done = !c.words.left()
	c.say(out, done)
	return done
}

// leaveAll ends all of a kind.
func (c *subscriptionChange) leaveAll() (done bool) {
	l, kind := c.s.loop, kindOf(c.r.cmd)
	out := l.scratch[:0]
	names := c.ofKind(kind)
	for _, name := range names {
		out = c.leaveOne(out, name)
	}
	if len(names) == 0 {
		out = c.confirmNothing(out, c.r.cmd, kind)
	}
	l.scratch = out
	done = len(c.names[kind]) == 0
	c.say(out, done)
	return done
}

// leaveOne ends a subscription, if there is one, and confirms that.
func (c *subscriptionChange) leaveOne(out []byte, name string) []byte {
	kind := kindOf(c.r.cmd)
	c.remove(kind, name)
	return c.confirm(out, c.r.cmd, name, c.count(kind))
}

// talkingOrAsked lists the feeds on which messages for the client may be on their way, and that of
// what is under way.
func (b *subscriber) talkingOrAsked() (feeds []*feed.Feed) {
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
		s.resumeFrom(pauseSubscribing)
	case b.underWay[0].due != nil:
		next := b.underWay[0]
		do := next.due
		next.due = nil
		do()
	}
}
