package feed

import (
	"math/rand/v2"
	"slices"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/router"
)

// Feeds are the subscriptions of one event loop, by user. Owned by that loop.
type Feeds struct {
	loop     backend.Loop
	settings *backend.LinkSettings
	nodes    backend.Places
	sets     map[backend.Identity]*Set
	dirty    []*Feed
	fanOut
	stats Stats
}

// Stats counts what the feeds of one loop have done. Plain numbers: read them on the loop.
type Stats struct {
	Dials, DialErrors, Lost int64
	Retired                 int64 // not needed any more
	Timeouts                int64 // connections ended because the node did not answer
	BytesIn, BytesOut       int64
	Messages                int64 // that nodes sent
	Deliveries              int64 // of them, to listeners
}

// Add sums another loop's counters into s.
func (s *Stats) Add(o Stats) {
	s.Dials += o.Dials
	s.DialErrors += o.DialErrors
	s.Lost += o.Lost
	s.Retired += o.Retired
	s.Timeouts += o.Timeouts
	s.BytesIn += o.BytesIn
	s.BytesOut += o.BytesOut
	s.Messages += o.Messages
	s.Deliveries += o.Deliveries
}

// New makes the feeds of a loop.
func New(loop backend.Loop, settings *backend.LinkSettings, nodes backend.Places) *Feeds {
	return &Feeds{loop: loop, settings: settings, nodes: nodes, sets: map[backend.Identity]*Set{}}
}

// Of is the set of a user, made when first asked for. Database and protocol of the identity mean
// nothing here.
func (fs *Feeds) Of(id backend.Identity) *Set {
	id.DB, id.RESP = 0, 2
	s := fs.sets[id]
	if s == nil {
		s = &Set{feeds: fs, identity: id, byAddr: map[string]*Feed{}}
		for kind := range s.channels {
			s.channels[kind] = map[string]*Channel{}
		}
		fs.sets[id] = s
	}
	return s
}

// touch lists a feed for the next Flush.
func (fs *Feeds) touch(f *Feed) {
	if len(fs.dirty) == 0 {
		fs.loop.Wake()
	}
	fs.dirty = append(fs.dirty, f)
}

// Flush writes what was asked on any feed during this turn.
func (fs *Feeds) Flush() {
	for i := 0; i < len(fs.dirty); i++ { // flush may lose a feed, and others are asked: dirty grows
		fs.dirty[i].flush()
	}
	clear(fs.dirty)
	fs.dirty = fs.dirty[:0]
}

// Tick looks after feeds that are silent or idle, and after channels that have no feed.
func (fs *Feeds) Tick() {
	now := fs.loop.Now()
	timeout := fs.settings.Timeout()
	for id, s := range fs.sets {
		for addr, f := range s.byAddr {
			if f.tick(now, timeout) {
				delete(s.byAddr, addr)
				if s.home == f {
					s.home = nil
				}
			}
		}
		if len(s.lost) > 0 && s.backOff.Over(now) {
			s.restore()
		}
		if len(s.byAddr) == 0 && s.channelCount() == 0 {
			delete(fs.sets, id)
		}
	}
}

// TopologyChanged moves channels to where they belong now.
func (fs *Feeds) TopologyChanged() {
	t := fs.nodes.Topology()
	for _, s := range fs.sets {
		s.follow(t)
	}
}

// Close ends every feed.
func (fs *Feeds) Close() {
	for _, s := range fs.sets {
		for _, f := range s.byAddr {
			f.end(backend.ErrShutdown)
		}
	}
	clear(fs.sets) // nothing is to be restored
}

// Stats are the counters so far.
func (fs *Feeds) Stats() Stats { return fs.stats }

// Count is how many of a node's feeds of this loop stand in each state, and what they carry.
type Count struct {
	Up, Dialing int
	Channels    int // subscribed on them
}

// Add counts another loop's feeds in.
func (c *Count) Add(o Count) {
	c.Up += o.Up
	c.Dialing += o.Dialing
	c.Channels += o.Channels
}

// Count adds this loop's feeds to counts, by node address.
func (fs *Feeds) Count(counts map[string]Count) {
	for _, s := range fs.sets {
		for addr, f := range s.byAddr {
			c := counts[addr]
			switch f.link.State() {
			case backend.Up:
				c.Up++
			case backend.Dialing, backend.Shaking:
				c.Dialing++
			}
			c.Channels += f.channels
			counts[addr] = c
		}
	}
}

// Set is the feeds and channels of one user, a feed for a node. Owned by the loop.
//
// Plain channels and patterns are all on one feed, home, since a node of a Cluster hears what is
// published on any other. A shard channel is on the feed to the owner of its slot. A channel whose
// feed is lost, or whose slot has left, is in lost until it has been subscribed anew; what is
// published meanwhile never comes, as it would not to a client of Redis that has to connect again.
type Set struct {
	feeds    *Feeds
	identity backend.Identity
	byAddr   map[string]*Feed
	home     *Feed // nil: not chosen
	channels [ChannelKinds]map[string]*Channel

	lost    []*Channel      // have listeners and no feed; perhaps some that found one already
	backOff backend.BackOff // before lost are asked for again
}

func (s *Set) channelCount() int {
	n := 0
	for _, of := range s.channels {
		n += len(of)
	}
	return n
}

// Claim is the channel of a name, for a Subscribe that is being prepared: it is remembered until
// that is answered, or until Disclaim. The name is copied.
func (s *Set) Claim(kind ChannelKind, name []byte) *Channel {
	ch := s.channels[kind][string(name)]
	if ch == nil {
		ch = &Channel{set: s, kind: kind, name: string(name)}
		s.channels[kind][ch.name] = ch
	}
	ch.claims++
	return ch
}

// Disclaim takes claims back, in slices.
func (s *Set) Disclaim(channels []*Channel) {
	n := min(len(channels), disclaimSlice)
	for _, ch := range channels[:n] {
		ch.disclaim()
	}
	if rest := channels[n:]; len(rest) > 0 {
		go s.feeds.loop.Post(func() { s.Disclaim(rest) })
	}
}

const disclaimSlice = 1 << 10

// Subscribe asks a node for claimed channels of one kind, shard channels of one slot only, with a
// request that names them in their order. Subscribed or Refused answers; an error means that
// nothing was asked and neither is called. Channels and request are not the caller's any more.
func (s *Set) Subscribe(channels []*Channel, request []byte, to Subscriber) *backend.LostError {
	o := &order{verb: orderOn, kind: channels[0].kind, channels: channels, request: request, to: to}
	err := s.place(o)
	if err != nil {
		s.Disclaim(channels)
	}
	return err
}

// place asks the feed where the order's channels belong.
func (s *Set) place(o *order) *backend.LostError {
	f, err := s.feedFor(o.channels[0])
	if err == nil {
		f.ask(o)
	}
	return err
}

// feedFor is where a channel belongs, if that node may be asked now.
func (s *Set) feedFor(ch *Channel) (*Feed, *backend.LostError) {
	t := s.feeds.nodes.Topology()
	if ch.kind != ShardChannel {
		return s.chooseHome(t)
	}
	addr := t.Primary(router.Slot([]byte(ch.name)))
	if addr == "" {
		return nil, errNoOwner
	}
	f := s.node(addr)
	if !f.ready() {
		err, _ := f.link.Err()
		return nil, err
	}
	return f, nil
}

var errNoOwner = &backend.LostError{Refusal: "CLUSTERDOWN Hash slot not served"}

// chooseHome keeps the home there is if it may be asked, else it chooses any primary that may.
func (s *Set) chooseHome(t *router.Topology) (*Feed, *backend.LostError) {
	if s.home != nil && s.home.ready() {
		return s.home, nil
	}
	shards := t.Shards()
	if len(shards) == 0 {
		return nil, errNoOwner
	}
	first := rand.N(len(shards))
	var err *backend.LostError
	for i := range shards {
		f := s.node(shards[(first+i)%len(shards)].Primary)
		if f.ready() {
			s.home = f
			return f, nil
		}
		err, _ = f.link.Err()
	}
	return nil, err
}

// Home is the feed on which plain channels and patterns are asked for; nil: none may be asked now.
func (s *Set) Home() *Feed {
	if s.home == nil || !s.home.ready() {
		return nil
	}
	return s.home
}

func (s *Set) node(addr string) *Feed {
	f := s.byAddr[addr]
	if f == nil {
		f = &Feed{set: s, link: backend.NewLink("feed", addr), lastUse: s.feeds.loop.Now()}
		s.byAddr[addr] = f
	}
	return f
}

// askAgain gives a listener's order to another connection.
func (s *Set) askAgain(o *order, why *backend.LostError) {
	if err := s.place(o); err != nil {
		if err == errNoOwner {
			why = err
		}
		o.refuse(why)
	}
}

// lose lists a channel that has listeners but no feed.
func (s *Set) lose(ch *Channel) { s.lost = append(s.lost, ch) }

// restore asks for the lost channels anew, each by itself: one that is refused must not take others
// along.
func (s *Set) restore() {
	lost := s.lost
	s.lost = nil
	for _, ch := range lost {
		if ch.feed != nil || len(ch.places) == 0 {
			continue
		}
		if err := s.place(&order{verb: orderOn, kind: ch.kind, channels: []*Channel{ch}}); err != nil {
			s.lose(ch)
		}
	}
}

// notRestored takes a node's error to an order that should have brought a channel back.
func (s *Set) notRestored(o *order, why *backend.LostError, moved bool) {
	ch := o.channels[0]
	switch {
	case ch.feed != nil || len(ch.places) == 0:
	case forbids(why.Refusal):
		ch.cut(why)
	case moved && ch.hops < maxOrderTries:
		ch.hops++
		s.lose(ch)
		s.restore()
	default:
		ch.hops = 0
		s.lose(ch)
		s.backOff.Failed(s.feeds.loop.Now())
	}
}

// cut ends all that listen to the channel.
func (ch *Channel) cut(why *backend.LostError) {
	for _, sub := range slices.Clone(ch.places) { // who is cut leaves
		sub.to.Cut(why)
	}
}

// lostFeed looks after the channels of a feed whose connection is lost. again: at once.
func (s *Set) lostFeed(f *Feed, why *backend.LostError, again bool) {
	if s.home == f {
		s.home = nil
	}
	for _, channels := range s.channels {
		for _, ch := range channels {
			if ch.feed != f {
				continue
			}
			ch.away()
			switch {
			case len(ch.places) == 0:
			case forbids(why.Refusal):
				ch.cut(why)
			default:
				s.lose(ch)
			}
		}
	}
	s.feeds.nodes.Refresh()
	if again {
		s.restore()
	}
}

// follow moves channels to where they belong by a new topology: first they are asked for there,
// then given up here.
func (s *Set) follow(t *router.Topology) {
	if s.home != nil && !slices.ContainsFunc(t.Shards(), func(sh router.Shard) bool { return sh.Primary == s.home.Addr() }) {
		s.home = nil
	}
	for kind, channels := range s.channels {
		for _, ch := range channels {
			if ch.feed == nil || len(ch.places) == 0 {
				continue
			}
			if ChannelKind(kind) == ShardChannel {
				owner := t.Primary(router.Slot([]byte(ch.name)))
				if owner == "" || owner == ch.feed.Addr() {
					continue
				}
			} else if ch.feed == s.home {
				continue
			}
			if err := s.place(&order{verb: orderOn, kind: ch.kind, channels: []*Channel{ch}}); err != nil {
				ch.moveTo(nil)
				s.lose(ch)
			}
		}
	}
}
