package main

import (
	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/router"
)

// join makes one reply of the replies to the parts of a request: keys in several slots, or a
// command for all shards. The last reply to come ends it. One failing part fails the whole: the
// client expects one reply.
//
// Owned by the loop, which uses it again when the last part has come.
type join struct {
	r       *request
	left    int // parts whose reply has not come
	failed  int // the part whose error came first, or noPart
	most    int // JoinNewest: entries at most
	parts   []part
	more    *splitJob // waits until more parts may be on their way; else nil
	next    []int     // by key of a split request: the next key of the same part
	replies []byte    // in the order in which they came
}

const noPart = -1

// part is one part of a join on its way. It is a backend.Receiver.
type part struct {
	join        *join
	index       int // in join.parts
	slot        uint16
	hops        uint8
	away        bool // a replica owes it
	keys        int  // how many; 0: the command is for all shards
	first, last int  // keys, by number in the request: join.next leads from one to the other
	from, to    int  // the reply, in join.replies
}

// addKey gives the part the next key of the request.
func (p *part) addKey() {
	j := p.join
	key := len(j.next)
	j.next = append(j.next, 0)
	if p.keys == 0 {
		p.first = key
	} else {
		j.next[p.last] = key
	}
	p.last = key
	p.keys++
}

// reply is the reply to one part.
func (j *join) reply(i int) []byte { return j.replies[j.parts[i].from:j.parts[i].to] }

// Reply takes the reply to one part.
func (p *part) Reply(reply, sent []byte, _ int) {
	if p.away && p.lacksOwn(reply) && p.goElsewhere(sent) {
		return
	}
	if reply[0] == '-' && (p.away && p.goElsewhere(sent) || p.redirect(reply, sent) || p.clusterDown(reply, sent)) {
		return
	}
	if s := p.join.r.s; s.loop.keyWatch.isLong(len(reply)) {
		s.sawValues(p.join.r.cmd, reply, sent, len(reply))
	}
	p.arrived(reply)
}

// Lost says that one part gets no reply. A part that was not sent is sent again, once. If the
// command writes, other parts may have been executed: clients must not send the command again on
// their own.
func (p *part) Lost(err *backend.LostError, sent []byte) {
	r := p.join.r
	r.s.loop.srv.nodes.Lost()
	if p.away && p.goElsewhere(sent) {
		return
	}
	if !err.Sent && err.Refusal == "" && p.hops == 0 && p.resend(sent) {
		return
	}
	if p.awaitReadable(err, sent) {
		return
	}
	if r.cmd.Flags.Has(router.Write) && len(p.join.parts) > 1 {
		inPart := *err
		inPart.Sent = true
		err = &inPart
	}
	p.arrived(appendLost(nil, err))
}

// resend sends a part of a split command again, to the shard that owns its slot now.
func (p *part) resend(sent []byte) bool {
	s := p.join.r.s
	t := s.loop.srv.nodes.Topology()
	shard := t.Home(p.slot)
	if shard < 0 || s.closed || p.join.r.cmd.Way == router.FanOut {
		return false
	}
	p.hops++
	return s.pipes.Since(s.pipeTurns, s.pipes.Shard(t, shard)).Send(sent, 1, p) == nil
}

// redirect follows -MOVED and -ASK for one part.
func (p *part) redirect(reply, sent []byte) bool {
	s := p.join.r.s
	if p.join.r.cmd.Way == router.FanOut || !isRedirect(reply) {
		return false
	}
	return s.redirected(reply, reply, sent, detour{
		r: p.join.r, slot: int(p.slot), hops: &p.hops,
		send: func(to router.Redirect, sent []byte) {
			if err := s.sendTo(to, sent, 1, p); err != nil {
				p.Lost(err, sent)
			}
		},
		keep: p.arrived,
	})
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
	j.answer()
}

// answer joins the replies, and answers the client unless it is gone.
func (j *join) answer() {
	r, l := j.r, j.r.s.loop
	switch {
	case r.s.closed:
		j.end(nil)
	case r.cmd.Join == router.JoinMGet && j.failed == noPart:
		l.addJob(newMGetJob(j))
	default:
		l.scratch = j.whole(l.scratch[:0])
		reply := l.scratch
		if c, ok := r.ends.(counted); ok {
			reply = c.clients(l.srv, reply, false)
		}
		j.end(reply)
	}
}

// end answers the client with the whole reply.
func (j *join) end(reply []byte) {
	r := j.r
	sp := &r.s.loop.splitter
	if s := r.s; !s.closed && s.tracking != nil && s.tracking.flushing {
		s.endOwnFlush(r, reply)
	} else {
		r.done(s.withForgetAll(r, reply))
	}
	sp.dropJoin(j)
}
