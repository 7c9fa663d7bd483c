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
//     later, or its link has answered something that was sent later. A fetch that begins now is. Earlier
//     and later are by loop.moment, which counts what links have been sent, and keys that became hot.
//   - While such a request is unanswered (session.passing), or one that was sent before the key was hot,
//     the client's reads of the key take the pipe, too.
//   - While a fetch is unanswered (session.fetching), whatever else could concern a hot key waits: it must
//     not be run before the fetch.
//
// Writes need no rule of their own. That an own write drops the entry when it is sent is for others.

// nearFetch is a read by a link, and those who wait for it.
//
//	kept:   CLIENT CACHING YES, the read, PTTL, and INFO keyspace after hashes whose fields may expire
//	else:   the read
//
// An entry is read from when the last reply has come.
//
// Owned by the loop.
type nearFetch struct {
	link     *nearLink
	number   uint64 // as links count what they send
	sentAt   int64
	key      *near.Key[nearPending]
	cmd      *router.Command
	raw      []byte
	words    [][]byte // after the key, in raw
	keep     bool
	pairs    bool
	topology *router.Topology
	waiters  []*request
	left     bool        // the waiters have been sent to their pipes
	owed     int         // replies that are to come
	entry    *near.Entry // once it is kept
	until    int64       // when it expires
	then     []func()    // what to do when all replies have come, or are lost
}

// fromNear answers a read without a pipe. here false: it is to go on one.
func (s *session) fromNear(t *router.Topology, shard int, cmd *router.Command, raw []byte, args [][]byte) (taken, here bool) {
	l := s.loop
	l.near.cold = false
	if s.fetching > 0 && s.space.closed { // what is fetched is not known by another space
		return s.hold(pauseFetching), true
	}
	if cmd.OneKey() == 0 && len(args) > 2 {
		if cmd.Join == router.JoinMGet {
			return s.mgetNear(t, cmd, args)
		}
		return false, false
	}
	counts := l.near.counts()
	if l.near.cold = !counts && l.near.bytes == 0; l.near.cold { // there is no key at all
		return false, false
	}
	sp := s.nearSpace(t)
	if l.near.cold = !counts && sp.table.Len() == 0; l.near.cold {
		return false, false
	}
	name := args[1]
	sum := near.Sum(name)
	key := sp.table.Find(sum, name)
	if key == nil && counts && s.mayReadNear() && l.near.isHot(sum) {
		key = sp.admit(sum, name, int(router.Slot(name)))
	}
	if l.near.cold = key == nil; l.near.cold {
		return false, false
	}
	key.Hits++
	switch {
	case !s.mayReadNear():
		return s.passNear(&l.stats.Near.PassedChosen)
	case s.passing > 0, s.head != nil && s.head.moment < key.Added:
		return s.passNear(&l.stats.Near.PassedOwed)
	}
	e := key.Find(cmd.ID, args[2:])
	if e != nil && e.Expires > l.clock && e.Proved() > s.saw && !s.fetches(sum) {
		l.stats.Near.Hits++
		key.Earn()
		s.lend(cmd, e.Reply(s.resp()))
		return true, true
	}
	if taken, here = s.fetchNear(t, shard, sp, key, e, counts, cmd, raw, args); here {
		return taken, true
	}
	return s.passNear(&l.stats.Near.PassedUnkept)
}

// passNear has a read of a hot key go on a pipe, once the client's fetches are over. It is counted as one of these.
func (s *session) passNear(these *int64) (taken, here bool) {
	*these++
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
			s.saw = s.loop.moment // as somebody else, or before
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
	if !ok || l.clock < sp.offTo || key.Shuns(cmd.ID, args[2:], l.clock) || len(raw) > maxNearRead || s.heavy(cmd, args) {
		return false, false
	}
	if l.clock < sp.fieldsTo && isHash(cmd) {
		return false, false
	}
	if !s.turnTo(onPipes, t) {
		return false, true
	}
	f, size := s.underWay(key, cmd, args[2:]), 0
	if f != nil {
		l.stats.Near.Shared++
	} else {
		f = &nearFetch{link: sp.link(sp.set.Shard(t, shard)), key: key, cmd: cmd, pairs: pairs, sentAt: l.clock, topology: t}
		switch {
		case old == nil:
			f.keep = len(args) == 2 || counts && l.near.isHot(near.FormSum(key.Sum, cmd.ID, args[2:]))
		default: // any reply by the link says that what is there still holds
			f.keep = old.Alone || old.Expires <= l.clock
		}
		f.keep = f.keep && key.Pays()
		if !f.send(raw, args) {
			return false, false
		}
		size = len(raw)
	}
	s.awaitFetch(f, size)
	return true, true
}

// maxNearRead is how long a read may be that a link carries.
const maxNearRead = 16 << 10

// awaitFetch has the client's request be answered by a fetch. size is that of the request, if the fetch was
// sent for it.
func (s *session) awaitFetch(f *nearFetch, size int) {
	r := s.newRequest(f.cmd)
	s.chargePipe(r, 3*size) // the link has it, and the fetch twice
	r.passes = false
	s.passing--
	sum := f.key.Sum
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
		if f.cmd == cmd && !f.left && f.number > max(s.saw, s.loop.near.forgotAt) && (s.fetching == 0 || f.number >= s.fetched) && slices.EqualFunc(f.words, words, bytes.Equal) {
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

// send sends the read on the link, and what belongs to it.
func (f *nearFetch) send(raw []byte, args [][]byte) bool {
	l := f.link.space.cache.l
	f.raw = bytes.Clone(raw)
	for _, word := range args[2:] {
		f.words = append(f.words, bytes.Clone(word))
	}
	if f.keep && !f.sendPart(cachingCommand, (*fetchCaching)(f)) {
		return false
	}
	if !f.sendPart(raw, f) {
		return false
	}
	f.key.Pending = append(f.key.Pending, f)
	l.stats.Near.Fetches++
	if f.keep && f.sendPart(codec.AppendCommand(nil, []byte("PTTL"), args[1]), (*fetchTTL)(f)) && isHash(f.cmd) && l.srv.hasFieldExpiry() {
		f.sendPart(keyspaceCommand, (*fetchFields)(f))
	}
	return true
}

func (f *nearFetch) sendPart(request []byte, to backend.Receiver) bool {
	number := f.link.send(request, to)
	if number == 0 {
		f.keep = false
		return false
	}
	f.owed++
	if to == f {
		f.number = number
	}
	return true
}

// Reply takes the reply to the read.
func (f *nearFetch) Reply(reply, _ []byte, _ int) {
	defer f.came()
	f.end()
	switch {
	case f.left:
	case f.leaves(reply):
		if bytes.HasPrefix(reply, []byte("-NOPERM ")) { // what is here, the user may not know any more
			f.link.space.table.Forget(f.key)
		}
		f.giveUp(&backend.LostError{Addr: f.link.pipe.Addr(), Refusal: string(bytes.TrimSpace(reply[1:]))})
	default:
		f.link.answered(f.number, f.sentAt)
		f.answer(reply)
	}
}

// Part has a reply that is too long to be kept come by the pipes, where it need not be held as a whole. Nobody
// asks for it here any more for as long as it is known to be long.
func (f *nearFetch) Part(part, _ []byte, left int) bool {
	c := f.link.space.cache
	if !f.left {
		if len(part)+left <= c.settings.CacheMaxValue {
			return false
		}
		f.left = true
		f.keep = false
		c.l.stats.Near.TooLong++
		c.l.srv.heavy.add(f.cmd, f.key.Name())
		f.giveUp(&backend.LostError{Addr: f.link.pipe.Addr(), Err: backend.ErrRetired})
		f.release()
	}
	return true
}

// Lost has those who wait ask by their pipes.
func (f *nearFetch) Lost(err *backend.LostError, _ []byte) {
	f.end()
	f.giveUp(err)
	f.came()
}

type (
	fetchCaching nearFetch
	fetchTTL     nearFetch
	fetchFields  nearFetch
)

func (c *fetchCaching) Reply(reply, _ []byte, _ int) {
	f := (*nearFetch)(c)
	if reply[0] == '-' {
		f.keep = false
		if f.link.told { // and nothing was refused before
			f.link.space.refused(f.link.pipe.Addr(), reply)
		}
	}
	f.came()
}

// Reply takes the time to live: -1 for ever, -2 if the key is not there.
func (c *fetchTTL) Reply(reply, _ []byte, _ int) {
	f := (*nearFetch)(c)
	ms, ok := parseInt(bytes.TrimSpace(reply[1:]))
	switch {
	case f.entry == nil: // who may not read a key may not ask for this
	case reply[0] != ':' || !ok:
		f.until = 0
		f.link.space.refused(f.link.pipe.Addr(), reply)
	case ms == -2 && !mayBeAbsent(f.entry.Reply(3)): // it has expired since
		f.until = 0
	case ms >= 0 && ms < math.MaxInt32:
		f.until = min(f.until, f.sentAt+ms*int64(time.Millisecond))
	}
	f.came()
}

func (c *fetchFields) Reply(reply, _ []byte, _ int) {
	f := (*nearFetch)(c)
	if f.entry != nil && f.link.space.fieldsExpire(f.link.pipe.Addr(), reply) {
		f.until = 0
	}
	f.came()
}

func (c *fetchCaching) Lost(*backend.LostError, []byte) { (*nearFetch)(c).came() }
func (c *fetchTTL) Lost(*backend.LostError, []byte)     { (*nearFetch)(c).lostWord() }
func (c *fetchFields) Lost(*backend.LostError, []byte)  { (*nearFetch)(c).lostWord() }

// lostWord is called when what has to be known of the entry will not come.
func (f *nearFetch) lostWord() {
	f.until = 0
	f.came()
}

// came enters that one of the replies has come, or is lost. After the last one the entry is read, unless it
// must not be.
func (f *nearFetch) came() {
	if f.owed--; f.owed > 0 {
		return
	}
	switch {
	case f.entry == nil:
	case f.until == 0:
		f.link.space.table.Drop(f.key, f.entry)
	default:
		f.entry.Expires = f.until
	}
	f.release()
}

// release has those go on who wait for what the fetch leaves here.
func (f *nearFetch) release() {
	then := f.then
	f.then = nil
	for _, do := range then {
		do()
	}
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

// end takes the fetch from those under way.
func (f *nearFetch) end() {
	f.key.Pending = slices.DeleteFunc(f.key.Pending, func(o nearPending) bool { return o == f })
}

// answer keeps the reply, if it may be kept, and gives it to those who wait.
func (f *nearFetch) answer(reply []byte) {
	c := f.link.space.cache
	switch {
	case f.mayBeKept(reply):
		f.entry = &near.Entry{Source: &f.link.source, Asked: f.number}
		f.until = f.sentAt + int64(c.settings.CacheTTLMax)
		if f.topology.Sharded() && mayBeAbsent(reply) {
			f.entry.Alone = true
			f.until = min(f.until, f.sentAt+absentFor)
		}
		f.link.space.table.Put(f.key, f.entry, f.cmd.ID, f.words, reply, f.pairs)
	case f.keep, len(reply) > c.settings.CacheMaxValue:
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
				plain = codec.RESP2(reply, f.pairs)
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
	f.key.Shun(f.cmd.ID, f.words, f.link.space.cache.l.clock+nearShunFor)
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
	r.passes = true
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
	case !f.keep, f.key.IsGone(), f.link.space.closed, f.topology != c.topology, f.number <= c.forgotAt, reply[0] == '|':
	case !c.wants(f.key.Name()):
		stats.Unwanted++
	case len(reply) > c.settings.CacheMaxValue:
		stats.TooLong++
	case !c.makeRoom(near.MaxSize(f.words, reply), f.key, f.key.Hits/2): // keys that are hit alike stay where they are
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
	return s.space == nil || s.space.closed || len(keys) == 0 || slices.ContainsFunc(keys, func(key []byte) bool { return s.space.table.Has(near.Sum(key)) })
}
