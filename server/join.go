package main

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// join is a request whose keys lie in several slots, or that is for all shards: each part travels by itself, and the
// last reply to come joins them. One failing part fails the whole: the client expects one reply.
//
// Owned by the loop, which uses it again when the last part has come.
type join struct {
	r       *request
	left    int // parts whose reply has not come
	failed  int // the part whose error came first, or noPart
	most    int // JoinNewest: entries at most
	parts   []part
	bundles []bundle   // by shard; not for parts that travel one by one
	more    *longSplit // has parts to send yet, and waits; else nil
	places  []int      // which of the request's keys the parts have, part behind part
	replies []byte     // in the order in which they came
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
	r.join = j
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

// Lost is told that one part gets no reply. One that was not sent is sent again, once. Of a command that writes the other
// parts may have been executed: clients must not send it again on their own.
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
	r.done(r.s.forgets(r, l.scratch)) // a client that is gone gets nothing of it
	l.dropJoin(j)
}

// whole joins the replies of all parts.
func (j *join) whole(dst []byte, resp int) []byte {
	kind := j.r.cmd.Join
	switch {
	case j.failed != noPart && kind == router.JoinSame:
		return j.oneFailed(dst)
	case j.failed != noPart && kind != router.JoinAny:
		return append(dst, j.reply(j.failed)...)
	}
	var err error
	switch kind {
	case router.JoinMGet:
		dst, err = j.mget(dst)
	case router.JoinSum:
		dst, err = j.sum(dst)
	case router.JoinConcat:
		dst, err = j.concat(dst)
	case router.JoinUnion:
		dst, err = j.union(dst)
	case router.JoinPairs:
		dst, err = j.pairs(dst, resp)
	case router.JoinAnd:
		dst, err = j.and(dst)
	case router.JoinNewest:
		dst, err = j.newest(dst)
	case router.JoinAny:
		for i := range j.parts {
			if j.reply(i)[0] != '-' {
				return append(dst, j.reply(i)...)
			}
		}
		return append(dst, j.reply(j.failed)...)
	default: // JoinOK, JoinSame: the first stands for all
		return append(dst, j.reply(0)...)
	}
	if err != nil {
		return codec.AppendError(dst[:0], j.misfit())
	}
	return dst
}

// oneFailed is the error of a command that every primary was to run: in the nodes' words when all say the same, else with
// the primary that said so, and on how many it was run all the same.
func (j *join) oneFailed(dst []byte) []byte {
	failed, ran, same := j.reply(j.failed), 0, true
	for i := range j.parts {
		if j.reply(i)[0] != '-' {
			ran++
		}
		same = same && bytes.Equal(j.reply(i), failed)
	}
	shards := j.r.s.topology.Shards() // those it was sent to: another topology takes effect when nothing is owed
	if same || j.failed >= len(shards) {
		return append(dst, failed...)
	}
	dst = append(dst, bytes.TrimSuffix(failed, []byte("\r\n"))...)
	return fmt.Appendf(dst, " (berth: said by %s, run on %d of %d primaries)\r\n", shards[j.failed].Primary, ran, len(j.parts))
}

func (j *join) misfit() string {
	return "ERR berth: the shards' replies to '" + j.r.cmd.Name + "' do not fit together"
}

// errShape says that a node answered with another type than the command's.
var errShape = strconv.ErrSyntax

// elements calls visit with each element of an array or set reply.
func elements(reply []byte, visit func(i int, element []byte)) error {
	n, rest, ok := header(reply)
	if !ok {
		return errShape
	}
	for i := range n {
		var scanner codec.ReplyScanner
		k, err := scanner.Scan(rest)
		if err != nil || k == 0 {
			return errShape
		}
		visit(i, rest[:k])
		rest = rest[k:]
	}
	return nil
}

// header reads "*3\r\n" or "~3\r\n".
func header(reply []byte) (n int, rest []byte, ok bool) {
	if len(reply) < 4 || reply[0] != '*' && reply[0] != '~' {
		return 0, nil, false
	}
	end := bytes.IndexByte(reply, '\r')
	if end < 0 {
		return 0, nil, false
	}
	n, err := strconv.Atoi(string(reply[1:end]))
	return n, reply[end+2:], err == nil && n >= 0
}

// integer reads ":42\r\n".
func integer(reply []byte) (int64, error) {
	if len(reply) < 4 || reply[0] != ':' {
		return 0, errShape
	}
	return strconv.ParseInt(string(reply[1:len(reply)-2]), 10, 64)
}

// oneElement begins the reply to a part with one key. What follows has been found to be one whole element.
var oneElement = []byte("*1\r\n")

// mget puts each part's elements where their keys stood.
func (j *join) mget(dst []byte) ([]byte, error) {
	l := j.r.s.loop
	whole := slices.Grow(l.elements[:0], len(j.places))[:len(j.places)]
	l.elements = whole
	defer clear(whole)
	for i := range j.parts {
		p := &j.parts[i]
		if one, ok := bytes.CutPrefix(j.reply(i), oneElement); ok && p.end == p.first+1 {
			whole[j.places[p.first]] = one
			continue
		}
		n := 0
		err := elements(j.reply(i), func(k int, e []byte) {
			if p.first+k < p.end {
				whole[j.places[p.first+k]] = e
			}
			n++
		})
		if err != nil || n != p.end-p.first {
			return dst, errShape
		}
	}
	dst = codec.AppendArray(dst, len(whole))
	for _, e := range whole {
		dst = append(dst, e...)
	}
	return dst, nil
}

func (j *join) sum(dst []byte) ([]byte, error) {
	var sum int64
	for i := range j.parts {
		n, err := integer(j.reply(i))
		if err != nil {
			return dst, err
		}
		sum += n
	}
	return codec.AppendInt(dst, sum), nil
}

func (j *join) concat(dst []byte) ([]byte, error) {
	total := 0
	for i := range j.parts {
		n, _, ok := header(j.reply(i))
		if !ok {
			return dst, errShape
		}
		total += n
	}
	dst = append(dst, j.reply(0)[0])
	dst = strconv.AppendInt(dst, int64(total), 10)
	dst = append(dst, '\r', '\n')
	for i := range j.parts {
		_, rest, _ := header(j.reply(i))
		dst = append(dst, rest...)
	}
	return dst, nil
}

func (j *join) union(dst []byte) ([]byte, error) {
	seen := map[string]bool{}
	var all [][]byte
	for i := range j.parts {
		err := elements(j.reply(i), func(_ int, e []byte) {
			if !seen[string(e)] {
				seen[string(e)] = true
				all = append(all, e)
			}
		})
		if err != nil {
			return dst, err
		}
	}
	dst = codec.AppendArray(dst, len(all))
	for _, e := range all {
		dst = append(dst, e...)
	}
	return dst, nil
}

// pairs adds counts: PUBSUB NUMSUB answers name, count, name, count, the names as they were asked for.
func (j *join) pairs(dst []byte, _ int) ([]byte, error) {
	var names [][]byte
	var counts []int64
	for i := range j.parts {
		var bad error
		n := 0
		err := elements(j.reply(i), func(k int, e []byte) {
			n++
			switch count, err := integer(e); {
			case k%2 == 0 && i == 0:
				names, counts = append(names, e), append(counts, 0)
			case k%2 == 0:
			case err != nil || k/2 >= len(counts):
				bad = errShape
			default:
				counts[k/2] += count
			}
		})
		if err != nil || bad != nil || n != 2*len(names) {
			return dst, errShape
		}
	}
	dst = codec.AppendArray(dst, 2*len(names))
	for i, name := range names {
		dst = append(dst, name...)
		dst = codec.AppendInt(dst, counts[i])
	}
	return dst, nil
}

// and is 1 where all parts say 1.
func (j *join) and(dst []byte) ([]byte, error) {
	var whole []int64
	for i := range j.parts {
		var bad error
		err := elements(j.reply(i), func(k int, e []byte) {
			n, err := integer(e)
			switch {
			case err != nil || i > 0 && k >= len(whole):
				bad = errShape
			case i == 0:
				whole = append(whole, n)
			default:
				whole[k] &= n
			}
		})
		if err != nil || bad != nil {
			return dst, errShape
		}
	}
	dst = codec.AppendArray(dst, len(whole))
	for _, n := range whole {
		dst = codec.AppendInt(dst, n)
	}
	return dst, nil
}
