package main

import (
	"slices"

	"github.com/berth-proxy/berth/router"
)

// split cuts a request by slot, unless all its keys lie in one. Between WATCH and EXEC the parts
// travel on pipes, too: they are sent after WATCH was answered, so EXEC checks what they see.
func (s *session) split(cmd *router.Command, raw []byte, args [][]byte) bool {
	t := s.loop.srv.nodes.Topology()
	if !t.Sharded() || s.slotOf(cmd, args) != manySlots {
		return s.share(cmd, raw, args)
	}
	if err := cmd.CheckSteps(len(args)); err != nil {
		return s.refuse(cmd, err.Error())
	}
	l := s.loop
	if l.near != nil {
		if l.near.cold = false; cmd.Join == router.JoinMGet {
			if taken, here := s.mgetNear(t, cmd, args); here {
				return taken
			}
		}
	}
	if !s.turnBeside(cmd, everySlot, t) {
		return false
	}
	r := s.newRequest(cmd)
	if l.near != nil {
		s.namesKeys(r, t, cmd, args)
	}
	s.chargePipe(r, len(raw))
	l.addJob(l.splitter.begin(r, t, raw, (len(args)-1)/cmd.Step))
	return true
}

// splitter cuts requests by slot and joins the replies to their parts:
//
//	request ─▶ splitJob ─▶ shardBatch … shardBatch ─▶ nodes ─▶ part … part ─▶ join ─▶ reply
//
// It keeps what requests needed for the next ones.
//
// Owned by the loop.
type splitter struct {
	jobs    freeList[*splitJob]
	mgets   freeList[*mgetJob]
	joins   freeList[*join]
	batches freeList[*shardBatch]
}

// What a splitter keeps for use again. Of the jobs one is enough: most end before the next begins.
const (
	maxSpareJoins   = 64
	maxSpareBatches = 256
	maxKeptParts    = 1 << 10
	maxKeptKeys     = 2 * longKeys
)

// begin returns the job that cuts a request of so many keys. Split commands are a name and then
// keys up to the end, each with the words that belong to it.
func (sp *splitter) begin(r *request, t *router.Topology, raw []byte, keys int) *splitJob {
	long := keys > longKeys
	if long {
		raw = r.s.give(raw)
		r.s.pauseFor(pauseSplitting)
	}
	w := take(&sp.jobs)
	w.r, w.t, w.join, w.long, w.words = r, t, sp.join(r, 0), long, newWordReader(raw)
	w.name = w.words.at
	w.words.next()
	w.ends = append(slices.Grow(w.ends, keys+1), w.words.at)
	w.join.next = slices.Grow(w.join.next, keys)
	if w.parts == nil {
		w.parts = make([]int32, router.Slots)
	}
	for len(w.pieces) < len(t.Shards()) {
		w.pieces = append(w.pieces, piece{})
	}
	return w
}

// trim gives up what no request has needed lately.
func (sp *splitter) trim() {
	sp.jobs.trim()
	sp.mgets.trim()
	sp.joins.trim()
	sp.batches.trim()
}

// dropJob takes a job back, and keeps no more of its memory than a short request needs.
func (sp *splitter) dropJob(w *splitJob) {
	if cap(w.ends) > maxKeptKeys {
		w.ends = nil
	}
	for i := range w.pieces {
		if cap(w.pieces[i].bytes) > maxKeptBuf {
			w.pieces[i].bytes = nil
		}
	}
	*w = splitJob{ends: w.ends[:0], parts: w.parts, pieces: w.pieces}
	sp.jobs.put(w, 1)
}

// join returns a join of n parts for a request.
func (sp *splitter) join(r *request, n int) *join {
	j := take(&sp.joins)
	j.r, j.left, j.failed = r, n, noPart
	j.parts = slices.Grow(j.parts[:0], n)[:n]
	for i := range j.parts {
		j.parts[i] = part{join: j, index: i}
	}
	j.next, j.replies = j.next[:0], j.replies[:0]
	return j
}

// dropJoin takes a join back, unless it has grown too large to keep.
func (sp *splitter) dropJoin(j *join) {
	j.r = nil
	if cap(j.replies) <= maxKeptBuf && cap(j.parts) <= maxKeptParts && cap(j.next) <= maxKeptKeys {
		sp.joins.put(j, maxSpareJoins)
	}
}
