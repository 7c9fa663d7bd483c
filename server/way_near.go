package main

import (
	"bytes"
	"math"
	"slices"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/near"
)

// With cache yes, berth answers reads of hot keys itself. What it answers with came by a connection of the
// loop's that tracks, its link, where the node says in order with replies which keys have changed:
//
//	read ─▶ hot? ─no──────────────────────────────────────────────────────▶ pipe
//	         └─yes─▶ may the client have it from here? ─no─────────────────▶ pipe
//	                  └─yes─▶ an entry, new enough? ─yes─▶ answer
//	                           └─no─▶ fetch by the link ─┬─ a reply ─▶ answer all who wait, keep
//	                                                      └─ an error, lost ─▶ pipe
//
// A client never reads older than it has read or written, though links and pipes are connections apart:
//
//   - Whatever the client learns by a pipe of a key that is hot, or of keys that are not known (a script,
//     EXEC), it has seen at session.saw. An entry is new enough if it was true later: it was asked for
//     later, or its link has answered something later that was sent after saw. A fetch that begins now is.
//   - While such a request is unanswered (session.passing), or one that was sent before the key was hot,
//     the client's reads of the key take the pipe, too.
//   - While a fetch is unanswered (session.fetching), whatever else could concern a hot key waits: it must
//     not be run before the fetch.
//
// Writes need no rule of their own. That an own write drops the entry when it is sent is for others.

// nearFetch is a read by a link, and those who wait for it.
//
// Owned by the loop.
type nearFetch struct {
	number   uint64
	link     *nearLink
	key      *near.Key[nearPending] // nil: of several, which is not kept
	cmd      *router.Command
	raw      []byte
	words    [][]byte // after the key, in raw
	keep     bool
	pairs    bool
	sentAt   int64
	topology *router.Topology
	waiters  []*request
	step     fetchStep   // which reply comes next
	entry    *near.Entry // once it is kept; it is read when the last reply has come
	until    int64       // when it expires
}

// fetchStep is one of the requests that a fetch consists of. One that is not kept is the read alone.
type fetchStep uint8

const (
	stepCaching fetchStep = iota // CLIENT CACHING YES
	stepRead
	stepTTL    // PTTL
	stepFields // INFO keyspace, of hashes whose fields may expire
)

// outdate has nobody else wait for the fetch: it was sent before everything that follows.
func (f *nearFetch) outdate() { f.sentAt = 0 }

// fromNear answers a read without a pipe. here false: it is to go on one.
func (s *session) fromNear(t *router.Topology, shard int, cmd *router.Command, raw []byte, args [][]byte) (taken, here bool) {
	if cmd.OneKey() == 0 && len(args) > 2 {
		if cmd.Join == router.JoinMGet {
			return s.mgetNear(t, shard, cmd, raw, args)
		}
		return false, false
	}
	l := s.loop
	name := args[1]
	sp, counts := s.nearSpace(t), l.near.counts()
	if l.near.cold = !counts && sp.table.Len() == 0; l.near.cold {
		return false, false
	}
	sum := near.Sum(name)
	key := sp.table.Find(sum, name)
	if key == nil && counts && s.mayReadNear() && l.near.isHot(sum) {
		key = sp.admit(sum, name, int(router.Slot(name)))
	}
	if l.near.cold = key == nil; l.near.cold {
		return false, false
	}
	if s.mayReadNear() {
		key.Hits++
		if s.passing == 0 && (s.head == nil || s.head.start > key.Since) {
			e := key.Find(cmd.ID, args[2:])
			if e != nil && e.Expires > l.clock && e.TrueAt() > s.saw && !s.fetches(sum) {
				l.stats.Near.Hits++
				s.lend(cmd, e.Reply(s.resp()))
				return true, true
			}
			if taken, here = s.fetchNear(t, shard, sp, key, e, counts, cmd, raw, args); here {
				return taken, true
			}
		}
	}
	l.stats.Near.Passed++
	if s.fetching > 0 {
		return s.hold(pauseFetching), true
	}
	return false, false
}

// mayReadNear reports whether the client's reads may be answered from here. WATCH and CLIENT TRACKING are
// promises of one connection. What a replica says may be older than what is here.
func (s *session) mayReadNear() bool {
	return !s.farOnly && !s.door.terms.Load().NoCache && s.stay == nil && s.tracking == nil && s.large == nil && !s.mayReadAway()
}

// nearSpace is where replies to the client are kept.
func (s *session) nearSpace(t *router.Topology) *nearSpace {
	if c, forgets := s.loop.near, s.loop.srv.nearForgets.Load(); c.topology != t || c.forgets != forgets {
		c.topology, c.forgets = t, forgets
		s.loop.forgetNear()
	}
	if s.space == nil || s.spaceOf != s.pipes || s.space.closed {
		if s.spaceOf != nil {
			s.saw = s.loop.clock // as somebody else, or before
		}
		s.space, s.spaceOf = s.loop.near.spaceOf(s.pipes.Identity()), s.pipes
	}
	s.space.used = s.loop.clock
	return s.space
}

// fetchNear has the read wait for one that a link brings, which may be on its way. old is what the key has
// for it, too old for the client. counts says whether this read is one that is counted.
func (s *session) fetchNear(t *router.Topology, shard int, sp *nearSpace, key *near.Key[nearPending], old *near.Entry, counts bool, cmd *router.Command, raw []byte, args [][]byte) (taken, here bool) {
	l := s.loop
	pairs, ok := pairsOf(cmd, args)
	if !ok || l.clock < sp.offTo || key.Shuns(cmd.ID, args[2:], l.clock) || len(raw) > maxOnPipe || s.heavy(cmd, args) {
		return false, false
	}
	if l.clock < sp.fieldsTo && isHash(cmd) {
		return false, false
	}
	if !s.turnTo(onPipes, t) {
		return false, true
	}
	f := s.underWay(key, cmd, args[2:])
	if f == nil {
		f = &nearFetch{link: sp.link(sp.set.Shard(t, shard)), key: key, cmd: cmd, pairs: pairs, sentAt: l.clock, topology: t}
		switch {
		case old == nil:
			f.keep = len(args) == 2 || counts && l.near.isHot(near.FormSum(key.Sum, cmd.ID, args[2:]))
		default: // any reply by the link says that what is there still holds
			f.keep = old.Alone || old.Expires <= l.clock
		}
		if !f.send(raw, args) {
			return false, false
		}
	}
	s.awaitFetch(f, key.Sum)
	return true, true
}

// awaitFetch has the client's request be answered by a fetch of a key, 0: of several.
func (s *session) awaitFetch(f *nearFetch, sum uint64) {
	r := s.newRequest(f.cmd)
	r.passes, r.fetched = false, true
	s.passing--
	if s.fetching > 0 && s.fetchKey != sum {
		sum = 0
	}
	s.fetching++
	s.fetchKey, s.fetched = sum, f.number
	f.waiters = append(f.waiters, r)
}

// fetches reports whether the client waits for a fetch that may be of a key: what is kept of it may be older.
func (s *session) fetches(sum uint64) bool {
	return s.fetching > 0 && (s.fetchKey == sum || s.fetchKey == 0)
}

// underWay returns a fetch of the same read that was sent after the client has seen what it saw, and not
// before one that it waits for.
func (s *session) underWay(key *near.Key[nearPending], cmd *router.Command, words [][]byte) *nearFetch {
	for _, p := range key.Pending {
		f := p.(*nearFetch)
		if f.cmd == cmd && f.sentAt > s.saw && (s.fetching == 0 || f.number >= s.fetched) && slices.EqualFunc(f.words, words, bytes.Equal) {
			return f
		}
	}
	return nil
}

func isHash(cmd *router.Command) bool { return cmd.Family.String() == "hash" }

// pairsOf reports whether RESP3 has pairs in the reply where RESP2 has not: see codec.AppendRESP2. ok false:
// the replies differ in another way.
func pairsOf(cmd *router.Command, args [][]byte) (pairs, ok bool) {
	if cmd.Family.String() != "sortedset" {
		return false, true
	}
	for _, word := range args[2:] {
		switch {
		case bytes.EqualFold(word, []byte("withscores")):
			pairs = cmd.Arity == -4 // of a range; ZMSCORE may have a member of that name
		case bytes.EqualFold(word, []byte("withscore")):
			return false, false
		}
	}
	return pairs, true
}

// send sends the read on the link.
func (f *nearFetch) send(raw []byte, args [][]byte) bool {
	l := f.link.space.cache.l
	f.raw = bytes.Clone(raw)
	for _, word := range args[2:] {
		f.words = append(f.words, bytes.Clone(word))
	}
	request, replies := raw, 1
	if f.step = stepRead; f.keep {
		f.step, replies = stepCaching, 3
		request = codec.AppendCommand(append(slices.Clone(cachingCommand), raw...), []byte("PTTL"), args[1])
		if isHash(f.cmd) && l.srv.hasFieldExpiry() {
			request, replies = append(request, keyspaceCommand...), 4
		}
	}
	if f.link.send(request, replies, f) != nil {
		return false
	}
	l.near.fetches++
	f.number = l.near.fetches
	if f.key != nil {
		f.key.Pending = append(f.key.Pending, f)
	}
	l.stats.Near.Fetches++
	return true
}

// Reply takes one of the replies.
func (f *nearFetch) Reply(reply, _ []byte, more int) {
	switch step := f.step; step {
	case stepCaching:
		if reply[0] == '-' {
			f.keep = false
			f.link.space.refused(f.link.pipe.Addr(), reply)
		}
	case stepRead:
		f.read(reply)
	case stepTTL:
		if ms, ok := parseInt(bytes.TrimSpace(reply[1:])); ok && reply[0] == ':' && ms >= 0 && ms < math.MaxInt32 {
			f.until = min(f.until, f.sentAt+ms*int64(time.Millisecond))
		}
	case stepFields:
		f.link.space.sawKeyspace(f, reply)
	}
	f.step++
	if more == 0 && f.entry != nil {
		f.entry.Expires = f.until
	}
}

// read takes the reply to the read.
func (f *nearFetch) read(reply []byte) {
	f.end()
	if f.leaves(reply) {
		if bytes.HasPrefix(reply, []byte("-NOPERM ")) { // what is here, the user may not know any more
			f.link.space.table.ForgetAll(func(k *near.Key[nearPending]) bool { return f.key == nil || k == f.key })
		}
		f.giveUp(&backend.LostError{Addr: f.link.pipe.Addr(), Refusal: string(bytes.TrimSpace(reply[1:]))})
		return
	}
	f.link.source.Synced = max(f.link.source.Synced, f.sentAt)
	f.answer(reply)
}

// leaves reports whether a reply is none to give: those who wait ask by their pipes.
func (f *nearFetch) leaves(reply []byte) bool {
	switch reply[0] {
	case '-':
		return !bytes.HasPrefix(reply, []byte("-WRONGTYPE ")) // which depends on the key alone
	case '_':
		return f.cmd.Family.String() == "stream" // of XRANGE COUNT 0: RESP2 has another null
	}
	return false
}

// Lost has those who wait ask by their pipes.
func (f *nearFetch) Lost(err *backend.LostError, _ []byte) {
	if f.step <= stepRead {
		f.end()
		f.giveUp(err)
	}
}

// end takes the fetch from those under way.
func (f *nearFetch) end() {
	if f.key == nil {
		return
	}
	f.key.Pending = slices.DeleteFunc(f.key.Pending, func(o nearPending) bool { return o == f })
}

// answer keeps the reply, if it may be kept, and gives it to those who wait.
func (f *nearFetch) answer(reply []byte) {
	c := f.link.space.cache
	if f.mayBeKept(reply) {
		settings := c.settings
		f.entry = &near.Entry{Source: &f.link.source, SentAt: f.sentAt}
		f.until = f.sentAt + int64(settings.CacheTTLMax)
		if f.topology.Sharded() && mayBeAbsent(reply) {
			f.entry.Alone = true
			f.until = min(f.until, f.sentAt+absentFor)
		}
		f.link.space.table.Put(f.key, f.entry, f.cmd.ID, f.words, reply, f.pairs)
	} else if f.keep {
		f.shun()
	}
	var plain []byte // as a client of RESP2 has it
	for _, r := range f.waiters {
		s, of := r.s, reply
		if !s.closed && s.passing > 0 { // a read before it has left for the pipe, and is not to be overtaken
			r.leaveFetch(f.raw, &backend.LostError{Addr: f.link.pipe.Addr(), Err: backend.ErrRetired})
			continue
		}
		s.fetching--
		if !s.closed && s.resp() == 2 {
			if plain == nil {
				plain = codec.AppendRESP2(nil, reply, f.pairs)
			}
			of = plain
		}
		r.watch(f.link.pipe.Addr(), f.raw)
		r.fromLink = true
		r.done(of)
		s.flushComplete()
	}
	f.waiters = nil
}

// nearShunFor is how long a form of read whose reply cannot be kept, or given, is left to the pipes. Others
// of the key are not: who asks for what is an error must not hinder them.
const nearShunFor = int64(time.Second)

func (f *nearFetch) shun() {
	if f.key != nil {
		f.key.Shun(f.cmd.ID, f.words, f.link.space.cache.l.clock+nearShunFor)
	}
}

// giveUp has those who wait ask by their pipes.
func (f *nearFetch) giveUp(err *backend.LostError) {
	f.shun()
	for _, r := range f.waiters {
		r.leaveFetch(f.raw, err)
	}
	f.waiters = nil
}

// leaveFetch sends a request that waits for a fetch on its client's pipe.
func (r *request) leaveFetch(raw []byte, err *backend.LostError) {
	s := r.s
	if s.closed {
		r.done(nil)
		return
	}
	r.fetched, r.passes = false, true
	s.fetching--
	s.passing++
	if s.fetching == 0 {
		s.resumeFrom(pauseFetching)
	}
	if !r.resend(raw) {
		r.lost(err)
	}
}

// mayBeAbsent reports whether a reply may be that of a key which is not there: it has nothing, or nulls
// and zeros. BITPOS says -1.
func mayBeAbsent(reply []byte) bool {
	v, err := codec.ParseValue(reply)
	if err != nil {
		return false
	}
	if len(v.Elems) == 0 {
		v.Elems = []codec.Value{v}
	}
	for _, e := range v.Elems {
		if !e.Null && len(e.Elems) == 0 && string(e.Str) != "0" && string(e.Str) != "-1" && string(e.Str) != "none" && len(e.Str) > 0 {
			return false
		}
		if len(e.Elems) > 0 {
			return false
		}
	}
	return true
}

// mayBeKept reports whether the fetch's reply may. One with attributes is not understood.
func (f *nearFetch) mayBeKept(reply []byte) bool {
	c := f.link.space.cache
	stats := &c.l.stats.Near
	switch {
	case !f.keep, f.key.IsGone(), f.link.space.closed, f.topology != c.topology, f.sentAt < c.forgotAt, reply[0] == '|':
	case !c.wants(f.key.Name()):
		stats.Unwanted++
	case len(reply) > c.settings.CacheMaxValue:
		stats.TooLong++
	case !c.makeRoom(2*len(reply), f.key):
		stats.NoRoom++
	default:
		return true
	}
	return false
}

// namesKeys enters what a request that goes on a pipe is about.
func (s *session) namesKeys(r *request, t *router.Topology, cmd *router.Command, args [][]byte) {
	cold := s.loop.near.cold
	s.loop.near.cold = false
	switch {
	case !r.passes: // PING
		return
	case cold, s.nearSpace(t).table.Len() == 0:
		r.passes, r.cold = false, true
		s.passing--
		return
	}
	keys := keysBeside(cmd, args)
	if len(keys) == 0 {
		return
	}
	table := &s.nearSpace(t).table
	isHot := false
	for _, key := range keys {
		sum := near.Sum(key)
		if !table.Has(sum) {
			continue
		}
		isHot = true
		if !isPlainRead(cmd) {
			s.loop.stats.Near.Invalidated += int64(table.ForgetSum(sum))
		}
	}
	if !isHot {
		r.passes, r.cold = false, true
		s.passing--
	}
}

// maxKeysBeside is how many keys of a request are looked at.
const maxKeysBeside = 64

// keysBeside returns all keys that a request is about, if they are easy to find and not too many.
func keysBeside(cmd *router.Command, args [][]byte) [][]byte {
	first, last := cmd.First, cmd.Last
	if last < 0 {
		last += len(args)
	}
	if first == 0 || last >= len(args) || last < first || last-first >= maxKeysBeside || cmd.Step != 1 || cmd.Channels() ||
		cmd.Learned() || cmd.MayUseOtherKeys() || cmd.Flags.Has(router.MovableKeys) || cmd.OneKey() == 0 && cmd.Way != router.Split {
		return nil
	}
	return args[first : last+1]
}

// awaitsFetch reports whether a request must not be run before the client's fetches. Whoever reads a hot
// key may fetch it, too.
func (s *session) awaitsFetch(cmd *router.Command, args [][]byte) bool {
	if cmd.Way == router.Local || cmd.Is(router.Cacheable) && cmd.OneKey() > 0 && s.loop.near != nil {
		return false
	}
	keys := keysBeside(cmd, args)
	return s.space == nil || len(keys) == 0 || slices.ContainsFunc(keys, func(key []byte) bool { return s.space.table.Has(near.Sum(key)) })
}
