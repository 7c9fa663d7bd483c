package feed

import (
	"errors"
	"slices"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/router"
)

// Feeds are all subscriptions of one event loop, by user. Owned by that loop.
type Feeds struct {
	loop     backend.Loop
	settings *backend.LinkSettings
	nodes    backend.Places
	audience *Audience // of all loops
	sets     map[backend.Identity]*Set
	dirty    []*Feed // for the next Flush
	fanOut
	stats Stats
}

// Stats counts what the feeds of one loop have done. Read the numbers on the loop.
type Stats struct {
	Dials      int64 // connections begun
	DialErrors int64 // of them, those that ended before the node confirmed a subscription
	Lost       int64 // connections that ended, but for Retired
	Retired    int64 // connections that berth ended because it did not need them
	Timeouts   int64 // connections that berth ended because the node did not answer
	BytesIn    int64
	BytesOut   int64
	Messages   int64 // messages that nodes sent
	Deliveries int64 // messages that listeners got
}

// Add adds what another loop's feeds have done.
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

// New returns the feeds of a loop: there are none yet.
func New(loop backend.Loop, settings *backend.LinkSettings, nodes backend.Places, audience *Audience) *Feeds {
	return &Feeds{loop: loop, settings: settings, nodes: nodes, audience: audience, sets: map[backend.Identity]*Set{}}
}

// Of returns the set of the identity's user, made when first asked for. The identity's database and
// protocol mean nothing here.
func (fs *Feeds) Of(id backend.Identity) *Set {
	id.DB, id.RESP = 0, 2
	s := fs.sets[id]
	if s == nil {
		s = &Set{feeds: fs, identity: id, byAddr: map[string]*Feed{}}
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

// Flush writes the orders that were queued on any feed during this turn.
func (fs *Feeds) Flush() {
	if len(fs.dirty) > 0 {
		fs.flushDirty()
	}
}

func (fs *Feeds) flushDirty() {
	for i := 0; i < len(fs.dirty); i++ { // dirty may grow: flush may lose a feed, and others get its orders
		fs.dirty[i].flush()
	}
	clear(fs.dirty)
	fs.dirty = fs.dirty[:0]
}

// Tick ends feeds that are silent or idle, and subscribes again to channels that have lost theirs.
func (fs *Feeds) Tick() {
	now := fs.loop.Now()
	timeout := fs.settings.Timeout()
	for id, s := range fs.sets {
		stays := false // there is a channel at a node of another backend
		for addr, f := range s.byAddr {
			stays = stays || f.leaving && f.channels > 0 && f.owed.Len() == 0
			if f.tick(now, timeout) {
				delete(s.byAddr, addr)
				if s.home == f {
					s.home = nil
				}
			}
		}
		s.goHome(fs.nodes.Topology())
		if stays {
			s.follow(fs.nodes.Topology())
		}
		if s.uneven && s.unevenBackOff.Over(now) {
			s.spread(fs.nodes.Topology())
		}
		if len(s.held) > 0 {
			s.releaseHeld()
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

// Moved follows to another backend. The orders that an old node has go on there; channels leave it when
// they have been answered.
func (fs *Feeds) Moved() {
	fs.TopologyChanged()
	t := fs.nodes.Topology()
	for _, s := range fs.sets {
		for addr, f := range s.byAddr {
			f.leaving = !t.Serves(addr)
			if state := f.link.State(); f.leaving && (state == backend.Dialing || state == backend.Shaking) {
				f.end(errMoved)
			}
		}
	}
}

// errMoved is why a feed that is not up yet ends when the backend is another one.
var errMoved = errors.New("the backend is another one")

// Close ends every feed and subscribes to nothing again.
func (fs *Feeds) Close() {
	for _, s := range fs.sets {
		for _, f := range s.byAddr {
			f.end(backend.ErrShutdown)
		}
	}
	clear(fs.sets) // with the channels that are lost now
}

// Stats returns what the loop's feeds have done so far.
func (fs *Feeds) Stats() Stats { return fs.stats }

// Count is the state of a node's feeds, those of one loop or of several added up.
type Count struct {
	Up       int // feeds that are up
	Dialing  int // feeds that are being dialled, or in their handshake
	Channels int // channels that have these feeds
}

// Add adds another loop's feeds of the same node.
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

// Set is the feeds and channels of one user, one feed for each node. Owned by the loop.
//
// Plain channels and patterns are all on one feed, home, because a node of a Cluster delivers what
// is published on any other: the node where all berths publish, router.ChannelHome, or another one
// while that cannot be reached. A shard channel is on the feed to the owner of its slot. A channel
// that has lost its feed, or whose slot has moved, is in lost until it is subscribed to again.
// Messages published meanwhile never arrive, as with a client of Redis that has to connect again.
type Set struct {
	feeds    *Feeds
	identity backend.Identity
	byAddr   map[string]*Feed
	home     *Feed // nil: not chosen
	channels [ChannelKinds]named[*Channel]

	held    []held          // orders that were redirected to a node that is not known yet
	lost    []*Channel      // channels with listeners and without a feed; some may have a feed again
	backOff backend.BackOff // before lost is asked for again

	uneven        bool            // key events of some primary do not come on all channels that want them
	unevenBackOff backend.BackOff // before that primary is asked again
}

// channelCount returns how many channels there are, of all kinds.
func (s *Set) channelCount() int {
	n := 0
	for kind := range s.channels {
		n += len(s.channels[kind].of)
	}
	return n
}

// Claim returns the channel of a name, for a Subscribe that is being prepared. The channel is kept
// until that Subscribe is answered, or until Disclaim. The name is copied.
func (s *Set) Claim(kind ChannelKind, name []byte) *Channel {
	ch := s.channels[kind].of[string(name)]
	if ch == nil {
		ch = s.add(kind, string(name))
	}
	ch.claims++
	return ch
}

// add makes the channel of a name.
func (s *Set) add(kind ChannelKind, name string) *Channel {
	ch := &Channel{set: s, kind: kind, name: name, heard: s.feeds.audience.enter(kind, name),
		everywhere: hearsKeyEvents(kind, name)}
	s.channels[kind].put(name, ch)
	return ch
}

// Disclaim takes back one claim to each of the channels, in slices.
func (s *Set) Disclaim(channels []*Channel) {
	n := min(len(channels), disclaimSlice)
	for _, ch := range channels[:n] {
		ch.disclaim()
	}
	if rest := channels[n:]; len(rest) > 0 {
		go s.feeds.loop.Post(func() { s.Disclaim(rest) })
	}
}

// disclaimSlice is how many channels are disclaimed in one visit of the loop.
const disclaimSlice = 1 << 10

// Subscribe asks a node for claimed channels of one kind; shard channels must be of one slot. The
// request names them in their order. Subscribed or Refused answers. An error means that nothing was
// asked and neither will be called. The set owns channels and request from now on.
func (s *Set) Subscribe(channels []*Channel, request []byte, to Subscriber) *backend.LostError {
	o := &order{verb: orderOn, kind: channels[0].kind, channels: channels, request: request, to: to}
	placeLate := func() {
		if err := s.place(o); err != nil {
			o.refuse(err)
		}
	}
	if s.askOthers(channels, placeLate) {
		return nil
	}
	err := s.place(o)
	if err != nil {
		s.Disclaim(channels)
	}
	return err
}

// place gives an order to the feed on which its channels belong.
func (s *Set) place(o *order) *backend.LostError {
	f, err := s.feedFor(o.channels[0])
	if err == nil {
		f.ask(o)
	}
	return err
}

// feedFor returns the feed on which a channel belongs, if its node may be asked now.
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

// chooseHome returns the home. If the home may not be asked now, the first primary that may be
// asked becomes the home, beginning with router.ChannelHome.
func (s *Set) chooseHome(t *router.Topology) (*Feed, *backend.LostError) {
	if s.home != nil && s.home.ready() {
		return s.home, nil
	}
	shards := t.Shards()
	if len(shards) == 0 {
		return nil, errNoOwner
	}
	var err *backend.LostError
	for i := range shards {
		f := s.node(shards[(router.ChannelHome+i)%len(shards)].Primary)
		if f.ready() {
			s.home = f
			return f, nil
		}
		err, _ = f.link.Err()
	}
	return nil, err
}

// Home returns the feed of plain channels and patterns, nil if there is none that may be asked now.
func (s *Set) Home() *Feed {
	if s.home == nil || !s.home.ready() {
		return nil
	}
	return s.home
}

// goHome moves plain channels and patterns to router.ChannelHome from the node that had to stand in
// for it, as soon as there is a connection.
func (s *Set) goHome(t *router.Topology) {
	shards := t.Shards()
	if s.home == nil || len(shards) == 0 || s.home.Addr() == shards[router.ChannelHome].Primary {
		return
	}
	switch f := s.node(shards[router.ChannelHome].Primary); {
	case f.Up():
		s.home = f
		s.follow(t)
	case f.link.State() == backend.Down && f.ready():
		f.Sync(nil)
	}
}

// node returns the feed to an address.
func (s *Set) node(addr string) *Feed {
	f := s.byAddr[addr]
	if f == nil {
		f = &Feed{set: s, link: backend.NewLink("feed", addr), lastUse: s.feeds.loop.Now()}
		s.byAddr[addr] = f
	}
	return f
}

// askAgain gives a subscriber's order to another connection, or refuses it.
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

// restore asks for the lost channels again, each in an order of its own, so that a refusal concerns
// one channel alone.
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

// held is an order that waits for berth to learn of the node that it was redirected to.
type held struct {
	order *order
	to    router.Redirect
	why   *backend.LostError // the redirect, as an error
	since int64              // unix nanoseconds
}

// redirected gives an order to the node that another one has named. If berth has not learned of
// that node from the nodes themselves, the order waits for a round.
func (s *Set) redirected(o *order, to router.Redirect, why *backend.LostError) {
	if s.feeds.nodes.Topology().Primary(to.Slot) != to.Addr {
		s.feeds.nodes.Refresh()
	}
	s.held = append(s.held, held{o, to, why, s.feeds.loop.Now()})
	s.releaseHeld()
}

// releaseHeld gives out the held orders whose node is known by now, and gives up those that have
// waited for too long.
func (s *Set) releaseHeld() {
	t, now := s.feeds.nodes.Topology(), s.feeds.loop.Now()
	waiting := s.held
	s.held = nil
	for _, h := range waiting {
		ch := h.order.channels[0]
		switch {
		case h.order.to == nil && (ch.feed != nil || len(ch.places) == 0): // nobody needs it any more
		case t.Knows(h.to.Addr):
			s.placeAt(h.order, h.to.Addr)
		case now-h.since > int64(backend.LearnPatience):
			h.order.failed(h.why)
		default:
			s.held = append(s.held, h)
		}
	}
}

// placeAt gives an order to the feed of a node.
func (s *Set) placeAt(o *order, addr string) {
	f := s.node(addr)
	if !f.ready() {
		why, _ := f.link.Err()
		o.failed(why)
		return
	}
	f.ask(o)
}

// notRestored handles a node's error to an order that should have brought a channel back.
func (s *Set) notRestored(o *order, why *backend.LostError) {
	ch := o.channels[0]
	switch {
	case ch.feed != nil || len(ch.places) == 0:
	case forbids(why):
		ch.cut(why)
	default:
		s.lose(ch)
		s.backOff.Failed(s.feeds.loop.Now())
	}
}

// cut tells all listeners of the channel that they lack the right to it.
func (ch *Channel) cut(why *backend.LostError) {
	for _, sub := range slices.Clone(ch.places) { // a listener that is cut leaves
		sub.to.Cut(why)
	}
}

// lostFeed takes the channels of a feed that has lost its connection, to subscribe to them again:
// at once if again is true, else after the back-off.
func (s *Set) lostFeed(f *Feed, why *backend.LostError, again bool) {
	if s.home == f {
		s.home = nil
	}
	for kind := range s.channels {
		for _, ch := range s.channels[kind].of {
			ch.lostAlso(f)
			if ch.feed != f {
				continue
			}
			ch.away()
			switch {
			case len(ch.places) == 0:
			case forbids(why):
				ch.cut(why)
			default:
				s.lose(ch)
			}
		}
	}
	s.feeds.nodes.Lost()
	if again {
		s.restore()
	}
}

// follow moves channels to the feeds on which they belong by a new topology. Each is asked for
// there before it is given up here.
func (s *Set) follow(t *router.Topology) {
	if s.home != nil && !t.Serves(s.home.Addr()) {
		s.home = nil
	}
	for kind := range s.channels {
		for _, ch := range s.channels[kind].of {
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
	s.spread(t)
}
