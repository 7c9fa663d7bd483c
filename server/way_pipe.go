package main

import (
	"bytes"
	"fmt"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/telemetry"
)

// Reply takes what a node answered on a pipe.
func (r *request) Reply(reply, sent []byte, more int) {
	if more > 0 {
		r.ends.queued(reply)
		return
	}
	if r.streams {
		r.sawLong(reply, sent)
		r.done(reply)
		return
	}
	if r.away && r.lacksOwn(reply) && r.goElsewhere(sent) {
		return
	}
	if reply[0] == '-' && (r.away && r.goElsewhere(sent) || r.redirect(reply, sent) || r.demoted(reply, sent) || r.clusterDown(reply, sent)) {
		return
	}
	s := r.s
	r.watch("", sent)
	if s.loop.keyWatch.isLong(len(reply)) {
		r.sawLong(reply, sent)
	}
	r.deliver(s.withForgetAll(r, reply))
	s.flushComplete()
}

// deliver ends the request with a node's reply, however it came.
func (r *request) deliver(reply []byte) {
	switch {
	case r.s.closed:
		r.done(nil)
	case r.ends != nil:
		r.ends.end(r, reply)
	default:
		r.done(reply)
	}
}

// Lost handles a pipe that will not answer. A request that was not sent is sent again, once. A
// plain read is also sent again, because a second read does no harm; but not while a write of the
// same client is unanswered, since the read would see it although it was asked before. Everything
// else may have been executed, and the client is told so.
func (r *request) Lost(err *backend.LostError, sent []byte) {
	r.s.loop.srv.nodes.Lost()
	if r.streams {
		r.lost(err)
		return
	}
	if r.away && r.goElsewhere(sent) {
		return
	}
	retry := !err.Sent || r.s.writing == 0
	if err.Refusal == "" && !err.Timeout() && retry && r.hops == 0 && !r.s.closed && (r.ends == nil || r.ends.again()) {
		r.hops++
		if r.resend(sent) {
			return
		}
	}
	if r.awaitReadable(err, sent) {
		return
	}
	r.lost(err)
}

// Move reports whether the request is to be sent on another pipe while it is unanswered: a plain read of
// a client that is owed nothing else, once. The client's writes wait until it is answered. A script would
// stop up the other pipe as well.
func (r *request) Move() bool {
	s := r.s
	if s.writing > 0 || r.away || r.cmd.Flags.Has(router.NoMandatoryKeys) || r.ends != nil || r.streams || r.hops > 0 || s.closed || s.side != onPipes {
		return false
	}
	r.hops++
	return true
}

// resend sends a request again to whoever owns its slot now.
func (r *request) resend(sent []byte) bool {
	s := r.s
	t := s.loop.srv.nodes.Topology()
	slot := noSlot
	if t.Sharded() {
		slot = slotOfRaw(s, r, sent)
	}
	shard, text := shardOf(t, slot, s.id)
	if text != "" {
		return false
	}
	to := s.pipes.Since(s.pipeTurns, s.pipes.Shard(t, shard))
	r.sendScripts(to, sent)
	r.pipe = to
	return to.Send(sent, r.replies(), r) == nil
}

// slotOfRaw is the slot of a request from its bytes.
func slotOfRaw(s *session, r *request, sent []byte) int {
	if b := r.blob(); b != nil {
		return b.slot
	}
	p := s.loop.parser()
	defer s.loop.dropParser(p)
	if n, err := p.ParseAll(sent, s.loop.srv.limits(true)); n == 0 || err != nil {
		return noSlot
	}
	return s.slotOf(r.cmd, p.Args())
}

// replies is how many replies the request's bytes are owed.
func (r *request) replies() int {
	if r.ends != nil {
		return r.ends.replies()
	}
	return 1
}

// lost answers a request whose reply will not come. A client that has the beginning of one can be
// told only by the end of its connection.
func (r *request) lost(err *backend.LostError) {
	l := r.s.loop
	if r.streams {
		r.s.kill(telemetry.ReplyCutOff, "error", err)
		r.done(nil)
		return
	}
	if r.blob() != nil && err.IsBusy() { // as Redis words it for EXEC
		err = &backend.LostError{Addr: err.Addr, Refusal: "EXECABORT Transaction discarded because of: " + err.Refusal}
	}
	l.scratch = appendLost(l.scratch[:0], err)
	r.done(l.scratch)
}

// appendLost words a lost reply. The prefix decides whether client libraries send the command again
// on their own: TRYAGAIN only when no node can have seen it.
func appendLost(dst []byte, err *backend.LostError) []byte {
	switch {
	case err.Refusal != "":
		return codec.AppendError(dst, err.Refusal)
	case err.Sent:
		return codec.AppendError(dst, fmt.Sprintf("ERR berth: connection to %s lost (%v), command may have been executed", err.Addr, err.Err))
	default:
		return codec.AppendError(dst, fmt.Sprintf("TRYAGAIN berth: no connection to %s (%v), command not executed", err.Addr, err.Err))
	}
}

// share sends the request on the pipe to the owner of its slot, or on the session's lease if that
// is to the same node.
func (s *session) share(cmd *router.Command, raw []byte, args [][]byte) bool {
	t := s.loop.srv.nodes.Topology()
	shard, text := s.place(t, cmd, args)
	if text != "" {
		return s.refuse(cmd, text)
	}
	if near := s.loop.near; near != nil {
		if near.cold = false; cmd.Is(router.Cacheable) {
			if taken, here := s.fromNear(t, shard, cmd, raw, args); here {
				return taken
			}
		}
	}
	addr := t.Shards()[shard].Primary
	if cmd.MayQuote() && s.apart(cmd, args) {
		return s.shareApart(cmd, t, addr, raw, args)
	}
	switch st := s.stay; {
	case s.large != nil, len(raw) > maxOnPipe, s.heavy(cmd, args):
		return s.shareLarge(cmd, t, shard, raw, args)
	case s.tracking != nil && (st == nil || !st.watching || st.addr == addr && st.lease != nil):
		return s.shareTracked(cmd, raw, args, t, addr)
	case st.goesOnLease(addr):
		return s.sendOnStay(cmd, raw, args)
	}
	return s.sharePiped(cmd, t, shard, raw, args)
}

// sharePiped sends the request on a pipe.
func (s *session) sharePiped(cmd *router.Command, t *router.Topology, shard int, raw []byte, args [][]byte) bool {
	slot := everySlot
	if s.mayReadAway() {
		if read, away := s.awayRead(cmd, t, shard, args); away {
			return s.sendAway(cmd, read, raw)
		}
		slot = s.ownSlot(cmd, args)
		if !s.turnBeside(cmd, slot, t) {
			return false
		}
	} else if !s.turnTo(onPipes, t) {
		return false
	}
	r := s.newRequestOf(cmd, slot)
	s.countClients(r, args, t.Shards()[shard].Primary)
	if s.large != nil {
		raw = bytes.Join(s.large.parts(), nil)
	}
	s.chargePipe(r, len(raw))
	if s.loop.near != nil {
		s.namesKeys(r, t, cmd, args)
	}
	pipe := s.pipes.Shard(t, shard)
	r.pipe = pipe
	if err := pipe.Send(raw, 1, r); err != nil {
		if !r.awaitReadable(err, raw) {
			r.lost(err)
		}
		return true
	}
	if cmd.Flags.Has(router.NoMandatoryKeys) { // a script
		pipe.Scripted()
	}
	return true
}
