package main

import (
	"slices"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/router"
)

// join is a request whose keys lie in several slots, or that is for all shards: each part travels
// by itself, and the last reply to come joins them. One failing part fails the whole: the client
// expects one reply.
//
// Owned by the loop, which uses it again when the last part has come.
type join struct {
	r       *request
	left    int // parts whose reply has not come
	failed  int // the part whose error came first, or noPart
	most    int // JoinNewest: entries at most
	parts   []part
	bundles []shardBatch // by shard; not for parts that travel one by one
	more    *longSplit   // has parts to send yet, and waits; else nil
	places  []int        // which of the request's keys the parts have, part after part
	replies []byte       // in the order in which they came
}

const noPart = -1

// part is one piece of a join on its way. It is a backend.Receiver.
type part struct {
	join       *join
	index      int // in join.parts
	slot       uint16
	hops       uint8
	first, end int // its keys, in join.places
	from, to   int // its reply, in join.replies
}

// join returns a join of n parts for a request.
func (l *loop) join(r *request, n int) *join {
	var j *join
	if k := len(l.joins); k > 0 {
		j, l.joins = l.joins[k-1], l.joins[:k-1]
	} else {
		j = new(join)
	}
	j.r, j.left, j.failed = r, n, noPart
	j.parts = slices.Grow(j.parts[:0], n)[:n]
	for i := range j.parts {
		j.parts[i] = part{join: j, index: i}
	}
	j.places, j.replies = j.places[:0], j.replies[:0]
	return j
}

// dropJoin takes a join back, unless it has grown too large to keep.
func (l *loop) dropJoin(j *join) {
	j.r = nil
	if len(l.joins) < maxSpareJoins && cap(j.replies) <= maxKeptBuf && cap(j.parts) <= maxKeptParts {
		l.joins = append(l.joins, j)
	}
}

// reply is the reply to one part.
func (j *join) reply(i int) []byte { return j.replies[j.parts[i].from:j.parts[i].to] }

// Reply takes the reply to one part.
func (p *part) Reply(reply, sent []byte, _ int) {
	if reply[0] == '-' && p.redirect(reply, sent) {
		return
	}
	p.arrived(reply)
}

// Lost is told that one part gets no reply. One that was not sent is sent again, once. Of a command
// that writes the other parts may have been executed: clients must not send it again on their own.
func (p *part) Lost(err *backend.LostError, sent []byte) {
	r := p.join.r
	r.s.loop.srv.nodes.Refresh()
	if !err.Sent && err.Refusal == "" && p.hops == 0 && p.resend(sent) {
		return
	}
	if r.cmd.Flags.Has(router.Write) && len(p.join.parts) > 1 {
		inPart := *err
		inPart.Sent = true
		err = &inPart
	}
	p.arrived(appendLost(nil, err))
}

// resend sends a part of a split command again to whoever owns its slot now.
func (p *part) resend(sent []byte) bool {
	s := p.join.r.s
	t := s.loop.srv.nodes.Topology()
	shard := t.Shard(p.slot)
	if shard < 0 || s.closed || p.join.r.cmd.Way == router.FanOut {
		return false
	}
	p.hops++
	return s.pipes.Shard(t, shard).Send(sent, 1, p) == nil
}

// redirect follows -MOVED and -ASK for one part.
func (p *part) redirect(reply, sent []byte) bool {
	s := p.join.r.s
	if p.join.r.cmd.Way == router.FanOut {
		return false
	}
	to, ok := s.mayFollow(reply, &p.hops)
	if !ok {
		return false
	}
	if err := s.sendTo(to, sent, 1, p); err != nil {
		p.Lost(err, sent)
	}
	return true
}

// arrived keeps the reply to a part and, with the last one, answers the client.
func (p *part) arrived(reply []byte) {
	j := p.join
	p.from = len(j.replies)
	j.replies = append(j.replies, reply...)
	p.to = len(j.replies)
	if j.failed == noPart && reply[0] == '-' {
		j.failed = p.index
	}
	j.left--
	if w := j.more; w != nil && w.ahead() <= partsAhead/2 {
		j.more = nil
		j.r.s.loop.addJob(w)
		return
	}
	if j.left > 0 {
		return
	}
	r, l := j.r, j.r.s.loop
	if len(j.places) > sliceKeys && j.failed == noPart && r.cmd.Join == router.JoinMGet && !r.s.closed {
		l.addJob(&longJoin{j: j, elements: make([]span, len(j.places))})
		return
	}
	if !r.s.closed {
		l.scratch = j.whole(l.scratch[:0], r.s.resp())
	}
	r.done(r.s.withForgetAll(r, l.scratch)) // a client that is gone gets nothing of it
	l.dropJoin(j)
}
