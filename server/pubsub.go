package main

import (
	"strings"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// subscriber is a client with subscriptions, or in MONITOR: its lease is its own until it goes, or until its last
// subscription ends. What the node sends goes to the client as it is.
type subscriber struct {
	s       *session
	names   map[string]map[string]struct{} // what it is subscribed to, by "subscribe", "psubscribe", "ssubscribe"
	due     int                            // confirmations of request that have not come
	request *request                       // the SUBSCRIBE, PING … at hand, else nil
	monitor bool
}

// allowedSubscribed tells the commands of a RESP2 client with subscriptions.
func allowedSubscribed(cmd *router.Command) bool {
	switch cmd.Name {
	case "ping", "quit", "reset", "subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe":
		return true
	}
	return false
}

// pin sends SUBSCRIBE, MONITOR and the like on a lease that stays the client's.
func (s *session) pin(cmd *router.Command, raw []byte, args [][]byte) bool {
	switch {
	case s.sub != nil: // all of one client's subscriptions are on one connection
		return s.sub.send(cmd, raw, args)
	case strings.HasSuffix(cmd.Name, "unsubscribe"):
		return s.unsubscribeNothing(cmd, args)
	case s.stay != nil && s.stay.watching:
		return s.refuse(cmd, "ERR berth: '"+cmd.Name+"' is not available between WATCH and EXEC")
	}
	ready, taken := s.attach(cmd, args, backend.ReasonPin)
	if !ready {
		return taken
	}
	s.sub = &subscriber{s: s, names: map[string]map[string]struct{}{}, monitor: cmd.Name == "monitor"}
	s.stay.lease.Mark(backend.DirtStream)
	return s.sub.send(cmd, raw, args)
}

// send sends a request of a subscriber and takes no other until it is confirmed.
func (b *subscriber) send(cmd *router.Command, raw []byte, args [][]byte) bool {
	s := b.s
	if s.waiting > 0 {
		return s.hold(pauseBarrier)
	}
	b.due = len(args) - 1
	if b.due == 0 { // one for each subscription of the kind, but at least one
		b.due = max(1, len(b.names[strings.Replace(cmd.Name, "unsub", "sub", 1)]))
	}
	b.request = s.newRequest(cmd)
	s.stay.lease.Send(raw, 0)
	s.stay.touch()
	s.pause = pauseSubscribe
	return true
}

// message takes what the node sends to a subscriber.
func (b *subscriber) message(reply []byte) {
	s := b.s
	if !b.confirms(reply) {
		s.write(reply)
		s.checkOutput()
		return
	}
	if b.due--; b.due > 0 && reply[0] != '-' {
		s.write(reply)
		return
	}
	r := b.request
	b.request = nil
	if len(b.names) == 0 && !b.monitor {
		s.stay.lease.Close("unsubscribed")
		s.sub, s.stay = nil, nil
	}
	r.done(reply)
	s.release()
}

// confirms tells whether a message answers the request at hand, and notes what the client is now subscribed to.
func (b *subscriber) confirms(reply []byte) bool {
	if b.request == nil {
		return false
	}
	if b.monitor || reply[0] == '-' {
		return true
	}
	v, err := codec.ParseValue(reply)
	if err != nil || len(v.Elems) != 3 || string(v.Elems[0].Str) != b.request.cmd.Name {
		return false
	}
	ends := strings.Contains(b.request.cmd.Name, "unsub")
	kind := strings.Replace(b.request.cmd.Name, "unsub", "sub", 1)
	name := string(v.Elems[1].Str)
	if !ends {
		if b.names[kind] == nil {
			b.names[kind] = map[string]struct{}{}
		}
		b.names[kind][name] = struct{}{}
		return true
	}
	delete(b.names[kind], name)
	if len(b.names[kind]) == 0 {
		delete(b.names, kind)
	}
	return true
}

// unsubscribeNothing confirms the end of subscriptions that never were, as Redis does.
func (s *session) unsubscribeNothing(cmd *router.Command, args [][]byte) bool {
	l := s.loop
	out := l.scratch[:0]
	channels := args[1:]
	if len(channels) == 0 {
		channels = [][]byte{nil}
	}
	for _, c := range channels {
		out = codec.AppendPush(out, 3, s.resp())
		out = codec.AppendBulkString(out, cmd.Name)
		if c == nil {
			out = codec.AppendNull(out, s.resp())
		} else {
			out = codec.AppendBulk(out, c)
		}
		out = codec.AppendInt(out, 0)
	}
	l.scratch = out
	s.answer(cmd, out)
	return true
}
