package main

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/feed"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/telemetry"
)

// subscriber is what a client listens to: channels, and perhaps MONITOR. Its messages come on its
// loop's feeds, which it shares with all others of its user; with pubsub-sharing off, and for
// MONITOR, on a pin. It is a backend.Listener.
//
//	SUBSCRIBE   ─▶ feed ─▶ node confirms ─▶ Subscribed: joins the channel, confirmed to the client with its own count
//	UNSUBSCRIBE ─▶ PING on its feeds     ─▶ Synced: all that was published before has been delivered; leaves, confirmed
//
// What the client sends after it waits meanwhile, unless it can be under way at the same time: see
// subscriptionChange.
type subscriber struct {
	s       *session
	names   [feed.ChannelKinds]map[string]subscription
	joined  int // subscriptions so far, to tell which is older
	feeds   []feedUse
	own     *ownFeed
	monitor *monitor // nil: not in MONITOR

	underWay []*subscriptionChange // on feeds, the oldest first
	request  *request              // under way on the pin
	fed      bool                  // a message is in the output, and Flush is to come
}

// feedUse is how many of a client's subscriptions are on a feed. Of a client that has been one user
// all the time plain channels and patterns are on the same, shard channels are on one for each
// node.
type feedUse struct {
	feed *feed.Feed
	n    int // at least 1
}

// subscription is one of a client's.
type subscription struct {
	*feed.Subscription     // nil: on the pin
	nth                int // the client's oldest has the lowest
}

// kindOf says which channels a command is about.
func kindOf(cmd *router.Command) feed.ChannelKind {
	switch {
	case cmd.Channels() || cmd.Is(router.Sharded):
		return feed.ShardChannel
	case cmd.Is(router.Patterns):
		return feed.PatternChannel
	}
	return feed.PlainChannel
}

// subscribed reports whether the client has subscriptions.
func (s *session) subscribed() bool { return s.sub != nil && s.sub.total() > 0 }

// monitors reports whether the client is in MONITOR.
func (s *session) monitors() bool { return s.sub != nil && s.sub.monitor != nil }

// subscriptions is how many the client has of a kind.
func (s *session) subscriptions(kind feed.ChannelKind) int {
	if s.sub == nil {
		return 0
	}
	return len(s.sub.names[kind])
}

func (b *subscriber) total() int { return len(b.names[0]) + len(b.names[1]) + len(b.names[2]) }

// count is the number that confirmations of a kind carry.
func (b *subscriber) count(kind feed.ChannelKind) int {
	if kind == feed.ShardChannel {
		return len(b.names[kind])
	}
	return len(b.names[feed.PlainChannel]) + len(b.names[feed.PatternChannel])
}

// maxChannelName bounds the name of a channel, and a pattern. A client chooses them, and berth keeps
// them for as long as the subscription lasts, and says them to each new connection to a node. Redis
// has no bound.
const maxChannelName = 64 << 10

var errLongChannel = "ERR berth: the name of a channel and a pattern have at most " + strconv.Itoa(maxChannelName) + " bytes"

func tooLongChannel(name []byte) bool { return len(name) > maxChannelName }

// subscribe runs SUBSCRIBE, MONITOR and the like.
func (s *session) subscribe(cmd *router.Command, raw []byte, args [][]byte) bool {
	if cmd.Is(router.Replication) {
		return s.replicate(cmd, raw, args)
	}
	if cmd.Is(router.Subscribes) && slices.ContainsFunc(args[1:], tooLongChannel) {
		return s.refuse(cmd, errLongChannel)
	}
	b := s.sub
	if b == nil {
		b = &subscriber{s: s}
	}
	if s.waiting > len(b.underWay) {
		return s.hold(pauseDraining)
	}
	switch {
	case cmd.Is(router.Monitor) || b.own.subscribed() ||
		b.total() == 0 && len(b.underWay) == 0 && !s.loop.srv.config().PubSubSharing:
		return b.onOwn(cmd, raw, args)
	case cmd.Is(router.Unsubscribes):
		return b.unsubscribe(cmd, raw, args)
	}
	if why := s.loop.srv.unreached(); why != "" {
		return s.refuse(cmd, why)
	}
	if kindOf(cmd) == feed.ShardChannel {
		if _, text := s.place(s.loop.srv.nodes.Topology(), cmd, args); text != "" {
			return s.refuse(cmd, text)
		}
	}
	b.begin(cmd, raw, args).ask()
	return true
}

// add enters a subscription.
func (b *subscriber) add(kind feed.ChannelKind, name string, sub *feed.Subscription) {
	if b.names[kind] == nil {
		b.names[kind] = map[string]subscription{}
	}
	b.joined++
	b.names[kind][name] = subscription{sub, b.joined}
}

// subscriptionBytes is about what berth holds for a subscription, besides the name.
const subscriptionBytes = 300

// remove ends a subscription, if there is one.
func (b *subscriber) remove(kind feed.ChannelKind, name string) {
	sub, has := b.names[kind][name]
	if !has {
		return
	}
	delete(b.names[kind], name)
	if sub.Subscription != nil {
		sub.Leave()
	}
	l := b.s.loop
	l.srv.memory.pass(subscriptionBytes+len(name), l.clock)
}

// confirm appends one confirmation.
func (b *subscriber) confirm(out []byte, cmd *router.Command, name string, count int) []byte {
	out = codec.AppendPush(out, 3, b.s.resp())
	out = codec.AppendBulkString(out, cmd.Name)
	out = codec.AppendBulkString(out, name)
	return codec.AppendInt(out, int64(count))
}

// finish ends the request under way on the pin, and the subscriber if nothing is left of it.
func (b *subscriber) finish(reply []byte) {
	r := b.request
	b.request = nil
	b.end()
	r.done(reply)
	if s := b.s; !s.closed {
		s.resumeFrom(pauseSubscribing)
	}
}

// end takes a subscriber that listens to nothing from its client.
func (b *subscriber) end() {
	if s := b.s; s.sub == b && b.total() == 0 && b.monitor == nil && len(b.underWay) == 0 {
		b.own.close("unsubscribed")
		s.sub = nil
	}
}

// ofKind lists the client's subscriptions of a kind, the oldest first. Of very many it lists some.
func (b *subscriber) ofKind(kind feed.ChannelKind) []string {
	type aged struct {
		name string
		nth  int
	}
	var some []aged
	for name, sub := range b.names[kind] {
		if len(some) == sliceChannels {
			break
		}
		some = append(some, aged{name, sub.nth})
	}
	slices.SortFunc(some, func(x, y aged) int { return cmp.Compare(x.nth, y.nth) })
	names := make([]string, len(some))
	for i := range some {
		names[i] = some[i].name
	}
	return names
}

// Moves keeps count of what is on which feed.
func (b *subscriber) Moves(from, to *feed.Feed) {
	b.use(to, 1)
	b.use(from, -1)
}

func (b *subscriber) use(f *feed.Feed, n int) {
	if f == nil {
		return
	}
	at := slices.IndexFunc(b.feeds, func(u feedUse) bool { return u.feed == f })
	if at < 0 {
		b.feeds = append(b.feeds, feedUse{f, n})
		return
	}
	if b.feeds[at].n += n; b.feeds[at].n == 0 {
		b.feeds = slices.Delete(b.feeds, at, at+1)
	}
}

// confirmNothing appends the answer to an UNSUBSCRIBE of all that finds nothing.
func (b *subscriber) confirmNothing(out []byte, cmd *router.Command, kind feed.ChannelKind) []byte {
	out = codec.AppendPush(out, 3, b.s.resp())
	out = codec.AppendBulkString(out, cmd.Name)
	out = codec.AppendNull(out, b.s.resp())
	return codec.AppendInt(out, int64(b.count(kind)))
}

// afterAll calls then when all that the feeds' nodes have said by now is delivered.
func afterAll(feeds []*feed.Feed, then func()) {
	left := len(feeds)
	for _, f := range feeds {
		f.Sync(func() {
			if left--; left == 0 {
				then()
			}
		})
	}
}

// talking lists the feeds on which messages for the client may be on their way.
func (b *subscriber) talking() (feeds []*feed.Feed) {
	for _, u := range b.feeds {
		if u.feed.Up() {
			feeds = append(feeds, u.feed)
		}
	}
	return feeds
}

// pingInOrder answers PING after what a subscriber, or a client that tracks, has to hear first.
func pingInOrder(s *session, cmd *router.Command, raw []byte, args [][]byte) bool {
	if s.tracking != nil && !s.subscribed() { // what has been invalidated comes first
		return s.share(cmd, raw, args)
	}
	if !s.subscribed() || len(args) > 2 {
		return s.answerLocal(cmd, args)
	}
	feeds := s.sub.talking()
	if len(feeds) == 0 {
		return s.answerLocal(cmd, args)
	}
	reply := s.runLocal(cmd, args, nil)
	r := s.newRequest(cmd)
	afterAll(feeds, func() { r.done(reply) })
	return true
}

// Message adds a message to the output.
func (b *subscriber) Message(array []byte) bool {
	s := b.s
	if s.closing || s.sub != b {
		return false
	}
	if s.out == nil {
		s.out = s.loop.buf()
	}
	at := len(s.out)
	s.out = append(s.out, array...)
	if s.resp() == 3 {
		s.out[at] = '>'
	}
	asks := !b.fed
	b.fed = true
	return asks
}

// Flush writes the messages that Message has gathered.
func (b *subscriber) Flush() {
	b.fed = false
	b.s.flush()
}

// Cut closes a client whose user may no longer listen, as Redis does.
func (b *subscriber) Cut(why *backend.LostError) {
	if b.s.sub == b {
		if why.Login {
			b.s.expel(why.Refusal)
		}
		b.s.kill(telemetry.SubscriptionRefused, "error", shown(why.Refusal))
	}
}

// unlisten ends all of a client's subscriptions without a word. From here on it hears nothing.
func (s *session) unlisten(why string) {
	b := s.sub
	if b == nil {
		return
	}
	s.sub = nil
	if b.monitor != nil {
		s.loop.srv.monitors.remove(b.monitor)
		b.monitor = nil
	}
	b.own.close(why)
	b.own = nil
	s.loop.addJob(leaving{b})
}

// leaving ends the subscriptions of a subscriber that is its client's no more. It is a job.
type leaving struct{ b *subscriber }

func (w leaving) slice() (done bool) {
	n := sliceChannels
	for kind, of := range w.b.names {
		for name := range of {
			if n == 0 {
				return false
			}
			n--
			w.b.remove(feed.ChannelKind(kind), name)
		}
	}
	return true
}
