package feed

import (
	"slices"
	"strings"

	"github.com/berth-proxy/berth/router"
)

// Key events (notify-keyspace-events) are messages that a node of a Cluster publishes to its own
// subscribers only. A channel, or a pattern, on which they may come is subscribed to at every
// primary: at the home, as any other, and besides at the others. From the others only key events
// are taken: all that clients publish comes from the home as well.
//
//	Subscribe ─▶ orderAlso at the other primaries ─▶ all answered, or lost ─▶ orderOn at the home
//
// A primary that comes later, or was not reached, is asked by Tick.

// also is a feed on which a channel is subscribed to besides its own.
type also struct {
	feed *Feed
	live bool // the node has confirmed it
}

// keyEvents are how the channels of key events begin.
var keyEvents = [...]string{"__keyspace@", "__keyevent@"}

// isKeyEvent reports whether a message on the channel is one that a node has made.
func isKeyEvent(channel string) bool {
	return strings.HasPrefix(channel, keyEvents[0]) || strings.HasPrefix(channel, keyEvents[1])
}

// hearsKeyEvents reports whether key events may come on a channel or a pattern. Of a pattern the
// part before its first special character decides.
func hearsKeyEvents(kind ChannelKind, name string) bool {
	if kind == ShardChannel {
		return false
	}
	special := strings.IndexAny(name, `*?[\`)
	if kind == PlainChannel || special < 0 {
		return isKeyEvent(name)
	}
	name = name[:special]
	return isKeyEvent(name) || strings.HasPrefix(keyEvents[0], name) || strings.HasPrefix(keyEvents[1], name)
}

// others lists the primaries besides the home at which key events come, the feeds to them that may
// be asked now, and whether that is all of them.
func (s *Set) others(t *router.Topology) (feeds []*Feed, all bool) {
	if !t.Sharded() {
		return nil, true
	}
	all = true
	for _, shard := range t.Shards() {
		if s.home.Addr() == shard.Primary {
			continue
		}
		if f := s.node(shard.Primary); f.ready() {
			feeds = append(feeds, f)
		} else {
			all = false
		}
	}
	return feeds, all
}

// askOthers asks the other primaries for those of the channels on which key events may come, and
// calls then when each of them has answered. It returns false, and does not call then, if there is
// nothing to ask.
func (s *Set) askOthers(channels []*Channel, then func()) bool {
	channels = slices.DeleteFunc(slices.Clone(channels), func(ch *Channel) bool { return !ch.everywhere })
	if len(channels) == 0 {
		return false
	}
	t := s.feeds.nodes.Topology()
	if _, err := s.chooseHome(t); err != nil {
		s.uneven = true
		return false
	}
	feeds, all := s.others(t)
	s.uneven = s.uneven || !all
	left := 1 // this function
	done := func() {
		if left--; left == 0 {
			then()
		}
	}
	for _, f := range feeds {
		ask := slices.DeleteFunc(slices.Clone(channels), func(ch *Channel) bool { return ch.feed == f || ch.liveAlso(f) })
		if len(ask) > 0 {
			left++
			f.ask(&order{verb: orderAlso, kind: ask[0].kind, channels: ask, done: done})
		}
	}
	left--
	return left > 0
}

// spread asks every primary for the channels on which key events may come, where that is missing,
// and gives them up at nodes that are no primary any more.
func (s *Set) spread(t *router.Topology) {
	s.uneven = false
	for kind := range ShardChannel {
		var missing []*Channel
		for _, ch := range s.channels[kind].of {
			if !ch.everywhere || len(ch.places) == 0 {
				continue
			}
			for _, a := range slices.Clone(ch.also) {
				if !t.Serves(a.feed.Addr()) {
					ch.giveUpAlso(a.feed)
				}
			}
			missing = append(missing, ch)
		}
		for len(missing) > 0 {
			n := min(len(missing), disclaimSlice)
			s.askOthers(missing[:n], func() {})
			missing = missing[n:]
		}
	}
	if s.uneven {
		s.unevenBackOff.Failed(s.feeds.loop.Now())
	} else {
		s.unevenBackOff.Worked()
	}
}

// liveAlso reports whether the node of a feed besides the channel's own has confirmed the channel.
func (ch *Channel) liveAlso(f *Feed) bool { return slices.Contains(ch.also, also{f, true}) }

// alsoAt is the place of a feed in also, or -1.
func (ch *Channel) alsoAt(f *Feed) int {
	return slices.IndexFunc(ch.also, func(a also) bool { return a.feed == f })
}

// enterAlso adds a feed besides the channel's own.
func (ch *Channel) enterAlso(f *Feed, live bool) {
	if ch.alsoAt(f) >= 0 {
		return
	}
	ch.also = append(ch.also, also{f, live})
	f.channels++
	f.set.feeds.audience.seat(ch, f.Addr(), 1)
	for _, sub := range ch.places {
		sub.to.Moves(nil, f)
	}
}

// leaveAlso takes such a feed away. It reports whether it was there. The node may count the feed
// until unseat.
func (ch *Channel) leaveAlso(f *Feed) bool {
	at := ch.alsoAt(f)
	if at < 0 {
		return false
	}
	ch.also = slices.Delete(ch.also, at, at+1)
	f.channels--
	for _, sub := range ch.places {
		sub.to.Moves(f, nil)
	}
	return true
}

// giveUpAlso ends the subscription at such a feed's node.
func (ch *Channel) giveUpAlso(f *Feed) {
	ch.leaveAlso(f)
	f.unsubscribe(ch)
}

// lostAlso is for a feed whose node is not, or no longer, subscribed.
func (ch *Channel) lostAlso(f *Feed) {
	if ch.leaveAlso(f) {
		f.unseat(ch)
		ch.set.uneven = true
	}
}

// takesFrom reports whether a message is to be delivered that has come on a feed which is not the
// channel's own. A shard channel has moved to its own feed: what comes on the old one counts until
// the new node has confirmed the channel. A primary that has become a replica goes on delivering.
func (ch *Channel) takesFrom(f *Feed, reply []byte, r *nodeReply) bool {
	if ch.kind == ShardChannel {
		return !ch.live
	}
	return ch.alsoAt(f) >= 0 && isKeyEvent(string(r.published(reply))) && ch.set.feeds.nodes.Topology().Serves(f.Addr())
}

// alsoAnswered records that a node has confirmed the next channel of an orderAlso.
func (f *Feed) alsoAnswered(ch *Channel) {
	f.proven = true
	if at := ch.alsoAt(f); at >= 0 {
		ch.also[at].live = true
	}
}

// alsoRefused records that a node has refused an orderAlso: the home decides what the user may, and
// Tick asks again.
func (o *order) alsoRefused(f *Feed) {
	for _, ch := range o.channels {
		if !ch.liveAlso(f) {
			ch.lostAlso(f)
		}
	}
	f.set.unevenBackOff.Failed(f.set.feeds.loop.Now())
	o.synced()
}
