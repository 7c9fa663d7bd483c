package feed

import "github.com/berth-proxy/berth/backend"

// ChannelKind is one of the three name spaces that channels have.
type ChannelKind uint8

// The kinds, and what one subscribes to them with.
const (
	PlainChannel   ChannelKind = iota // SUBSCRIBE
	PatternChannel                    // PSUBSCRIBE
	ShardChannel                      // SSUBSCRIBE: it lives on the node that owns its slot
)

// ChannelKinds is how many kinds there are.
const ChannelKinds = 3

// Listener is one who hears channels. Its methods run on the loop.
type Listener interface {
	// Message delivers a message, as the array that RESP2 has for it; in RESP3 only its first byte
	// is another. It is valid during the call. true asks for a Flush when all that has arrived by
	// now is delivered, or soon after.
	Message(array []byte) bool
	// Flush is the time to write what Message has gathered.
	Flush()
	// Moves says that one of the listener's subscriptions is on the feed to from here on, and no
	// longer on from; nil: on none. It does so for the first when the listener joins, and for the
	// last when it leaves.
	Moves(from, to *Feed)
	// Cut says that the node, asked anew after its connection was lost, no longer allows the
	// listener's user a channel it is subscribed to. Redis closes such a client.
	Cut(why *backend.LostError)
}

// Subscriber is one who has asked for channels. Its methods run on the loop, never inside
// Subscribe.
type Subscriber interface {
	// Subscribed answers Subscribe, for each channel in the order of the request: the node has
	// confirmed. This is the place in the stream of messages where the subscription begins; who
	// wants it has a Listener Join the channel, now or never.
	Subscribed(ch *Channel, last bool)
	// Refused answers Subscribe, for all channels: the node, whose words are in err.Refusal, does
	// not allow it, or none was reached.
	Refused(err *backend.LostError)
}

// Channel is a name that somebody of this loop has subscribed to. Owned by the loop.
type Channel struct {
	set  *Set
	kind ChannelKind
	name string

	places  []*Subscription // who listens; their order means nothing
	claims  int             // of listeners' requests for it, that are on their way or being prepared
	feed    *Feed           // where it is subscribed, or is about to be; nil: nowhere
	live    bool            // the feed's node has confirmed
	hops    uint8           // redirects since it was last live
	pending int             // of the message being delivered, the places that have not got it: the first ones
}

// Name is the channel, or the pattern.
func (ch *Channel) Name() string { return ch.name }

// Subscription is a listener's place among those of a channel.
type Subscription struct {
	channel *Channel
	to      Listener
	index   int // in channel.places
}

// Join makes the listener hear the channel, from Subscribed on.
func (ch *Channel) Join(to Listener) *Subscription {
	sub := &Subscription{channel: ch, to: to, index: len(ch.places)}
	ch.places = append(ch.places, sub)
	to.Moves(nil, ch.feed)
	return sub
}

// Leave ends it. With its last listener the channel is given up at the node.
func (sub *Subscription) Leave() {
	ch := sub.channel
	hole, last := sub.index, len(ch.places)-1
	if hole < ch.pending { // the message being delivered goes to places below due: the hole must not get one that has it
		ch.pending--
		ch.put(ch.places[ch.pending], hole)
		hole = ch.pending
	}
	if hole != last {
		ch.put(ch.places[last], hole)
	}
	ch.places[last] = nil
	ch.places = ch.places[:last]
	sub.to.Moves(ch.feed, nil)
	ch.release()
}

func (ch *Channel) put(sub *Subscription, at int) {
	ch.places[at] = sub
	sub.index = at
}

// wanted reports whether somebody listens, or is about to.
func (ch *Channel) wanted() bool { return len(ch.places) > 0 || ch.claims > 0 }

// disclaim takes back one claim.
func (ch *Channel) disclaim() {
	ch.claims--
	ch.release()
}

// release forgets the channel when nobody wants it any more.
func (ch *Channel) release() {
	if ch.wanted() || ch.set.channels[ch.kind][ch.name] != ch {
		return
	}
	delete(ch.set.channels[ch.kind], ch.name)
	ch.moveTo(nil)
}

// moveTo makes another feed, or none, the channel's. The old one's node is told.
func (ch *Channel) moveTo(f *Feed) {
	old := ch.feed
	if old == f {
		return
	}
	ch.enter(f)
	if old != nil {
		old.unsubscribe(ch)
	}
}

// away enters that the channel is not, or no longer, subscribed where it was.
func (ch *Channel) away() { ch.enter(nil) }

// enter makes another feed, or none, the channel's.
func (ch *Channel) enter(f *Feed) {
	old := ch.feed
	if old != nil {
		old.channels--
	}
	if f != nil {
		f.channels++
	}
	ch.feed, ch.live = f, false
	for _, sub := range ch.places {
		sub.to.Moves(old, f)
	}
}
