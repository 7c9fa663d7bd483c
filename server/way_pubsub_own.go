package main

import (
	"net/netip"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/feed"
	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/telemetry"
)

// ownFeed is a subscriber's own lease: MONITOR's, and with pubsub-sharing no that of SUBSCRIBE and
// the like. It is a pool.Holder.
type ownFeed struct {
	b       *subscriber
	addr    string
	lease   *pool.Lease
	waiter  *pool.Waiter
	err     error // why there is no lease: for the request that asked
	holds   bool  // the client's subscriptions are on it
	confirm int   // confirmations of the request under way that have not come

	again   []byte // what the next lease is told first: all that the client listens to; nil: nothing
	swallow int    // confirmations of that which have not come
}

func (p *ownFeed) subscribed() bool { return p != nil && p.holds }

// onOwn sends a request of a subscriber on its own lease, and takes no other until it is confirmed.
func (b *subscriber) onOwn(cmd *router.Command, raw []byte, args [][]byte) bool {
	s := b.s
	if b.own == nil && cmd.Is(router.Unsubscribes) { // nothing to end
		return b.unsubscribe(cmd, raw, args)
	}
	t := s.loop.srv.nodes.Topology()
	shard, text := s.place(t, cmd, args)
	if text != "" {
		return s.refuse(cmd, text)
	}
	if b.own == nil {
		b.own = &ownFeed{b: b, addr: t.Shards()[shard].Primary}
		s.sub = b
		id := s.pipes.Identity()
		leases := s.loop.srv.pools.For(b.own.addr, id)
		b.own.lease, b.own.waiter = leases.Get(b.own, s.loop.inbox, id, pool.ReasonPin)
	}
	p := b.own
	switch {
	case p.err != nil:
		text := s.noLease(p.addr, p.err)
		b.own = nil
		b.end()
		return s.refuse(cmd, text)
	case p.lease == nil:
		return s.hold(pauseLeasing)
	case kindOf(cmd) == feed.ShardChannel && !cmd.Is(router.Monitor) && t.Shards()[shard].Primary != p.addr:
		return s.refuse(cmd, "ERR berth: without pubsub-sharing all of a client's channels have to be on one node")
	}
	p.send(cmd, raw, args)
	return true
}

// goOn gives up the lease for one to a node of another backend, on which the client listens to the same.
// What is published in between is lost.
func (p *ownFeed) goOn() {
	b := p.b
	s := b.s
	p.close("backend changed")
	if b.request == nil && b.monitor == nil && b.total() == 0 { // the request that wants it is dispatched again
		b.own = nil
		s.resumeFrom(pauseLeasing)
		return
	}
	t := s.loop.srv.nodes.Topology()
	slot := noSlot
	p.again, p.swallow = nil, 0
	if b.monitor != nil {
		p.again, p.swallow = codec.AppendCommandString(nil, "MONITOR"), 1
	}
	for kind, word := range [...]string{feed.PlainChannel: "SUBSCRIBE", feed.PatternChannel: "PSUBSCRIBE", feed.ShardChannel: "SSUBSCRIBE"} {
		words := []string{word}
		for name := range b.names[kind] {
			words = append(words, name)
			if slot = router.ChannelSlot; feed.ChannelKind(kind) == feed.ShardChannel {
				slot = int(router.Slot([]byte(name)))
			}
		}
		if len(words) > 1 {
			p.again = codec.AppendCommandString(p.again, words...)
			p.swallow += len(words) - 1
		}
	}
	shard, text := shardOf(t, slot, s.id)
	if text != "" || b.request != nil { // of which nobody knows how far it came
		s.kill(telemetry.SubscriptionLost)
		return
	}
	p.addr = t.Shards()[shard].Primary
	id := s.pipes.Identity()
	if p.lease, p.waiter = s.loop.srv.pools.For(p.addr, id).Get(p, s.loop.inbox, id, pool.ReasonPin); p.lease != nil {
		p.listenAgain()
	}
}

// listenAgain tells a new lease what the client listens to.
func (p *ownFeed) listenAgain() {
	p.lease.Mark(pool.DirtStream)
	p.lease.Send(p.again, 0)
	p.lease.Flush()
	p.again = nil
}

// confirmsAgain reports whether a reply is one to that.
func (p *ownFeed) confirmsAgain(reply []byte) bool {
	if p.swallow == 0 {
		return false
	}
	if reply[0] == '-' {
		p.b.s.kill(telemetry.SubscriptionRefused)
		return true
	}
	again := string(reply) == "+OK\r\n"
	if v, err := codec.ParseValue(reply); err == nil && len(v.Elems) == 3 {
		switch string(v.Elems[0].Str) {
		case "subscribe", "psubscribe", "ssubscribe":
			again = true
		}
	}
	if again {
		p.swallow--
	}
	return again
}

// send sends the request.
func (p *ownFeed) send(cmd *router.Command, raw []byte, args [][]byte) {
	b := p.b
	p.confirm = 1
	switch {
	case cmd.Is(router.Monitor):
	case len(args) > 1:
		p.confirm = len(args) - 1
	default: // one for each subscription of the kind, but at least one
		p.confirm = max(1, len(b.names[kindOf(cmd)]))
	}
	b.request = b.s.newRequest(cmd)
	p.lease.Mark(pool.DirtStream)
	p.lease.Send(raw, 0)
	p.lease.Flush()
	b.s.pauseFor(pauseSubscribing)
}

// Owner is where the client is.
func (p *ownFeed) Owner() netip.Addr { return backend.HostOf(p.b.s.conn.RemoteAddr()) }

// Attached is the pool's late answer.
func (p *ownFeed) Attached(l *pool.Lease, err error) {
	p.lease, p.waiter, p.err = l, nil, err
	switch {
	case p.again == nil:
	case err != nil:
		p.b.s.kill(telemetry.SubscriptionLost)
		return
	default:
		p.listenAgain()
	}
	p.b.s.resumeFrom(pauseLeasing)
}

// LeaseReply takes what the node says: a confirmation, or something for the client alone.
func (p *ownFeed) LeaseReply(_ *pool.Lease, reply []byte) {
	b := p.b
	s := b.s
	reply = inProtocol(reply, s.resp())
	switch {
	case p.confirmsAgain(reply):
	case b.request == nil && b.monitor != nil && reply[0] == '+' && s.loop.srv.hides(reply, p.lease.LocalHost()):
	case !p.confirms(reply):
		s.write(reply)
	case reply[0] != '-' && p.confirm > 1:
		p.confirm--
		s.write(reply)
	default:
		p.confirm = 0
		b.request.mute = b.request.mute && (reply[0] == '-' || b.request.cmd.Is(router.Monitor))
		b.finish(reply)
	}
}

// inProtocol gives a message the client's form: the client may have changed its protocol since the
// lease was attached.
func inProtocol(reply []byte, resp int) []byte {
	switch {
	case reply[0] == '*' && resp == 3:
		return append([]byte{'>'}, reply[1:]...)
	case reply[0] == '>' && resp == 2:
		return append([]byte{'*'}, reply[1:]...)
	}
	return reply
}

// confirms reports whether a reply answers the request under way, and notes what the client is now
// subscribed to.
func (p *ownFeed) confirms(reply []byte) bool {
	b := p.b
	if b.request == nil {
		return false
	}
	cmd := b.request.cmd
	if cmd.Is(router.Monitor) {
		if reply[0] == '+' && b.monitor == nil {
			b.monitor = b.s.loop.srv.monitors.add(b.s)
		}
		return true
	}
	if reply[0] == '-' {
		return true
	}
	v, err := codec.ParseValue(reply)
	if err != nil || len(v.Elems) != 3 || string(v.Elems[0].Str) != cmd.Name {
		return false
	}
	kind, name := kindOf(cmd), string(v.Elems[1].Str)
	if _, has := b.names[kind][name]; !has && !cmd.Is(router.Unsubscribes) {
		b.add(kind, name, nil)
	} else if cmd.Is(router.Unsubscribes) {
		b.remove(kind, name)
	}
	p.holds = b.total() > 0
	return true
}

// LeaseLost says that the connection is gone: the client must not believe that it still listens.
func (p *ownFeed) LeaseLost(_ *pool.Lease, err error) {
	p.lease = nil
	p.b.s.kill(telemetry.SubscriptionLost, "error", err)
}

// checkOwn gives up a node that is silent to a request on the lease. A client that had subscriptions
// there ends.
func (b *subscriber) checkOwn(patience time.Duration) {
	if b == nil || b.own == nil || b.own.lease == nil || b.request == nil {
		return
	}
	s := b.s
	if patience == 0 || time.Duration(s.loop.clock-b.request.start) <= patience {
		return
	}
	lost := backend.AsLost(b.own.addr, errNoReply)
	b.own.close("backend-timeout-ms")
	b.finish(appendLost(nil, lost))
	if s.sub == b {
		s.end(telemetry.SubscriptionLost, "error", lost)
	}
}

// close gives up the lease.
func (p *ownFeed) close(why string) {
	switch {
	case p == nil:
	case p.waiter != nil:
		p.waiter.Cancel()
		p.waiter = nil
	case p.lease != nil:
		p.lease.Close(why)
		p.lease = nil
	}
}
