package main

import (
	"bytes"
	"errors"
	"strings"

	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// Errors of Redis that berth gives itself.
const (
	errNoAuth     = "NOAUTH Authentication required."
	errWrongPass  = "WRONGPASS invalid username-password pair or user is disabled."
	errCrossSlot  = "CROSSSLOT Keys in request don't hash to the same slot"
	errNotServed  = "CLUSTERDOWN Hash slot not served"
	errNoMulti    = "ERR Command not allowed inside a transaction"
	errManyShards = "ERR berth: '%s' speaks of all shards and cannot run inside MULTI"
)

// dispatch sends one request on its way. raw is the request as multibulk, args are its words; both are valid during
// the call only. It returns false when the session has to wait first: then nothing was done, and the same request is
// dispatched again when it goes on.
func (s *session) dispatch(raw []byte, args [][]byte) bool {
	s.muteThis = s.muteAll || s.muteNext == 1
	if s.queued >= s.loop.srv.config().PipelineLimit {
		s.loop.stats.limits["client-pipeline-limit"]++
		return s.hold(pausePipeline)
	}
	cmd, err := s.loop.srv.table().Lookup(args)
	s.lastCmd = cmd
	if !s.maySubscribe(cmd) {
		return s.hold(pauseSubscribe)
	}
	if err != nil {
		return s.notCommand(args, err)
	}
	if s.large != nil && (cmd.Way != router.Shared || s.txn != nil) {
		return s.refuse(cmd, "TRYAGAIN berth: '"+cmd.Name+"' changed its meaning while it came, command not executed")
	}
	if err := cmd.CheckArity(len(args)); err != nil {
		return s.refuse(cmd, err.Error())
	}
	if cmd.Way == router.Refused && s.protected(cmd) {
		return s.refuse(cmd, cmd.Refusal())
	}
	if !s.authenticated && !cmd.Flags.Has(router.NoAuth) {
		return s.refuse(cmd, errNoAuth)
	}
	if s.subscribed() && s.resp() == 2 && !allowedSubscribed(cmd) {
		return s.refuse(cmd, "ERR Can't execute '"+cmd.Name+
			"': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context")
	}
	if s.monitors() && (cmd.Flags.Has(router.Readonly) || s.mayReplicate(cmd)) {
		return s.refuse(cmd, "ERR Replica can't interact with the keyspace") // what MONITOR makes of a client
	}
	if s.loop.srv.gate.stops(s, cmd) {
		return s.hold(pauseByCommand)
	}
	if s.txn != nil {
		if cmd.Flags.Has(router.NoMulti) {
			return s.refuse(cmd, errNoMulti)
		}
		if !endsOrNests(cmd) {
			return s.queue(cmd, raw, args)
		}
	}
	switch cmd.Travels(args) {
	case router.Local:
		return s.local(cmd, raw, args)
	case router.Txn:
		return s.transact(cmd, raw, args)
	case router.Split:
		return s.split(cmd, raw, args)
	case router.FanOut:
		return s.fanOut(cmd, raw, args)
	case router.Blocking:
		return s.block(cmd, raw, args)
	case router.Pinned:
		return s.subscribe(cmd, raw, args)
	case router.Refused:
		if s.debugs(cmd) {
			return s.share(cmd, raw, args)
		}
		return s.refuse(cmd, s.refusal(cmd))
	default:
		return s.share(cmd, raw, args)
	}
}

// refuse answers a request with an error of ours; inside MULTI the transaction is spoilt. A refused EXEC ends it, in
// Redis' words for that.
func (s *session) refuse(cmd *router.Command, text string) bool {
	switch {
	case cmd != nil && cmd.Name == "exec":
		s.endTransaction()
		if !strings.HasPrefix(text, "EXECABORT") { // wrong arity: the table has the whole sentence
			text = "EXECABORT Transaction discarded because of: " + strings.TrimPrefix(text, "ERR ")
		}
	case s.txn != nil:
		s.txn.spoilt = true
	}
	l := s.loop
	l.scratch = codec.AppendError(l.scratch[:0], text)
	s.answer(cmd, l.scratch)
	return true
}

// notCommand answers what is no command. POST and Host: are what a browser, tricked into talking to us, would send.
func (s *session) notCommand(args [][]byte, err error) bool {
	if router.CrossProtocol(args[0]) {
		s.end("HTTP request")
		return true
	}
	return s.refuse(nil, err.Error())
}

// slotOf is the one slot of the request's keys: noSlot without keys, and when the request is so malformed that the node
// must say why; manySlots when they lie in several.
func (s *session) slotOf(cmd *router.Command, args [][]byte) (slot int) {
	if cmd.Way == router.Refused { // which only DEBUG can get past
		return debugSlot(args)
	}
	l := s.loop
	slot, keys, err := cmd.SlotOf(args, l.keys)
	l.keys = keys
	switch {
	case errors.Is(err, router.ErrCrossSlot):
		return manySlots
	case err != nil:
		return noSlot
	}
	return slot
}

// What slotOf says besides a slot.
const (
	noSlot    = -1
	manySlots = -2
)

// place finds the shard for a request: by its slot; any shard for a request without keys. When it cannot, it says
// why in Redis' words.
func (s *session) place(t *router.Topology, cmd *router.Command, args [][]byte) (shard int, text string) {
	if !t.Sharded() {
		return shardOf(t, 0, s.id)
	}
	return shardOf(t, s.slotOf(cmd, args), s.id)
}

// shardOf is the shard that serves a slot; one of them all, by the client's number, when there is no slot.
func shardOf(t *router.Topology, slot int, client int64) (shard int, text string) {
	switch {
	case slot == manySlots:
		return -1, errCrossSlot
	case len(t.Shards()) == 0:
		return -1, errNotServed
	case slot == noSlot:
		return int(client % int64(len(t.Shards()))), ""
	}
	if shard = t.Shard(uint16(slot)); shard < 0 {
		return -1, errNotServed
	}
	return shard, ""
}

// turnTo readies the session to send by a side, routed by a topology; it holds while replies by the other side, or by
// another topology, are owed.
func (s *session) turnTo(side side, t *router.Topology) bool {
	if s.side == side && s.topology == t {
		return true
	}
	if s.waiting > 0 {
		return s.hold(pauseBarrier)
	}
	s.side, s.topology = side, t
	return true
}

// share sends the request on the pipe to the owner of its slot, or on the session's lease if that is to the same
// node.
func (s *session) share(cmd *router.Command, raw []byte, args [][]byte) bool {
	t := s.loop.srv.nodes.Topology()
	shard, text := s.place(t, cmd, args)
	if text != "" {
		return s.refuse(cmd, text)
	}
	addr := t.Shards()[shard].Primary
	switch st := s.stay; {
	case s.large != nil, len(raw) > maxOnPipe, s.heavy(cmd, args):
		return s.shareLarge(cmd, t, shard, raw, args)
	case s.tracking != nil && (st == nil || !st.watching || st.addr == addr && st.lease != nil):
		return s.shareTracked(cmd, raw, t, addr)
	case st.carries(addr):
		return s.sendOnStay(cmd, raw, 1)
	}
	return s.sharePiped(cmd, t, shard, raw)
}

// sharePiped sends the request on a pipe.
func (s *session) sharePiped(cmd *router.Command, t *router.Topology, shard int, raw []byte) bool {
	if !s.turnTo(onPipes, t) {
		return false
	}
	r := s.newRequest(cmd)
	s.hearFirst(r)
	if s.large != nil {
		raw = bytes.Join(s.large.parts(), nil)
	}
	if err := s.pipes.Shard(t, shard).Send(raw, 1, r); err != nil {
		r.lost(err)
	}
	return true
}

// protected tells whether the command is one that Redis refuses to all, before it asks who the client is.
func (s *session) protected(cmd *router.Command) bool {
	return strings.Contains(cmd.Refusal(), " command not allowed.") && !s.debugs(cmd)
}
