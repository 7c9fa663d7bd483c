package main

import (
	"slices"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/near"
)

// mgetNear answers an MGET of several keys by what GET has brought of each, if all of them are hot and a node has
// let the user run MGET lately. It waits once until what is missing is brought, and what is doubtful is proved.
func (s *session) mgetNear(t *router.Topology, cmd *router.Command, args [][]byte) (taken, here bool) {
	l := s.loop
	names := args[1:]
	waited := s.waitedNear
	s.waitedNear = false
	if len(names) > maxKeysBeside || !s.mayReadNear() {
		return false, false
	}
	sp := s.nearSpace(t)
	if l.clock >= sp.mgetTo {
		return false, false
	}
	get := l.srv.table().Find("get")
	hot, cold, owed := false, false, s.passing > 0
	var missing []*near.Key[nearPending]
	var doubtful []*near.Source
	reply := codec.AppendArray(l.near.mget[:0], len(names))
	for _, name := range names {
		sum := near.Sum(name)
		key := sp.table.Find(sum, name)
		if key == nil && l.near.counts() && l.near.isHot(sum) {
			key = sp.admit(sum, name, int(router.Slot(name)))
		}
		if key == nil {
			cold = true
			continue
		}
		hot = true
		key.Hits++
		owed = owed || s.head != nil && s.head.moment < key.Added
		e := key.Find(get.ID, nil)
		switch {
		case e == nil, e.Expires <= l.clock, e.Alone && e.Asked <= s.saw:
			missing = append(missing, key)
			continue
		case e.Proved() <= s.saw:
			doubtful = append(doubtful, e.Source)
			continue
		}
		if !cold && missing == nil && doubtful == nil {
			key.Earn()
		}
		if of := e.Reply(s.resp()); of[0] == '-' { // WRONGTYPE: for MGET there is no string then
			reply = codec.AppendNull(reply, s.resp())
		} else {
			reply = append(reply, of...)
		}
	}
	l.near.mget = backend.Keep(reply)
	switch {
	case !hot:
		return false, false
	case owed:
		return s.passNear(&l.stats.Near.PassedOwed)
	case s.fetching > 0:
		return s.hold(pauseFetching), true
	case !cold && missing == nil && doubtful == nil:
		l.stats.Near.Hits++
		s.answer(cmd, reply)
		return true, true
	case !cold && !waited && s.awaitNear(t, sp, missing, doubtful):
		s.waitedNear = true
		return s.hold(pauseFetching), true
	}
	return s.passNear(&l.stats.Near.PassedUnkept)
}

// bringNear fetches what GET says of a key, for later, unless it is being fetched. nil: it cannot be.
func (s *session) bringNear(t *router.Topology, sp *nearSpace, key *near.Key[nearPending]) *nearFetch {
	l := s.loop
	get := l.srv.table().Find("get")
	if f := s.underWay(key, get, nil); f != nil {
		return f
	}
	args := [][]byte{[]byte("GET"), key.Name()}
	shard, text := shardOf(t, s.slotOf(get, args), s.id)
	if text != "" || l.clock < sp.offTo || key.Shuns(get.ID, nil, l.clock) || s.heavy(get, args) || !key.Pays() {
		return nil
	}
	f := &nearFetch{link: sp.link(sp.set.Shard(t, shard)), key: key, cmd: get, keep: true, sentAt: l.clock, topology: t}
	if !f.send(codec.AppendCommand(nil, args...), args) {
		return nil
	}
	return f
}

// awaitNear has the client wait until keys are brought, and until links say that what they brought holds. It
// returns false if there is nothing to wait for, or if waiting will not do: then the node is to be asked at once.
func (s *session) awaitNear(t *router.Topology, sp *nearSpace, missing []*near.Key[nearPending], doubtful []*near.Source) bool {
	l := s.loop
	var awaited []*[]func()
	for _, key := range missing {
		f := s.bringNear(t, sp, key)
		if f == nil {
			return false
		}
		awaited = append(awaited, &f.then)
	}
	for _, k := range sp.links {
		if !slices.Contains(doubtful, &k.source) {
			continue
		}
		if l.clock-k.aliveAt > 2*beatEvery {
			return false
		}
		b := k.beatAfter(s.saw)
		if b == nil {
			return false
		}
		awaited = append(awaited, &b.then)
	}
	for _, then := range awaited {
		s.fetching++
		*then = append(*then, s.cameNear)
	}
	return s.fetching > 0
}

// cameNear is called when something has come that the client waits for, or is lost.
func (s *session) cameNear() {
	if s.closed {
		return
	}
	if s.fetching--; s.fetching == 0 {
		s.resumeFrom(pauseFetching)
	}
}
