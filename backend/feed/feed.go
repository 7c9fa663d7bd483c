package feed

import (
	"errors"
	"net"
	"strings"
	"time"

	"github.com/panjf2000/gnet/v2"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// Feed is the connection to a node on which the messages come for all listeners of one user and one
// loop: each is sent once, however many listen.
//
// Every SUBSCRIBE of a listener is passed on, though the node may have sent the same before: so the
// node judges each time whether the user may, and its confirmation stands at the place in the
// stream of messages where the new subscription begins. An UNSUBSCRIBE is passed on when nobody is
// left; else a PING finds that place.
//
// Owned by one event loop. Its states are those of a Pipe. It speaks RESP2, whose messages differ
// from RESP3's in one byte.
//
//	Subscribe, Sync ─▶ out ─flush─▶ socket ─▶ node
//	            └──▶ owed (ring) ◀─confirmed─┐
//	Listener ◀─ channel ◀─ message ──── Traffic ◀── socket
type Feed struct {
	set      *Set
	link     backend.Link
	conn     gnet.Conn // while the link is shaking or up
	out      []byte    // commands that are not on the socket
	dirty    bool      // in feeds.dirty
	owed     backend.Ring[*order]
	channels int // channels whose feed this is

	scanner    codec.ReplyScanner
	in         []byte // has arrived and, from inPos on, is not delivered
	inPos      int
	delivering *Channel // before it lies a message to this channel that not all have got; else nil
	size       int      // of that message
	queued     bool     // in feeds.behind
	ended      error    // the socket is gone; what has arrived is still to be delivered
	losses     int      // connections that this feed has lost
	proven     bool     // this connection has confirmed a subscription

	lastRead int64 // when the node said something last, unix nanoseconds
	lastUse  int64 // unix nanoseconds
}

// orderVerb is what a feed asks its node.
type orderVerb uint8

const (
	orderOn   orderVerb = iota // SUBSCRIBE, PSUBSCRIBE, SSUBSCRIBE
	orderOff                   // UNSUBSCRIBE, …
	orderPing                  // PING
)

// order is something asked of a node, and the place of its answers among what the node says.
type order struct {
	verb      orderVerb
	kind      ChannelKind
	channels  []*Channel // each is confirmed, in this order
	request   []byte     // of a listener, as it came; nil: made of the channels
	confirmed int        // confirmations so far
	to        Subscriber // who asked; nil: nobody, the order is to bring back what was lost
	done      func()     // what a PING was for
	tries     uint8      // connections lost and redirects followed
	askedAt   int64      // when it was asked, unix nanoseconds
}

// maxOrderTries bounds how often an order goes to another connection.
const maxOrderTries = 5

// Addr is the node's address.
func (f *Feed) Addr() string { return f.link.Addr() }

// Up reports whether it is connected: what a node has said may be on its way.
func (f *Feed) Up() bool { return f.link.State() == backend.Up }

// Sync has done called when all that the node had said by now is delivered. done runs on the loop,
// never inside Sync.
func (f *Feed) Sync(done func()) { f.ask(&order{verb: orderPing, done: done}) }

// ready reports whether the feed may be asked: it is connected, being connected, or allowed to try.
func (f *Feed) ready() bool {
	return f.link.State() != backend.Down || f.link.MayBegin(f.set.feeds.loop.Now())
}

// ask queues an order. The caller has seen to it that the feed is ready.
func (f *Feed) ask(o *order) {
	if f.link.State() == backend.Down {
		f.dial()
	}
	o.askedAt, o.confirmed = f.set.feeds.loop.Now(), 0
	f.lastUse = o.askedAt
	switch o.verb {
	case orderPing:
		f.out = append(f.out, pingRequest...)
	case orderOn:
		if o.request != nil {
			f.out = append(f.out, o.request...)
		} else {
			f.write(subscribeWords[o.kind], o.channels)
		}
		for _, ch := range o.channels {
			ch.moveTo(f)
		}
	case orderOff:
		f.write(unsubscribeWords[o.kind], o.channels)
	}
	f.owed.Push(o)
	if !f.dirty {
		f.dirty = true
		f.set.feeds.touch(f)
	}
}

var pingRequest = codec.AppendCommandString(nil, "PING")

// write appends a request about channels.
func (f *Feed) write(word string, channels []*Channel) {
	b := codec.AppendArray(f.out, 1+len(channels))
	b = codec.AppendBulkString(b, word)
	for _, ch := range channels {
		b = codec.AppendBulkString(b, ch.name)
	}
	f.out = b
}

// unsubscribe tells the node that a channel is no longer wanted here, if it has been asked for it.
func (f *Feed) unsubscribe(ch *Channel) {
	if f.link.State() != backend.Down && f.ended == nil {
		f.ask(&order{verb: orderOff, kind: ch.kind, channels: []*Channel{ch}})
	}
}

func (f *Feed) dial() {
	f.link.Begin()
	fs := f.set.feeds
	fs.stats.Dials++
	fs.settings.Dial(fs.loop, f.Addr(), f, f.lost)
}

// Opened is the loop's word that the socket is connected and enrolled.
func (f *Feed) Opened(c gnet.Conn) {
	now := f.set.feeds.loop.Now()
	handshake, opened := f.link.Opened(f.set.identity, now)
	if !opened {
		_ = c.EventLoop().Close(c)
		return
	}
	f.conn, f.lastRead = c, now
	if len(handshake) > 0 {
		_, _ = c.Write(handshake) // a failed write ends in Closed
		return
	}
	f.flush()
}

// flush writes what was asked since the last flush.
func (f *Feed) flush() {
	f.dirty = false
	if f.link.State() != backend.Up || f.conn == nil || len(f.out) == 0 {
		return
	}
	out := f.out
	f.out = nil
	n, _ := f.conn.Write(out) // a failed write ends in Closed
	f.set.feeds.stats.BytesOut += int64(n)
	if f.out == nil && cap(out) <= backend.ChunkSize {
		f.out = out[:0]
	}
}

// Traffic takes what the node has said.
func (f *Feed) Traffic(c gnet.Conn) {
	fs := f.set.feeds
	fs.loop.Enter()
	buf, _ := c.Next(-1)
	fs.stats.BytesIn += int64(len(buf))
	f.lastRead = fs.loop.Now()
	fs.arrived(f, buf)
	fs.loop.After()
}

// take delivers what buf holds, as long as the budget lasts, and returns how many bytes are done
// with. blocked: there is more that could be delivered.
func (f *Feed) take(buf []byte, b *budget) (taken int, blocked bool) {
	losses := f.losses
	for taken < len(buf) || f.delivering != nil {
		if f.delivering == nil {
			if b.deliveries <= 0 {
				return taken, true
			}
			n, err := f.scanner.Scan(buf[taken:])
			if err != nil {
				f.end(err)
				return len(buf), false
			}
			if n == 0 {
				return taken, false
			}
			f.size = n
			if !f.handle(buf[taken : taken+n]) {
				return taken, true
			}
			if f.losses != losses { // what was said ended the connection
				return len(buf), false
			}
		}
		if f.delivering != nil {
			if !f.set.feeds.spread(f.delivering, buf[taken:taken+f.size], b) {
				return taken, true
			}
			f.delivering = nil
		} else {
			b.deliveries-- // thousands may be confirmed in one read
		}
		taken += f.size
	}
	return taken, false
}

// hear processes one reply. A message is not delivered here: f.at records its channel and take
// delivers it. hear returns false if another feed is still delivering to that channel; the caller
// retries later.
func (f *Feed) handle(reply []byte) bool {
	if f.link.State() == backend.Shaking {
		f.shaken(reply)
		return true
	}
	s := parseReply(reply)
	switch s.kind {
	case replyMessage:
		f.set.feeds.stats.Messages++
		ch := f.set.channels[s.channel][string(s.name)]
		switch {
		case ch == nil, ch.feed != f && ch.kind != ShardChannel: // moved away; every node of a cluster says it
		case ch.pending > 0:
			f.set.feeds.stats.Messages--
			return false
		default:
			f.delivering, ch.pending = ch, len(ch.places)
		}
	case replyOn, replyOff:
		f.confirmed(&s)
	case replyPong:
		if o := f.first(orderPing); o != nil {
			f.owed.Pop()
			o.synced()
			return true
		}
		f.end(backend.ErrUnowed)
	case replyError:
		f.refused(reply)
	default:
		f.end(backend.ErrUnowed)
	}
	return true
}

// first is the oldest order, if it is of that verb.
func (f *Feed) first(verb orderVerb) *order {
	if f.owed.Len() == 0 || (*f.owed.At(0)).verb != verb {
		return nil
	}
	return *f.owed.At(0)
}

func (o *order) synced() {
	if o.done != nil {
		o.done()
	}
}

// shaken takes one reply of the handshake. After the last one it writes what has queued.
func (f *Feed) shaken(reply []byte) {
	if err := f.link.Shaken(reply, f.lastRead); err != nil {
		f.end(err)
	} else if f.link.State() == backend.Up {
		f.flush()
	}
}

// errorText is an error reply's words.
func errorText(reply []byte) string { return string(reply[1 : len(reply)-2]) }

// confirmed takes the node's word that a subscription begins or has ended.
func (f *Feed) confirmed(s *nodeReply) {
	verb := orderOn
	if s.kind == replyOff {
		verb = orderOff
	}
	o := f.first(verb)
	if o == nil || o.kind != s.channel || o.channels[o.confirmed].name != string(s.name) {
		if s.kind == replyOff && s.channel == ShardChannel { // the node has lost the slot
			f.dropped(s.name)
			return
		}
		f.end(backend.ErrUnowed)
		return
	}
	f.answered(o)
}

// answered enters that the oldest order is confirmed for its next channel.
func (f *Feed) answered(o *order) {
	ch := o.channels[o.confirmed]
	if o.verb == orderOn {
		f.confirm(ch)
	}
	o.confirmed++
	last := o.confirmed == len(o.channels)
	if last {
		f.owed.Pop()
	}
	if o.to != nil {
		o.to.Subscribed(ch, last)
		ch.disclaim()
	}
}

// confirm enters that the node has subscribed a channel here.
func (f *Feed) confirm(ch *Channel) {
	f.proven = true
	f.set.backOff.Worked()
	if ch.feed == nil && ch.wanted() { // another listener's request for it was refused meanwhile
		ch.moveTo(f)
	}
	if ch.feed == f {
		ch.live, ch.hops = true, 0
	}
}

// dropped takes the node's word that it has ended a subscription because the channel's slot has
// left it.
func (f *Feed) dropped(name []byte) {
	ch := f.set.channels[ShardChannel][string(name)]
	if ch == nil || ch.feed != f {
		return
	}
	ch.away()
	f.set.feeds.nodes.Refresh()
	f.set.lose(ch)
	f.set.restore() // the old owner will say who the new one is
}

// refused takes an error: the answer to the oldest order.
func (f *Feed) refused(reply []byte) {
	host, _, _ := net.SplitHostPort(f.Addr())
	to, moved := router.ParseRedirect(reply, host)
	if f.owed.Len() == 0 || moved && !(*f.owed.At(0)).about(to.Slot) {
		if !moved { // "max number of clients reached", for one; the node closes
			f.end(&backend.LostError{Addr: f.Addr(), Err: errors.New(errorText(reply))})
		}
		return // moved: SUNSUBSCRIBE's answer, which the node's own sunsubscribe was taken for
	}
	o := f.owed.Pop()
	switch o.verb {
	case orderPing: // a user may lack the permission; it comes at the right place all the same
		o.synced()
		return
	case orderOff:
		return
	}
	for _, ch := range o.channels { // unless it has been live before, or moved on
		if ch.feed == f && (moved || !ch.live) {
			ch.away()
		}
	}
	if moved {
		f.set.feeds.nodes.Moved(to.Slot, to.Addr)
	}
	refusal := &backend.LostError{Addr: f.Addr(), Refusal: errorText(reply)}
	switch {
	case o.to == nil:
		f.set.notRestored(o, refusal, moved)
	case moved && o.tries < maxOrderTries:
		o.tries++
		f.set.askAgain(o, refusal)
	default:
		o.refuse(refusal)
	}
}

// refuse tells who gave the order that it was in vain.
func (o *order) refuse(err *backend.LostError) {
	o.to.Refused(err)
	for _, ch := range o.channels {
		if ch.feed == nil && len(ch.places) > 0 {
			ch.set.lose(ch)
		}
	}
	o.channels[0].set.Disclaim(o.channels)
}

// about reports whether an order may be answered by an error that speaks of a slot.
func (o *order) about(slot uint16) bool {
	return o.verb != orderPing && o.kind == ShardChannel && router.Slot([]byte(o.channels[0].name)) == slot
}

// forbids reports whether an error means that the user may not, now or later.
func forbids(refusal string) bool {
	word, _, _ := strings.Cut(refusal, " ")
	return word == "NOPERM" || word == "NOAUTH" || word == "WRONGPASS"
}

// end closes the connection for a reason of ours.
func (f *Feed) end(err error) {
	conn := f.conn
	f.lost(err)
	if conn != nil {
		_ = conn.EventLoop().Close(conn)
	}
}

// Closed is the loop's word that the socket is gone.
func (f *Feed) Closed(c gnet.Conn, err error) {
	if f.conn != c { // we ended it ourselves
		return
	}
	fs := f.set.feeds
	fs.loop.Enter()
	defer fs.loop.After()
	f.conn, err = nil, backend.HangUp(err)
	if f.queued { // the rest of what it said is delivered first
		f.ended = err
		return
	}
	f.lost(err)
}

// lost ends this connection, however far it had come, and has its channels and orders looked after.
// An order of which the node has confirmed a part was allowed as a whole: the rest of it is lost
// like channels that have been there for long.
func (f *Feed) lost(err error) {
	if o := f.first(orderOn); o != nil && o.confirmed > 0 {
		for o.confirmed < len(o.channels) {
			f.answered(o)
		}
	}
	fs := f.set.feeds
	again := f.proven
	given := backend.EndedByBerth(err)
	refused := f.link.Lost(err, again || given, fs.loop.Now(), "channels", f.channels)
	if f.delivering != nil {
		f.delivering.pending = 0
	}
	f.conn, f.out, f.in, f.inPos, f.delivering, f.ended = nil, nil, nil, 0, nil, nil
	f.scanner, f.proven = codec.ReplyScanner{}, false
	f.losses++
	switch {
	case given:
		fs.stats.Retired++
	case again:
		fs.stats.Lost++
	default:
		fs.stats.Lost++
		fs.stats.DialErrors++
	}
	queue := f.owed
	f.owed = backend.Ring[*order]{}
	f.set.lostFeed(f, refused, again && !given)
	for queue.Len() > 0 {
		switch o := queue.Pop(); {
		case o.verb == orderPing:
			o.synced() // nothing more comes that could be before it
		case o.verb == orderOff || o.to == nil:
		case refused.Refusal != "" || given || o.tries >= maxOrderTries:
			o.refuse(refused)
		default:
			o.tries++
			f.set.askAgain(o, refused)
		}
	}
}

// feedSilence is how long a node may say nothing before it is asked whether it is still there:
// nothing else would tell a quiet channel from a dead node.
const feedSilence = 10 * time.Second

// feedIdle is how long a feed outlives its last channel.
const feedIdle = 5 * time.Second

// tick ends a feed whose node does not answer, or that nobody needs. true: it is gone for good.
func (f *Feed) tick(now int64, timeout time.Duration) bool {
	fs := f.set.feeds
	switch {
	case f.ended != nil || f.link.State() == backend.Dialing:
	case timeout > 0 && f.owed.Len() > 0 && !f.queued && now-max((*f.owed.At(0)).askedAt, f.lastRead) > int64(timeout):
		fs.stats.Timeouts++
		f.end(backend.ErrTimeout)
	case f.channels == 0 && f.owed.Len() == 0 && now-f.lastUse > int64(feedIdle):
		if f.link.State() != backend.Down {
			f.end(backend.ErrRetired)
		}
		return true
	case f.link.State() == backend.Up && f.owed.Len() == 0 && now-f.lastRead > int64(feedSilence):
		f.ask(&order{verb: orderPing})
	}
	return false
}
