package main

import (
	"bytes"
	"cmp"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/config"
	"github.com/berth-proxy/berth/server/glob"
	"github.com/berth-proxy/berth/server/near"
	"github.com/berth-proxy/berth/server/telemetry"
)

// nearCache is what a loop keeps of replies to reads that are asked for often. The nodes tell when a key
// changes (CLIENT TRACKING), on the very connections by which the replies came, in order with them: see
// way_near.go for who may have a reply.
//
// Owned by the loop. nil: the option cache is no.
type nearCache struct {
	l         *loop
	topology  *router.Topology // by which what is kept was asked for
	forgets   int64            // server.nearForgets then
	settings  *config.Config   // by which limit and threshold were made
	limit     int              // bytes of this loop
	threshold int              // of heat; 0: every read is hot
	spaces    map[backend.Identity]*nearSpace
	heat      near.Heat
	cold      bool   // the read that is being dispatched is of no hot key
	mget      []byte // a reply that is being made
	gap       int    // reads until the next one is counted
	bytes     int
	addedAt   uint64 // when a key was added last, loop.moment
	forgotAt  uint64 // what was asked for until then is not to be kept, loop.moment
	fadeAt    int64
	coolAt    int64
}

// nearSpace is what is kept for one user in one database.
type nearSpace struct {
	cache  *nearCache
	id     backend.Identity
	set    *pipe.Set
	table  near.Table[nearPending]
	links  map[*pipe.Pipe]*nearLink
	used   int64 // when a session looked for it last
	closed bool

	offTo    int64 // the nodes refuse to track: nothing is kept until then
	fieldsTo int64 // fields of hashes may expire: hashes are not kept until then
	mgetTo   int64 // a node has let the user run MGET, which berth may do until then
}

// nearPending is a read of a key that a link owes the reply to: a *nearFetch.
type nearPending any

// nearLink is a connection that tracks.
type nearLink struct {
	space   *nearSpace
	pipe    *pipe.Pipe
	source  near.Source
	told    bool      // CLIENT TRACKING was sent on this connection
	aliveAt int64     // when the latest request was sent that has been answered
	beat    *nearBeat // the latest one that it owes the reply to
}

const (
	nearSampling = 8 // one read in so many is counted, on average

	fadeEvery = int64(500 * time.Millisecond)
	coolEvery = int64(time.Second)

	// A node that says nothing may be cut off from berth, and not from others.
	beatEvery = int64(time.Second)
	beatWait  = int64(3 * time.Second)

	nearOffFor       = int64(time.Minute)
	nearOffForMoment = int64(time.Second)

	nearIdleFor = int64(time.Minute)

	// A slot that is being moved has new keys at its next node: what was not there before is not known to be
	// there now. A key that was there leaves, of which the node tells.
	absentFor = int64(100 * time.Millisecond)
)

// tickNear has the near cache be what the configuration says, and does what time asks for.
func (l *loop) tickNear() {
	settings := l.srv.config()
	switch {
	case !settings.Cache && l.near != nil:
		l.near.close()
		l.near = nil
	case settings.Cache && l.near == nil:
		l.near = &nearCache{l: l, spaces: map[backend.Identity]*nearSpace{}}
	}
	if l.near != nil {
		l.near.tick(settings)
	}
}

func (c *nearCache) tick(settings *config.Config) {
	now := c.l.clock
	if c.settings != settings {
		c.configure(settings)
	}
	if now > c.fadeAt {
		c.fadeAt = now + fadeEvery
		c.heat.Fade()
	}
	cools := now > c.coolAt
	for id, sp := range c.spaces {
		if cools {
			sp.table.Cool(max(1, c.threshold*nearSampling/2), now-coolEvery)
		}
		for _, link := range sp.links {
			link.tick(now)
		}
		if sp.table.Len() == 0 && now-sp.used > nearIdleFor {
			sp.close()
			delete(c.spaces, id)
		}
	}
	if cools {
		c.coolAt = now + coolEvery
	}
}

// configure takes up settings. What they do not allow any more is dropped.
func (c *nearCache) configure(settings *config.Config) {
	loops, before := loopCount(settings), c.settings
	c.settings = settings
	if before != nil && before.SameCache(settings) {
		return
	}
	c.limit = settings.CacheMaxMemory / loops
	c.threshold = 0
	if settings.CacheHotRate > 0 { // counts fade by half each half-second: a second's are there just before
		c.threshold = max(2, settings.CacheHotRate*3/4/nearSampling/loops)
	}
	for _, sp := range c.spaces {
		sp.table.ForgetAll(func(*near.Key[nearPending]) bool { return true })
		sp.table.Cool(math.MaxInt, math.MaxInt64) // which removes all keys that it may
	}
	c.makeRoom(0, nil, math.MaxInt)
}

// forget drops what is kept of those keys, for all users.
func (c *nearCache) forget(which func(k *near.Key[nearPending]) bool) {
	for _, sp := range c.spaces {
		c.l.stats.Near.Invalidated += int64(sp.table.ForgetAll(which))
	}
}

// forgetNear has nobody read what is kept now: see session.nearSpace.
func (srv *server) forgetNear() { srv.nearForgets.Add(1) }

// forgetNear drops everything that the loop keeps.
func (l *loop) forgetNear() {
	if l.near != nil {
		l.near.forgotAt = l.moment
		l.near.forget(func(*near.Key[nearPending]) bool { return true })
		for _, sp := range l.near.spaces {
			sp.mgetTo = 0
		}
	}
}

// clockStepped is called when the clock has been put back: what was noted before would be later than all
// that follows.
func (c *nearCache) clockStepped() {
	c.forgotAt = c.l.moment
	for _, sp := range c.spaces {
		sp.table.ForgetAll(func(*near.Key[nearPending]) bool { return true })
		sp.mgetTo = 0
		for _, link := range sp.links {
			link.aliveAt = 0
		}
	}
}

// forgetSlot drops what is kept of a slot that has moved, or moves; noSlot: of all.
func (l *loop) forgetSlot(slot int) {
	if l.near != nil {
		l.near.forget(func(k *near.Key[nearPending]) bool { return slot == noSlot || int(k.Slot) == slot })
	}
}

// figures are what is kept now.
func (c *nearCache) figures() (f telemetry.Near) {
	if c == nil {
		return f
	}
	for _, sp := range c.spaces {
		f.Keys += sp.table.Len()
		f.Entries += sp.table.Entries
	}
	f.Bytes = c.bytes
	return f
}

func (c *nearCache) close() {
	for _, sp := range c.spaces {
		sp.close()
	}
	c.spaces = nil
}

// spaceOf returns that of an identity.
func (c *nearCache) spaceOf(id backend.Identity) *nearSpace {
	id.RESP, id.Tracks = 3, true
	sp := c.spaces[id]
	if sp == nil {
		sp = &nearSpace{cache: c, id: id, set: c.l.pipes.Attach(id), links: map[*pipe.Pipe]*nearLink{}, used: c.l.clock}
		sp.table.Bytes = &c.bytes
		sp.set.Listen(sp)
		c.spaces[id] = sp
	}
	return sp
}

// close gives up the space. Whoever waits for a fetch of it is answered all the same.
func (sp *nearSpace) close() {
	sp.closed = true
	sp.table.ForgetAll(func(*near.Key[nearPending]) bool { return true })
	sp.set.Detach()
}

// counts reports whether a read is to be counted. How far it is to the next one is left to chance, since
// clients may send the same requests in turn.
func (c *nearCache) counts() bool {
	if c.threshold == 0 {
		return true
	}
	if c.gap--; c.gap > 0 {
		return false
	}
	c.gap = 1 + rand.IntN(2*nearSampling-1)
	return true
}

// isHot counts a read, and reports whether it is asked for often.
func (c *nearCache) isHot(sum uint64) bool { return c.heat.Count(sum) >= c.threshold }

// readsOf is how often a key was read of late, about.
func (c *nearCache) readsOf(sum uint64) int {
	if c.threshold == 0 {
		return c.heat.Of(sum)
	}
	return c.heat.Of(sum) * nearSampling
}

// admit adds a key that is asked for often. It returns nil if the key is not to be kept.
func (sp *nearSpace) admit(sum uint64, name []byte, slot int) *near.Key[nearPending] {
	c := sp.cache
	stats := &c.l.stats.Near
	switch {
	case c.l.clock < sp.offTo:
		stats.Refused++
	case !c.wants(name):
		stats.Unwanted++
	case !c.makeRoom(len(name), nil, c.readsOf(sum)):
		stats.NoRoom++
	default:
		key := sp.table.Add(sum, name, uint16(slot), c.l.clock)
		if key != nil {
			c.l.moment++
			c.addedAt, key.Added = c.l.moment, c.l.moment
		}
		return key
	}
	return nil
}

// wants reports whether replies about a key may be kept.
func (c *nearCache) wants(name []byte) bool {
	return len(name) <= maxNearName && matchesKey(c.settings.CacheKeys, name, true) && !matchesKey(c.settings.CacheNotKeys, name, false)
}

const maxNearName = 4 << 10

// matchesKey reports whether one of the patterns matches; none is the answer where there are none.
func matchesKey(patterns []string, name []byte, none bool) bool {
	steps := maxKeySteps
	for _, p := range patterns {
		if glob.MatchChannel(p, name, &steps) {
			return true
		}
	}
	return len(patterns) == 0 && none
}

// maxKeySteps bounds the work that one name makes.
const maxKeySteps = 1 << 20

// makeRoom sees to it that so many bytes more fit, and reports whether they do. Keys make room that were hit
// fewer times than the one that is to have it: else keys that do not fit together would drive each other out.
func (c *nearCache) makeRoom(size int, but *near.Key[nearPending], hits int) bool {
	for c.bytes+size > c.limit {
		sp, least := c.leastHit(but)
		if least == nil || least.Hits >= hits {
			return false
		}
		sp.table.Remove(least)
		c.l.stats.Near.Evicted++
	}
	return true
}

// spacesLooked is in how many spaces a key to evict is looked for.
const spacesLooked = 4

// leastHit returns one of the keys that are hit least and may be removed, and its space.
func (c *nearCache) leastHit(but *near.Key[nearPending]) (of *nearSpace, least *near.Key[nearPending]) {
	looked := 0
	for _, sp := range c.spaces { // from a place of chance
		k := sp.table.Least(but)
		if k == nil {
			continue
		}
		if least == nil || k.Hits < least.Hits {
			least, of = k, sp
		}
		if looked++; looked == spacesLooked {
			break
		}
	}
	return of, least
}

// link returns the connection to a node that tracks.
func (sp *nearSpace) link(p *pipe.Pipe) *nearLink {
	k := sp.links[p]
	if k == nil {
		k = &nearLink{space: sp, pipe: p}
		sp.links[p] = k
	}
	return k
}

var (
	trackingCommand = codec.AppendCommandString(nil, "CLIENT", "TRACKING", "ON", "OPTIN")
	beatCommand     = codec.AppendCommandString(nil, "PING")
	cachingCommand  = codec.AppendCommandString(nil, "CLIENT", "CACHING", "YES")
	keyspaceCommand = codec.AppendCommandString(nil, "INFO", "keyspace")
)

// send sends a request on the connection, after CLIENT TRACKING on a new one. It returns the request's number
// among those of the loop, 0 if it was not sent.
func (k *nearLink) send(request []byte, to backend.Receiver) (number uint64) {
	if !k.told {
		if k.pipe.Send(trackingCommand, 1, (*nearTold)(k)) != nil {
			return 0
		}
		k.told = true
	}
	if k.pipe.Send(request, 1, to) != nil {
		return 0
	}
	l := k.space.cache.l
	l.moment++
	return l.moment
}

// answered enters that a request has been answered: what the node had to tell before that, it has told.
func (k *nearLink) answered(number uint64, sentAt int64) {
	k.source.Proved = max(k.source.Proved, number)
	k.aliveAt = max(k.aliveAt, min(sentAt, k.space.cache.l.clock)) // which may have been put back since
}

// nearTold takes the reply to CLIENT TRACKING.
type nearTold nearLink

func (k *nearTold) Reply(reply, _ []byte, _ int) {
	if reply[0] == '-' {
		k.told = false
		k.space.refused(k.pipe.Addr(), reply)
	}
}

// Lost is also called when there was no connection, and the next one has to be told.
func (k *nearTold) Lost(*backend.LostError, []byte) { k.told = false }

// refused has the space keep nothing for a while.
func (sp *nearSpace) refused(addr string, reply []byte) {
	off := offFor(reply)
	if off == nearOffFor && sp.cache.l.clock >= sp.offTo {
		slog.Warn("a node does not track keys: nothing is cached for the user", "node", addr, "user", cmp.Or(sp.id.User, "default"), "why", string(bytes.TrimSpace(reply[1:])))
	}
	sp.offTo = sp.cache.l.clock + off
	sp.cache.l.stats.Near.Refused++
	sp.table.ForgetAll(func(*near.Key[nearPending]) bool { return true })
}

// sawMGET enters whether the user may run MGET, by a node's reply to one.
func (sp *nearSpace) sawMGET(reply []byte) {
	switch {
	case bytes.HasPrefix(reply, []byte("*")):
		sp.mgetTo = sp.cache.l.clock + int64(sp.cache.settings.CacheTTLMax)
	case bytes.HasPrefix(reply, []byte("-NOPERM ")):
		sp.mgetTo = 0
	}
}

// offFor is for how long what a node has refused is not asked for again. BUSY and LOADING will soon be over.
func offFor(reply []byte) int64 {
	if bytes.HasPrefix(reply, []byte("-NOPERM ")) || bytes.HasPrefix(reply, []byte("-ERR ")) {
		return nearOffFor
	}
	return nearOffForMoment
}

// fieldsExpire takes what a node says of the database's keys after a hash was fetched. That a field has expired,
// a node tells late. That a field was given a time to live, it tells at once, as of any change. So a hash may be
// kept if no hash has such a field.
func (sp *nearSpace) fieldsExpire(addr string, info []byte) bool {
	off := nearOffForMoment
	switch {
	case info[0] == '-':
		if off = offFor(info); off == nearOffFor {
			slog.Warn("a node does not tell of fields that expire: no hashes are cached for the user", "node", addr, "user", cmp.Or(sp.id.User, "default"), "why", string(bytes.TrimSpace(info[1:])))
		}
	case onlyKeysExpire(info, sp.id.DB):
		return false
	}
	sp.fieldsTo = sp.cache.l.clock + off
	sp.cache.l.stats.Near.Fields++
	return true
}

// onlyKeysExpire reports whether INFO keyspace counts nothing in a database but keys and those that expire.
// Redis has subexpiry=, Valkey keys_with_volatile_items=; others could have another name for it.
func onlyKeysExpire(info []byte, db int) bool {
	_, line, ok := bytes.Cut(info, fmt.Appendf(nil, "\ndb%d:", db))
	if !ok {
		return true // it has no keys
	}
	line, _, _ = bytes.Cut(line, []byte("\r"))
	for _, count := range bytes.Split(line, []byte(",")) {
		switch name, n, _ := bytes.Cut(count, []byte("=")); string(name) {
		case "keys", "expires", "avg_ttl":
		default:
			if string(n) != "0" {
				return false
			}
		}
	}
	return true
}

// tick asks the node for a sign of life while something is kept that came from it.
func (k *nearLink) tick(now int64) {
	if !k.source.Holds() {
		return
	}
	if now-k.aliveAt > beatWait {
		k.space.table.ForgetSource(&k.source)
		return
	}
	if k.beat == nil && now-k.aliveAt > beatEvery {
		k.beatAfter(0)
	}
}

// nearBeat is a request for a sign of life.
type nearBeat struct {
	link   *nearLink
	number uint64
	sentAt int64
	then   []func() // what to do when it is answered, or lost
}

// beatAfter returns the beat under way, if it was sent after that request, or sends one. nil: it cannot.
func (k *nearLink) beatAfter(number uint64) *nearBeat {
	if k.beat == nil || k.beat.number <= number {
		b := &nearBeat{link: k, sentAt: k.space.cache.l.clock}
		if b.number = k.send(beatCommand, b); b.number == 0 {
			return nil
		}
		k.beat = b
	}
	return k.beat
}

// Reply takes the sign. An error is one as well.
func (b *nearBeat) Reply(_, _ []byte, _ int) {
	b.link.answered(b.number, b.sentAt)
	b.end()
}
func (b *nearBeat) Lost(*backend.LostError, []byte) { b.end() }

func (b *nearBeat) end() {
	if b.link.beat == b {
		b.link.beat = nil
	}
	for _, do := range b.then {
		do()
	}
}

// Pushed takes what a node says of keys that have changed.
func (sp *nearSpace) Pushed(p *pipe.Pipe, push []byte) {
	v, err := codec.ParseValue(push)
	if err != nil || len(v.Elems) != 2 || v.Elems[0].Text() != "invalidate" {
		return
	}
	n := 0
	if keys := v.Elems[1]; !keys.Null {
		for _, key := range keys.Elems {
			n += sp.table.ForgetSum(near.Sum(key.Str))
		}
	} else if k := sp.links[p]; k != nil {
		n = sp.table.ForgetSource(&k.source)
	}
	sp.cache.l.stats.Near.Invalidated += int64(n)
}

// Down drops what came by a connection that has ended.
func (sp *nearSpace) Down(p *pipe.Pipe) {
	if k := sp.links[p]; k != nil {
		sp.table.ForgetSource(&k.source)
		delete(sp.links, p)
	}
}
