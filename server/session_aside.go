package main

import (
	"bytes"

	"github.com/berth-proxy/berth/router"
)

// Long requests and long replies travel on a lease, where nobody stands after them.
const (
	maxOnPipe  = 1 << 20   // bytes of a request that may still travel on a pipe
	largePiece = 256 << 10 // bytes of an argument that are kept in one piece
)

// large is a request with arguments that are kept apart from the other bytes: in pieces as they
// came, each byte copied once. Such an argument is no key, and nobody looks into it but the node.
//
// Owned by the session's loop. The pieces are written once and then only read, by whoever sends
// them.
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
	if s.parser == nil || s.pause != pauseNone || s.closing {
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

// mayBeAside reports whether the index-th argument of a command is one that only the node looks at.
func (s *session) mayBeAside(name []byte, index int) bool {
	if name == nil || s.txn != nil || s.stranger() || s.subscribed() || s.monitors() {
		return false
	}
	cmd, err := s.loop.srv.table().Lookup([][]byte{name})
	return err == nil && cmd.Way == router.Shared && cmd.First > 0 && cmd.Last >= cmd.First && index > cmd.Last &&
		!cmd.Flags.Has(router.MovableKeys)
}

// fill adds what is missing of the last aside from the front of buf, and returns how many bytes it
// took.
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

// waits reports whether a whole request with arguments kept apart waits to be dispatched.
func (g *large) waits() bool { return g != nil && g.rest != nil }

// held is how many bytes are kept apart.
func (g *large) held() int {
	if g == nil {
		return 0
	}
	return g.size
}

// complete enters that the request is there. Its bytes may move while it waits for its turn, so
// they are copied: there are few.
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
	if size := len(g.rest) + g.size; s.loop.keyWatch.isDue(size) {
		s.sawRequest(g.args, size)
	}
	s.large = nil
	if s.muteNext > 0 {
		s.muteNext--
	}
	return true
}
