package feed

import "github.com/berth-proxy/berth/backend"

// ChannelKind is the name space of a channel: of channels, of patterns, or of shard channels.
type ChannelKind uint8

// The kinds, with the command that subscribes to a channel of each.
const (
	PlainChannel   ChannelKind = iota // SUBSCRIBE
	PatternChannel                    // PSUBSCRIBE
	ShardChannel                      // SSUBSCRIBE: the node that owns the slot has the channel
)

// ChannelKinds is how many kinds there are.
const ChannelKinds = 3

// Listener gets the messages of channels. Its methods run on the loop.
type Listener interface {
	// Message delivers a message, as the array that it is in RESP2. In RESP3 only the first byte
	// differs. The array is valid during the call. If Message returns true, Flush is called when
	// all that has arrived by now is delivered, or soon after.
	Message(array []byte) bool
	// Flush writes what Message has gathered.
	Flush()
	// Moves reports that one of the listener's subscriptions has moved from one feed to another;
	// nil is no feed. The first call comes when the listener joins a channel, the last one when it
	// leaves.
	Moves(from, to *Feed)
	// Cut reports that the listener's user lacks the right to one of its channels by now: the node
	// was asked again after a connection was lost. Redis closes such a client.
	Cut(why *backend.LostError)
}

// Subscriber has asked for channels. Its methods run on the loop, never inside Subscribe.
type Subscriber interface {
	// Subscribed answers Subscribe, for each channel in the order of the request: the node has
	// confirmed it. This is the place in the stream of messages where the subscription begins, so
	// the Listener has to Join the channel during the call.
	Subscribed(ch *Channel, last bool)
	// Refused answers Subscribe, for all channels: the node does not allow it (err.Refusal is the
	// node's own words), or no node was reached.
	Refused(err *backend.LostError)
}

// Channel is a name to which listeners of one loop and user are subscribed. Owned by the loop.
type Channel struct {
	set  *Set
	kind ChannelKind
	name string

	heard      *heard          // the audience of the name
	places     []*Subscription // one for each listener; their order means nothing
	claims     int             // requests for it that are being prepared, or not answered yet
	feed       *Feed           // where it is subscribed to, or about to be; nil: nowhere
	live       bool            // the feed's node has confirmed it
	also       []also          // feeds that have the channel besides, for key events
	everywhere bool            // key events may come on it
	pending    int             // how many places, the first ones, have not got the message being delivered
}

// Name is the name of the channel, or the pattern.
func (ch *Channel) Name() string { return ch.name }

// Subscription is a listener's place in a channel.
type Subscription struct {
	channel *Channel
	to      Listener
	index   int  // in channel.places
	leaving bool // it counts no more
}

// Join adds a listener to the channel. See Subscriber.Subscribed for the time.
func (ch *Channel) Join(to Listener) *Subscription {
	sub := &Subscription{channel: ch, to: to, index: len(ch.places)}
	ch.places = append(ch.places, sub)
	ch.heard.listeners.Add(1)
	to.Moves(nil, ch.feed)
	for _, a := range ch.also {
		to.Moves(nil, a.feed)
	}
	return sub
}

// Leaving says that the subscription ends as soon as what was published before has been delivered.
// Who publishes from now on does not count it.
func (sub *Subscription) Leaving() {
	if !sub.leaving {
		sub.leaving = true
		sub.channel.heard.listeners.Add(-1)
	}
}

// Leave ends the subscription. The node is told when it was the channel's last one.
func (sub *Subscription) Leave() {
	ch := sub.channel
	hole, last := sub.index, len(ch.places)-1
	if hole < ch.pending { // a message is being delivered to the pending places: fill the hole with another of them
		ch.pending--
		ch.put(ch.places[ch.pending], hole)
		hole = ch.pending
	}
	if hole != last {
		ch.put(ch.places[last], hole)
	}
	ch.places[last] = nil
	ch.places = ch.places[:last]
	sub.Leaving()
	sub.to.Moves(ch.feed, nil)
	for _, a := range ch.also {
		sub.to.Moves(a.feed, nil)
	}
	ch.release()
}

// put makes places[at] the subscription's.
func (ch *Channel) put(sub *Subscription, at int) {
	ch.places[at] = sub
	sub.index = at
}

// wanted reports whether the channel has a listener, or is about to have one.
func (ch *Channel) wanted() bool { return len(ch.places) > 0 || ch.claims > 0 }

// disclaim takes back one claim.
func (ch *Channel) disclaim() {
	ch.claims--
	ch.release()
}

// release forgets the channel when it is no longer wanted.
func (ch *Channel) release() {
	if ch.wanted() || ch.set.channels[ch.kind].of[ch.name] != ch {
		return
	}
	ch.set.channels[ch.kind].remove(ch.name)
	ch.moveTo(nil)
	for len(ch.also) > 0 {
		ch.giveUpAlso(ch.also[0].feed)
	}
	ch.set.feeds.audience.leave(ch.kind, ch.name, ch.heard)
}

// moveTo makes f, which may be nil, the channel's feed, and tells the node of the feed before.
func (ch *Channel) moveTo(f *Feed) {
	old, live := ch.feed, ch.live
	if old == f {
		return
	}
	ch.enter(f)
	switch {
	case old == nil:
	case ch.everywhere && live && ch.wanted() && old.Up() && ch.set.feeds.nodes.Topology().Serves(old.Addr()):
		ch.enterAlso(old, true)
		old.unseat(ch)
	default:
		old.unsubscribe(ch)
	}
}

// away records that the channel's feed is not, or no longer, subscribed to it.
func (ch *Channel) away() {
	old := ch.feed
	ch.enter(nil)
	if old != nil {
		old.unseat(ch)
	}
}

// unseat records that the node of the feed no longer counts the feed for the channel.
func (f *Feed) unseat(ch *Channel) { f.set.feeds.audience.seat(ch, f.Addr(), -1) }

// enter makes f, which may be nil, the channel's feed. It is the only write of feed and live, but
// for the confirmation.
func (ch *Channel) enter(f *Feed) {
	if f != nil && ch.leaveAlso(f) {
		f.unseat(ch)
	}
	old := ch.feed
	if old != nil {
		old.channels--
	}
	if f != nil {
		f.channels++
		f.set.feeds.audience.seat(ch, f.Addr(), 1)
	}
	ch.feed, ch.live = f, false
	for _, sub := range ch.places {
		sub.to.Moves(old, f)
	}
}
