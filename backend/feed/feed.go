package feed

import (
	"errors"
	"net"
	"strings"
	"time"

	"github.com/panjf2000/gnet/v2"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/secure"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// Feed is the connection to a node on which the messages come for all listeners of one user and one
// loop. The node sends each message once, however many listeners there are.
//
// Every SUBSCRIBE of a listener is passed on to the node, even if the channel is subscribed to
// already. So the node decides each time whether the user may, and its confirmation marks the place
// in the stream of messages where the new subscription begins. An UNSUBSCRIBE is passed on when no
// listener is left. Otherwise a PING finds the place where the subscription ends.
//
// A feed speaks RESP2, whose messages differ from RESP3's in one byte.
//
//	Subscribe, Sync ─▶ out ─flush─▶ socket ─▶ node
//	            └──▶ owed (ring) ◀─confirmed─┐
//	Listener ◀─ channel ◀─ message ──── Traffic ◀── socket
//
// Owned by one event loop.
type Feed struct {
	set      *Set
	link     backend.Link
	conn     gnet.Conn // while the link is shaking or up
	out      []byte    // commands that are not on the socket
	dirty    bool      // it is in feeds.dirty
	owed     backend.Ring[*order]
	channels int // how many channels have this feed

	scanner    codec.ReplyScanner
	in         []byte   // what has arrived; from inPos on it is not delivered
	inPos      int      // of in
	delivering *Channel // the next message is for this channel, and not all its listeners have got it; or nil
	size       int      // of that message, bytes
	queued     bool     // it is in feeds.queue
	ended      error    // why the socket is gone, while what has arrived is still being delivered; else nil
	losses     int      // connections that this feed has lost
	proven     bool     // this connection has confirmed a subscription
	leaving    bool     // the node is one of another backend than the present one
	stuck      bool     // the node keeps a subscription that berth has wanted to end

	lastRead int64 // when the node sent bytes last, unix nanoseconds
	lastUse  int64 // when the node was asked last, unix nanoseconds
}

// orderVerb is what a feed asks its node.
type orderVerb uint8

const (
	orderOn   orderVerb = iota // SUBSCRIBE, PSUBSCRIBE, SSUBSCRIBE
	orderAlso                  // the same at another node than the channels' own
	orderOff                   // UNSUBSCRIBE, …
	orderPing                  // PING
)

// order is a command sent to the node, and the place of its replies among all that the node sends.
type order struct {
	verb      orderVerb
	kind      ChannelKind
	channels  []*Channel // the node confirms each one, in this order
	request   []byte     // the listener's own command; nil: it is made of the channels
	confirmed int        // how many channels the node has confirmed
	to        Subscriber // hears the confirmations; nil: the order brings back channels that were lost
	done      func()     // called at the reply to a PING, and at the end of an orderAlso; or nil
	tries     uint8      // connections lost and redirects followed
	askedAt   int64      // unix nanoseconds
}

// maxOrderTries bounds how often an order is given to another connection.
const maxOrderTries = 5

// Addr is the node's address.
func (f *Feed) Addr() string { return f.link.Addr() }

// Up reports whether the feed is connected: messages may be on their way.
func (f *Feed) Up() bool { return f.link.State() == backend.Up }

// Sync calls done when all that the node has sent by now is delivered. done runs on the loop, never
// inside Sync.
func (f *Feed) Sync(done func()) { f.ask(&order{verb: orderPing, done: done}) }

// ready reports whether the feed may be asked: it is up, on its way up, or may be dialled.
func (f *Feed) ready() bool {
	return f.link.State() != backend.Down || f.link.MayBegin(f.set.feeds.loop.Now())
}

// ask queues an order. The feed must be ready.
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
	case orderAlso:
		f.write(subscribeWords[o.kind], o.channels)
		for _, ch := range o.channels {
			ch.enterAlso(f, false)
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

// write appends to out a command about channels.
func (f *Feed) write(word string, channels []*Channel) {
	b := codec.AppendArray(f.out, 1+len(channels))
	b = codec.AppendBulkString(b, word)
	for _, ch := range channels {
		b = codec.AppendBulkString(b, ch.name)
	}
	f.out = b
}

// unsubscribe tells the node that a channel is no longer wanted here, if there is a connection.
func (f *Feed) unsubscribe(ch *Channel) {
	if f.link.State() == backend.Down || f.ended != nil {
		f.unseat(ch)
		return
	}
	f.ask(&order{verb: orderOff, kind: ch.kind, channels: []*Channel{ch}})
}

// dial begins a connection.
func (f *Feed) dial() {
	f.link.Begin()
	fs := f.set.feeds
	fs.stats.Dials++
	fs.settings.Dial(fs.loop, f.Addr(), f, f.lost)
}

// Opened is called by the loop when it has the connected socket.
func (f *Feed) Opened(c gnet.Conn) {
	fs := f.set.feeds
	now := fs.loop.Now()
	first, opened, err := f.link.Opened(fs.settings.Logins.Handshake(f.Addr(), f.set.identity), now)
	if !opened {
		secure.Close(c)
		return
	}
	f.conn, f.lastRead = c, now
	switch {
	case err != nil:
		f.end(err)
		return
	case len(first) > 0:
		_, _ = c.Write(first) // a failed write ends in Closed
		return
	}
	f.flush()
}

// flush writes the orders that were queued since the last flush.
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

// Traffic takes the bytes that have arrived.
func (f *Feed) Traffic() {
	fs := f.set.feeds
	fs.loop.Enter()
	buf, err := f.conn.Next(-1)
	fs.stats.BytesIn += int64(len(buf))
	f.lastRead = fs.loop.Now()
	fs.arrived(f, buf)
	if err != nil && f.conn != nil {
		f.end(backend.HangUp(err))
	}
	fs.loop.After()
}

// take handles the replies in buf and delivers its messages, as long as the budget lasts. It returns
// how many bytes need not be looked at again. blocked is true if it could go on with the rest.
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
				if rest := buf[taken:]; f.scanner.Partial() && len(rest) > backend.MaxHandshake &&
					(f.link.State() == backend.Shaking || rest[0] == '-' || rest[0] == '+') { // no script runs here
					f.end(backend.ErrHandshake)
					return len(buf), false
				}
				return taken, false
			}
			f.size = n
			if !f.handle(buf[taken : taken+n]) {
				return taken, true
			}
			if f.losses != losses { // the reply ended the connection
				return len(buf), false
			}
		}
		if f.delivering != nil {
			if !f.set.feeds.spread(f.delivering, buf[taken:taken+f.size], b) {
				return taken, true
			}
			f.delivering = nil
		} else {
			b.deliveries-- // one read may confirm thousands of channels
		}
		taken += f.size
	}
	return taken, false
}

// handle processes one reply. A message is not delivered here: f.delivering records its channel and
// take delivers it. handle returns false if another feed is still delivering to that channel; the
// caller retries later.
func (f *Feed) handle(reply []byte) bool {
	if f.link.State() == backend.Shaking {
		f.shaken(reply)
		return true
	}
	r := parseReply(reply)
	switch r.kind {
	case replyMessage:
		f.set.feeds.stats.Messages++
		ch := f.set.channels[r.channel].of[string(r.name)]
		switch {
		case ch == nil, ch.feed != f && !ch.takesFrom(f, reply, &r):
		case ch.pending > 0:
			f.set.feeds.stats.Messages--
			return false
		default:
			f.delivering, ch.pending = ch, len(ch.places)
		}
	case replyOn, replyOff:
		f.confirmed(&r)
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

// first returns the oldest order if it has that verb, else nil.
func (f *Feed) first(verb orderVerb) *order {
	if f.owed.Len() == 0 || (*f.owed.At(0)).verb != verb {
		return nil
	}
	return *f.owed.At(0)
}

// synced is for an order whose place in the stream of messages has been reached.
func (o *order) synced() {
	if o.done != nil {
		o.done()
	}
}

// shaken takes one reply of the handshake, and goes on with it. After the last one it writes what has
// queued.
func (f *Feed) shaken(reply []byte) {
	next, err := f.link.Shaken(reply, f.lastRead)
	switch {
	case err != nil:
		f.end(err)
	case len(next) > 0:
		_, _ = f.conn.Write(next) // a failed write ends in Closed
	case f.link.State() == backend.Up:
		f.flush()
	}
}

// errorText returns the text of an error reply.
func errorText(reply []byte) string { return string(reply[1 : len(reply)-2]) }

// confirmed handles a confirmation: a subscription begins here, or has ended.
func (f *Feed) confirmed(r *nodeReply) {
	o := f.first(orderOn)
	switch {
	case r.kind == replyOff:
		o = f.first(orderOff)
	case o == nil:
		o = f.first(orderAlso)
	}
	if o == nil || o.kind != r.channel || o.channels[o.confirmed].name != string(r.name) {
		if r.kind == replyOff && r.channel == ShardChannel { // the node has lost the slot
			f.dropped(r.name)
			return
		}
		f.end(backend.ErrUnowed)
		return
	}
	f.answered(o)
}

// answered records that the oldest order is confirmed for its next channel.
func (f *Feed) answered(o *order) {
	ch := o.channels[o.confirmed]
	switch o.verb {
	case orderOn:
		f.confirm(ch)
	case orderAlso:
		f.alsoAnswered(ch)
	default:
		f.unseat(ch)
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
	if last {
		o.synced()
	}
}

// confirm records that a channel is subscribed to here.
func (f *Feed) confirm(ch *Channel) {
	f.proven = true
	f.set.backOff.Worked()
	if ch.feed == nil && ch.wanted() { // since the order was given, the node has refused another listener's order
		ch.moveTo(f)
	}
	if ch.feed == f {
		ch.live = true
	}
}

// dropped handles an end that no order asked for: the channel's slot has left the node.
func (f *Feed) dropped(name []byte) {
	ch := f.set.channels[ShardChannel].of[string(name)]
	if ch == nil || ch.feed != f {
		return
	}
	ch.away()
	f.set.feeds.nodes.Refresh()
	f.set.lose(ch)
	f.set.restore() // the old owner will name the new one
}

// refused handles an error: the reply to the oldest order, mostly. The words are the node's own: no
// script runs on a feed. A redirect is followed by the rules of backend.Follow all the same.
func (f *Feed) refused(reply []byte) {
	host, _, _ := net.SplitHostPort(f.Addr())
	to, moved := router.ParseRedirect(reply, host)
	moved = moved && f.set.feeds.nodes.Topology().Sharded()
	if f.owed.Len() == 0 || moved && !(*f.owed.At(0)).about(to.Slot) {
		if !moved { // "max number of clients reached", for example: the node closes the connection
			f.end(&backend.LostError{Addr: f.Addr(), Err: errors.New(errorText(reply))})
		}
		return // the reply to a SUNSUBSCRIBE, which an end that no order asked for seemed to answer
	}
	o := f.owed.Pop()
	switch o.verb {
	case orderPing: // the user may not PING, but the error comes at the right place all the same
		o.synced()
		return
	case orderOff:
		f.unseat(o.channels[0])
		f.stuck = f.stuck || moved // a replica serves the channel, but does not let it go
		return
	case orderAlso:
		o.alsoRefused(f)
		return
	}
	for _, ch := range o.channels { // a channel that was live before stays, and so does one that has moved on
		if ch.feed == f && (moved || !ch.live) {
			ch.away()
		}
	}
	refusal := &backend.LostError{Addr: f.Addr(), Refusal: errorText(reply)}
	if moved && o.tries < maxOrderTries {
		o.tries++
		f.set.redirected(o, to, refusal)
	} else {
		o.failed(refusal)
	}
}

// failed ends an order that its node has refused.
func (o *order) failed(refusal *backend.LostError) {
	if o.to == nil {
		o.channels[0].set.notRestored(o, refusal)
	} else {
		o.refuse(refusal)
	}
}

// refuse tells the subscriber that the order has failed.
func (o *order) refuse(err *backend.LostError) {
	o.to.Refused(err)
	for _, ch := range o.channels {
		if ch.feed == nil && len(ch.places) > 0 {
			ch.set.lose(ch)
		}
	}
	o.channels[0].set.Disclaim(o.channels)
}

// about reports whether a MOVED or ASK for the slot may be the reply to the order.
func (o *order) about(slot uint16) bool {
	return o.verb != orderPing && o.kind == ShardChannel && router.Slot([]byte(o.channels[0].name)) == slot
}

// forbids reports whether an error means that the user lacks the right, so trying again is useless:
// the node accepts no login of the user, or answered NOPERM to berth's own SUBSCRIBE, whose words no
// script chooses.
func forbids(why *backend.LostError) bool {
	return why.Login || strings.HasPrefix(why.Refusal, "NOPERM ")
}

// end closes the connection for a reason of berth's.
func (f *Feed) end(err error) {
	conn := f.conn
	f.lost(err)
	if conn != nil {
		secure.Close(conn)
	}
}

// Closed is called by the loop when the socket is gone.
func (f *Feed) Closed(c gnet.Conn, err error) {
	if secure.Raw(f.conn) != c { // end closed it
		return
	}
	fs := f.set.feeds
	fs.loop.Enter()
	defer fs.loop.After()
	f.conn, err = nil, backend.HangUp(err)
	if f.queued { // what has arrived is delivered first
		f.ended = err
		return
	}
	f.lost(err)
}

// lost ends this connection, however far it had come. Its channels are subscribed to again and its
// orders are given to another connection, or refused. An order of which the node has confirmed a
// part was allowed as a whole, so its other channels are treated like channels that were subscribed
// to.
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
	f.scanner, f.proven, f.stuck = codec.ReplyScanner{}, false, false
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
		case o.verb == orderPing, o.verb == orderAlso:
			o.synced() // nothing comes before it any more
		case o.verb == orderOff:
			f.unseat(o.channels[0])
		case o.to == nil:
		case refused.Refusal != "" || given || o.tries >= maxOrderTries:
			o.refuse(refused)
		default:
			o.tries++
			f.set.askAgain(o, refused)
		}
	}
}

// feedSilence is how long a node may send nothing before it is asked for a sign of life. Otherwise a
// dead node would look like a quiet channel.
const feedSilence = 10 * time.Second

// feedIdle is how long a feed outlives its last channel, unless it is stuck.
const feedIdle = 5 * time.Second

// tick ends a feed whose node does not answer, or that has no channel. It returns true if the feed is
// gone for good.
func (f *Feed) tick(now int64, timeout time.Duration) bool {
	fs := f.set.feeds
	f.owed.Trim()
	switch {
	case f.ended != nil || f.link.State() == backend.Dialing:
	case timeout > 0 && f.owed.Len() > 0 && !f.queued && now-max((*f.owed.At(0)).askedAt, f.lastRead) > int64(timeout):
		fs.stats.Timeouts++
		f.end(backend.ErrTimeout)
	case f.channels == 0 && f.owed.Len() == 0 && (f.stuck || now-f.lastUse > int64(feedIdle)):
		if f.link.State() != backend.Down {
			f.end(backend.ErrRetired)
		}
		return true
	case f.link.State() == backend.Up && f.owed.Len() == 0 && now-f.lastRead > int64(feedSilence):
		f.ask(&order{verb: orderPing})
	}
	return false
}
