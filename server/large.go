package main

import (
	"bytes"
	"hash/maphash"
	"slices"
	"sync/atomic"

	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/router"
)

// Long requests and long replies travel on a lease, where nobody stands behind them.
const (
	maxOnPipe  = 1 << 20   // bytes of a request that may still travel on a pipe
	largePiece = 256 << 10 // bytes of an argument that are kept in one piece
)

// large is a request with arguments that are kept apart from the other bytes: in pieces as they came, each byte copied
// once. Such an argument is no key, and nobody looks into it but the node.
//
// Owned by the session's loop. The pieces are written once and then only read, by whoever sends them.
type large struct {
	asides  []aside
	missing int      // bytes of the last aside that have not come
	size    int      // bytes of all that have
	rest    []byte   // the whole request without them, once it is there; else nil
	args    [][]byte // its arguments; those set aside are nil
}

// aside is one argument.
type aside struct {
	at     int // where in the rest it belongs
	pieces [][]byte
}

// setAside begins to keep an argument apart, if that is what the input that waits ends in.
func (s *session) setAside() {
	if s.parser == nil || s.pause != goOn || s.closing {
		return
	}
	index, from, length := s.parser.Long(maxOnPipe)
	in := s.in[s.inPos:]
	if length == 0 || !s.mayBeAside(s.parser.First(in), index) {
		return
	}
	if s.large == nil {
		s.large = new(large)
	}
	g := s.large
	g.asides = append(g.asides, aside{at: from})
	g.missing = length
	n := g.fill(in[from:])
	s.in = append(s.in[:s.inPos+from], in[from+n:]...)
	s.parser.SetAside()
}

// mayBeAside tells whether the index-th argument of a command is one that only the node looks at.
func (s *session) mayBeAside(name []byte, index int) bool {
	if name == nil || s.txn != nil || !s.authenticated || s.subscribed() || s.monitors() {
		return false
	}
	cmd, err := s.loop.srv.table().Lookup([][]byte{name})
	return err == nil && cmd.Way == router.Shared && cmd.First > 0 && cmd.Last >= cmd.First && index > cmd.Last &&
		!cmd.Flags.Has(router.MovableKeys)
}

// fill adds what is missing of the last aside from the front of buf, and returns how many bytes it took.
func (g *large) fill(buf []byte) (n int) {
	last := &g.asides[len(g.asides)-1]
	for g.missing > 0 && n < len(buf) {
		k := len(last.pieces)
		if k == 0 || len(last.pieces[k-1]) == cap(last.pieces[k-1]) {
			last.pieces = append(last.pieces, make([]byte, 0, min(largePiece, g.missing)))
			k++
		}
		piece := &last.pieces[k-1]
		more := min(len(buf)-n, g.missing, cap(*piece)-len(*piece))
		*piece = append(*piece, buf[n:n+more]...)
		n += more
		g.missing -= more
		g.size += more
	}
	return n
}

// waits tells whether a whole request with arguments kept apart waits to be dispatched.
func (g *large) waits() bool { return g != nil && g.rest != nil }

// held is how many bytes are kept apart.
func (g *large) held() int {
	if g == nil {
		return 0
	}
	return g.size
}

// complete enters that the request is there. Its bytes may move while it waits for its turn, so they are copied: there
// are few.
func (g *large) complete(rest []byte, args [][]byte) {
	g.rest = bytes.Clone(rest)
	for _, a := range args {
		g.args = append(g.args, bytes.Clone(a))
	}
}

// parts is the request as it goes to a node.
func (g *large) parts() (parts [][]byte) {
	from := 0
	for _, a := range g.asides {
		parts = append(parts, g.rest[from:a.at])
		parts = append(parts, a.pieces...)
		from = a.at
	}
	return append(parts, g.rest[from:])
}

// takeLarge dispatches the request that was kept in pieces. false: it has to wait.
func (s *session) takeLarge() bool {
	g := s.large
	if !s.dispatch(g.rest, g.args) {
		return false
	}
	s.large = nil
	if s.muteNext > 0 {
		s.muteNext--
	}
	return true
}

// shareLarge sends a request on a lease to the owner of its slot, because it is long or its reply will be. Where there is
// no lease to be had it travels on the pipe like any other.
func (s *session) shareLarge(cmd *router.Command, t *router.Topology, shard int, raw []byte, args [][]byte) bool {
	addr := t.Shards()[shard].Primary
	if st := s.stay; st != nil && st.watching && !st.carries(addr) || !s.loop.srv.config().PoolEnabled {
		return s.sharePiped(cmd, t, shard, raw)
	}
	if !s.turnTo(onLease, t) {
		return false
	}
	switch s.stayAt(addr, pool.ReasonLarge) {
	case stayWaiting:
		return s.hold(pauseLease)
	case stayBusy:
		return s.hold(pauseBarrier)
	case stayFailed:
		s.stay = nil
		return s.sharePiped(cmd, t, shard, raw)
	}
	s.stay.track()
	r := s.newRequest(cmd)
	s.hearFirst(r)
	r.parts = s.partsOf(raw)
	if s.large != nil && slices.Contains(cmd.Categories, "@string") {
		if get, err := s.loop.srv.table().Lookup(getArgs); err == nil {
			s.loop.srv.heavy.add(get, args[cmd.First])
		}
	}
	s.stay.sendParts(r, 1)
	s.stay.leaving = !s.stay.watching && !s.stay.tracks()
	return true
}

var getArgs = [][]byte{[]byte("get")}

// partsOf is the request at hand in pieces that stay what they are.
func (s *session) partsOf(raw []byte) [][]byte {
	if s.large != nil {
		return s.large.parts()
	}
	return [][]byte{s.give(raw)}
}

// heavyReads remembers what was asked of which key when the reply was found to be long, so that the same, asked again,
// travels on a lease. It may forget any of them, and confuse two: then one read goes the other way, and is answered alike.
//
// Shared by all loops. An entry is one word, and who writes it last is right.
type heavyReads struct {
	seed maphash.Seed
	any  atomic.Bool // false: none was ever found, as with most
	all  [heavyEntries]atomic.Uint64
}

const heavyEntries = 1 << 12

// entry is where a read would be, and what is there if it is, never 0.
func (h *heavyReads) entry(cmd *router.Command, key []byte) (*atomic.Uint64, uint64) {
	sum := maphash.Bytes(h.seed, key) + uint64(cmd.ID)
	return &h.all[sum%heavyEntries], max(sum, 1)
}

func (h *heavyReads) has(cmd *router.Command, key []byte) bool {
	entry, sum := h.entry(cmd, key)
	return entry.Load() == sum
}

func (h *heavyReads) add(cmd *router.Command, key []byte) {
	entry, sum := h.entry(cmd, key)
	entry.Store(sum)
	h.any.Store(true)
}

func (h *heavyReads) remove(cmd *router.Command, key []byte) {
	if entry, sum := h.entry(cmd, key); entry.Load() == sum {
		entry.Store(0)
	}
}

// heavy tells whether the reply to the request is expected to be long.
func (s *session) heavy(cmd *router.Command, args [][]byte) bool {
	h := &s.loop.srv.heavy
	if !h.any.Load() || !cmd.Flags.Has(router.Readonly) {
		return false
	}
	key := onlyKey(cmd, args)
	return key != nil && h.has(cmd, key)
}

// foundHeavy enters that the reply to a request on a pipe is long.
func (s *session) foundHeavy(cmd *router.Command, sent []byte) {
	s.withKey(cmd, sent, func(key []byte) { s.loop.srv.heavy.add(cmd, key) })
}

// foundLight enters that the reply to a request on a lease was not.
func (s *session) foundLight(cmd *router.Command, sent []byte) {
	if cmd.Flags.Has(router.Readonly) {
		s.withKey(cmd, sent, func(key []byte) { s.loop.srv.heavy.remove(cmd, key) })
	}
}

// withKey finds the key in a request's bytes.
func (s *session) withKey(cmd *router.Command, sent []byte, use func(key []byte)) {
	p := s.loop.parser()
	defer s.loop.dropParser(p)
	if n, err := p.ParseAll(sent, s.loop.srv.limits(true)); n == 0 || err != nil {
		return
	}
	if key := onlyKey(cmd, p.Args()); key != nil {
		use(key)
	}
}

// onlyKey is the key of a command that always has one at the same place, else nil.
func onlyKey(cmd *router.Command, args [][]byte) []byte {
	if cmd.First == 0 || cmd.Last != cmd.First || cmd.First >= len(args) || cmd.Flags.Has(router.MovableKeys) {
		return nil
	}
	return args[cmd.First]
}
