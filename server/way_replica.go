package main

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/backend/replicas"
	"github.com/berth-proxy/berth/router"
)

// A plain read may go to a replica, on a pipe of its own:
//
//	read ─▶ the client's policy ─▶ its own writes ─┬─▶ replica ─┬─ a reply ─────────────────▶ the client
//	                                               │            └─ an error, lost, too slow ─┐
//	                                               └─▶ primary ◀─────────────────────────────┘
//
// No error of a replica is the client's: the primary is asked again, for it may know better. So a
// replica may die, load its data, or have other users, and its clients do not notice.
//
// MULTI, WATCH and CLIENT TRACKING are promises of one node: such clients read from the primary, and so
// does whoever reads what a node keeps for itself (OBJECT FREQ, HSCAN).

// policy says which nodes the client's plain reads go to.
func (s *session) policy() router.ReadFrom {
	policy := s.readFrom()
	switch {
	case s.readwrite:
		return router.FromPrimary
	case s.readonly && policy == router.FromPrimary:
		return router.PreferReplica
	}
	return policy
}

// mayReadAway reports whether the client may read from replicas.
func (s *session) mayReadAway() bool {
	return (s.readonly || s.loop.srv.readsReplicas.Load()) && s.policy() != router.FromPrimary
}

// awayRead is a read that goes to a replica.
type awayRead struct {
	topology *router.Topology
	shard    int
	slot     int
	pipe     *pipe.Pipe
	refusal  string // in place of a pipe
}

// readsAnywhere reports whether a command is a plain read that any node of its shard may answer to the
// client.
func (s *session) readsAnywhere(cmd *router.Command) bool {
	return s.mayReadAway() && cmd.Flags.Has(router.Readonly) && !cmd.Is(router.AtPrimary) &&
		s.large == nil && s.stay == nil && s.tracking == nil && s.txn == nil
}

// awayRead finds the replica that a request goes to. away false: it goes to the primary.
func (s *session) awayRead(cmd *router.Command, t *router.Topology, shard int, args [][]byte) (read awayRead, away bool) {
	if !s.readsAnywhere(cmd) || cmd.MayQuote() && s.apart(cmd, args) {
		return read, false
	}
	slot := s.slotOf(cmd, args)
	if slot == noSlot { // without a key
		return read, false
	}
	read = awayRead{topology: t, shard: shard, slot: s.ownSlot(cmd, args)}
	read.pipe, read.refusal = s.source(t, shard, read.slot)
	if read.pipe == nil && read.refusal == "" {
		s.pipes.Shard(t, shard).CountRead()
		return read, false
	}
	return read, true
}

// source chooses the node that a read of some slots of a shard goes to. It returns no pipe for the
// primary.
func (s *session) source(t *router.Topology, shard int, slots ...int) (to *pipe.Pipe, refusal string) {
	view := s.loop.srv.replicas.View(t)
	if view == nil { // in a moment it is known
		return nil, ""
	}
	of, policy := view.Shards[shard], s.policy()
	since := replicas.Instant(0)
	for _, slot := range slots {
		its, ok := s.readsSince(slot)
		if !ok || of.Moves(slot) {
			return nil, ""
		}
		since = max(since, its)
	}
	if len(of.Replicas) > 0 {
		to = s.choose(policy, t, shard, of, since)
	}
	if to == nil && policy == router.FromReplica && !s.mayBeRead(t, shard, of) {
		refusal = fmt.Sprintf("TRYAGAIN berth: no replica of %s can be read, and read-from is replica", of.Primary.Addr)
	}
	return to, refusal
}

// choose returns the pipe to that replica that owes the fewest replies; nil: the primary is to be
// read.
func (s *session) choose(policy router.ReadFrom, t *router.Topology, shard int, of *replicas.Shard, since replicas.Instant) *pipe.Pipe {
	near, candidates := replicas.Everywhere, len(of.Replicas)
	switch policy {
	case router.FromNearest:
		near = of.Nearest(s.loop.srv.config().Zone)
		fallthrough
	case router.FromAny:
		candidates++ // the last one is the primary
	}
	var best *pipe.Pipe
	isPrimary, user := false, s.user()
	first := int(s.loop.reads % uint(candidates))
	s.loop.reads++ // of those that owe as few replies the next one
	for i := range candidates {
		at := (first + i) % candidates
		n, p := of.Primary, (*pipe.Pipe)(nil)
		if at == len(of.Replicas) {
			p = s.pipes.Shard(t, shard)
		} else if n = of.Replicas[at]; n.Has(since) && near.Holds(n) && n.Trusts(user) {
			p = s.readers().Replica(t, shard, at)
			if !p.UpBefore(n.AskedAt()) {
				p.Ready() // for later reads
				continue
			}
		}
		if p != nil && near.Holds(n) && (best == nil || p.Owes() < best.Owes()) {
			best, isPrimary = p, at == len(of.Replicas)
		}
	}
	if isPrimary {
		return nil
	}
	return best
}

// mayBeRead reports whether there is a replica that may be read, perhaps in a moment, or by somebody who
// has written nothing.
func (s *session) mayBeRead(t *router.Topology, shard int, of *replicas.Shard) bool {
	for i, n := range of.Replicas {
		if n.Has(0) && n.Trusts(s.user()) && s.readers().Replica(t, shard, i).Takes() {
			return true
		}
	}
	return false
}

// readers are the pipes by which the client's user reads from replicas.
func (s *session) readers() *pipe.Set {
	kind := backend.ReplicaOfSingle
	if s.loop.srv.sharded() {
		kind = backend.ReplicaOfShard
	}
	return s.pipes.Replicas(kind)
}

// replicas are the session's pipes to all replicas.
func (s *session) replicas(t *router.Topology) (pipes []*pipe.Pipe) {
	for shard, of := range t.Shards() {
		for i := range of.Replicas {
			pipes = append(pipes, s.readers().Replica(t, shard, i))
		}
	}
	return pipes
}

// sendAway sends a read to a replica.
func (s *session) sendAway(cmd *router.Command, read awayRead, raw []byte) bool {
	if read.refusal != "" {
		return s.refuse(cmd, read.refusal)
	}
	if !s.turnWhileAway(onPipes, read.topology) {
		return false
	}
	r := s.newRequest(cmd)
	r.away, r.slot, r.pipe = true, int16(read.slot), read.pipe
	s.chargePipe(r, len(raw))
	if err := read.pipe.Send(raw, 1, r); err != nil {
		if !r.goElsewhere(raw) {
			r.lost(err)
		}
		return true
	}
	s.reads(read.slot)
	read.pipe.CountRead()
	if cmd.Flags.Has(router.NoMandatoryKeys) { // a script
		read.pipe.Scripted()
	}
	return true
}

// batchSource is source for parts of a split read.
func (s *session) batchSource(cmd *router.Command, t *router.Topology, shard int, b *shardBatch) (to *pipe.Pipe, refusal string) {
	if !s.readsAnywhere(cmd) {
		return nil, ""
	}
	l := s.loop
	l.slots = l.slots[:0]
	for _, p := range b.parts {
		l.slots = append(l.slots, int(b.join.parts[p.part].slot))
	}
	to, refusal = s.source(t, shard, l.slots...)
	switch {
	case to != nil:
		for i, p := range b.parts {
			b.join.parts[p.part].away = true
			s.reads(l.slots[i])
		}
		to.CountRead()
	case refusal == "":
		s.pipes.Shard(t, shard).CountRead()
	}
	return to, refusal
}

// goElsewhere sends a read that a replica has not answered to the primary. The client's later writes
// wait for it.
func (r *request) goElsewhere(sent []byte) bool {
	r.away = false
	if r.s.closed || r.streams {
		return false
	}
	r.hops++
	return r.resend(sent) || r.awaitReadable(errNoNode, sent)
}

// goElsewhere is the same for a part of a read.
func (p *part) goElsewhere(sent []byte) bool {
	p.away = false
	return p.resend(sent) || p.awaitReadable(errNoNode, sent)
}

// lacksOwn reports whether a replica says that there is nothing in a slot to which the client has written
// lately. The slot may be being moved, and berth may not know it yet: then the key has been passed on.
// The primary knows.
func (r *request) lacksOwn(reply []byte) bool {
	return r.s.wroteLately(int(r.slot)) && isNothing(reply)
}

// lacksOwn is the same for a part of a read.
func (p *part) lacksOwn(reply []byte) bool {
	return p.join.r.s.wroteLately(int(p.slot)) && isNothing(reply)
}

// isNothing reports whether a reply may be that to a read of a key that does not exist, or have one in
// it.
func isNothing(reply []byte) bool {
	switch string(reply) {
	case ":0\r\n", "*0\r\n", "%0\r\n", "~0\r\n", "$0\r\n\r\n", "+none\r\n", ":-2\r\n", "*-1\r\n":
		return true
	}
	return bytes.Contains(reply, []byte("$-1\r\n")) || bytes.Contains(reply, []byte("_\r\n"))
}

// errNoNode is why a read is lost that neither a replica nor the primary could be sent.
var errNoNode = &backend.LostError{Addr: "any node of the shard", Err: errors.New("none is connected")}

// awaitReadable has a read wait that the primary has not answered, or could not, for a client that may
// read from replicas: until another node is the primary, or a replica has the client's own writes. It
// reports whether the read waits; it ends with err if it waits in vain. The client sends nothing
// meanwhile.
func (r *request) awaitReadable(err *backend.LostError, sent []byte) bool {
	return err.Refusal == "" && r.ends == nil && !r.streams && r.mayAwait() && r.await(readAgain{slot: slotOfRaw(r.s, r, sent), to: r, away: &r.away}, sent, func() { r.lost(err) })
}

// awaitReadable is the same for a part of a read.
func (p *part) awaitReadable(err *backend.LostError, sent []byte) bool {
	r := p.join.r
	return err.Refusal == "" && r.mayAwait() && r.await(readAgain{slot: int(p.slot), to: p, away: &p.away}, sent, func() { p.arrived(appendLost(nil, err)) })
}

// clusterDown has a read wait while a Cluster serves nobody, for a client that may read from replicas.
func (r *request) clusterDown(reply, sent []byte) bool {
	if !isDown(reply) || r.ends != nil || !r.mayAwait() {
		return false
	}
	reply = bytes.Clone(reply)
	return r.await(readAgain{slot: slotOfRaw(r.s, r, sent), to: r, away: &r.away}, sent, func() { r.deliver(reply) })
}

// clusterDown is the same for a part of a read.
func (p *part) clusterDown(reply, sent []byte) bool {
	r := p.join.r
	if !isDown(reply) || !r.mayAwait() {
		return false
	}
	reply = bytes.Clone(reply)
	return r.await(readAgain{slot: int(p.slot), to: p, away: &p.away}, sent, func() { p.arrived(reply) })
}

// isDown reports whether a Cluster says that it serves nobody now.
func isDown(reply []byte) bool { return bytes.HasPrefix(reply, []byte("-CLUSTERDOWN ")) }

// mayAwait reports whether a request is a read that may wait for a node that answers it.
func (r *request) mayAwait() bool {
	s := r.s
	return !s.closed && (s.pause == pauseNone || s.pause == pauseDraining) && s.side == onPipes && s.writing == 0 &&
		r.cmd.Flags.Has(router.Readonly) && r.cmd.Way != router.FanOut && !r.cmd.Flags.Has(router.NoMandatoryKeys) && s.mayReadAway() && r.hasTime()
}

// hasTime reports whether a read may wait longer.
func (r *request) hasTime() bool {
	return r.s.loop.clock-r.start < int64(r.s.loop.srv.config().BackendConnectTimeout)
}

// await has a read wait, which keep ends if no node answers in time.
func (r *request) await(read readAgain, sent []byte, keep func()) bool {
	s := r.s
	read.r = r
	if !s.loop.stranded.add(s, stranded{detour: detour{r: r, keep: func([]byte) { keep() }}, read: &read, sent: bytes.Clone(sent), since: s.loop.clock}) {
		return false
	}
	s.loop.srv.nodes.Lost()
	if s.pause == pauseNone {
		s.pauseFor(pauseDraining)
	}
	return true
}

// settleRead ends the wait of a read if it can. It reports whether it has.
func (l *loop) settleRead(s *session, w *stranded) bool {
	read := w.read
	if s.closed || !read.r.hasTime() {
		w.keep(nil)
		return true
	}
	t := l.srv.nodes.Topology()
	shard, text := shardOf(t, read.slot, s.id)
	if text != "" {
		return false
	}
	if p := s.lastResort(t, shard, read.slot); p != nil && p.Send(w.sent, 1, read.to) == nil {
		*read.away = true
		p.CountRead()
		return true
	}
	p := s.pipes.Shard(t, shard)
	return p.Takes() && p.Send(w.sent, 1, read.to) == nil
}

// lastResort returns the pipe to a replica that may have lost its primary, and has the client's own
// writes.
func (s *session) lastResort(t *router.Topology, shard, slot int) *pipe.Pipe {
	view := s.loop.srv.replicas.View(t)
	if view == nil {
		return nil
	}
	if slot < 0 || slot >= router.Slots {
		slot = everySlot
	}
	since, ok := s.readsSince(slot)
	for i, n := range view.Shards[shard].Replicas {
		if ok && n.HadOnce(since) && n.Trusts(s.user()) {
			p := s.readers().Replica(t, shard, i)
			if p.UpBefore(n.AskedAt()) {
				return p
			}
			p.Ready()
		}
	}
	return nil
}
