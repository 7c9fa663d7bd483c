package main

import (
	"time"

	"github.com/berth-proxy/berth/backend/replicas"
	"github.com/berth-proxy/berth/router"
)

// ownWrites is what a client has written, and what it reads from replicas, by slot. A client that may
// read from replicas
//
//   - reads what it has written itself: a replica is read only if it has what the primary had executed
//     when the client got the answer to its latest write to the slot. Until then the primary is read.
//   - reads nothing that it writes later: a write waits for the client's reads of the slot that
//     replicas owe.
//
// Several slots may share an entry, which then stands for all of them. A single node has no slots: they
// are then only a way to tell keys apart.
//
// Owned by the session's loop. nil: nothing is known, because there was nothing to remember.
type ownWrites struct {
	entries []ownEntry // a power of two of them, by the last bits of the slot
	every   ownEntry   // of what is of no one slot
	latest  replicas.Instant
	old     uint64 // the number of the latest read that was sent to a replica before there were entries
	writes  int    // since counted
	counted int64  // loop clock
}

// ownEntry is about a slot. Requests are known by their numbers: see session.numbered.
type ownEntry struct {
	write uint64           // the latest write
	read  uint64           // the latest read that went to a replica
	at    replicas.Instant // when a write was answered last; 0: never
}

// How many entries there are: more for clients that write much.
const (
	fewEntries  = 16
	manyEntries = 256
)

// everySlot stands for a request of no one slot.
const everySlot = -1

// unanswered reports whether the request with a number, or one before it, is in the queue.
func (s *session) unanswered(number uint64) bool { return number > s.numbered-uint64(s.queued) }

// remember returns the session's own writes, for a client that may read from replicas. What was written
// before is not known: it may be in every slot.
func (s *session) remember() *ownWrites {
	if s.writes == nil {
		s.writes = &ownWrites{entries: make([]ownEntry, fewEntries), old: s.away}
		if s.hasWrote {
			s.writes.latest = replicas.Now()
			s.writes.every = ownEntry{write: s.numbered, at: s.writes.latest}
		}
	}
	return s.writes
}

// entry returns that of a slot.
func (w *ownWrites) entry(slot int) *ownEntry {
	if slot < 0 {
		return &w.every
	}
	return &w.entries[slot&(len(w.entries)-1)]
}

// wrote enters that a write to a slot is about to be sent.
func (s *session) wrote(r *request, slot int) {
	s.hasWrote = true
	r.slot = int16(slot)
	if !s.mayReadAway() {
		s.writes = nil // it would miss what is written now
		return
	}
	w := s.remember()
	w.entry(slot).write = s.numbered
	if now := s.loop.clock; now-w.counted > 1e9 {
		w.writes, w.counted = 0, now
	}
	if w.writes++; w.writes > len(w.entries)/2 && len(w.entries) < manyEntries {
		w.entries = append(w.entries, w.entries...) // each entry stands for the same slots, and half as many
	}
}

// answered enters that the reply to a write has come.
func (w *ownWrites) answered(r *request) {
	if w != nil {
		w.latest = replicas.Now()
		w.entry(int(r.slot)).at = w.latest
	}
}

// readsSince returns since when a replica must have everything to be read in a slot; 0: it does not
// matter. ok false: the client's own write is not answered, and it must read from the primary.
func (s *session) readsSince(slot int) (since replicas.Instant, ok bool) {
	w := s.writes
	switch {
	case !s.loop.srv.config().ReadOwnWrites, w == nil && !s.hasWrote:
		return 0, true
	case w == nil:
		w = s.remember()
	}
	if slot < 0 {
		return w.latest, s.writing == 0
	}
	e := w.entry(slot)
	return max(e.at, w.every.at), !s.unanswered(max(e.write, w.every.write))
}

// lately is how long after a write it is remembered who wrote: much longer than berth takes to notice that
// a slot is being moved.
const lately = replicas.Instant(10 * time.Second)

// wroteLately reports whether the client may have written to a slot a short while ago.
func (s *session) wroteLately(slot int) bool {
	w := s.writes
	if w == nil || !s.loop.srv.nodes.Topology().Sharded() {
		return false
	}
	at := max(w.entry(slot).at, w.every.at)
	return at != 0 && replicas.Now()-at < lately
}

// reads enters that a read was sent to a replica.
func (s *session) reads(slot int) {
	s.away = s.numbered
	if s.writes == nil && s.waiting > 1 {
		s.remember()
	}
	if s.writes != nil {
		s.writes.entry(slot).read = s.away
	}
}

// readsAway reports whether a replica owes the session a read that a write to a slot must not overtake.
func (s *session) readsAway(slot int) bool {
	w := s.writes
	switch {
	case !s.unanswered(s.away):
		return false
	case w == nil, slot < 0:
		return true
	}
	return s.unanswered(max(w.entry(slot).read, w.every.read, w.old))
}

// ownSlot is the slot of all keys that a request may use, also where slots mean nothing to the node.
func (s *session) ownSlot(cmd *router.Command, args [][]byte) int {
	slot := s.slotOf(cmd, args)
	if slot < 0 || slot >= router.Slots || cmd.MayUseOtherKeys() {
		return everySlot
	}
	return slot
}

// turnBeside is turnTo for a request on the pipe to a primary. Only a write waits for what replicas
// owe.
func (s *session) turnBeside(cmd *router.Command, slot int, t *router.Topology) bool {
	if !isPlainRead(cmd) && s.readsAway(slot) {
		return s.hold(pauseDraining)
	}
	return s.turnWhileAway(onPipes, t)
}
