package main

import (
	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// splitJob cuts one request by slot and sends the parts, in slices. A request with few keys takes
// one slice. The client's other requests wait while a long one is split.
//
//	find: the keys, and a part for each slot ─▶ send
//
// Parts of slots without a known owner go first, alone: if no node serves one of them, the request
// does nothing at all.
//
// Owned by the loop. It is a job.
type splitJob struct {
	r      *request
	t      *router.Topology
	join   *join
	words  wordReader // of the request; find goes on at the next word
	long   bool       // more than longKeys keys, or not all at once: the client's next request waits
	asked  int        // parts of slots without a known owner, which are first
	name   int        // where the bulk of the command's name begins in the request
	ends   []int      // where the name ends in the request, and each key with the words that belong to it
	parts  []int32    // by slot, in join.parts: the part of the slot, if the part has that slot
	sent   int        // parts
	pieces []piece    // by shard
}

// piece is what a shard gets next: requests of parts, and the batch that takes the replies.
type piece struct {
	bytes []byte
	batch *shardBatch // nil: there are none
}

// Bounds of a request with very many keys. A request of up to longKeys keys fits in one slice.
const (
	longKeys   = 2 << 10 // with more keys, the parts are sent at a pace
	partsAhead = 256     // parts on their way at one time: the requests of others stand after them at the node
)

// slice does a part of the work.
func (w *splitJob) slice() (done bool) {
	if w.r.s.closed {
		w.abandon()
		return true
	}
	budget := sliceKeys
	if !w.find(&budget) {
		return false
	}
	if len(w.t.Shards()) == 0 {
		w.refuse()
		return true
	}
	if w.sent == 0 {
		w.askFirst()
	}
	return w.send(&budget)
}

// askFirst puts parts of slots without a known owner before the others.
func (w *splitJob) askFirst() {
	parts := w.join.parts
	w.asked = 0
	for i := range parts {
		if w.t.Shard(parts[i].slot) >= 0 {
			continue
		}
		parts[i], parts[w.asked] = parts[w.asked], parts[i]
		parts[i].index, parts[w.asked].index = i, w.asked
		w.asked++
	}
	if w.asked == len(parts) {
		w.asked = 0
	}
	if w.asked > 0 && !w.long {
		w.long = true
		w.words.raw = w.r.s.give(w.words.raw)
		w.r.s.pauseFor(pauseSplitting)
	}
}

// find gives keys to their parts. It reports whether it has found all. budget is how many keys the
// slice may still deal with.
func (w *splitJob) find(budget *int) (all bool) {
	step := w.r.cmd.Step
	for ; w.words.left(); *budget-- {
		if *budget <= 0 {
			return false
		}
		w.part(router.Slot(w.words.next())).addKey()
		for range step - 1 {
			w.words.next()
		}
		w.ends = append(w.ends, w.words.at)
	}
	return true
}

// part returns the part of a slot.
func (w *splitJob) part(slot uint16) *part {
	j := w.join
	i := int(w.parts[slot])
	if i >= len(j.parts) || j.parts[i].slot != slot { // the entry is an earlier request's
		i = len(j.parts)
		w.parts[slot] = int32(i)
		j.parts = append(j.parts, part{join: j, index: i, slot: slot})
		j.left++
	}
	return &j.parts[i]
}

// send sends parts. When enough parts of a long request are on their way, the job leaves the loop's
// jobs until half of them are answered.
func (w *splitJob) send(budget *int) (done bool) {
	j, s := w.join, w.r.s
	for w.sent < len(j.parts) {
		if *budget <= 0 {
			w.flush()
			return false
		}
		if w.sent == w.asked && j.failed != noPart {
			s.resumeFrom(pauseSplitting)
			w.abandon()
			return true
		}
		if w.enough() {
			w.flush()
			if w.enough() { // no: some were lost at once
				j.more = w
				return true
			}
		}
		p := &j.parts[w.sent]
		*budget -= p.keys
		w.put(p)
		w.sent++
	}
	s.resumeFrom(pauseSplitting)
	w.flush() // the join and its request are not ours after the last part is on its way
	s.loop.splitter.dropJob(w)
	return true
}

// ahead is how many parts are on their way.
func (w *splitJob) ahead() int { return w.sent - (len(w.join.parts) - w.join.left) }

// enough reports whether no more parts may be on their way.
func (w *splitJob) enough() bool {
	return w.long && w.ahead() >= partsAhead || w.asked > 0 && w.sent == w.asked && w.ahead() > 0
}

// put adds a part to what its shard gets next.
func (w *splitJob) put(p *part) {
	shard := w.t.Home(p.slot)
	next := &w.pieces[shard]
	if len(next.bytes) > maxKeptBuf { // a long request is not in memory once more
		w.flushShard(shard)
	}
	if next.batch == nil {
		next.batch = take(&w.r.s.loop.splitter.batches)
		next.batch.join = w.join
	}
	next.bytes = w.appendPart(next.bytes, p)
	next.batch.parts = append(next.batch.parts, batched{part: p.index, end: len(next.bytes)})
}

// appendPart writes the request of a part: the command with the keys of the part, and the words
// that belong to them.
func (w *splitJob) appendPart(dst []byte, p *part) []byte {
	raw := w.words.raw
	dst = codec.AppendArray(dst, 1+w.r.cmd.Step*p.keys)
	dst = append(dst, raw[w.name:w.ends[0]]...)
	key := p.first
	for range p.keys {
		dst = append(dst, raw[w.ends[key]:w.ends[key+1]]...)
		key = w.join.next[key]
	}
	return dst
}

// flush sends each shard what there is for it.
func (w *splitJob) flush() {
	for shard := range w.pieces {
		if w.pieces[shard].batch != nil {
			w.flushShard(shard)
		}
	}
}

func (w *splitJob) flushShard(shard int) {
	next := &w.pieces[shard]
	b := next.batch
	s := w.r.s
	to, refusal := s.batchSource(w.r.cmd, w.t, shard, b)
	if to == nil {
		to = s.pipes.Since(s.pipeTurns, s.pipes.Shard(w.t, shard))
	}
	if refusal != "" {
		b.Lost(&backend.LostError{Refusal: refusal}, next.bytes)
	} else if err := to.Send(next.bytes, len(b.parts), b); err != nil {
		b.Lost(err, next.bytes)
	}
	next.bytes, next.batch = next.bytes[:0], nil
}

// refuse answers a request while no shard is known.
func (w *splitJob) refuse() {
	r, j, l := w.r, w.join, w.r.s.loop
	l.splitter.dropJob(w)
	r.s.resumeFrom(pauseSplitting)
	l.scratch = codec.AppendError(l.scratch[:0], l.srv.notServed())
	r.done(l.scratch)
	l.splitter.dropJoin(j)
}

// abandon ends the job of a client that is gone, or of one that gets an error: parts that were not
// sent never will be.
func (w *splitJob) abandon() {
	unsent := w.join.parts[w.sent:]
	w.r.s.loop.splitter.dropJob(w)
	for i := range unsent {
		unsent[i].arrived(unsentPart)
	}
}

var unsentPart = []byte("-ERR berth: not sent\r\n")
