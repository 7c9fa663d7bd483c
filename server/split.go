package main

import (
	"bytes"
	"strconv"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// join is a request whose keys lie in several slots, or that is for all shards: each part travels by itself, and the
// last reply to come joins them. One failing part fails the whole: the client expects one reply.
type join struct {
	r     *request
	left  int
	parts []part
	err   []byte // the first error reply
}

// part is one piece of a join on its way. It is a backend.Receiver.
type part struct {
	join  *join
	reply []byte
	hops  uint8
	keys  []int // MGET: which places of the whole its elements have
}

// split cuts a request by slot, unless all its keys lie in one. Also between WATCH and EXEC its parts travel on pipes:
// they are sent after WATCH was answered, so what they see EXEC checks.
func (s *session) split(cmd *router.Command, raw []byte, args [][]byte) bool {
	t := s.loop.srv.nodes.Topology()
	if !t.Sharded() {
		return s.share(cmd, raw, args)
	}
	if s.slotOf(cmd, args) != manySlots {
		return s.share(cmd, raw, args)
	}
	if err := cmd.CheckSteps(len(args)); err != nil {
		return s.refuse(cmd, err.Error())
	}
	l := s.loop
	l.keys, _ = cmd.Keys(args, l.keys) // slotOf has found them all sound
	if !s.turnTo(onPipes, t) {
		return false
	}
	for _, i := range l.keys {
		if t.Shard(router.Slot(args[i])) < 0 {
			return s.refuse(cmd, errNotServed)
		}
	}
	step := 1
	if cmd.Join == router.JoinOK { // MSET: a value behind each key
		step = 2
	}
	groups := l.group(args, l.keys)
	r := s.newRequest(cmd)
	j := &join{r: r, left: len(groups), parts: make([]part, len(groups))}
	r.join = j
	for i, g := range groups {
		p := &j.parts[i]
		p.join, p.keys = j, g.places
		b := codec.AppendArray(l.scratch[:0], 1+step*len(g.places))
		b = codec.AppendBulk(b, args[0])
		for _, place := range g.places {
			for k := range step {
				b = codec.AppendBulk(b, args[l.keys[place]+k])
			}
		}
		l.scratch = b
		if err := s.pipes.Shard(t, t.Shard(g.slot)).Send(b, 1, p); err != nil {
			p.Lost(err, b)
		}
	}
	return true
}

// group is the keys of one slot: which keys of the request, by their order in it.
type group struct {
	slot   uint16
	places []int
}

// group sorts keys by slot, in the order in which the slots first appear.
func (l *loop) group(args [][]byte, keys []int) []group {
	bySlot := make(map[uint16]int, len(keys))
	var groups []group
	for place, i := range keys {
		slot := router.Slot(args[i])
		k, ok := bySlot[slot]
		if !ok {
			k = len(groups)
			bySlot[slot] = k
			groups = append(groups, group{slot: slot})
		}
		groups[k].places = append(groups[k].places, place)
	}
	return groups
}

// fanOut sends a request to every primary. Over one node it is an ordinary command.
func (s *session) fanOut(cmd *router.Command, raw []byte, args [][]byte) bool {
	t := s.loop.srv.nodes.Topology()
	if !t.Sharded() {
		return s.share(cmd, raw, args)
	}
	switch cmd.Join {
	case router.JoinCursor:
		return s.scan(cmd, args)
	case router.JoinPick:
		return s.pick(cmd, raw)
	}
	if !s.turnTo(onPipes, t) {
		return false
	}
	if len(t.Shards()) == 0 {
		return s.refuse(cmd, errNotServed)
	}
	r := s.newRequest(cmd)
	j := &join{r: r, left: len(t.Shards()), parts: make([]part, len(t.Shards()))}
	r.join = j
	for i := range j.parts {
		p := &j.parts[i]
		p.join = j
		if err := s.pipes.Shard(t, i).Send(raw, 1, p); err != nil {
			p.Lost(err, raw)
		}
	}
	return true
}

// Reply takes the reply to one part.
func (p *part) Reply(reply, sent []byte, _ int) {
	if reply[0] == '-' && p.redirect(reply, sent) {
		return
	}
	if p.join.r.s.closed {
		reply = nil
	}
	p.reply = append([]byte(nil), reply...)
	p.join.arrived(reply)
}

// Lost is told that one part gets no reply.
func (p *part) Lost(err *backend.LostError, _ []byte) {
	p.reply = appendLost(nil, err)
	p.join.arrived(p.reply)
}

// redirect follows -MOVED and -ASK for one part.
func (p *part) redirect(reply, sent []byte) bool {
	if p.join.r.cmd.Way == router.FanOut {
		return false
	}
	to, ok := p.join.r.s.mayFollow(reply, &p.hops)
	if !ok {
		return false
	}
	if err := p.join.r.s.sendTo(to, sent, 1, p); err != nil {
		p.Lost(err, sent)
	}
	return true
}

// arrived counts a part and, with the last one, answers the client.
func (j *join) arrived(reply []byte) {
	if j.err == nil && len(reply) > 0 && reply[0] == '-' {
		j.err = bytes.Clone(reply)
	}
	j.left--
	if j.left > 0 {
		return
	}
	r := j.r
	if r.s.closed {
		r.done(nil)
		return
	}
	l := r.s.loop
	l.scratch = j.whole(l.scratch[:0], r.s.resp())
	r.done(l.scratch)
}

// whole joins the replies of all parts.
func (j *join) whole(dst []byte, resp int) []byte {
	kind := j.r.cmd.Join
	if j.err != nil && kind != router.JoinAny {
		return append(dst, j.err...)
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
	case router.JoinAny:
		for i := range j.parts {
			if j.parts[i].reply[0] != '-' {
				return append(dst, j.parts[i].reply...)
			}
		}
		return append(dst, j.err...)
	default: // JoinOK, JoinSame: the first stands for all
		return append(dst, j.parts[0].reply...)
	}
	if err != nil {
		return codec.AppendError(dst[:0], "ERR berth: the shards' replies to '"+j.r.cmd.Name+"' do not fit together")
	}
	return dst
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

// mget puts each part's elements where their keys stood.
func (j *join) mget(dst []byte) ([]byte, error) {
	total := 0
	for i := range j.parts {
		total += len(j.parts[i].keys)
	}
	whole := make([][]byte, total)
	for i := range j.parts {
		p := &j.parts[i]
		n := 0
		err := elements(p.reply, func(k int, e []byte) {
			if k < len(p.keys) {
				whole[p.keys[k]] = e
			}
			n++
		})
		if err != nil || n != len(p.keys) {
			return dst, errShape
		}
	}
	dst = codec.AppendArray(dst, total)
	for _, e := range whole {
		dst = append(dst, e...)
	}
	return dst, nil
}

func (j *join) sum(dst []byte) ([]byte, error) {
	var sum int64
	for i := range j.parts {
		n, err := integer(j.parts[i].reply)
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
		n, _, ok := header(j.parts[i].reply)
		if !ok {
			return dst, errShape
		}
		total += n
	}
	dst = append(dst, j.parts[0].reply[0])
	dst = strconv.AppendInt(dst, int64(total), 10)
	dst = append(dst, '\r', '\n')
	for i := range j.parts {
		_, rest, _ := header(j.parts[i].reply)
		dst = append(dst, rest...)
	}
	return dst, nil
}

func (j *join) union(dst []byte) ([]byte, error) {
	seen := map[string]bool{}
	var all [][]byte
	for i := range j.parts {
		err := elements(j.parts[i].reply, func(_ int, e []byte) {
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

// pairs adds counts by name: PUBSUB NUMSUB answers name, count, name, count.
func (j *join) pairs(dst []byte, _ int) ([]byte, error) {
	var names [][]byte
	counts := map[string]int64{}
	for i := range j.parts {
		var name []byte
		var bad error
		err := elements(j.parts[i].reply, func(k int, e []byte) {
			if k%2 == 0 {
				name = e
				return
			}
			n, err := integer(e)
			if err != nil {
				bad = err
			}
			if _, ok := counts[string(name)]; !ok {
				names = append(names, name)
			}
			counts[string(name)] += n
		})
		if err != nil || bad != nil {
			return dst, errShape
		}
	}
	dst = codec.AppendArray(dst, 2*len(names))
	for _, name := range names {
		dst = append(dst, name...)
		dst = codec.AppendInt(dst, counts[string(name)])
	}
	return dst, nil
}

// and is 1 where all parts say 1.
func (j *join) and(dst []byte) ([]byte, error) {
	var whole []int64
	for i := range j.parts {
		var bad error
		err := elements(j.parts[i].reply, func(k int, e []byte) {
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
