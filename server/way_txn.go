package main

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/berth-proxy/berth/backend/feed"
	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/telemetry"
)

// transaction is what a client has queued since MULTI. It needs no connection: EXEC sends it in one
// piece.
type transaction struct {
	bytes  []byte // MULTI and the queued requests, as they go to the node
	n      int    // queued requests
	sent   int    // those of them that are in bytes
	kept   int    // bytes of the others
	held   int    // bytes that berth holds for those in which it has a part, and for evals
	slot   int    // of all their keys; noSlot, manySlots; router.ChannelSlot: no keys, but it publishes
	spoilt bool   // a request was refused: EXEC answers EXECABORT
	turns  bool   // one of them changes the connection it is run on, or may break a reply's line: no shared one may carry it
	rules  bool   // one of them changes what users may do, or which database is which
	locals []ownInExec

	scripts []scriptSHA  // what its EVALSHAs name
	evals   []evalInExec // its EVALs of unknown scripts
	flushes bool         // one of them has the node forget all scripts

	counted []countedInExec
}

// blob is a transaction on its way: MULTI, sent requests, EXEC. The node answers sent+2 times and
// only EXEC's reply is for the client, who has had +OK and +QUEUED long before.
type blob struct {
	n       int // queued requests
	sent    int // those of them that went to the node: berth answers the others, own
	slot    int
	watched bool   // sent on a lease with a WATCH
	turns   bool   // must not be sent on a pipe
	rules   bool   // changes what users may do
	moved   []byte // the first redirection among the queued replies: nothing was executed
	refused []byte // the first other error among them
	own     []ownInExec
	held    int // bytes that berth holds for them and for evals
	scripts []scriptSHA
	evals   []evalInExec
	flushes bool
	counted []countedInExec
}

var (
	multiCommand = codec.AppendCommandString(nil, "multi") // in small letters, as most clients write it: MONITOR shows it
	execCommand  = codec.AppendCommandString(nil, "exec")
	pingCommand  = codec.AppendCommandString(nil, "PING")
)

func (b *blob) replies() int { return b.sent + 2 }

// queued takes the replies before EXEC's.
func (b *blob) queued(reply []byte) {
	if b.moved == nil && reply[0] == '-' {
		if _, ok := router.ParseRedirect(reply, ""); ok {
			b.moved = bytes.Clone(reply)
			return
		}
	}
	if b.refused == nil && reply[0] == '-' && len(reply) <= maxReason {
		b.refused = bytes.Clone(reply)
	}
}

// maxReason is how long an error may be that EXEC repeats.
const maxReason = 1 << 10

// abortedByRedirect reports whether EXEC's reply says that nothing was executed because a queued
// request was redirected. After any other reply the queued commands may have run, since MULTI was
// refused, and a script among them may have chosen the words of the redirect.
func (b *blob) abortedByRedirect(reply []byte) bool {
	return b != nil && b.moved != nil && bytes.HasPrefix(reply, execAbort)
}

// end gives EXEC's reply to the client, with what berth answers itself in it.
func (b *blob) end(r *request, reply []byte) {
	if bytes.HasPrefix(reply, []byte("-ERR EXEC without MULTI")) { // the user's permission was taken away
		r.s.loop.srv.rights.of(r.s.user()).suspect()
	}
	if b.rules && reply[0] == '*' {
		r.s.loop.srv.rights.forget()
		r.s.loop.srv.forgetNear()
	}
	if b.refused != nil && bytes.HasPrefix(reply, abortedBefore) { // the client has read QUEUED alone
		reply = append([]byte("-EXECABORT Transaction discarded because of: "), b.refused[1:]...)
	}
	b.learnScripts(r.s.loop.srv.scripts, reply)
	b.assemble(r, b.countClients(r, reply))
}

// whole reports whether EXEC's reply has to be looked at.
func (b *blob) whole() bool {
	return b.moved != nil || b.refused != nil || len(b.own) > 0 || len(b.evals) > 0 || b.flushes || len(b.counted) > 0
}

var abortedBefore = []byte("-EXECABORT Transaction discarded because of previous errors.")

// again makes the transaction ready to be sent again.
func (b *blob) again() bool {
	b.rewind()
	return true
}

// blob is the request's transaction, nil if it is none.
func (r *request) blob() *blob {
	b, _ := r.ends.(*blob)
	return b
}

// rewind makes the blob ready to be sent again.
func (b *blob) rewind() {
	if b != nil {
		b.moved, b.refused = nil, nil
	}
}

// multi begins a transaction. The nodes let the user run MULTI: after a refused MULTI the queued
// commands would be executed one by one.
func multi(s *session, cmd *router.Command, _ []byte, _ [][]byte) bool {
	if s.txn != nil {
		return s.sayError(cmd, "ERR MULTI calls can not be nested")
	}
	s.txn = s.loop.transaction()
	return s.say(cmd, "OK")
}

func execTransaction(s *session, cmd *router.Command, _ []byte, _ [][]byte) bool { return s.exec(cmd) }

func discard(s *session, cmd *router.Command, _ []byte, _ [][]byte) bool {
	if s.txn == nil {
		return s.sayError(cmd, "ERR DISCARD without MULTI")
	}
	s.endTransaction()
	s.showUnsent("multi") // DISCARD itself is shown as any command is
	return s.say(cmd, "OK")
}

// queue keeps a request until EXEC.
func (s *session) queue(cmd *router.Command, raw []byte, args [][]byte) bool {
	t := s.txn
	topology := s.loop.srv.nodes.Topology()
	cfg := s.loop.srv.config()
	switch {
	case cmd.Way == router.Refused && !s.debugs(cmd) && s.refusal(cmd) != errNoCluster: // which Redis says in EXEC only
		return s.refuse(cmd, s.refusal(cmd))
	case cmd.Is(router.Replication):
		return s.refuse(cmd, "ERR berth: "+strings.ToUpper(cmd.Name)+" travels on a connection of its own and cannot run inside MULTI")
	case cmd.Way == router.FanOut && topology.Sharded() && !t.takesScript(cmd, args):
		return s.refuse(cmd, fmt.Sprintf(errManyShards, cmd.Name))
	case t.n >= cfg.TransactionMaxCommands:
		s.loop.stats.Limit(telemetry.LimitTransactionCommands)
		return s.refuse(cmd, "ERR berth: more commands than transaction-max-commands")
	case len(t.bytes)+t.kept+len(raw) > cfg.TransactionMaxBytes:
		s.loop.stats.Limit(telemetry.LimitTransactionBytes)
		return s.refuse(cmd, "ERR berth: transaction larger than transaction-max-bytes")
	}
	if own := s.own(cmd); own.refusal != nil {
		if text := own.refusal(s, args); text != "" {
			return s.refuse(cmd, text)
		}
	}
	if s.hasPartIn(cmd) {
		local := newOwnInExec(t.n, cmd, raw, args)
		t.locals = append(t.locals, local)
		t.held += local.held()
		if t.turns = t.turns || s.onNode(&local); !s.onNode(&local) {
			t.kept += len(raw)
			raw = nil
		}
	} else if topology.Sharded() {
		slot := s.slotOf(cmd, args)
		switch {
		case slot == manySlots: // by itself: EXEC need not come to see it
			return s.refuse(cmd, errCrossSlot)
		case t.spoilt:
		case slot != noSlot && t.slot == noSlot, slot >= 0 && t.slot == router.ChannelSlot:
			t.slot = slot
		case slot >= 0 && slot != t.slot:
			t.slot = manySlots
		}
	}
	t.turns = t.turns || s.apart(cmd, args)
	if !t.spoilt { // otherwise nothing of it will run
		t.noteScript(s.loop.srv.scripts, cmd, args)
		t.noteCount(cmd, raw, args)
		t.bytes = append(t.bytes, raw...)
		s.grew(len(raw))
		t.n++
		if raw != nil {
			t.sent++
		}
		t.rules = t.rules || cmd.Is(router.Rules) || cmd.Is(router.Swaps)
	}
	return s.say(cmd, "QUEUED")
}

// exec sends the transaction: on the lease of a WATCH, else on the pipe of its slot.
func (s *session) exec(cmd *router.Command) bool {
	t, st := s.txn, s.stay
	watching := st != nil && st.watching
	switch {
	case t == nil:
		return s.sayError(cmd, "ERR EXEC without MULTI")
	case t.slot == manySlots && !(t.spoilt && s.loop.srv.isValkeySince(8, 0)) || !t.spoilt && watching && !st.broken && t.slot >= 0 && t.slot != st.slot && st.slot != noSlot:
		s.endUnsent()
		return s.sayError(cmd, errCrossSlot)
	case t.spoilt:
		s.endUnsent()
		return s.sayError(cmd, "EXECABORT Transaction discarded because of previous errors.")
	case watching && (st.broken || st.replaced(s.loop.srv.nodes.Topology())):
		s.endUnsent()
		return s.sayNil(cmd)
	case watching:
		return s.execOnLease(cmd)
	case t.n == 0:
		s.endUnsent()
		l := s.loop
		l.scratch = codec.AppendArray(l.scratch[:0], 0)
		s.answer(cmd, l.scratch)
		return true
	}
	topology := s.loop.srv.nodes.Topology()
	shard, text := shardOf(topology, t.slot, s.id)
	if text != "" {
		s.endUnsent()
		return s.sayError(cmd, text)
	}
	if !s.haveScripts(topology.Shards()[shard].Primary, t.scripts...) {
		return false
	}
	if len(t.bytes) > maxOnPipe || t.turns || s.tracking != nil {
		return s.execApart(cmd, topology, shard)
	}
	if !s.turnTo(onPipes, topology) {
		return false
	}
	r := s.newRequest(cmd)
	b := t.blob(s.loop.srv.audience, topology.Shards()[shard].Primary)
	r.ends = b
	s.txn = nil
	s.pauseForExec(b)
	t.bytes = append(t.bytes, execCommand...)
	s.chargePipe(r, len(t.bytes))
	pipe := s.pipes.Shard(topology, shard)
	if err := pipe.Send(t.bytes, r.replies(), r); err != nil {
		r.lost(err)
	} else if isScript(r) {
		pipe.Scripted()
	}
	s.loop.dropTransaction(t)
	return true
}

// execApart sends a transaction without WATCH on a lease: one that is large, turns its connection,
// or is a tracking client's.
func (s *session) execApart(cmd *router.Command, topology *router.Topology, shard int) bool {
	if !s.turnTo(onLease, topology) {
		return false
	}
	ready, taken := s.attachTo(cmd, topology.Shards()[shard].Primary, pool.ReasonTxn)
	if !ready {
		return taken
	}
	t, st := s.txn, s.stay
	st.unwatchNode()
	r := s.newRequest(cmd)
	b := t.blob(s.loop.srv.audience, st.addr)
	r.ends = b
	r.parts = [][]byte{append(t.bytes, execCommand...)}
	s.charge(r, len(t.bytes))
	s.txn = nil
	st.lease.Mark(b.dirt())
	st.sendParts(r, r.replies())
	s.pauseForExec(b)
	return true
}

// execOnLease sends the transaction where its keys are watched; the lease goes back with its reply,
// unless its client tracks keys on it.
func (s *session) execOnLease(cmd *router.Command) bool {
	if !s.turnTo(onLease, s.topology) {
		return false
	}
	t, st := s.txn, s.stay
	if st.lease == nil { // the WATCH was redirected
		return s.hold(pauseLeasing)
	}
	if !s.haveScripts(st.addr, t.scripts...) {
		return false
	}
	if st.owesWatch() { // it may be redirected yet, and EXEC must not come before it
		return s.hold(pauseDraining)
	}
	r := s.newRequest(cmd)
	b := t.blob(s.loop.srv.audience, st.addr)
	b.watched = st.watching
	r.ends = b
	s.txn = nil
	st.lease.Mark(b.dirt())
	st.lease.Clear(pool.DirtWatch) // EXEC ends it, and a lease that owes its reply is not pooled
	t.bytes = append(t.bytes, execCommand...)
	st.send(r, t.bytes, r.replies())
	st.watching = false
	s.pauseForExec(b)
	s.loop.dropTransaction(t)
	return true
}

// blob is the transaction as it is sent to the node at addr.
func (t *transaction) blob(a *feed.Audience, addr string) *blob {
	for _, c := range t.counted {
		c.look(a, addr)
	}
	return &blob{n: t.n, sent: t.sent, slot: t.slot, turns: t.turns, rules: t.rules, own: t.locals, held: t.held,
		scripts: t.scripts, evals: t.evals, flushes: t.flushes, counted: t.counted}
}

// dirt is what a lease has to be marked with that carries the blob.
func (b *blob) dirt() pool.Dirt {
	if b.turns {
		return pool.DirtMulti | pool.DirtOther
	}
	return pool.DirtMulti
}

// endUnsent ends a transaction of which no node hears.
func (s *session) endUnsent() {
	begun := s.txn != nil // an EXEC may be refused without one
	s.endTransaction()
	if begun {
		s.showUnsent("multi", "exec")
	}
}

// endTransaction forgets what was queued and watched.
func (s *session) endTransaction() {
	s.txn = nil
	s.unwatch()
}

func (s *session) sayNil(cmd *router.Command) bool {
	l := s.loop
	l.scratch = codec.AppendNullArray(l.scratch[:0], s.resp())
	s.answer(cmd, l.scratch)
	return true
}
