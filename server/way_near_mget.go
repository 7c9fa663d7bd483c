package main

import (
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/near"
)

// mgetNear answers an MGET of several keys by what GET has brought of each. Of hot keys that lack it, it is
// fetched. An MGET with other keys beside hot ones goes by the link as a whole, so that the client need not
// wait for word of it afterwards: see session.saw. everyShard: it cannot, because the keys are at several
// nodes.
func (s *session) mgetNear(t *router.Topology, shard int, cmd *router.Command, raw []byte, args [][]byte) (taken, here bool) {
	l := s.loop
	keys := args[1:]
	if len(keys) > maxKeysBeside || !s.mayReadNear() {
		return false, false
	}
	sp := s.nearSpace(t)
	get := l.srv.table().Find("get")
	all, hot, waits := true, false, s.passing > 0
	reply := codec.AppendArray(l.scratch[:0], len(keys))
	for _, name := range keys {
		sum := near.Sum(name)
		key := sp.table.Find(sum, name)
		if key == nil && l.near.counts() && l.near.isHot(sum) {
			key = sp.admit(sum, name, int(router.Slot(name)))
		}
		if key == nil {
			all = false
			continue
		}
		hot = true
		key.Hits++
		waits = waits || s.head != nil && s.head.start <= key.Since
		e := key.Find(get.ID, nil)
		if e == nil {
			s.bringNear(t, sp, key)
		}
		if e == nil || e.Expires <= l.clock || e.TrueAt() <= s.saw || s.fetches(sum) {
			all = false
			continue
		}
		if of := e.Reply(s.resp()); of[0] == '-' { // WRONGTYPE: for MGET there is no string then
			reply = codec.AppendNull(reply, s.resp())
		} else {
			reply = append(reply, of...)
		}
	}
	l.scratch = reply
	switch {
	case !hot:
		return false, false
	case waits, !all && shard == everyShard:
	case all:
		l.stats.Near.Hits++
		s.answer(cmd, reply)
		return true, true
	case !s.turnTo(onPipes, t):
		return false, true
	default:
		if f := (&nearFetch{link: sp.link(sp.set.Shard(t, shard)), cmd: cmd, sentAt: l.clock, topology: t}); f.send(raw, args) {
			s.awaitFetch(f, 0)
			return true, true
		}
	}
	l.stats.Near.Passed++
	if s.fetching > 0 {
		return s.hold(pauseFetching), true
	}
	return false, false
}

// bringNear fetches what GET says of a key, for later.
func (s *session) bringNear(t *router.Topology, sp *nearSpace, key *near.Key[nearPending]) {
	l := s.loop
	get := l.srv.table().Find("get")
	if l.clock < sp.offTo || len(key.Pending) > 0 || key.Shuns(get.ID, nil, l.clock) {
		return
	}
	args := [][]byte{[]byte("GET"), key.Name()}
	shard, text := shardOf(t, s.slotOf(get, args), s.id)
	if text == "" {
		f := nearFetch{link: sp.link(sp.set.Shard(t, shard)), key: key, cmd: get, keep: true, sentAt: l.clock, topology: t}
		f.send(codec.AppendCommand(nil, args...), args)
	}
}

// everyShard stands for keys at several nodes.
const everyShard = -1
