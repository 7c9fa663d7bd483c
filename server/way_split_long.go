package main

import (
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// longSplit is a split of a request with very many keys, made in slices. Its client's other
// requests wait meanwhile.
//
//	walk: where each key is, and its slot ─▶ place: the keys of each part ─▶ send: part by part
//
// Only so many parts are on their way at one time: the requests of others stand after them at the
// node.
//
// Owned by the loop. It is a job.
type longSplit struct {
	wordReader // the request's; at is where the walk goes on, then how many keys have their place
	r          *request
	join       *join // nil before place
	t          *router.Topology
	head       []byte // the bulk of the command's name
	step       int    // bulks to a key
	offs       []int  // where each key begins in raw, and where the last one ends
	slots      []uint16
	cuts       []cutSlot // by slot
	parts      int
	sent       int
	stage      func(*longSplit) (done bool)
}

// splitLong begins a split in slices. The request has been found sound but for slots that nobody
// serves.
func (s *session) splitLong(cmd *router.Command, t *router.Topology, raw []byte, step int) bool {
	l := s.loop
	n := len(l.keys)
	w := &longSplit{
		wordReader: newWordReader(s.give(raw)), t: t, step: step, stage: (*longSplit).walk,
		offs: make([]int, 0, n+1), slots: make([]uint16, 0, n), cuts: make([]cutSlot, router.Slots),
	}
	begin := w.at
	w.next()
	w.head = w.raw[begin:w.at]
	w.r = s.newRequest(cmd)
	s.pauseFor(pauseSplitting)
	l.addJob(w)
	return true
}

// slice does a part of the work.
func (w *longSplit) slice() (done bool) {
	if w.r.s.closed {
		w.abandon()
		return true
	}
	return w.stage(w)
}

// walk finds keys and their slots.
func (w *longSplit) walk() (done bool) {
	for range sliceKeys {
		if !w.left() {
			w.stage = (*longSplit).place
			return false
		}
		begin := w.at
		slot := router.Slot(w.next())
		if w.t.Shard(slot) < 0 {
			l := w.r.s.loop
			l.scratch = codec.AppendError(l.scratch[:0], errNotServed)
			w.end()
			w.r.done(l.scratch)
			return true
		}
		w.offs, w.slots = append(w.offs, begin), append(w.slots, slot)
		c := &w.cuts[slot]
		if c.keys == 0 {
			c.part = w.parts
			w.parts++
		}
		c.keys++
		for range w.step - 1 {
			w.next()
		}
	}
	return false
}

// place gives the keys to their parts.
func (w *longSplit) place() (done bool) {
	j := w.join
	if j == nil {
		w.offs = append(w.offs, w.at)
		j = w.r.s.loop.join(w.r, w.parts)
		w.join = j
		j.places = make([]int, len(w.slots))
		end := 0
		for slot := range w.cuts {
			if c := &w.cuts[slot]; c.keys > 0 {
				p := &j.parts[c.part]
				p.slot, p.first, p.end = uint16(slot), end, end
				end += c.keys
			}
		}
		w.at = 0
	}
	last := min(w.at+sliceKeys, len(w.slots))
	for ; w.at < last; w.at++ {
		p := &j.parts[w.cuts[w.slots[w.at]].part]
		j.places[p.end] = w.at
		p.end++
	}
	if w.at == len(w.slots) {
		w.stage = (*longSplit).send
	}
	return false
}

// longKeys is from how many keys on a request is split in slices, and partsAhead how many of its
// parts may be on their way.
const (
	longKeys   = 2 << 10
	partsAhead = 256
)

// ahead is how many parts are on their way.
func (w *longSplit) ahead() int { return w.sent - (len(w.join.parts) - w.join.left) }

// send sends parts. When enough are on their way it leaves the loop's jobs, until half of them are
// answered.
func (w *longSplit) send() (done bool) {
	j, s := w.join, w.r.s
	l := s.loop
	for keys := 0; keys < sliceKeys; w.sent++ {
		if w.ahead() >= partsAhead {
			j.more = w
			return true
		}
		p := &j.parts[w.sent]
		places := j.places[p.first:p.end]
		keys += len(places)
		b := codec.AppendArray(l.scratch[:0], 1+w.step*len(places))
		b = append(b, w.head...)
		for _, place := range places {
			b = append(b, w.raw[w.offs[place]:w.offs[place+1]]...)
		}
		l.scratch = b
		last := w.sent == len(j.parts)-1
		if last {
			w.end() // nothing of the join is ours when the last part is on its way
		}
		if err := s.pipes.Shard(w.t, w.t.Shard(p.slot)).Send(b, 1, p); err != nil {
			p.Lost(err, b)
		}
		if last {
			return true
		}
	}
	return false
}

// end lets the client's next requests come.
func (w *longSplit) end() {
	w.r.s.resumeFrom(pauseSplitting)
}

// abandon ends a split whose client is gone: what was not sent never will be.
func (w *longSplit) abandon() {
	j := w.join
	if j == nil {
		w.r.done(nil)
		return
	}
	j.more = nil
	for i := w.sent; i < len(j.parts); i++ {
		j.parts[i].arrived(unsentPart)
	}
}

var unsentPart = []byte("-ERR berth: not sent\r\n")
